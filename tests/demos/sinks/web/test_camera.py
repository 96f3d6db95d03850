"""A browser's own camera: what it may send, and what it is told."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.page import WAIT_S, Page, heard
from kit.playback import LEVELS

from shiftedge.demos.sinks.web import server as server_module
from shiftedge.demos.sinks.web.camera import jpeg_size
from shiftedge.runtime.spec import ModelSpec

aiohttp = pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
pytest.importorskip("segno", reason="the web extra (segno) is not installed")
cv2 = pytest.importorskip("cv2", reason="the camera extra is not installed")


def jpeg(height: int, width: int, label: int = 0) -> bytes:
    image = np.full((height, width, 3), LEVELS * (label + 1), np.uint8)
    return bytes(cv2.imencode(".jpg", image)[1])


async def put_out(page: Page, client: Any, content: str | bytes) -> tuple[int | None, str]:
    """What a browser camera is told that sends this."""
    async with client.ws_connect("/camera", headers={"Origin": page.base}) as camera:
        await (camera.send_str if isinstance(content, str) else camera.send_bytes)(content)
        message = await camera.receive(timeout=WAIT_S)
        return message.data, message.extra or ""


def test_a_browsers_own_camera(page: Page, spec: ModelSpec) -> None:
    async def talk(client: Any) -> None:
        headers = {"Origin": page.base}
        async with (
            client.ws_connect("/camera", headers=headers) as first,
            client.ws_connect("/camera", headers=headers) as second,
        ):
            found: list[list[str]] = [[], []]
            end_s = time.monotonic() + WAIT_S
            while not all(found) and time.monotonic() < end_s:
                for index, camera in enumerate((first, second)):  # each with a stream of its own
                    await camera.send_bytes(jpeg(48, 64, index + 1))
                    told = await camera.receive_json(timeout=WAIT_S)
                    if told["event"]:
                        found[index].append(told["event"]["label"])
                await asyncio.sleep(0.04)
            assert found == [[spec.labels[1]], [spec.labels[2]]]

    page.run(talk)


def bomb(height: int, width: int) -> bytes:
    """A small JPEG whose header says that it is large."""
    content = bytearray(jpeg(16, 16))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def test_what_is_no_picture_is_told_so(page: Page) -> None:
    async def talk(client: Any) -> None:
        for content, words in (
            ("text", "a JPEG was expected"),
            (b"", "no JPEG"),
            (b"\x89PNG\r\n", "no JPEG"),
            (jpeg(64, 64)[:12], "cut short"),
            (jpeg(8, 64), "64x8 pixels; expected 16 to 1280"),
            (bomb(65535, 65535), "65535x65535 pixels"),
            (bomb(1280, 1281), "1281x1280 pixels"),
        ):
            code, said = await put_out(page, client, content)
            assert code == 1008, content[:20]
            assert words in said
        try:
            code, _ = await put_out(page, client, bytes(100_000_000))
            assert code in (1009, None)
        except ConnectionError:
            pass  # it was cut off while it still sent
        async with page.live(client) as live:
            await heard(live, "picture")

    page.run(talk)


def test_more_cameras_than_there_is_room_for(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CAMERAS_MOST", 1)

    async def talk(client: Any) -> None:
        async with client.ws_connect("/camera", headers={"Origin": page.base}):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect("/camera", headers={"Origin": page.base})
            assert refused.value.status == 503
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect("/camera", headers={"Origin": "http://evil.example"})
            assert refused.value.status == 403

    page.run(talk)


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda rest: b"\xff\xd8\xff" + rest))
def test_any_bytes_have_a_size_or_are_no_jpeg(content: bytes) -> None:
    try:
        height, width = jpeg_size(content)
    except ValueError:
        return
    assert 0 <= height < 65536
    assert 0 <= width < 65536


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=20)
def test_the_size_is_the_jpegs(height: int, width: int) -> None:
    assert jpeg_size(jpeg(height, width)) == (height, width)
