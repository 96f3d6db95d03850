"""Runs the loop of ``shiftedge demo`` and ``run`` on cameras in memory, and takes its times."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.machine import machine
from shiftedge.demos.report import ShowReport
from shiftedge.demos.show import Watched, show
from shiftedge.demos.sinks import Moment, Sink, Wants
from shiftedge.demos.sinks.web.sink import WebSink
from shiftedge.runtime.capture import FrameSource, TimedFrame, open_source
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.process.tables import Column, Table

RATE_HZ = 30.0
CLIP = "synthetic:gestures?seconds=12&seed=3&size=640x480&fps=30"
WARM_S = 4.0
"""Left out at the beginning: browsers start, states fill."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PAGE_MB = 1e6
MUST_HOLD = {
    "camera to event p50": 15.0,
    "camera to event p99": 40.0,
    "camera to page p50": 120.0,
    "loop overhead p50": 1.0,
    "share of a camera, least": 0.9,
    "share of a camera, most": 1.1,
}
"""Of two cores that do nothing else; above it does not hold, the least share below it."""
Picture = Callable[[int], NDArray[np.uint8]]


class MemoryCamera(FrameSource):
    """Gives pictures at a camera's pace, each decoded before its time has come.

    Args:
        picture: by its number.
        frames: how many; None: until it is closed.
        paced: False gives them as fast as they are taken, as a recording.
    """

    rate_hz = RATE_HZ

    def __init__(
        self, name: str, picture: Picture, *, frames: int | None = None, paced: bool = True
    ) -> None:
        self.name, self.live = name, paced
        self._picture, self._frames = picture, frames
        self._closing = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        begun_s = time.monotonic()
        index = 0
        while index != self._frames and not self._closing.is_set():
            image = self._picture(index)
            if self.live:
                wait_s = begun_s + index / RATE_HZ - time.monotonic()
                if wait_s > 0 and self._closing.wait(wait_s):
                    return
            taken_s = time.monotonic() if self.live else None
            yield TimedFrame(image, index / RATE_HZ, index, taken_s=taken_s)
            index += 1

    def close(self) -> None:
        self._closing.set()


class Probe(Sink):
    """Looks at the clock when the loop is done with a frame; the last of the sinks.

    Args:
        each: called with each moment and that time, in the loop's thread.
    """

    name = "probe"
    wants: Wants = "frames"

    def __init__(self, each: Callable[[Moment, float], None]) -> None:
        self._each = each

    def fits(self, moment: Moment) -> bool:
        self._each(moment, time.monotonic())
        return False

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """Nothing is left to be taken."""


class Page(WebSink):
    """Opens its page in a browser, and keeps when each picture was shown."""

    def __init__(self, open_page: Callable[[str], None]) -> None:
        super().__init__(("127.0.0.1", 0))
        self._open = open_page
        self.times: list[tuple[float, float]] = []

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        super().begin(sessions)
        self._open(self.link)

    def shown(self, seconds: float) -> None:
        self.times.append((time.monotonic(), seconds))


def report(
    model: Model, parts: Sequence[str], *, seconds: float, frames: int, cameras: int
) -> dict[str, Any]:
    """Measure, and give all as plain JSON types."""
    with working("rendering a person"):
        jpegs = _clip()
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    if "page" in parts:
        with working(f"a page, {seconds:g} s"):
            found += _page(model, jpegs, seconds, notes)
    if "memory" in parts:
        with working(f"memory, {frames} frames"):
            found += _memory(model, jpegs, frames)
    if "cameras" in parts:
        with working(f"{cameras} cameras, {seconds:g} s"):
            found += _cameras(model, jpegs, seconds, cameras)
    return {
        "machine": machine(),
        "model": {"name": model.spec.name, "engine": f"{model.engine.name} {model.engine.version}"},
        "figures": found,
        "notes": notes,
    }


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    here, model = report["machine"], report["model"]
    columns = (
        Column("", "name"),
        Column("measured", "value", ".3g"),
        Column("", "unit"),
        Column("must hold", "limit", "g"),
        Column("holds", lambda row: {True: "yes", False: "no", None: None}[row["holds"]]),
        Column("of", "of"),
    )
    table = Table.of(columns, report["figures"], "lrlrll")
    return [
        f"{model['name']} by {model['engine']} on {here['cpu']}, {here['cores']} cores, "
        f"load {here['load_average']}",
        *table.lines(),
        *report["notes"],
    ]


def _clip() -> list[bytes]:
    """A person who gestures, as JPEGs: a minute of pictures would not fit into a board."""
    cv2 = require("cv2")
    with open_source(CLIP) as source:
        return [cv2.imencode(".jpg", frame.image)[1].tobytes() for frame in source]


def _decoded(jpegs: Sequence[bytes]) -> Picture:
    cv2 = require("cv2")

    def picture(index: int) -> NDArray[np.uint8]:
        content = np.frombuffer(jpegs[index % len(jpegs)], np.uint8)
        image: NDArray[np.uint8] = cv2.imdecode(content, cv2.IMREAD_COLOR)
        return image

    return picture


def _page(
    model: Model, jpegs: Sequence[bytes], seconds: float, notes: list[str]
) -> list[dict[str, Any]]:
    results, events, overheads, idle = [], [], [], []
    spent_s = 0.0
    since_s = time.monotonic() + WARM_S

    def each(moment: Moment, now_s: float) -> None:
        nonlocal spent_s
        before_s, spent_s = spent_s, time.thread_time()
        if moment.taken_s is None or moment.result is None or now_s < since_s:
            return
        overheads.append(now_s - moment.taken_s - moment.result.step_s)
        if moment.steps:
            results.append(moment.told_s - moment.taken_s)
        else:
            idle.append(spent_s - before_s)
        if moment.event is not None:
            events.append(moment.told_s - moment.taken_s)

    with contextlib.ExitStack() as stack:
        page = Page(lambda link: _browse(stack, link, notes))
        watched = Watched("camera", opener=lambda: MemoryCamera("camera", _decoded(jpegs)))
        told = _shown(model, [watched], [page, Probe(each)], limit_s=seconds + WARM_S)
    shown = [took_s for at_s, took_s in page.times if at_s >= since_s]
    step_ms, numbers = told.numbers.step_p50_ms, told.numbers
    return [
        *_shares("camera to event", events),
        *_shares("camera to result", results),
        *_shares("loop overhead", overheads),
        # Whatever else this machine does, that is what a frame takes that is not stepped.
        *_shares("loop, processor time", idle),
        *_shares("camera to page", shown),
        _figure("model step p50", step_ms, "ms", f"{numbers.steps} steps"),
        _figure("frames dropped", numbers.dropped + numbers.stale, "", f"{numbers.frames} frames"),
    ]


def _memory(model: Model, jpegs: Sequence[bytes], frames: int) -> list[dict[str, Any]]:
    held: list[tuple[int, float]] = []
    count = 0
    between = max(frames // 50, 1)

    def each(moment: Moment, now_s: float) -> None:
        nonlocal count
        count += 1
        if count % between == 0:
            held.append((count, _resident_mb()))

    camera = Watched(
        "camera",
        opener=lambda: MemoryCamera("camera", _decoded(jpegs), frames=frames, paced=False),
    )
    page = WebSink(("127.0.0.1", 0))
    _shown(model, [camera], [page, Probe(each)], realtime=False)
    settled = [each for each in held if each[0] >= frames / 5] or held
    grown = settled[-1][1] - settled[0][1]
    of = f"{settled[-1][0]} frames, from the {settled[0][0]}th on"
    return [
        _figure("memory", settled[-1][1], "MB", of),
        _figure("memory grown", grown, "MB", of),
    ]


def _cameras(
    model: Model, jpegs: Sequence[bytes], seconds: float, cameras: int
) -> list[dict[str, Any]]:
    decode = _decoded(jpegs)
    pictures = [decode(index) for index in range(60)]  # shared, as their decoding is no one's here

    def opener(name: str) -> Callable[[], FrameSource]:
        return lambda: MemoryCamera(name, lambda index: pictures[index % len(pictures)])

    names = [f"camera {number}" for number in range(1, cameras + 1)]
    told = _shown(model, [Watched(name, opener=opener(name)) for name in names], limit_s=seconds)
    rates = [each.numbers.steps / told.seconds for each in told.cameras]
    mean = float(np.mean(rates))
    skipped = sum(each.numbers.skipped for each in told.cameras)
    dropped = sum(each.numbers.dropped + each.numbers.stale for each in told.cameras)
    of = f"{cameras} cameras, {told.seconds:.0f} s"
    return [
        _figure("steps of a camera", mean, "1/s", f"{of}; {model.spec.frame_rate_hz:g} are due"),
        _figure("share of a camera, least", min(rates) / mean, "", of),
        _figure("share of a camera, most", max(rates) / mean, "", of),
        _figure("steps left out", skipped, "", of),
        _figure("frames dropped", dropped, "", of),
    ]


def _shown(
    model: Model, sources: Sequence[Watched], sinks: Sequence[Sink] = (), **how: Any
) -> ShowReport:
    """A show to its end.

    Raises:
        KeyboardInterrupt: a signal has ended it, so its figures are not what was asked for.
        ShiftedgeError: a sink or a source has failed.
    """
    told = show(model, sources, sinks, **how)
    if told.ended == "interrupted":
        raise KeyboardInterrupt
    if told.error is not None:
        raise told.error
    return told


def _browse(stack: contextlib.ExitStack, link: str, notes: list[str]) -> None:
    """Open a page in a browser without a screen, until the stack ends."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        notes.append("No Chromium is installed, so nobody looked at the page.")
        return
    folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    command = [program, "--headless", "--disable-gpu", "--no-first-run", "--mute-audio"]
    command += ["--disable-dev-shm-usage", "--disable-background-networking"]
    command += [f"--user-data-dir={Path(folder) / 'profile'}"]
    # Without it Chromium does not begin for root, as in a container.
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    quiet = subprocess.DEVNULL
    browser = subprocess.Popen([*command, link], stdout=quiet, stderr=quiet)
    stack.callback(browser.wait, 10)
    stack.callback(browser.terminate)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / PAGE_MB


def _shares(name: str, seconds: Sequence[float]) -> list[dict[str, Any]]:
    """Milliseconds that half and 99% do not pass."""
    found = [None, None] if not seconds else [1e3 * x for x in np.percentile(seconds, (50, 99))]
    of = f"{len(seconds)}"
    return [
        _figure(f"{name} p{share}", value, "ms", of)
        for share, value in zip((50, 99), found, strict=True)
    ]


def _figure(name: str, value: float | None, unit: str, of: str) -> dict[str, Any]:
    limit = MUST_HOLD.get(name)
    holds = None
    if limit is not None and value is not None:
        holds = value >= limit if name.endswith("least") else value <= limit
    known = None if value is None else float(value)
    return {
        "name": name,
        "value": known,
        "unit": unit,
        "limit": limit,
        "holds": None if holds is None else bool(holds),
        "of": of,
    }
