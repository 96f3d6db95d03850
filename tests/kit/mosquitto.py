"""A mosquitto that may be stopped and started, and a client that listens to it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 60.0


def wait_until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Mosquitto:
    """A broker that may be stopped and started again; it keeps nothing meanwhile."""

    def __init__(self, program: str, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._line = [program, "-c", str(folder / "mosquitto.conf")]
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", *settings]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self.start()

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._line, stdout=quiet, stderr=quiet)

        def there() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return True
            return False

        wait_until(there)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class Listener:
    """Somebody else's client, and what it was told: topic, document, retained."""

    def __init__(self, broker: Mosquitto, *, session: str | None = None, **tls: Any) -> None:
        """``session``: what comes while this is away is kept for it under that name."""
        paho = pytest.importorskip(
            "paho.mqtt.client", reason="the mqtt extra (paho-mqtt) is not installed"
        )
        self.got: list[tuple[str, Any, bool]] = []
        self._client = client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=session, clean_session=session is None
        )
        subscribed = threading.Event()
        client.on_connect = lambda client, *_: client.subscribe("#", 1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = self._on_message
        client.reconnect_delay_set(1, 1)
        if tls:
            client.tls_set(**tls)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        assert subscribed.wait(LIMIT_S)

    def _on_message(self, client: Any, _: Any, message: Any) -> None:
        text = message.payload.decode()
        document = json.loads(text) if text.startswith("{") else text
        self.got.append((message.topic, document, bool(message.retain)))

    def of(self, topic: str) -> list[Any]:
        return [document for at, document, _ in self.got if at == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def broker_program() -> str:
    """Debian's place is not on everybody's path."""
    found = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
    if found is None:
        pytest.skip("mosquitto is not installed (Debian: apt-get install mosquitto)")
    return found
