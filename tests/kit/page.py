"""A show with a page, and what a browser is told by it."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from kit.playback import LEVELS, PlaySource, ReadingEngine, shown
from shiftedge.demos.report import ShowReport
from shiftedge.demos.sinks.web.sink import WebSink
from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.model import Model

HERE = "127.0.0.1", 0
WAIT_S = 60.0


class Camera(FrameSource):
    """A camera whose left half is dark and whose right half is as bright as its label, which
    changes twice a second; until it is closed."""

    name = "camera"
    live = True
    rate_hz = 24.0

    def __init__(self) -> None:
        self._closing = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        index = 0
        while not self._closing.wait(1 / 24):
            now_s = time.monotonic()
            image = np.zeros((96, 128, 3), np.uint8)
            image[:, 64:] = 2 * LEVELS * (1 + int(2 * now_s) % 2)
            yield TimedFrame(image, now_s, index, taken_s=now_s)
            index += 1

    def close(self) -> None:
        self._closing.set()


class Remembering(ReadingEngine):
    """With states that can be looked at."""

    def open_session(self) -> Any:
        session = super().open_session()
        session.states = lambda: [state.fresh() + state.zero_point for state in self.spec.states]
        return session


class Page:
    """A show with a page, in a thread; ``with`` ends it."""

    def __init__(self, model: Model, play: PlaySource, **how: Any) -> None:
        self.said: list[str] = []
        self.sink = WebSink(how.pop("address", HERE), self.said.append, **how)
        self.report: ShowReport | None = None
        self._camera = Camera()
        text = play(self._camera)
        begun = threading.Event()
        begin = self.sink.begin

        def tell(sessions: Any) -> None:
            begin(sessions)
            begun.set()

        self.sink.begin = tell  # type: ignore[method-assign]

        def run() -> None:
            self.report = shown(model, text, self.sink, realtime=True)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert begun.wait(WAIT_S)
        self.base = self.sink.link.split("/?")[0].rstrip("/")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._camera.close()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def run(self, talk: Callable[[Any], Awaitable[Any]]) -> Any:
        """Something to be asked by a client that knows the page's address."""

        async def asked() -> Any:
            async with _aiohttp().ClientSession(self.base) as client:
                return await asyncio.wait_for(talk(client), WAIT_S)

        return asyncio.run(asked())

    def live(self, client: Any, **headers: str) -> Any:
        return client.ws_connect("/live", headers={"Origin": self.base, **headers})


async def heard(live: Any, *kinds: str) -> dict[str, tuple[dict[str, Any], bytes]]:
    """The first message of each kind, everything on the way shown."""
    found: dict[str, tuple[dict[str, Any], bytes]] = {}
    while set(kinds) - set(found):
        message = await live.receive(timeout=WAIT_S)
        if message.type is _aiohttp().WSMsgType.TEXT:
            content: tuple[dict[str, Any], bytes] = json.loads(message.data), b""
        else:
            assert message.type is _aiohttp().WSMsgType.BINARY, message
            (length,) = struct.unpack_from("<I", message.data)
            content = json.loads(message.data[4 : 4 + length]), message.data[4 + length :]
            await live.send_str("shown")
        found.setdefault(content[0]["kind"], content)
    return found


def _aiohttp() -> Any:
    return pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
