"""The page: what is served to whom, and that no browser delays anything."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.page import HERE, WAIT_S, Page, heard
from kit.playback import LEVELS, Frames, PlaySource, ReadingEngine, film_of, shown

from shiftedge.demos.actions import sinks_of
from shiftedge.demos.settings import RunSettings
from shiftedge.demos.sinks.web import server as server_module
from shiftedge.demos.sinks.web import viewer as viewer_module
from shiftedge.demos.sinks.web.server import FILES, Certificate
from shiftedge.demos.sinks.web.sink import WebSink
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec

aiohttp = pytest.importorskip("aiohttp", reason="the web extra (aiohttp) is not installed")
pytest.importorskip("segno", reason="the web extra (segno) is not installed")
cv2 = pytest.importorskip("cv2", reason="the camera extra is not installed")


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
        page.sink._access.requests = server_module.PageAccess("127.0.0.1").requests
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
    sinks = list(
        sinks_of(RunSettings(tmp_path / "a.toml"), reading_model.spec, ["frames"]).values()
    )
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
