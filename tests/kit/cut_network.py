"""A show whose network is cut and comes back, in a namespace of its own; run by ``unshare``.

    unshare --user --map-root-user --net python -m kit.cut_network FOLDER

A gesture each half second goes to an MQTT broker and to a web server over the loopback interface,
which is taken down under load. FOLDER holds spec.json, of the model. Prints, as JSON, the times of
all events and of those that each of the two has got.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from kit.hooked import Server
from kit.mosquitto import Listener, Mosquitto, broker_program, free_port, wait_until
from kit.page import Camera
from kit.playback import ReadingEngine, Told
from shiftedge.demos.show import Watched, show
from shiftedge.demos.sinks.actions import Rule, Webhook
from shiftedge.demos.sinks.mqtt import Broker, Mqtt
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

CUT_S = 10.0


def link(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def main(folder: Path) -> None:
    link("up")
    spec = ModelSpec.from_json((folder / "spec.json").read_text())
    keeps = ("persistence true", f"persistence_location {folder}/", "user root")
    broker = Mosquitto(broker_program(), folder, *keeps)
    hooked: list[Any] = []
    port = free_port()
    Server(port, hooked)
    camera, told, notes = Camera(), Told(), list[str]()
    mqtt = Mqtt(Broker("127.0.0.1", broker.port))
    sinks = [told, mqtt, Webhook(Rule(), f"http://127.0.0.1:{port}/", first_s=0.1)]
    listener = Listener(broker, session="listener")

    def drill() -> None:
        wait_until(lambda: len(told.moments) >= 3 and hooked)
        link("down")
        before = len(told.moments)
        time.sleep(CUT_S)
        wait_until(lambda: len(told.moments) >= before + 3)  # the show has gone on meanwhile
        link("up")
        wait_until(lambda: len(hooked) >= len(told.moments) - 1)
        wait_until(lambda: mqtt._open() == 0)
        camera.close()

    helper = threading.Thread(target=drill)
    helper.start()
    watched = Watched("camera", opener=lambda: camera)
    report = show(Model(ReadingEngine(spec)), [watched], sinks, on_note=notes.append)
    helper.join()
    wanted = sorted(round(event.time_s, 4) for event in told.events)

    def heard() -> list[float]:
        return sorted({each["time_s"] for each in listener.of("shiftedge/camera/event")})

    with contextlib.closing(listener):
        with contextlib.suppress(AssertionError):
            wait_until(lambda: heard() == wanted)
        got = heard()
    broker.stop()
    document = {
        "wanted": wanted,
        "mqtt": got,
        "webhook": sorted({each["time_s"] for each in hooked}),
        "lost": [[sink.name, sink.dropped, sink.missed] for sink in report.sinks],
        "notes": notes,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
