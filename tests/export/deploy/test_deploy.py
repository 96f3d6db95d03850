"""``shiftedge deploy`` onto a board that is a folder: what it does and prints."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from kit.deployment import (
    PASSED,
    Captured,
    FakeBoard,
    deploy,
    sentence,
    tree,
    write_bundle,
)

from shiftedge.runtime.bundle import SIGNATURE_NAME, Bundle

ROOT = Path(__file__).parents[3]


def test_a_new_bundle(board: FakeBoard, bundle: Path, capsys: Captured) -> None:
    (bundle / "holiday.jpg").write_text("is not listed")
    assert deploy(bundle) == 0
    there = board.home / "jester"
    assert [path.name for path in board.home.iterdir()] == ["jester"]
    assert Bundle.open(there).manifest == Bundle.open(bundle).manifest
    assert not (there / "holiday.jpg").exists()
    assert os.access(there / "bin" / "plain" / "shiftedge-run", os.X_OK)
    captured = capsys.readouterr()
    assert captured.err == ""
    said = {line[:9].strip(): line[11:] for line in captured.out.splitlines()}
    assert "core" in said["board"]
    assert said["variant"] == "plain"
    assert "SHA-256 of 4 files right there" in said["copied"]
    assert said["self-test"] == (
        "passed: 16 frames within 1.5e-07 of ONNX Runtime's logits (accepted 0.0001), "
        "step p50 1.25, p90 1.50, p99 2.00 ms over 200 with 2 threads"
    )
    assert said["stands at"] == f"pi@board:{board.home.resolve()}/jester"
    assert said["run there"].startswith(
        f"{board.home.resolve()}/jester/bin/plain/shiftedge-run --size"
    )


def test_it_takes_the_place_of_a_bundle(
    board: FakeBoard, bundle: Path, old: Path, capsys: Captured
) -> None:
    (old / "stray").write_text("goes with it")
    assert deploy(bundle, "--json") == 0
    assert [path.name for path in board.home.iterdir()] == ["jester"]
    assert tree(old) == tree(bundle)
    result = json.loads(capsys.readouterr().out)
    assert result["replaced"] is True
    assert result["folder"] == str(old.resolve())
    assert result["self_test"]["step_ms"]["p99"] == 2.0
    assert result["files_checked"] == 4
    assert result["bytes"] == sum(
        path.stat().st_size for path in bundle.rglob("*") if path.is_file()
    )
    assert set(result) == {
        *("destination", "folder", "command", "board", "variant", "bytes", "copy_seconds"),
        *("files_checked", "self_test", "gpu_self_tests", "replaced"),
    }


def test_a_gpu_is_tested_too(board: FakeBoard, tmp_path: Path, capsys: Captured) -> None:
    """Beside the processor, which must do in its place."""
    passed = json.dumps({**PASSED, "variant": "gpu", "worst_relative_error": 3e-6})
    bundle = write_bundle(tmp_path / "b", gpu=f"echo '{passed}'")
    assert deploy(bundle) == 0
    said = {line[:9].strip(): line[11:] for line in capsys.readouterr().out.splitlines()}
    assert said["variant"] == "plain"
    assert said["self-test"].startswith("passed: 16 frames within 1.5e-07")
    assert said["gpu"].startswith("passed: 16 frames within 3.0e-06")
    assert deploy(bundle, "--json") == 0
    found = json.loads(capsys.readouterr().out)["gpu_self_tests"]
    assert found["gpu"]["worst_relative_error"] == 3e-6


def test_a_board_whose_gpu_cannot_be_used(
    board: FakeBoard, tmp_path: Path, capsys: Captured
) -> None:
    passed, why = json.dumps(PASSED), "on the processor, as plain: there is no driver"
    bundle = write_bundle(tmp_path / "b", gpu=f"echo '{passed}'; echo 'shiftedge-run: {why}' >&2")
    assert deploy(bundle) == 0
    said = {line[:9].strip(): line[11:] for line in capsys.readouterr().out.splitlines()}
    assert said["gpu"] == why


def test_a_gpu_that_computes_something_else(
    board: FakeBoard, tmp_path: Path, capsys: Captured
) -> None:
    bundle = write_bundle(tmp_path / "b", gpu="echo 'shiftedge-run: it differs' >&2; exit 1")
    assert deploy(bundle) == 1
    assert "The self-test failed on pi@board (it differs)" in sentence(capsys)
    assert not list(board.home.iterdir())


def test_a_signature_goes_along(board: FakeBoard, bundle: Path) -> None:
    (bundle / SIGNATURE_NAME).write_bytes(bytes(64))
    assert deploy(bundle) == 0
    assert (board.home / "jester" / SIGNATURE_NAME).read_bytes() == bytes(64)


def test_what_ssh_is_told(board: FakeBoard, bundle: Path) -> None:
    words = ["--port", "2222", "--identity", "my key", "--ssh-option", "User=me"]
    assert deploy(bundle, *words, "--ssh-option", "ConnectTimeout=3") == 0
    for name in ("ssh", "scp"):
        assert board.log(name)
        for line in board.log(name):
            before, _, _ = line.partition(" -- ")
            assert "-o User=me" in before
            assert "-o Port=2222 -i my key" in before
            assert before.index("ConnectTimeout=3") < before.index("ConnectTimeout=20")
    assert "ControlMaster=yes" in board.log("ssh")[0]
    assert " -- pi@board sh" in board.log("ssh")[1]
    assert board.log("scp")[0].endswith("/")


def test_names_that_mean_something_to_ssh(
    board: FakeBoard, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replaces % in the paths of keys and sockets, and cuts a socket's at a blank."""
    odd = tmp_path / "100%h of it"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    assert deploy(bundle, "--identity", "my 100%h key") == 0
    for line in (*board.log("ssh"), *board.log("scp")):
        before, _, _ = line.partition(" -- ")
        assert '-o IdentityFile="my 100%%h key"' in before
        for found in re.findall(r"ControlPath=(\S*)", before):
            assert re.fullmatch(r"/tmp/\.shiftedge-work-\w+-\w+/s", found)
    assert list(odd.iterdir()) == []


def test_a_wrapper_and_threads(board: FakeBoard, tmp_path: Path, capsys: Captured) -> None:
    passed = (
        'test "$WRAPPED" = "a b" && test "$*" = "--self-test --threads 3" && exec cat "$FAKE/it"'
    )
    bundle = write_bundle(tmp_path / "b", runner=passed)

    (board.folder / "it").write_text(json.dumps(PASSED))
    assert deploy(bundle, "--wrapper", "env 'WRAPPED=a b'", "--threads", "3") == 0
    assert "env 'WRAPPED=a b' /" in capsys.readouterr().out
    assert deploy(bundle, "--wrapper", "env 'WRAPPED=a") == 1
    assert "is no command (No closing quotation)" in sentence(capsys)


def test_without_a_self_test(board: FakeBoard, tmp_path: Path, capsys: Captured) -> None:
    bundle = write_bundle(tmp_path / "b", runner="exit 1", self_test=False)
    assert deploy(bundle) == 1
    assert "no recorded self-test" in sentence(capsys)
    assert board.log("ssh") == []
    assert deploy(bundle, "--no-self-test", "--json") == 0
    assert json.loads(capsys.readouterr().out)["self_test"] is None
    assert (board.home / "jester").is_dir()


def test_noise_of_a_login_shell(board: FakeBoard, bundle: Path) -> None:
    board.script("ssh.sh", '[ "$said" != 0 ] || { echo Welcome to the board; echo it {is} >&2; }')
    assert deploy(bundle) == 0


def test_a_board_with_little_on_it(
    board: FakeBoard, bundle: Path, old: Path, capsys: Captured
) -> None:
    """No getconf, ldd, sha256sum, nproc or coreutils' options: as with busybox."""
    tools = board.folder / "tools"
    tools.mkdir()
    needed = ("sh", "mkdir", "rm", "cat", "tr", "head", "tail", "df", "ls", "uname", "cp", "grep")
    for name in needed:
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    mv = shutil.which("mv")
    (tools / "mv").write_text(f'#!{shutil.which("sh")}\n[ "$1" != -T ] && exec {mv} "$@"\n')
    (tools / "mv").chmod(0o755)
    board.script("ssh.sh", f'[ "$said" != 0 ] || {{ cd "$FAKE/home"; PATH={tools}; exec sh; }}')
    assert deploy(bundle) == 0
    assert "no sha256sum there" in capsys.readouterr().out
    assert tree(old) == tree(bundle)


def test_usage(capsys: Captured, bundle: Path) -> None:
    for words in (["--port", "0"], ["--port", "70000"], ["--ssh-option", "x"], ["--threads", "0"]):
        with pytest.raises(SystemExit) as end:
            deploy(bundle, *words)
        assert end.value.code == 2
        assert "usage: shiftedge deploy" in capsys.readouterr().err
