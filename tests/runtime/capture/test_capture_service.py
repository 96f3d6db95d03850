"""Sources that are to stay: tried again for as long as the user says, in few words."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.fake_time import FakeTime

from shiftedge.runtime.capture import LatestFrame, Retry, open_source
from shiftedge.runtime.capture.base import Sparing
from shiftedge.runtime.capture.command import _any_runs
from shiftedge.runtime.capture.options import add_source_options
from shiftedge.runtime.capture.pipe import RestartedPipe, parse_pipe
from shiftedge.runtime.capture.retry import LiveSource
from shiftedge.runtime.errors import SourceError, SourceLostError

DAY_S = 86400.0
RAW = "[size=4x2,format=bgr24]"
TWO_FRAMES = "head -c 48 /dev/zero"


class Camera:
    """Gives frames at 10 Hz until its time has come."""

    def __init__(self, time: FakeTime, until_s: float) -> None:
        self.time = time
        self.until_s = until_s

    def grab(self) -> bool:
        self.time.now_s += 0.1
        return self.time.now_s < self.until_s

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.zeros((2, 4, 3), np.uint8)

    def release(self) -> None:
        pass


def away_for(seconds: float, retry: Retry) -> tuple[LiveSource, FakeTime, list[str]]:
    """A camera that is there for 2 s, then away, then there for ever."""
    time, events = FakeTime(), []
    back_s = time.now_s + 2.0 + seconds

    def connect() -> Camera:
        if time.now_s < 52.0:
            return Camera(time, 52.0)
        if time.now_s < back_s:
            raise SourceError("There is no camera.")
        return Camera(time, math.inf)

    source = LiveSource(
        "camera 0",
        connect,
        retry=retry,
        on_event=events.append,
        clock=time.clock,
        wait=time.wait,
    )
    return source, time, events


@pytest.mark.parametrize("away_s", [45.0, 3600.0, 30 * DAY_S])
def test_a_camera_away_for_long_does_not_end_a_service(away_s: float) -> None:
    source, time, events = away_for(away_s, Retry.for_service())
    frames = list(itertools.islice(source, 30))
    assert [frame.index for frame in frames] == list(range(30))
    assert frames[-1].time_s > away_s
    assert max(time.waits) == 5.0  # it is back within seconds of its return
    assert events[0].endswith("gives no more frames. Trying again in 0.5 s (attempt 1).")
    assert events[-1] == "The camera 0 gives frames again."
    assert len(events) < 16 + away_s / 3600


def test_without_it_thirty_seconds_are_the_limit() -> None:
    source, _, _ = away_for(45.0, Retry())
    with pytest.raises(SourceLostError, match="did not come back"):
        list(source)


def test_a_limit_of_the_users() -> None:
    source, time, _ = away_for(3600.0, Retry.for_service(120.0))
    with pytest.raises(SourceLostError, match="did not come back"):
        list(source)
    assert sum(time.waits) == pytest.approx(120.0)
    source, _, _ = away_for(100.0, Retry.for_service(120.0))
    assert len(list(itertools.islice(source, 40))) == 40


def test_a_service_waits_for_a_camera_that_is_not_there_yet() -> None:
    time, events = FakeTime(), []

    def connect() -> Camera:
        if time.now_s < 50.0 + DAY_S:
            raise SourceError("There is no camera.")
        return Camera(time, math.inf)

    source = LiveSource(
        "camera 0",
        connect,
        retry=Retry.for_service(),
        on_event=events.append,
        clock=time.clock,
        wait=time.wait,
    )
    assert next(iter(source)).index == 0
    assert len(events) < 40


def test_a_camera_that_flaps_fills_no_log() -> None:
    time, events = FakeTime(), []
    source = LiveSource(
        "camera 0",
        lambda: Camera(time, time.now_s + 0.5),
        retry=Retry.for_service(),
        on_event=events.append,
        clock=time.clock,
        wait=time.wait,
    )
    frames = list(itertools.islice(source, 20_000))
    assert frames[-1].time_s > 3600.0
    assert len(events) < 40
    losses = [event for event in events if "Trying again" in event]
    assert len(events) - len(losses) in (len(losses), len(losses) - 1)  # each loss has its end


def test_words_come_at_doubling_intervals_then_by_the_hour() -> None:
    time = FakeTime()
    said: list[float] = []
    news = Sparing(lambda sentence: said.append(time.now_s), time.clock)
    for _ in range(round(5 * DAY_S / 5)):
        news.trouble("x")
        time.now_s += 5.0
    gaps = np.diff(said)
    assert (gaps[1:] >= gaps[:-1]).all()
    assert gaps.max() == 3600.0
    news.over("y")
    count = len(said)
    news.over("y")
    assert len(said) == count
    time.now_s += 100.0
    news.trouble("x")  # another one
    assert len(said) == count + 1


# Commands


def restarted(command: str, **options: Any) -> tuple[RestartedPipe, FakeTime, list[str]]:
    time, events = FakeTime(), []
    source = RestartedPipe(
        parse_pipe(f"{RAW} {command}"),
        options.pop("retry", Retry.for_service()),
        on_event=events.append,
        clock=time.clock,
        wait=time.wait,
        **options,
    )
    return source, time, events


def test_a_command_that_ends_is_run_again() -> None:
    source, time, events = restarted(TWO_FRAMES)
    with source:
        frames = list(itertools.islice(source, 7))
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0, 0.5, 0.5, 1, 1, 1.5])
    assert time.waits == [0.5] * 3
    assert events[:2] == [
        f"The command of pipe:{TWO_FRAMES} ended after 2 frames. Trying again in 0.5 s (attempt "
        "1).",
        f"The command of pipe:{TWO_FRAMES} gives frames again.",
    ]


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        ("sleep 68", r"gave no frame for 0\.15 s after 1 frames and was stopped"),
        ("exit 3", r"failed with exit status 3 after 1 frames"),
        ("head -c 5 /dev/zero", r"ended inside a frame: 29 bytes in all"),
        ("kill -9 $$", r"was ended by SIGKILL after 1 frames"),
    ],
)
def test_a_command_that_stalls_or_fails_is_run_again(rest: str, sentence: str) -> None:
    source, _, events = restarted(f"head -c 24 /dev/zero; {rest}", stall_s=0.15)
    with source:
        assert len(list(itertools.islice(source, 3))) == 3
    assert re.search(sentence, events[0])
    assert events[0].endswith("Trying again in 0.5 s (attempt 1).")


def test_a_command_that_never_gives_a_frame_is_given_up() -> None:
    with pytest.raises(SourceError, match="failed with exit status 4 after 0 frames"):
        restarted("exit 4", retry=Retry.for_service(10.0))


def test_a_command_that_does_not_come_back_is_lost(tmp_path: Path) -> None:
    flag = shlex.quote(str(tmp_path / "flag"))
    command = f"if mkdir {flag}; then head -c 48 /dev/zero; else exit 5; fi"
    source, time, _ = restarted(command, retry=Retry.for_service(20.0))
    with pytest.raises(
        SourceLostError, match=r"after 2 frames and did not come back\. .* status 5"
    ):
        list(source)
    assert sum(time.waits) == pytest.approx(20.0)


def test_closing_ends_a_command_that_is_starting(tmp_path: Path) -> None:
    flag = shlex.quote(str(tmp_path / "flag"))
    command = f"if mkdir {flag}; then head -c 24 /dev/zero; else sleep 69; fi"
    trying = threading.Event()
    source = RestartedPipe(
        parse_pipe(f"{RAW} {command}"),
        Retry(limit_s=math.inf, first_s=0.001, service=True),
        on_event=lambda sentence: trying.set(),
    )
    frames: list[object] = []
    reader = threading.Thread(target=lambda: frames.extend(source))
    reader.start()
    assert trying.wait(20.0)
    source.close()
    reader.join(20.0)
    assert not reader.is_alive()
    assert len(frames) == 1
    output = source._output
    assert output is not None
    assert not _any_runs(output.process_id)  # an orphan may wait for init to reap it


def test_restarts_leave_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    source, _, _ = restarted("head -c 24 /dev/zero; exit 7")
    with source:
        assert len(list(itertools.islice(source, 12))) == 12
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_newest_frame_waits_while_its_source_is_away() -> None:
    """Not the last resort against a driver that hangs."""

    class Away(LiveSource):
        def __init__(self) -> None:
            self.name, self.rate_hz = "away", None
            self.away = True
            self.looked = threading.Event()

        def __getattribute__(self, name: str) -> Any:
            if name == "away":
                object.__getattribute__(self, "looked").set()
            return object.__getattribute__(self, name)

        def __iter__(self) -> Iterator[Any]:
            self.looked.clear()
            assert self.looked.wait(20.0)  # the consumer has waited for longer than it should
            self.away = False
            yield "frame"

        def close(self) -> None:
            pass

    latest = LatestFrame(Away(), stall_s=0.01)
    assert next(iter(latest)) == "frame"  # type: ignore[comparison-overlap]


# Texts and options


def test_what_ends_by_itself_is_no_service(tmp_path: Path) -> None:
    for text in ("synthetic:still", str(tmp_path), f"pipe:{RAW[:-1]},live=no] cat"):
        with pytest.raises(SourceError, match="recording, which ends"):
            open_source(text, retry=Retry.for_service())


def test_a_pipe_is_run_again_only_for_a_service() -> None:
    with open_source(f"pipe:{RAW} {TWO_FRAMES}", retry=Retry()) as source:
        assert len(list(source)) == 2
    retry = Retry(limit_s=math.inf, first_s=0.001, service=True)
    with open_source(f"pipe:{RAW} {TWO_FRAMES}", retry=retry) as source:
        assert len(list(itertools.islice(source, 9))) == 9


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_source_options(parser, "synthetic:gestures")
    return parser.parse_args(words)


def test_options_of_the_command_line() -> None:
    assert (parse().source, parse().retry) == ("synthetic:gestures", None)
    assert parse("--live").retry == parse("--retry", "forever").retry == Retry.for_service()
    assert parse("--retry", "90").retry == Retry.for_service(90.0)
    assert parse("--retry", "0").retry.limit_s == 0.0


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "5 s"])
def test_a_wrong_retry_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--retry", text)
    assert "is neither a number of seconds from 0 nor 'forever'" in capsys.readouterr().err


def test_a_wrong_limit_is_refused() -> None:
    for limit in (-1.0, math.nan):
        with pytest.raises(ValueError, match="expected seconds from 0, or infinity"):
            Retry.for_service(limit)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting(tmp_path: Path, first: bool, number: int) -> None:
    """Before the first frame, and after some. The sleep of the command would be 70 s."""
    flag = shlex.quote(str(tmp_path / "flag"))
    command = "sleep 0.01; exit 6"
    if not first:
        command = f"if mkdir {flag}; then {TWO_FRAMES}; else sleep 70; fi"
    line = [sys.executable, "-m", "shiftedge", "run", "--live", "--source", f"pipe:{RAW} {command}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if "Trying again" in text:
                break
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60.0)
        ended = process.poll()
        process.kill()
    assert ended is not None
