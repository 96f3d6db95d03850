"""Where a result goes: into a file, through a link, into what is no file; whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.process import files
from shiftedge.runtime.process.files import atomic_path, cache_folder


def write(path: str | Path, text: str = "new") -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("stands", [False, True])
def test_through_links(tmp_path: Path, stands: bool) -> None:
    """Of those who keep latest.onnx -> v1/model.onnx; the link stays, also one to nothing yet."""
    (tmp_path / "v1").mkdir()
    target = tmp_path / "v1" / "model.onnx"
    if stands:
        target.write_text("old")
    (tmp_path / "latest.onnx").symlink_to("v1/model.onnx")
    (tmp_path / "mine.onnx").symlink_to(tmp_path / "latest.onnx")
    with atomic_path(tmp_path / "mine.onnx") as temporary:
        assert temporary.parent == target.parent, "so that it can be renamed"
        temporary.write_text("new")
        assert target.exists() == stands
    assert target.read_text() == "new"
    assert (tmp_path / "latest.onnx").is_symlink()
    assert (tmp_path / "mine.onnx").is_symlink()
    assert names(tmp_path) == ["latest.onnx", "mine.onnx", "v1"]
    assert names(tmp_path / "v1") == ["model.onnx"]


def write_half(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError


def test_a_failure_leaves_what_the_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(KeyError):
        write_half(tmp_path / "b")
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("circle", "Too many levels of symbolic links; name another file"),
        ("nowhere", "No such file or directory in .*/absent; choose a folder"),
        ("folder", "it is a folder; name a file"),
        ("to-folder", "it is a folder; name a file"),
        ("x" * 256, "File name too long"),
        ("a\0b", "null"),
    ],
)
def test_what_cannot_be_written_is_a_sentence(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("absent/a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to("folder")
    before = names(tmp_path)
    with pytest.raises(OutputError, match=message) as caught:
        write(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    [
        "100%s",
        "a b",
        "-dash",
        "quo\"te'",
        "new\nline",
        "caf\udce9",
        "x" * 250 + ".json",
        ".y" * 127,
    ],
)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert (tmp_path / name).read_text() == "new"
    assert names(tmp_path) == [name]


def test_standard_output_and_a_file_that_it_goes_to(tmp_path: Path) -> None:
    """What was printed before stays in front, also in a file, and what comes after behind it."""
    program = (
        "import sys\nfrom shiftedge.runtime.process.files import atomic_path\nprint('before')\n"
        "with atomic_path(sys.argv[1]) as path: path.write_text('result\\n')\nprint('after')"
    )
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        words = [sys.executable, "-c", program, name]
        piped = subprocess.run(words, capture_output=True, text=True, check=True)
        assert piped.stdout == "before\nresult\nafter\n"
        with (tmp_path / "out").open("w") as out:
            subprocess.run(words, stdout=out, check=True)
        assert (tmp_path / "out").read_text() == "before\nresult\nafter\n"
    assert names(tmp_path) == ["out"]


def test_devices_and_pipes(tmp_path: Path) -> None:
    write("/dev/null")
    assert not Path("/dev/null").is_file(), "it is still a device"
    with pytest.raises(OutputError, match="Cannot write /dev/full: No space left on device"):
        write("/dev/full")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write(tmp_path / "link")
    reader.join()
    assert got == ["new"]
    assert names(tmp_path) == ["link", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_file_that_is_mounted_cannot_be_renamed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `docker run -v $PWD/out.json:/out.json`: it is written itself."""
    path = tmp_path / "out.json"
    path.write_text("something longer than the new")

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(files.os, "replace", busy)
    write(path)
    assert path.read_text() == "new"
    assert names(tmp_path) == ["out.json"]


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `docker run --user 1234`, who stands in no list of users."""

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files.Path, "home", none)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(OutputError, match=r"no home folder .*set HOME, or XDG_CACHE_HOME"):
        cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/shiftedge")
