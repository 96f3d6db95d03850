"""A Chromium without a screen, driven by the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

START_S = 60.0
WINDOW = 1100, 900


class Chromium:
    """One page. Used with ``async with``.

    Args:
        folder: for its profile.
        flags: further ones of the command line.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        program = shutil.which("chromium")
        if program is None:
            pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
        self._folder = folder
        self._line = [
            program,
            "--headless",
            "--no-sandbox",  # root has none, as in a container
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            f"--window-size={WINDOW[0]},{WINDOW[1]}",
            f"--user-data-dir={folder / 'profile'}",
            "--remote-debugging-port=0",
            *flags,
            "about:blank",
        ]
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Chromium:
        aiohttp = pytest.importorskip("aiohttp", reason="the web extra is not installed")
        with (self._folder / "said").open("w") as said:
            self._process = subprocess.Popen(self._line, stdout=said, stderr=said)
        self._client = aiohttp.ClientSession()
        try:
            port = self._port()
            async with self._client.get(f"http://127.0.0.1:{port}/json") as answer:
                (target,) = [each for each in await answer.json() if each["type"] == "page"]
            self._socket = await self._client.ws_connect(
                target["webSocketDebuggerUrl"], max_msg_size=1 << 26
            )
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._client.close()
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=START_S)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def value(self, expression: str) -> Any:
        """What a line of JavaScript gives; a promise's end."""
        found = await self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def picture(self) -> bytes:
        """PNG of what is on the screen."""
        found = await self.do("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])

    def _port(self) -> int:
        file = self._folder / "profile" / "DevToolsActivePort"
        end_s = time.monotonic() + START_S
        while time.monotonic() < end_s and self._process.poll() is None:
            if file.exists() and (lines := file.read_text().split()):
                return int(lines[0])
            time.sleep(0.05)
        pytest.fail(f"Chromium did not start: {(self._folder / 'said').read_text()[-2000:]}")
