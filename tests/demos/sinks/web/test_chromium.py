"""The page as a browser shows it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import numpy as np
import pytest
from kit.chromium import Chromium
from kit.page import WAIT_S, Page
from kit.playback import PlaySource

import shiftedge
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.spec import ModelSpec

aiohttp = pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
pytest.importorskip("segno", reason="the web extra (segno) is not installed")
cv2 = pytest.importorskip("cv2", reason="the camera extra is not installed")


@pytest.mark.long
def test_in_chromium(page: Page, spec: ModelSpec, tmp_path: Path) -> None:
    """A gesture is shown, and the picture mirrored; the screenshot is kept beside the test's
    files, or where SHIFTEDGE_SCREENSHOTS says."""

    async def look() -> bytes:
        async with Chromium(tmp_path) as browser:
            await browser.do("Page.navigate", url=page.base)
            label = "document.getElementById('gesture')?.textContent ?? ''"
            end_s = time.monotonic() + WAIT_S
            while not (found := await browser.value(label)):
                assert time.monotonic() < end_s
                await asyncio.sleep(0.1)
            assert found in spec.labels
            while not await browser.value("document.querySelector('#figures dd') !== null"):
                assert time.monotonic() < end_s
                await asyncio.sleep(0.1)
            assert await browser.value("document.querySelectorAll('#states canvas').length") == len(
                spec.states
            )
            where = "document.getElementById('picture').getBoundingClientRect().toJSON()"
            box = await browser.value(where)
            mirrored = await halves(browser, box)
            await browser.do("Input.dispatchKeyEvent", type="keyDown", key="m")
            plain = await halves(browser, box)
            assert mirrored[0] > 30 > 10 > mirrored[1]
            assert plain[1] > 30 > 10 > plain[0]
            await browser.do("Input.dispatchKeyEvent", type="keyDown", key="m")
            return await browser.picture()

    screenshot = asyncio.run(look())
    folder = Path(os.environ.get("SHIFTEDGE_SCREENSHOTS", tmp_path))
    (folder / "page.png").write_bytes(screenshot)


@pytest.mark.long
def test_a_browsers_camera_in_chromium(play: PlaySource, tmp_path: Path) -> None:
    """A rendered person in place of the camera, who swipes: the bundled model says so. The
    screenshot is kept as the other one."""
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    with open_source("synthetic:gestures?seconds=5&size=320x240&fps=30") as source:
        film = [cv2.imencode(".jpg", frame.image)[1].tobytes() for frame in source]
        truth = source.truth[0].label  # type: ignore[attr-defined]
    (tmp_path / "film.mjpeg").write_bytes(b"".join(film))
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={tmp_path / 'film.mjpeg'}",
    )

    async def look(page: Page) -> bytes:
        async with Chromium(tmp_path, *flags) as browser:
            await browser.do("Page.navigate", url=page.base)
            end_s = time.monotonic() + WAIT_S
            while await browser.value("document.querySelector('#labels li') === null"):
                assert time.monotonic() < end_s
                await asyncio.sleep(0.1)
            await browser.value("document.getElementById('own').click()")
            named = f"document.getElementById('gesture').textContent === '{truth}'"
            while not await browser.value(named):
                assert time.monotonic() < end_s, await browser.value("document.body.innerText")
                await asyncio.sleep(0.1)
            words = await browser.value("document.getElementById('link').textContent")
            assert words == "this device's camera"
            return await browser.picture()

    with Page(shiftedge.load(threads=1), play) as page:
        screenshot = asyncio.run(look(page))
    folder = Path(os.environ.get("SHIFTEDGE_SCREENSHOTS", tmp_path))
    (folder / "camera.png").write_bytes(screenshot)


async def halves(browser: Chromium, box: dict[str, float]) -> tuple[float, float]:
    """How bright the left and the right of the camera's picture are, on the screen; of its upper
    half, where no gesture is named."""
    image = cv2.imdecode(np.frombuffer(await browser.picture(), np.uint8), cv2.IMREAD_GRAYSCALE)
    left, top, width, height = (round(box[key]) for key in ("x", "y", "width", "height"))
    upper = image[top + 10 : top + height // 2, left : left + width]
    return float(upper[:, 10 : width // 3].mean()), float(upper[:, 2 * width // 3 : -10].mean())
