"""Downloads from a real server on this machine that breaks off, lies, stalls and changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shiftedge.export.catalogue import CATALOGUE, JESTER_LABELS, CatalogueEntry, find
from shiftedge.export.fetch import fetch, git_blob_id, web_opener
from shiftedge.runtime.errors import DownloadError, OutputError
from shiftedge.runtime.process.progress import Advance

SIZE = 300_000
GENUINE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(SIZE // 32))
SIZE = len(GENUINE)
GARBAGE = bytes(SIZE)
BLOB_ID = hashlib.sha1(b"blob %d\0" % SIZE + GENUINE).hexdigest()


class Site:
    """What the server does, one script step a request; the last step repeats."""

    def __init__(self) -> None:
        self.steps: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""
        self.over = threading.Event()

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.requests.append((self.path, dict(self.headers)))
            step = site.steps.pop(0) if len(site.steps) > 1 else site.steps[0]
            self.close_connection = True
            with contextlib.suppress(ConnectionError):
                step(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    site.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def head(handler: BaseHTTPRequestHandler, code: int, length: int | None, **headers: str) -> None:
    handler.send_response(code)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def serve(
    content: bytes = GENUINE,
    *,
    stop_after: int | None = None,
    length: int | None = -1,
    ranges: bool = True,
) -> Callable[[BaseHTTPRequestHandler], None]:
    """A server's step: Range as RFC 9110 has it, breaking off if asked to."""

    def step(handler: BaseHTTPRequestHandler) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and ranges else 0
        body = content[start:]
        extra = {}
        if start:
            extra["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        head(handler, 206 if start else 200, len(body) if length == -1 else length, **extra)
        handler.wfile.write(body[:stop_after])

    return step


def answer(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: head(handler, code, 0, **headers)


class Bar:
    """Stands in for the progress bar and counts."""

    def __init__(self) -> None:
        self.done = 0
        self.total: int | None = None

    @contextlib.contextmanager
    def __call__(self, description: str, total: int | None, unit: str) -> Iterator[Advance]:
        self.total = total

        def advance(count: int) -> None:
            self.done += count

        yield advance


def entry_at(*urls: str) -> CatalogueEntry:
    return CatalogueEntry(
        name="test",
        summary="",
        licence="",
        file_name="model.pth.tar",
        urls=urls,
        size_bytes=SIZE,
        blob_id=BLOB_ID,
    )


class Fetched:
    """Runs fetch against the site with waits recorded instead of waited for."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.waits: list[float] = []
        self.bar = Bar()

    def __call__(self, *paths: str, timeout_s: float = 5.0) -> bytes:
        entry = entry_at(*(self.site.url + path for path in paths or ("/model",)))
        path = fetch(
            entry, self.folder, progress=self.bar, sleep=self.waits.append, timeout_s=timeout_s
        )
        assert path == self.folder / "model.pth.tar"
        assert self.bar.done == self.bar.total == SIZE
        assert self.files() == ["model.pth.tar"], "no part is left"
        return path.read_bytes()

    def files(self) -> list[str]:
        return sorted(os.listdir(self.folder))

    def fails(self, match: str, *paths: str, timeout_s: float = 5.0) -> None:
        with pytest.raises(DownloadError, match=match):
            self(*paths, timeout_s=timeout_s)
        assert "model.pth.tar" not in self.files()


@pytest.fixture
def fetched(site: Site, tmp_path: Path) -> Fetched:
    return Fetched(site, tmp_path)


def test_a_whole_file_arrives(site: Site, fetched: Fetched) -> None:
    site.steps = [serve()]
    assert fetched() == GENUINE
    assert fetched.waits == []
    assert (fetched.folder / "model.pth.tar").stat().st_mode & 0o444


def test_a_genuine_file_is_not_fetched_again(site: Site, fetched: Fetched) -> None:
    site.steps = [serve()]
    fetched()
    fetch(entry_at(site.url), fetched.folder)
    assert len(site.requests) == 1


def test_a_wrong_file_of_that_name_is_replaced(site: Site, fetched: Fetched) -> None:
    (fetched.folder / "model.pth.tar").write_bytes(GARBAGE)
    site.steps = [serve()]
    assert fetched() == GENUINE


def test_a_broken_download_goes_on(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(stop_after=100_000), serve()]
    assert fetched() == GENUINE
    assert site.ranges() == [None, "bytes=100000-"]
    assert fetched.waits == [1.0]


def test_it_goes_on_in_a_later_call_after_ctrl_c(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(stop_after=100_000), serve()]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(entry_at(site.url + "/model"), fetched.folder, sleep=interrupt)
    assert fetched.files() == ["model.pth.tar.part"]
    assert fetched() == GENUINE
    assert site.ranges() == [None, "bytes=100000-"]


def test_a_line_that_breaks_often_gets_there_in_the_end(site: Site, fetched: Fetched) -> None:
    site.steps = [*[serve(stop_after=70_000)] * 4, serve()]
    assert fetched() == GENUINE
    assert fetched.waits == [1.0] * 4, "each try was worth it"


def test_pieces_of_two_files_are_found_out(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(GARBAGE, stop_after=100_000), serve()]
    assert fetched() == GENUINE
    assert site.ranges() == [None, "bytes=100000-", None]


def test_a_server_that_ignores_ranges(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(stop_after=100_000), serve(ranges=False)]
    assert fetched() == GENUINE


def test_a_range_that_was_not_asked_for(site: Site, fetched: Fetched) -> None:
    def wrong(handler: BaseHTTPRequestHandler) -> None:
        head(handler, 206, 10, Content_Range=f"bytes 5-14/{SIZE}")
        handler.wfile.write(bytes(10))

    site.steps = [serve(stop_after=100_000), wrong, serve()]
    assert fetched() == GENUINE


def test_range_not_satisfiable(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(stop_after=100_000), answer(416), serve()]
    assert fetched() == GENUINE
    assert site.ranges()[2] is None


def test_another_address_goes_on_where_the_first_gave_up(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(stop_after=10), serve(stop_after=10), serve(stop_after=10), serve()]
    assert fetched("/one", "/two") == GENUINE
    assert [path for path, _ in site.requests] == ["/one"] * 3 + ["/two"]
    assert site.ranges()[-1] == "bytes=30-"


def test_garbage_from_one_address_does_not_spoil_the_other(site: Site, fetched: Fetched) -> None:
    site.steps = [*[serve(GARBAGE, stop_after=10)] * 3, serve()]
    assert fetched("/one", "/two") == GENUINE
    assert site.ranges()[-2:] == ["bytes=30-", None]


def test_a_part_longer_than_the_file(site: Site, fetched: Fetched) -> None:
    (fetched.folder / "model.pth.tar.part").write_bytes(GENUINE + b"more")
    site.steps = [serve()]
    assert fetched() == GENUINE
    assert site.ranges() == [None]


@pytest.mark.parametrize("length", [SIZE + 1, SIZE - 1, 10**12])
def test_another_length_is_refused_unread(site: Site, fetched: Fetched, length: int) -> None:
    site.steps = [serve(length=length)]
    fetched.fails(f"offers {length} bytes; expected {SIZE}")
    assert fetched.files() == []
    assert len(site.requests) == 1


def test_no_more_is_read_than_the_file_has(site: Site, fetched: Fetched) -> None:
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        head(handler, 200, None)
        handler.wfile.write(GENUINE)
        while not site.over.is_set():
            handler.wfile.write(bytes(1 << 16))
            sent.append(1 << 16)

    site.steps = [endless]
    assert fetched() == GENUINE
    assert sum(sent) < 50_000_000, "the connection was closed, what had been sent was in flight"


def test_garbage_of_the_right_size_is_removed(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(GARBAGE)]
    fetched.fails(f"expected {BLOB_ID}.*not the genuine file")
    assert fetched.files() == []
    assert len(site.requests) == 1, "a wrong file is not worth another try"


def test_the_mirror_helps_out(site: Site, fetched: Fetched) -> None:
    site.steps = [serve(GARBAGE), serve()]
    assert fetched("/one", "/two") == GENUINE
    site.steps = [answer(404), serve()]
    (fetched.folder / "model.pth.tar").unlink()
    fetched.bar.done = 0
    assert fetched("/one", "/two") == GENUINE


def test_gone_is_gone_but_trouble_may_pass(site: Site, fetched: Fetched) -> None:
    site.steps = [answer(404)]
    fetched.fails("answered 404 Not Found")
    assert len(site.requests) == 1
    site.steps = [answer(500)]
    fetched.fails("answered 500")
    assert fetched.waits == [1.0, 2.0]
    site.steps = [answer(503), answer(429), serve()]
    assert fetched() == GENUINE


def test_a_server_that_falls_silent(site: Site, fetched: Fetched) -> None:
    def stall(handler: BaseHTTPRequestHandler) -> None:
        head(handler, 200, SIZE)
        handler.wfile.write(GENUINE[:5000])
        site.over.wait(10)

    site.steps = [stall, serve()]
    assert fetched(timeout_s=0.1) == GENUINE
    assert site.ranges() == [None, "bytes=5000-"]


def test_nobody_listens(fetched: Fetched) -> None:
    fetched.site.url = "http://127.0.0.1:1"
    fetched.fails("did not answer")


def test_redirects_within_the_web_only(site: Site, fetched: Fetched) -> None:
    site.steps = [answer(302, Location="/elsewhere"), serve()]
    assert fetched() == GENUINE
    (fetched.folder / "model.pth.tar").unlink()
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"):
        site.steps = [answer(302, Location=place)]
        fetched.fails(r"is not allowed|unknown url type")
    site.steps = [answer(302, Location="/round")]
    fetched.fails("answered 302 .*infinite loop")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_the_opener_knows_nothing_but_the_web(url: str) -> None:
    with pytest.raises(urllib.error.URLError, match="unknown url type"):
        web_opener().open(urllib.request.Request(url), timeout=1)


def test_places_that_cannot_be_written_to(site: Site, tmp_path: Path) -> None:
    site.steps = [serve()]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"):
        fetch(entry_at(site.url), tmp_path / "file" / "folder")
    (tmp_path / "model.pth.tar").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        fetch(entry_at(site.url), tmp_path)


def test_a_full_disk(site: Site, fetched: Fetched) -> None:
    site.steps = [serve()]
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # stands in for the disk's end
    try:
        with pytest.raises(OutputError, match=r"Cannot write .*Make room"):
            fetched()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (fetched.folder / "model.pth.tar.part").stat().st_size == 100_000
    fetched.bar.done = 0
    assert fetched() == GENUINE
    assert site.ranges() == [None, "bytes=100000-"]


def test_two_downloads_of_one_file(site: Site, tmp_path: Path) -> None:
    second: list[str] = []

    def meanwhile(handler: BaseHTTPRequestHandler) -> None:
        try:
            fetch(entry_at(site.url), tmp_path)
        except OutputError as error:
            second.append(str(error))
        serve()(handler)

    site.steps = [meanwhile]
    assert fetch(entry_at(site.url), tmp_path).read_bytes() == GENUINE
    assert "another download of it is under way" in second[0]


def test_a_part_that_was_complete_needs_no_server(fetched: Fetched) -> None:
    fetched.site.url = "http://127.0.0.1:1"
    (fetched.folder / "model.pth.tar.part").write_bytes(GENUINE)
    assert fetched() == GENUINE


def test_blob_id_is_what_git_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(GENUINE)
    assert git_blob_id(tmp_path / "file") == BLOB_ID
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["git", "hash-object", str(tmp_path / "file")], capture_output=True)
        assert done.stdout.decode().strip() == BLOB_ID


def test_the_catalogue(tmp_path: Path) -> None:
    jester = find("jester")
    assert len(JESTER_LABELS) == len(set(JESTER_LABELS)) == 27
    assert [JESTER_LABELS[index] for index in (0, 2, 14, 16, 26)] == [
        "Doing other things",
        "No gesture",
        "Stop Sign",
        "Swiping Left",
        "Zooming Out With Two Fingers",
    ]
    assert set(jester.silent_labels) < set(jester.labels)
    assert all(url.startswith("https://") for url in jester.urls)
    assert not jester.bundled
    assert find("gestures").bundled
    assert [entry.to_dict()["bundled"] for entry in CATALOGUE] == [True, False]
    with pytest.raises(DownloadError, match="holds gestures, jester"):
        find("jestr")
    with pytest.raises(DownloadError, match="comes with shiftedge"):
        fetch(find("gestures"), tmp_path)
    with pytest.raises(DownloadError, match="git hash-object"):
        fetch(replace(jester, urls=("http://127.0.0.1:1/",)), tmp_path, sleep=lambda _: None)
