"""``shiftedge deploy`` through a genuine ssh to a genuine sshd on the loopback interface: onto this
machine, and onto a Raspberry Pi 4 whose words are a file and whose processor is an emulator."""

from __future__ import annotations

import getpass
import json
import platform
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.arm import GESTURES
from kit.sshd import Sshd, running

from shiftedge.__main__ import main
from shiftedge.benchmarks.emulation import qemu
from shiftedge.export.compiler import compile as compiling
from shiftedge.export.compiler.compile import compile_cached
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.manifest import SelfTest

CPUINFO = Path(__file__).parent / "cpuinfo"
BOARD = f"{getpass.getuser()}@127.0.0.1"
Captured = pytest.CaptureFixture[str]


def served(folder: Path, environment: dict[str, str]) -> Iterator[Sshd]:
    folder.mkdir()
    with running(folder, environment) as server:
        if isinstance(server, str):
            pytest.skip(server)
        yield server


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """This machine as the board."""
    yield from served(tmp_path_factory.mktemp("host") / "sshd", {})


@pytest.fixture(scope="module")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A board that says what a Raspberry Pi 4 says."""
    folder = tmp_path_factory.mktemp("pi")
    cat, cpuinfo = shutil.which("cat"), CPUINFO / "rpi4-cortex-a72.txt"
    words = {
        "uname": "echo aarch64",
        "getconf": 'case $1 in LONG_BIT) echo 64;; *) echo "glibc 2.31";; esac',
        # Any other file as it is: what the login shell of this machine reads and writes is real.
        "cat": f'test "$*" = /proc/cpuinfo && exec {cat} {shlex.quote(str(cpuinfo))}\n'
        f'exec {cat} "$@"',
    }
    for name, text in words.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    yield from served(folder / "sshd", {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"})


def deploy(server: Sshd, bundle: Path, to: Path, *words: str) -> int:
    return main(["deploy", str(bundle), f"{BOARD}:{to}", *server.words, *words])


def test_onto_this_machine(host: Sshd, tmp_path: Path, capfd: Captured) -> None:
    bundle, there = compile_cached(GESTURES), tmp_path / "board" / "gestures"
    there.parent.mkdir()
    for replaced in (False, True):
        assert deploy(host, bundle, there, "--json") == 0
        captured = capfd.readouterr()
        assert captured.err == ""
        result = json.loads(captured.out)
        assert [path.name for path in there.parent.iterdir()] == ["gestures"]
        assert result["replaced"] is replaced
        assert result["folder"] == str(there.resolve())
        assert result["board"]["architecture"] == platform.machine()
        test = result["self_test"]
        assert (test["self_test"], test["frames"], test["steps"]) == ("passed", 16, 200)
        assert 0 <= test["worst_relative_error"] <= test["tolerance"] == 1e-4
    assert Bundle.open(there).manifest == Bundle.open(bundle).manifest
    assert host.log.count("Accepted publickey") == 1 + 2, "one connection for each deployment"
    assert main(["run", str(there), "--source", "synthetic:moving?seconds=1&size=128x96"]) == 0


def test_a_model_that_computes_something_else_here(
    host: Sshd, tmp_path: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runner's record is of other weights: what was copied is tested by its own runner."""
    bundle, there = tmp_path / "b", tmp_path / "board" / "gestures"
    shutil.copytree(compile_cached(GESTURES), there)
    table = compiling.runner_table

    def of_others(variants: Any, files: Any, tests: Mapping[str, SelfTest]) -> str:
        (name, test), *_ = tests.items()
        rows = [list(row) for row in test.logits]
        rows[7][2] += 0.1
        other = replace(test, logits=tuple(map(tuple, rows)))
        return table(variants, files, {name: other})

    monkeypatch.setattr(compiling, "runner_table", of_others)
    compiling.compile_model(GESTURES, bundle, use_cache=False)
    before = (there / "manifest.json").read_bytes()
    assert deploy(host, bundle, there) == 1
    err = capfd.readouterr().err
    assert f"The self-test failed on {BOARD} (The self-test failed: logits of frame 7" in err
    assert err.endswith("; nothing was changed there.\n")
    assert [path.name for path in there.parent.iterdir()] == ["gestures"]
    assert (there / "manifest.json").read_bytes() == before


def test_onto_an_emulated_board(pi: Sshd, tmp_path: Path, capfd: Captured) -> None:
    if why := qemu.missing("aarch64"):
        pytest.skip(why)
    machine = qemu.machine_of("aarch64")
    cpu = qemu.emulated_cpu(machine.emulator, "cortex-a72")
    emulator = shutil.which(machine.emulator)
    wrapper = shlex.join([str(emulator), "-cpu", cpu, "-L", str(machine.root)])
    bundle, there = compile_cached(GESTURES, "rpi4"), tmp_path / "gestures"
    assert deploy(pi, bundle, there, "--wrapper", wrapper, "--threads", "1") == 0
    out = capfd.readouterr().out
    assert "board      aarch64, 4 cores, glibc 2.31" in out
    assert "variant    cortex-a72" in out
    assert "self-test  passed: 16 frames within" in out
    assert f"run there  {wrapper} {there.resolve()}/bin/cortex-a72/shiftedge-run" in out
    assert Bundle.open(there).manifest == Bundle.open(bundle).manifest


def test_what_the_emulated_board_cannot_run(pi: Sshd, tmp_path: Path, capfd: Captured) -> None:
    there = tmp_path / "gestures"
    assert deploy(pi, compile_cached(GESTURES), there) == 1
    assert "and this machine is aarch64" in capfd.readouterr().err
    if platform.machine() != "aarch64":  # which would run it, without an emulator
        assert deploy(pi, compile_cached(GESTURES, "rpi4"), there) == 1
        assert "it cannot be executed there" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
