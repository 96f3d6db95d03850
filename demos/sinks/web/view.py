"""What there is to tell of one camera: events, figures, pictures, states, as messages for pages.

A message is JSON; a picture and the states follow theirs as bytes, see :func:`packed`.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment
from shiftedge.demos.sinks.board import Busy, temperatures, throttled
from shiftedge.runtime.live.session import Summary
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.words import encodable

MEMORY_S = 180.0
"""Over which percentiles are taken."""
MEMORY_MOST = 20_000
EVENTS_MOST = 100
"""Events that a page is told of that comes late."""
WIDEST_PX = 640
QUALITY = 80
"""Of a JPEG."""


class View:
    """One camera's. Told in one thread, asked in another."""

    def __init__(self, model: Model, camera: str) -> None:
        self._model, self._camera = model, camera
        self._lock = threading.Lock()
        self._times: deque[tuple[float, float | None, float | None]] = deque(maxlen=MEMORY_MOST)
        self._shown: deque[tuple[float, float]] = deque(maxlen=MEMORY_MOST)
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_MOST)
        self._busy = Busy()
        self._brightest: list[float] = []

    def note(self, moment: Moment) -> dict[str, Any] | None:
        """Count a frame; the message of its event, if it settled one."""
        step_s = None
        if moment.result is not None and moment.steps:
            step_s = moment.result.step_s / moment.steps
        seen_s = None if moment.taken_s is None else moment.told_s - moment.taken_s
        event = None
        if moment.event is not None:
            event = {"kind": "event", "wall_s": moment.wall_s, **moment.event_dict(camera=False)}
            event["label"] = encodable(event["label"])
        with self._lock:
            self._times.append((time.monotonic(), step_s, seen_s))
            if event is not None:
                self._events.append(event)
        return event

    def shown(self, seconds: float) -> None:
        """Count a picture that a browser has shown."""
        with self._lock:
            self._shown.append((time.monotonic(), seconds))

    def hello(self) -> dict[str, Any]:
        """The first message to a page."""
        spec, engine = self._model.spec, self._model.engine
        with self._lock:
            events = list(self._events)
        return {
            "kind": "hello",
            "camera": self._camera,
            "model": encodable(spec.name),
            "engine": f"{engine.name} {engine.version}",
            "labels": [
                {"name": encodable(label), "silent": label in spec.silent_labels}
                for label in spec.labels
            ],
            "enter": spec.decoder.enter,
            "wall_s": time.time(),
            "events": events,
        }

    def figures(self, summary: Summary, viewers: int) -> dict[str, Any]:
        """How camera, model and board are doing."""
        since_s = time.monotonic() - MEMORY_S
        with self._lock:
            for kept in (self._times, self._shown):
                while kept and kept[0][0] < since_s:
                    kept.popleft()
            times, shown = list(self._times), list(self._shown)
        cores, share = self._busy.look()
        return {
            "kind": "figures",
            "frames": summary.frames,
            "steps": summary.steps,
            "events": summary.events,
            "dropped": summary.dropped,
            "stale": summary.stale,
            "reopened": summary.reopened,
            "step_ms": _shares([step_s for _, step_s, _ in times if step_s is not None]),
            "latency_ms": _shares([seen_s for _, _, seen_s in times if seen_s is not None]),
            "page_ms": _shares([seconds for _, seconds in shown]),
            "cores": round(cores, 2),
            "busy": None if share is None else round(share, 3),
            "celsius": {name: round(degrees, 1) for name, degrees in temperatures()},
            "throttled": throttled(),
            "viewers": viewers,
        }

    def picture(self, image: NDArray[np.uint8], moment: Moment) -> bytes:
        """A frame as the model was given it, left and right as the camera has them: who mirrors it
        is the page."""
        cv2 = require("cv2")
        height, width = image.shape[:2]
        if width > WIDEST_PX:
            size = WIDEST_PX, max(round(height * WIDEST_PX / width), 1)
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        return packed({"kind": "picture", **said_of(moment)}, jpeg.tobytes())

    def states(self, states: Sequence[NDArray[np.float32]]) -> bytes:
        """Each state as a map: the mean of its channels' sizes, 0..255 of the largest of late."""
        maps = [np.abs(state[0]).mean(axis=0) for state in states]
        if len(self._brightest) != len(maps):
            self._brightest = [0.0] * len(maps)
        pieces = []
        for index, each in enumerate(maps):
            most = max(float(each.max()), 0.98 * self._brightest[index], 1e-9)
            self._brightest[index] = most
            pieces.append(np.rint(each * (255.0 / most)).astype(np.uint8).tobytes())
        keys = "channels", "height", "width"
        named = [dict(zip(keys, spec.shape[1:], strict=True)) for spec in self._model.spec.states]
        return packed({"kind": "states", "maps": named}, b"".join(pieces))


def said_of(moment: Moment) -> dict[str, Any]:
    """What is said with each picture."""
    age_s = None if moment.taken_s is None else time.monotonic() - moment.taken_s
    return {
        "time_s": round(moment.time_s, 4),
        "probabilities": [round(float(p), 4) for p in moment.probabilities],
        "step_ms": round(1e3 * moment.step_s, 2),
        "age_ms": None if age_s is None else round(1e3 * age_s, 2),
    }


def packed(message: dict[str, Any], content: bytes) -> bytes:
    """A message with bytes: the length of its JSON, a little-endian uint32, the JSON, the bytes."""
    text = json.dumps(message).encode()
    return struct.pack("<I", len(text)) + text + content


def _shares(seconds: Sequence[float]) -> list[float] | None:
    """Milliseconds that half and 99% do not pass."""
    if not seconds:
        return None
    return [round(1e3 * float(each), 2) for each in np.percentile(seconds, (50, 99))]
