"""Temporary files and folders: those of a process that was killed go with the next, no others."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shiftedge.runtime.process import files as temporary
from shiftedge.runtime.process.files import MARK, work_file, work_folder

HOLD = """
import sys
from shiftedge.runtime.process.files import work_file, work_folder
with work_folder(sys.argv[1]) as folder, work_file(sys.argv[1], ".json") as file:
    (folder / "inner").mkdir()
    (folder / "inner" / "large").write_text("x")
    file.write_text("half")
    print("made", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """That holds a file and a folder there until it is killed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "made\n"
            yield process
        finally:
            process.kill()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def make(folder: Path, name: str, *, age_s: float = 0.0) -> Path:
    path = folder / name
    path.write_text("dear")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    with another_process(tmp_path) as process:
        left = names(tmp_path)
        assert len(left) == 2
        assert all(name.startswith(f".{MARK}") for name in left)
        with work_file(tmp_path), work_folder(tmp_path):
            assert left <= names(tmp_path), "it lives"
        assert names(tmp_path) == left
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names(tmp_path) == left
        with work_folder(tmp_path) as folder:
            assert names(tmp_path) == {folder.name}
    assert names(tmp_path) == set()


def test_several_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    with work_folder(tmp_path) as one, work_file(tmp_path, ".mp4") as other:
        with work_folder(tmp_path) as third, work_file(tmp_path) as fourth:
            assert names(tmp_path) == {one.name, other.name, third.name, fourth.name}
            assert other.suffix == ".mp4"
        assert names(tmp_path) == {one.name, other.name}
    assert names(tmp_path) == set()


def test_nothing_else_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = f".{MARK}{temporary._system()}-abcdefgh"
    kept = {
        make(tmp_path, name).name
        for name in (
            "notes.txt",
            ".hidden",
            f"{MARK}notes",
            f"{MARK}00000000-notes",
            f"x{mine}",
            f"{mine}.json.bak",
            f".{MARK}00000000-abcdefgh",  # of another machine, just now
        )
    }
    (tmp_path / "elsewhere").mkdir()
    make(tmp_path / "elsewhere", "dear")
    (tmp_path / mine.replace("h", "i")).symlink_to("elsewhere")
    kept |= {"elsewhere", mine.replace("h", "i")}
    make(tmp_path, f".{MARK}11111111-abcdefgh", age_s=2 * 24 * 3600)  # that one is long dead
    make(tmp_path, mine)
    with monkeypatch.context() as patch:
        patch.setattr(temporary.os, "geteuid", lambda: os.getuid() + 1)
        with work_file(tmp_path):
            assert (tmp_path / mine).exists(), "another user's"
    with work_file(tmp_path):
        pass
    assert names(tmp_path) == kept
    assert names(tmp_path / "elsewhere") == {"dear"}


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There nobody knows who lives, so everything stays."""
    left = make(tmp_path, f".{MARK}{temporary._system()}-abcdefgh")

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(temporary.fcntl, "flock", refuse)
    with work_folder(tmp_path) as folder, work_file(tmp_path) as file:
        assert names(tmp_path) == {left.name, folder.name, file.name}
    assert names(tmp_path) == {left.name}


@pytest.mark.parametrize("make", [work_file, work_folder])
def test_swept_before_it_is_held(
    make: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process looks between making and locking: one more is made."""
    flock, seen = fcntl.flock, []

    def look(descriptor: int, how: int) -> None:
        if not seen:
            seen.append(how)
            for entry in os.scandir(tmp_path):
                temporary._sweep_one(Path(entry.path), own=True)
        flock(descriptor, how)

    with monkeypatch.context() as patch:
        patch.setattr(temporary.fcntl, "flock", look)
        with make(tmp_path) as path:
            assert names(tmp_path) == {path.name}
    assert seen
    assert names(tmp_path) == set()


def test_a_folder_that_is_moved_away_stays(tmp_path: Path) -> None:
    with work_folder(tmp_path) as folder:
        (folder / "a").write_text("kept")
        folder.rename(tmp_path / "result")
    with work_folder(tmp_path):
        pass
    assert names(tmp_path) == {"result"}
    assert (tmp_path / "result" / "a").read_text() == "kept"


def test_the_systems_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with work_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(MARK)
        assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileNotFoundError), work_folder(tmp_path / "absent"):
        pass
