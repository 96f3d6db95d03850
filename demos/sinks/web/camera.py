"""A browser's own camera: JPEGs in, one at a time, and what the model makes of them out.

Each has a stream of its own. Whatever comes is from outside: its size is read from the JPEG's
header before anything is decoded.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import Executor
from typing import Any

import numpy as np

from shiftedge.demos.sinks import event_line
from shiftedge.demos.sinks.web.access import Buckets
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.decode import GestureDecoder
from shiftedge.runtime.live.stream import LiveStream
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.words import encodable, plain

LARGEST_BYTES = 1 << 19
"""Of a JPEG: five times what the page sends."""
SIDE_PX = 16, 1280
"""Least and longest side of a picture."""
FRAMES_HZ = 60.0
SILENT_S = 30.0
SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a JPEG's segments that tell its size: ITU-T T.81, table B.1."""
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment."""
SCAN = 0xDA
"""From where the picture itself begins."""


def jpeg_size(content: bytes) -> tuple[int, int]:
    """(height, width) in pixels that a JPEG's header tells, without decoding.

    Raises:
        ValueError: it is no JPEG, or is cut short before it tells.
    """
    if content[:2] != b"\xff\xd8":
        raise ValueError("it is no JPEG")
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif marker in ALONE:
            place += 2
        elif marker == SCAN:
            break
        elif marker in SIZES and place + 9 <= len(content):
            height = int.from_bytes(content[place + 5 : place + 7], "big")
            return height, int.from_bytes(content[place + 7 : place + 9], "big")
        else:
            place += 2 + max(int.from_bytes(content[place + 2 : place + 4], "big"), 2)
    raise ValueError("the JPEG is damaged or cut short")


class BrowserCamera:
    """One browser's.

    Args:
        pool: whose threads decode and step.
    """

    def __init__(self, socket: Any, model: Model, pool: Executor) -> None:
        self._socket, self._pool = socket, pool
        self._spec = model.spec
        self._decoder = GestureDecoder(model.spec)
        self._live = LiveStream(model, self._decoder, on_note=lambda sentence: None)
        self._begun_s = time.monotonic()
        self._rate = Buckets(rate_hz=FRAMES_HZ, burst=2 * FRAMES_HZ, most=1)

    async def follow(self) -> None:
        """Until it goes, or sends what is no picture."""
        try:
            while await self._answer():
                pass
        except asyncio.TimeoutError:
            await self._socket.close(code=1008, message=b"No picture came.")
        except (ValueError, ShiftedgeError) as error:
            words = plain(error, 100).encode()[:120]  # as many as a closing frame holds
            await self._socket.close(code=1008, message=words)
        except ConnectionError:
            return

    async def _answer(self) -> bool:
        message = await self._socket.receive(timeout=SILENT_S)
        if message.type is not require("aiohttp").WSMsgType.BINARY:
            if not self._socket.closed:
                raise ValueError("a JPEG was expected")
            return False
        if not self._rate.take(""):
            raise ValueError("too many pictures")
        loop = asyncio.get_running_loop()
        told = await loop.run_in_executor(self._pool, self._step, message.data)
        await self._socket.send_str(json.dumps(told))
        return True

    def _step(self, content: bytes) -> dict[str, Any]:
        cv2 = require("cv2")
        size = jpeg_size(content)
        if not all(SIDE_PX[0] <= side <= SIDE_PX[1] for side in size):
            raise ValueError(
                f"the picture has {size[1]}x{size[0]} pixels; expected {SIDE_PX[0]} to {SIDE_PX[1]}"
                " a side"
            )
        # Turned as its EXIF data say, it would be another size than was looked at.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if image is None or image.shape[:2] != size:
            raise ValueError("the JPEG cannot be decoded")
        time_s = time.monotonic() - self._begun_s
        result = self._live.feed(image, time_s)
        event = result.event
        told = event and event_line(event.time_s, encodable(event.label), event.confidence)
        return {
            "kind": "seen",
            "time_s": round(time_s, 4),
            "probabilities": [round(float(p), 4) for p in self._decoder.probabilities],
            "step_ms": round(1e3 * result.step_s / result.steps, 2) if result.steps else None,
            "event": told and {"wall_s": time.time(), **told},
        }
