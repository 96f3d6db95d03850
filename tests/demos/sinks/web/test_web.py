"""The page: what is served to whom, and that no browser delays anything."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.chromium import Chromium
from kit.playback import LEVELS, Frames, PlaySource, ReadingEngine, film_of, shown

import shiftedge
from shiftedge.demos.actions import sinks_of
from shiftedge.demos.report import ShowReport
from shiftedge.demos.settings import RunSettings
from shiftedge.demos.sinks.web import server as server_module
from shiftedge.demos.sinks.web import viewer as viewer_module
from shiftedge.demos.sinks.web.camera import jpeg_size
from shiftedge.demos.sinks.web.server import FILES, Certificate
from shiftedge.demos.sinks.web.sink import WebSink
from shiftedge.runtime.capture import FrameSource, TimedFrame, open_source
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

aiohttp = pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
pytest.importorskip("segno", reason="the web extra (segno) is not installed")
cv2 = pytest.importorskip("cv2", reason="the camera extra is not installed")

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
            async with aiohttp.ClientSession(self.base) as client:
                return await asyncio.wait_for(talk(client), WAIT_S)

        return asyncio.run(asked())

    def live(self, client: Any, **headers: str) -> Any:
        return client.ws_connect("/live", headers={"Origin": self.base, **headers})


@pytest.fixture
def page(spec: ModelSpec, play: PlaySource) -> Iterator[Page]:
    with Page(Model(Remembering(spec)), play) as running:
        yield running


async def heard(live: Any, *kinds: str) -> dict[str, tuple[dict[str, Any], bytes]]:
    """The first message of each kind, everything on the way shown."""
    found: dict[str, tuple[dict[str, Any], bytes]] = {}
    while set(kinds) - set(found):
        message = await live.receive(timeout=WAIT_S)
        if message.type is aiohttp.WSMsgType.TEXT:
            content: tuple[dict[str, Any], bytes] = json.loads(message.data), b""
        else:
            assert message.type is aiohttp.WSMsgType.BINARY, message
            (length,) = struct.unpack_from("<I", message.data)
            content = json.loads(message.data[4 : 4 + length]), message.data[4 + length :]
            await live.send_str("shown")
        found.setdefault(content[0]["kind"], content)
    return found


def test_what_a_browser_is_told(page: Page, spec: ModelSpec) -> None:
    async def talk(client: Any) -> Any:
        async with page.live(client) as live:
            return await heard(live, "hello", "event", "figures", "picture", "states")

    found = page.run(talk)
    hello = found["hello"][0]
    assert [each["name"] for each in hello["labels"]] == list(spec.labels)
    assert hello["camera"] == "frames in memory"
    assert found["event"][0]["label"] in spec.labels
    figures = found["figures"][0]
    assert figures["viewers"] == 1
    assert 0.0 < figures["latency_ms"][0] <= figures["latency_ms"][1]
    message, jpeg = found["picture"]
    assert len(message["probabilities"]) == spec.classes
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    # Left and right as the model is given them: mirrored by the page alone.
    assert picture[:, :56].mean() < 10 < LEVELS < picture[:, 72:].mean()
    maps, content = found["states"]
    sizes = [(each["height"], each["width"]) for each in maps["maps"]]
    assert sizes == [state.shape[2:] for state in spec.states]
    assert len(content) == sum(height * width for height, width in sizes)


def test_the_files_are_small_and_ask_for_nothing_else(page: Page) -> None:
    async def talk(client: Any) -> Any:
        found = []
        for path in FILES:
            async with client.get(path) as answer:
                assert answer.status == 200
                found.append((await answer.read(), answer.headers))
        for path in ("/../server.py", "/%2e%2e/server.py", "/static/index.html", "/favicon.ico"):
            async with client.get(path) as answer:
                assert answer.status == 404
                assert "Content-Security-Policy" in answer.headers
        async with client.post("/", data=b"x") as answer:
            assert answer.status == 405
        return found

    files = page.run(talk)
    assert sum(len(content) for content, _ in files) < 150_000
    for content, headers in files:
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"://" not in content.replace(b"`${location.protocol", b"").replace(
            b'"}://${location.host}', b""
        )
        assert b"style=" not in content
        assert b" on" + b"click=" not in content


def test_a_slow_browser_delays_nobody(page: Page) -> None:
    async def talk(client: Any) -> Any:
        async with page.live(client) as slow, page.live(client) as quick:
            for _ in range(2):  # shows nothing of what it is sent
                while (await slow.receive(timeout=WAIT_S)).type is not aiohttp.WSMsgType.BINARY:
                    pass
            pictures = 0
            while pictures < 20:
                pictures += "picture" in await heard(quick, "picture")
            told = [await slow.receive(timeout=WAIT_S) for _ in range(4)]
            assert {message.type for message in told} == {aiohttp.WSMsgType.TEXT}

    page.run(talk)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
    ],
)
def test_forged_headers(page: Page, headers: dict[str, str], status: int) -> None:
    async def talk(client: Any) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page.live(client, **headers)
        assert refused.value.status == status
        async with client.get("/live", headers={"Origin": page.base}) as answer:
            assert answer.status == 426

    page.run(talk)


MESSAGES = st.lists(st.just("shown") | st.text(max_size=80) | st.binary(max_size=80), max_size=6)


def test_whatever_a_browser_sends_others_look_on(page: Page) -> None:
    async def send(client: Any, messages: list[str | bytes]) -> None:
        async with page.live(client) as odd:
            for message in messages:
                send = odd.send_str if isinstance(message, str) else odd.send_bytes
                try:
                    await send(message)
                except ConnectionError:
                    break

    @settings(max_examples=15)
    @given(MESSAGES)
    def check(messages: list[str | bytes]) -> None:
        page.run(lambda client: send(client, messages))

    check()
    page.run(lambda client: send(client, ["x" * 1_000_000]))

    async def talk(client: Any) -> None:
        async with page.live(client) as live:
            await heard(live, "picture")
            await live.send_bytes(b"\xff\xd8 a picture")
            while (message := await live.receive(timeout=WAIT_S)).type in (
                aiohttp.WSMsgType.TEXT,
                aiohttp.WSMsgType.BINARY,
            ):
                pass
            assert message.data == 1008
        async with page.live(client) as live:
            await heard(live, "picture")

    page.run(talk)


def test_a_browser_that_shows_nothing_is_put_out(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_module, "SILENT_S", 0.2)

    async def talk(client: Any) -> None:
        async with page.live(client) as live:
            while (message := await live.receive(timeout=WAIT_S)).type in (
                aiohttp.WSMsgType.TEXT,
                aiohttp.WSMsgType.BINARY,
            ):
                pass
            assert message.data == 1008

    page.run(talk)


def test_more_browsers_than_there_is_room_for(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "VIEWERS_MOST", 2)

    async def talk(client: Any) -> None:
        async with page.live(client), page.live(client):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await page.live(client)
            assert refused.value.status == 503

    page.run(talk)


def test_a_thousand_connections(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mute ones make room, and whoever asks is answered."""
    monkeypatch.setattr(server_module, "SPEAK_S", 0.1)
    host, port = page.base.removeprefix("http://").split(":")

    async def ask(client: Any) -> int:
        async with client.get("/") as answer:
            return int(answer.status)

    async def talk(client: Any) -> None:
        mute = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        ended = await asyncio.gather(*(reader.read() for reader, _ in mute))
        assert set(ended) == {b""}
        for _, writer in mute:
            writer.close()
        found = await asyncio.gather(*(ask(client) for _ in range(1000)))
        assert set(found) <= {200, 429, 503}
        assert 200 in found
        assert 429 in found
        page.sink._access.requests = server_module.Access("127.0.0.1").requests
        async with page.live(client) as live:
            await heard(live, "picture")

    page.run(talk)


def test_beyond_this_machine(spec: ModelSpec, play: PlaySource) -> None:
    with Page(Model(ReadingEngine(spec)), play, address=("0.0.0.0", 0)) as page:
        link, code = page.said
        assert link == f"page: {page.sink.link}"
        assert len(code.splitlines()) > 12
        token = page.sink.link.split("token=")[1]
        page.base = f"http://127.0.0.1:{page.sink.link.split(':')[-1].split('/')[0]}"

        async def talk(client: Any) -> None:
            for query in ("", "?token=guessed"):
                async with client.get("/" + query) as answer:
                    assert answer.status == 401
                    assert token not in await answer.text()
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await page.live(client)
            assert refused.value.status == 401
            async with client.get(f"/?token={token}", allow_redirects=False) as answer:
                assert answer.status == 303
                assert answer.headers["Location"] == "/"
                cookie = answer.headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Lax" in cookie
            name, value = cookie.split(";")[0].split("=")
            headers = {"Cookie": f"{name}={value}"}
            async with client.get("/", headers=headers) as answer:
                assert answer.status == 200
            async with page.live(client, **headers) as live:
                await heard(live, "picture")
            found = []
            for guess in range(12):
                async with client.get(f"/?token={guess}") as answer:
                    found.append(answer.status)
            assert found[0] == 401
            assert found[-1] == 429

        page.run(talk)


def test_tls(spec: ModelSpec, play: PlaySource, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    made = [*line.split(), "-subj", "/CN=localhost", "-out", certificate, "-keyout", key]
    try:
        subprocess.run(made, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    with Page(Model(ReadingEngine(spec)), play, certificate=Certificate(certificate, key)) as page:
        trusted = ssl.create_default_context(cafile=certificate)
        trusted.check_hostname = False

        async def talk(client: Any) -> None:
            headers = {"Origin": page.base}
            async with client.ws_connect("/live", headers=headers, ssl=trusted) as live:
                await heard(live, "picture")

        assert page.base.startswith("https://")
        page.run(talk)


def test_the_page_of_a_file(
    reading_model: Model, play: PlaySource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_text("[web]\nlisten = '127.0.0.1:0'\n")
    sinks = sinks_of(RunSettings(tmp_path / "a.toml"), reading_model.spec, ["frames"])
    shown(reading_model, play(Frames(film_of([(0, 0.2)]))), *sinks)
    assert "page: http://127.0.0.1:" in capsys.readouterr().err


def test_what_cannot_be_served_is_a_sentence(
    reading_model: Model, play: PlaySource, tmp_path: Path
) -> None:
    def serve(address: tuple[str, int], certificate: Certificate | None = None) -> None:
        source = play(Frames(film_of([(0, 1.0)])))
        shown(reading_model, source, WebSink(address, certificate=certificate))

    with socket.socket() as taken:
        taken.bind(HERE)
        taken.listen()
        with pytest.raises(OutputError, match=r"served at 127\.0\.0\.1:\d+: .*; expected"):
            serve(taken.getsockname())
    (tmp_path / "cert.pem").write_text("none")
    with pytest.raises(OutputError, match=r"cert\.pem cannot be used"):
        serve(HERE, Certificate(tmp_path / "cert.pem"))
    with pytest.raises(OutputError, match="No such file"):
        serve(HERE, Certificate(tmp_path / "absent.pem"))


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
