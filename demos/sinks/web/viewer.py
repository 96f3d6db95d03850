"""What waits for one browser: the newest picture, the newest states, some messages.

A browser says when it has shown a picture, and is sent the next one then. So a slow one sees fewer
pictures, none of them old, and nothing of it piles up here or in a socket.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from shiftedge.demos.sinks.web.access import Buckets
from shiftedge.runtime.process.extras import require

MESSAGES_MOST = 128
"""Texts that may wait; then the oldest are dropped."""
SHOWN = "shown"
"""What a browser says, the only thing that it may."""
AHEAD = 2
"""Pictures on their way to it."""
SILENT_S = 30.0
"""A browser that shows nothing for so long, while there is something to be shown, is gone."""
LONGEST_BYTES = 64
"""Of a message from it."""


class Viewer:
    """One browser.

    Args:
        on_shown: told how long after the camera took it a picture was shown, in seconds, with the
            way of the answer.
    """

    def __init__(self, socket: Any, on_shown: Callable[[float], None]) -> None:
        self.socket = socket
        self._on_shown = on_shown
        self.dropped = 0
        """Pictures and messages that it was too slow for."""
        self._texts: deque[str] = deque()
        self._newest: dict[str, tuple[bytes, float | None]] = {}
        self._ahead: deque[float | None] = deque()
        self._heard_s = time.monotonic()
        self._changed = asyncio.Event()
        self._rate = Buckets(rate_hz=120.0, burst=240, most=1)

    def tell(self, text: str) -> None:
        """Give it a message."""
        if len(self._texts) >= MESSAGES_MOST:
            self._texts.popleft()
            self.dropped += 1
        self._texts.append(text)
        self._changed.set()

    def show(self, kind: str, content: bytes, taken_s: float | None) -> None:
        """Give it a picture or states, in place of those that it was not sent yet."""
        self.dropped += kind in self._newest
        self._newest[kind] = content, taken_s
        self._changed.set()

    async def follow(self) -> None:
        """Until it goes, or is put out."""
        sending = asyncio.create_task(self._send())
        try:
            await self._listen()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _listen(self) -> None:
        text = require("aiohttp").WSMsgType.TEXT
        async for message in self.socket:
            if message.type is not text or message.data != SHOWN or not self._ahead:
                await self.socket.close(code=1008, message=b"Only 'shown' is understood.")
            elif not self._rate.take(""):
                await self.socket.close(code=1008, message=b"Too many messages.")
            else:
                self._heard_s = time.monotonic()
                if (taken_s := self._ahead.popleft()) is not None:
                    self._on_shown(self._heard_s - taken_s)
                self._changed.set()

    async def _send(self) -> None:
        while not self.socket.closed:
            if not self._texts and not (self._newest and len(self._ahead) < AHEAD):
                # Whoever is sent new pictures all the time is looked at each time.
                if self._ahead and time.monotonic() > self._heard_s + SILENT_S:
                    await self.socket.close(code=1008, message=b"Nothing was shown.")
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            while self._texts:
                await self.socket.send_str(self._texts.popleft())
            if self._newest and len(self._ahead) < AHEAD:
                kind = next(iter(self._newest))
                if not self._ahead:
                    self._heard_s = time.monotonic()
                content, taken_s = self._newest.pop(kind)
                self._ahead.append(taken_s)
                await self.socket.send_bytes(content)
