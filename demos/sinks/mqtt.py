"""Events to an MQTT broker, as Home Assistant and others of its kind expect them.

::

    shiftedge/availability              online | offline (retained, also as the last will)
    shiftedge/<camera>/event            {"event_type": "Swiping Left", "confidence": 0.93, ...}
    homeassistant/event/<id>/config     what Home Assistant is told of a camera (retained)

The client is paho's. It connects in a thread of its own and again for ever; what is published while
the broker is away waits in its queue, and is sent once, in order, when the broker is back.
"""

from __future__ import annotations

import itertools
import re
import ssl
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Missed, Moment, Sink
from shiftedge.demos.sinks.actions import message, message_bytes
from shiftedge.runtime.capture.base import Sparing
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.words import plain

ONLINE, OFFLINE = "online", "offline"
WAITING_MOST = 10_000
"""Events that wait while the broker is away, 24 MB of them; later ones are counted as missed."""
AGAIN_S = (1, 30)
"""Least and most seconds between two attempts to connect."""
AT_LEAST_ONCE = 1
POLL_S = 0.02
PORT, TLS_PORT = 1883, 8883


@dataclass(frozen=True)
class Broker:
    """Where events go, and how."""

    host: str
    port: int = PORT
    user: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: Path | None = None
    topic: str = "shiftedge"
    discovery: str | None = "homeassistant"
    """What the topics of Home Assistant's discovery begin with; None tells it nothing."""


class Mqtt(Sink):
    """Publishes each event.

    Raises:
        MissingExtraError: paho-mqtt is not installed.
        OutputError: the file of ``broker.ca_file`` cannot be used.
    """

    name = "mqtt"

    def __init__(self, broker: Broker) -> None:
        self._mqtt = mqtt = require("paho.mqtt.client")
        self._broker = broker
        self._availability = f"{broker.topic}/availability"
        self._names: dict[str, str] = {}
        self._configs: list[tuple[str, bytes]] = []
        self._sent: list[Any] = []
        self._client = client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=f"shiftedge-{uuid.uuid4().hex[:12]}"
        )
        client.will_set(self._availability, OFFLINE, AT_LEAST_ONCE, retain=True)
        client.max_queued_messages_set(WAITING_MOST)
        client.reconnect_delay_set(*AGAIN_S)
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls or broker.ca_file is not None:
            try:
                client.tls_set_context(ssl.create_default_context(cafile=broker.ca_file))
            except (OSError, ssl.SSLError) as error:
                raise OutputError(
                    f"The certificates of {broker.ca_file} cannot be used: {error}."
                ) from error
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._away("does not answer")
        client.on_disconnect = self._on_disconnect

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        """Connect, now or as soon as there is a broker."""
        self._trouble = Sparing(self.note)
        spec = sessions[0].model.spec
        labels = [label for label in spec.labels if label not in spec.silent_labels]
        for session in sessions:
            plain_word = word = _word(session.name)
            for number in itertools.count(2):
                if word not in self._names.values():
                    break
                word = f"{plain_word}_{number}"
            self._names[session.name] = word
            if self._broker.discovery is not None:
                self._configs.append(self._config(session.name, word, labels))
        self._client.connect_async(self._broker.host, self._broker.port)
        self._client.loop_start()

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """See :class:`Sink`.

        Raises:
            Missed: too much waits already.
        """
        said = message(moment)
        document = {"event_type": said.pop("label"), **said}
        topic = f"{self._broker.topic}/{self._names[moment.camera]}/event"
        info = self._client.publish(topic, message_bytes(document), AT_LEAST_ONCE)
        if info.rc == self._mqtt.MQTT_ERR_QUEUE_SIZE:
            raise Missed(
                f"The MQTT broker {self._broker.host} is away, and {WAITING_MOST} events wait for "
                "it already."
            )
        info.rc = self._mqtt.MQTT_ERR_SUCCESS  # without a connection it waits, and fails not
        self._sent = [each for each in self._sent if not each.is_published()] + [info]

    def close(self) -> None:
        """Say that this is offline, and disconnect; what the broker has not acknowledged by then
        is counted."""
        if not self._names:
            return
        end_s = time.monotonic() + 0.75 * self.grace_s
        if self._client.is_connected():
            self._sent.append(
                self._client.publish(self._availability, OFFLINE, AT_LEAST_ONCE, retain=True)
            )
        while time.monotonic() < end_s and self._client.is_connected() and self._open():
            time.sleep(POLL_S)
        self.undelivered = self._open()
        self._client.disconnect()
        self._client.loop_stop()
        self._names = {}

    def _open(self) -> int:
        """Messages that the broker has not acknowledged."""
        return sum(not each.is_published() for each in self._sent)

    def _on_connect(self, client: Any, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._away(f"refuses this client ({plain(reason)})")
            return
        for topic, document in self._configs:
            client.publish(topic, document, AT_LEAST_ONCE, retain=True)
        client.publish(self._availability, ONLINE, AT_LEAST_ONCE, retain=True)
        self._trouble.over(f"The MQTT broker {self._broker.host} is there again.")

    def _on_disconnect(self, client: Any, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._away(f"is gone ({plain(reason)})")

    def _away(self, what: str) -> None:
        self._trouble.trouble(
            f"The MQTT broker {self._broker.host}:{self._broker.port} {what}; trying again, and "
            "events wait for it."
        )

    def _config(self, camera: str, word: str, labels: Sequence[str]) -> tuple[str, bytes]:
        """Of https://www.home-assistant.io/integrations/event.mqtt: topic and document."""
        topic = self._broker.topic
        identity = _word(f"{topic}_{word}")
        document = {
            "name": "Gesture",
            "unique_id": identity,
            "state_topic": f"{topic}/{word}/event",
            "event_types": list(labels),
            "availability_topic": self._availability,
            "icon": "mdi:hand-wave",
            "device": {
                "identifiers": [identity],
                "name": f"shiftedge {camera}",
                "manufacturer": "shiftedge",
            },
        }
        return f"{self._broker.discovery}/event/{identity}/config", message_bytes(document)


def _word(name: str) -> str:
    """A name as one level of a topic."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "camera"
