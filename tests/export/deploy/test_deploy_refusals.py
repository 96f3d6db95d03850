"""What ``shiftedge deploy`` refuses before anything is copied, and what it says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.deployment import (
    Captured,
    FakeBoard,
    Prepare,
    deploy,
    seen,
    sentence,
    tree,
    write_bundle,
)

from shiftedge.__main__ import main

ROOT = Path(__file__).parents[3]


def at_the_path(make: Callable[[Path], object]) -> Prepare:
    return lambda board: make(board.home / "jester")


REFUSED: dict[str, tuple[Prepare, str]] = {
    "another architecture": (seen("uname echo sparc64"), "and this machine is sparc64"),
    "an old glibc": (seen("getconf echo glibc 2.24"), "has glibc 2.24, and a bundle needs 2.27"),
    "musl": (
        lambda board: (
            board.program("getconf", "exit 1"),
            board.program("ldd", "echo 'musl libc (aarch64)' >&2; exit 1"),
        ),
        "has musl where a bundle needs glibc",
    ),
    "no glibc": (
        lambda board: [board.program(name, "exit 1") for name in ("getconf", "ldd", "ls")],
        "has another C library",
    ),
    "a full disk": (
        seen("df echo 'Filesystem 1024-blocks Used Available Capacity Mounted'; "
             "echo '/dev/my disk 100 88 12 88% /'"),
        "has 0.0 MB free in ., and the bundle takes 0.0 MB",
    ),
    "a file": (at_the_path(lambda path: path.write_text("mine")), "there and is no bundle"),
    "a folder": (at_the_path(lambda path: path.mkdir()), "only a bundle is ever replaced"),
    "a link": (at_the_path(lambda path: path.symlink_to("/tmp")), "is a link"),
    "a link to nowhere": (at_the_path(lambda path: path.symlink_to("no")), "is a link"),
    "a project": (
        at_the_path(lambda path: (path.mkdir(), (path / "manifest.json").write_text("{}"))),
        "there and is no bundle",
    ),
    "no uname": (seen("uname exit 1"), "did not say what it is"),
    "connection refused": (
        lambda board: board.script(
            "ssh.sh", "echo 'ssh: connect to host board port 22: Connection refused' >&2; exit 255"
        ),
        "The connection to pi@board failed (ssh: connect to host board port 22: Connection ref",
    ),
    "no login": (
        lambda board: board.script(
            "ssh.sh",
            "echo 'Warning: Permanently added board (ED25519) to the list of known hosts.' >&2\n"
            "echo 'pi@board: Permission denied (publickey).' >&2; exit 255",
        ),
        "(pi@board: Permission denied (publickey)); check it with  ssh pi@board.",
    ),
    "a shell that is none": (
        lambda board: board.script("ssh.sh", '[ "$said" = 0 ] || exit 0; echo no; exit 1'),
        "did not say what it is",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(
    case: str, board: FakeBoard, bundle: Path, capsys: Captured
) -> None:
    prepare, message = REFUSED[case]
    prepare(board)
    before = tree(board.home)
    assert deploy(bundle) == 1
    assert message in sentence(capsys)
    assert tree(board.home) == before
    assert board.log("scp") == []
    assert list((board.folder.parent / "tmp").iterdir()) == []


def test_a_processor_without_a_feature(board: FakeBoard, tmp_path: Path, capsys: Captured) -> None:
    bundle = write_bundle(tmp_path / "b", architecture="aarch64", features=("asimd", "asimddp"))
    board.program("uname", "echo aarch64")
    fixture = ROOT / "tests" / "arm" / "cpuinfo" / "rpi4-cortex-a72.txt"
    board.program("cat", f"exec /bin/cat {fixture}")
    assert deploy(bundle) == 1
    assert "needs a CPU with asimddp, which this one has not" in sentence(capsys)


def test_a_32_bit_system_on_a_64_bit_kernel(
    board: FakeBoard, tmp_path: Path, capsys: Captured
) -> None:
    bundle = write_bundle(tmp_path / "b", architecture="armv7l", features=("neon", "vfpv4"))
    board.program("uname", "echo aarch64")
    board.program("getconf", 'case $1 in LONG_BIT) echo 32;; *) echo "glibc 2.31";; esac')
    fixture = ROOT / "tests" / "arm" / "cpuinfo" / "rpi4-cortex-a72.txt"
    board.program("cat", f"exec /bin/cat {fixture}")
    assert deploy(bundle) == 0
    assert "armv7l, 4 cores" in capsys.readouterr().out


def test_a_parent_that_is_not_there(board: FakeBoard, bundle: Path, capsys: Captured) -> None:
    assert main(["deploy", str(bundle), "pi@board:a/jester"]) == 1
    assert "has no folder ./a; make it there" in sentence(capsys)
    if os.geteuid() != 0:  # whom nothing is closed to
        (board.home / "a").mkdir(mode=0o555)
        assert main(["deploy", str(bundle), "pi@board:a/jester"]) == 1
        assert "lets its user write nothing" in sentence(capsys)


def test_what_is_wrong_here(
    board: FakeBoard, bundle: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["deploy", "--", str(bundle), "-oProxyCommand=x:y"]) == 1
    assert "is no destination" in sentence(capsys)
    (bundle / "lib" / "plain" / "libmodel.so").write_text("changed")
    assert deploy(bundle) == 1
    assert "copy or compile the bundle again" in sentence(capsys)
    assert deploy(bundle / "nowhere") == 1
    assert "no bundle folder" in sentence(capsys)
    whole = write_bundle(bundle.parent / "unsigned")
    assert deploy(whole, "--trusted-key", str(bundle / "LICENSE")) == 1
    assert sentence(capsys)
    assert board.log("ssh") == []
    whole = write_bundle(bundle.parent / "whole")
    monkeypatch.setenv("PATH", "/nowhere")
    assert deploy(whole) == 1
    assert "There is no program ssh on this machine" in sentence(capsys)
