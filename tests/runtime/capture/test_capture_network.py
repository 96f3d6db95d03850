"""Streams and recordings over HTTP, from a server on the loopback that misbehaves as told."""

from __future__ import annotations

import itertools
import math
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from shiftedge.runtime.capture import Retry, open_source
from shiftedge.runtime.capture.network import open_url, without_password
from shiftedge.runtime.capture.retry import LiveSource
from shiftedge.runtime.capture.video import VideoFile
from shiftedge.runtime.errors import SourceError, SourceLostError

JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
ONCE = Retry(limit_s=0.0, first_limit_s=0.0)


class Server:
    """Answers each connection with the next of ``plans`` (the last one for ever)."""

    def __init__(self, *plans: str, body: bytes = b"") -> None:
        self.plans = list(plans)
        self.body = body
        self.done = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/x"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.done.set()
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        plan = ""
        try:
            if not client.recv(65536):
                return  # only asked whether anybody is here
            plan = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
            if plan == "missing":
                client.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")
            elif plan == "file":
                client.sendall(
                    b"HTTP/1.0 200 OK\r\nContent-Type: video/x-msvideo\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body
                )
            elif plan != "silent":
                client.sendall(
                    b"HTTP/1.0 200 OK\r\n"
                    b"Content-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
                )
                part = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(JPEG)
                client.sendall((part + JPEG + b"\r\n") * 20)
            if plan in ("silent", "stall"):
                self.done.wait(60.0)
        except OSError:
            pass  # the reader has gone
        finally:
            client.close()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    opened: list[Server] = []
    yield opened
    for server in opened:
        server.close()


def serve(servers: list[Server], *plans: str, body: bytes = b"") -> str:
    servers.append(Server(*plans, body=body))
    return servers[-1].url


@pytest.mark.parametrize("plan", ["stall", "end"])
def test_a_stream_that_stalls_or_ends_is_lost_not_waited_for(
    servers: list[Server], plan: str
) -> None:
    url = serve(servers, plan, "missing")
    events: list[str] = []
    retry = Retry(limit_s=0.02, first_s=0.01)
    source = open_url(url, stall_s=0.4, retry=retry, on_event=events.append)
    assert source.live
    frames = []
    with pytest.raises(
        SourceLostError, match=r"The stream http.* stopped after \d+ frames and did not come back"
    ):
        frames.extend(frame.image.shape for frame in source)
    assert frames
    assert set(frames) == {(48, 64, 3)}
    assert "gives no more frames. Trying again in 0.0 s (attempt 1)" in events[0]


def test_a_stream_that_comes_back_goes_on(servers: list[Server]) -> None:
    url = serve(servers, "end", "missing", "end", "missing")
    events: list[str] = []
    source = open_url(
        url, stall_s=0.5, retry=Retry(limit_s=1.0, first_s=0.01), on_event=events.append
    )
    frames = list(itertools.islice(source, 30))
    source.close()
    assert [frame.index for frame in frames] == list(range(30))
    assert f"The stream {url} gives frames again." in events


def test_a_service_waits_for_its_stream(servers: list[Server]) -> None:
    """Whose server is not there at the beginning and goes away twice."""
    url = serve(servers, *["missing"] * 4, "end", *["missing"] * 6, "end", "missing", "stall")
    events: list[str] = []
    retry = Retry(math.inf, math.inf, first_s=0.001, longest_s=0.002, service=True)
    with open_source(url, stall_s=0.5, retry=retry, on_event=events.append) as source:
        frames = list(itertools.islice(source, 45))
    assert [frame.index for frame in frames] == list(range(45))
    assert f"The stream {url} gives frames again." in events


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ("silent", r"answers at port \d+ but sent no video within 0\.3 s; check the path"),
        ("missing", r"answers at port \d+ but sent no video"),
    ],
)
def test_a_server_without_video_says_so(servers: list[Server], plan: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_url(serve(servers, plan), stall_s=0.3, retry=ONCE)


def test_nobody_there_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        SourceError, match=rf"does not answer at port {port} \(Connection refused\)"
    ):
        open_url(f"rtsp://127.0.0.1:{port}/x", stall_s=0.5, retry=ONCE)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http:///x", "names no host"),
        ("http://a:b/x", "malformed"),
        ("udp://127.0.0.1:9", "no vid"),
    ],
)
def test_useless_addresses_say_so(url: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_url(url, stall_s=0.2, retry=ONCE)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/\udce9", "rtsp://me:\udcff@127.0.0.1:9/x"])
def test_an_address_that_is_no_text_is_refused_at_once(url: str) -> None:
    with pytest.raises(SourceError, match="holds bytes that are no text; write them as %XX"):
        open_source(url, retry=Retry.for_service())


@pytest.mark.parametrize("url", ["http://", "rtsp:///x", "http://a:b/x"])
def test_an_address_that_waiting_does_not_mend_is_refused_at_once(url: str) -> None:
    with pytest.raises(SourceError, match="the address"):
        open_source(url, retry=Retry.for_service())


def test_a_recording_on_a_server_ends(servers: list[Server], tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    fourcc = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 20.0, (64, 48))
    for _ in range(10):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    source = open_source(serve(servers, "file", body=path.read_bytes()), stall_s=2.0, retry=ONCE)
    assert isinstance(source, VideoFile)
    assert not source.live
    assert len(list(source)) == 10


def test_for_a_service_a_length_makes_no_recording(servers: list[Server], tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    fourcc = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 20.0, (64, 48))
    for _ in range(10):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    url = serve(servers, "file", body=path.read_bytes())
    retry = Retry(math.inf, math.inf, first_s=0.001, service=True)
    with open_source(url, stall_s=2.0, retry=retry, on_event=lambda sentence: None) as source:
        assert isinstance(source, LiveSource)
        assert source.live
        assert len(list(itertools.islice(source, 25))) == 25


class Announcing:
    """A camera's stream that says it has 900 frames, as OpenCV gives it."""

    def __init__(self) -> None:
        self.left = 30

    def grab(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((48, 64, 3), np.uint8)

    def read(self) -> tuple[bool, np.ndarray]:
        return self.retrieve()

    def get(self, name: int) -> float:
        return {cv2.CAP_PROP_FRAME_COUNT: 900.0, cv2.CAP_PROP_FPS: 30.0}.get(name, 0.0)

    def release(self) -> None:
        pass


def test_a_camera_that_announces_a_length_is_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "shiftedge.runtime.capture.network.connect_url", lambda url, stall_s: Announcing()
    )
    with open_url("RTSP://127.0.0.1/x") as source:
        assert isinstance(source, LiveSource)
        assert source.rate_hz == 30.0
        assert len(list(itertools.islice(source, 20))) == 20
    with open_url("http://127.0.0.1/x") as source:
        assert isinstance(source, VideoFile)


def test_passwords_stay_out_of_messages(servers: list[Server]) -> None:
    assert without_password("rtsp://me:secret@host:1/x?y") == "rtsp://***@host:1/x?y"
    assert without_password("rtsp://host/x") == "rtsp://host/x"
    assert "secret" not in without_password("rtsp://me:secret@[bad/x")
    url = serve(servers, "missing").replace("//", "//me:secret@")
    with pytest.raises(SourceError) as raised:
        open_url(url, stall_s=0.3, retry=ONCE)
    assert "secret" not in str(raised.value)


def test_a_live_stream_hides_its_password(servers: list[Server]) -> None:
    url = serve(servers, "stall").replace("//", "//me:secret@")
    with open_url(url, stall_s=0.4, retry=ONCE) as source:
        assert isinstance(source, LiveSource)
        assert source.name.startswith("stream http://***@127.0.0.1")
