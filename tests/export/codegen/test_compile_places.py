"""Compiling where there is no home, no place to write, or a name that means something to a tool."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.compiled import environment

from shiftedge.__main__ import main
from shiftedge.export.compiler import cache
from shiftedge.export.compiler import compile as compiling
from shiftedge.export.compiler.compile import compile_model
from shiftedge.export.compiler.link import zig
from shiftedge.export.compiler.link.zig import run_zig, zig_environment
from shiftedge.export.compiler.targets import TARGETS, check
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import CompileError, OutputError
from shiftedge.runtime.loading import load

ODD = "100%s %h, a\"b\n'c \\ \udcff"
"""What lld, ssh, make, a shell, a comma-separated option and UTF-8 take for something else."""


@pytest.fixture
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder for this test alone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def steps(folder: Path) -> bool:
    return Bundle.open(folder).manifest.numerics["verified"] is True and bool(load(folder).stream())


# Names.


@pytest.mark.parametrize("where", ["output", "temporary folder"])
def test_a_name_that_means_something(
    where: str, tiny_onnx: Path, own_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / ODD
    odd.mkdir()
    output = tmp_path / "b"
    if where == "output":
        output = odd / "b"
    else:
        monkeypatch.setattr("tempfile.tempdir", str(odd))
    compile_model(tiny_onnx, output, use_cache=False)
    assert steps(output)
    assert list(own_tmp.iterdir()) == []
    runner = next(output.glob("bin/*/shiftedge-run"))
    subprocess.run([runner, "--self-test", "--frames", "1"], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["-dash", "x" * 255, "a%b"])
def test_more_names_from_the_cache(
    name: str, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copy(tiny_onnx, f"{name[:200]}.onnx"))
    assert main(["compile", "--output", f"./{name}", "--", str(copy)]) == 0
    assert Bundle.open(name)


def test_through_a_link(tiny_onnx: Path, tmp_path: Path) -> None:
    """current -> v1: v1 is made, and made anew, and current stays a link."""
    (tmp_path / "current").symlink_to("v1")
    for _ in range(2):
        compile_model(tiny_onnx, tmp_path / "current")
    assert (tmp_path / "current").readlink() == Path("v1")
    assert Bundle.open(tmp_path / "v1")
    assert sorted(os.listdir(tmp_path)) == ["current", "v1"]


# Caches.


def forget_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(zig, "_temporary", zig._temporary.__wrapped__)  # one of this test's


@pytest.mark.parametrize("home", ["none", "a process", "a file"])
def test_zig_without_a_home(
    home: str, own_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caches are temporary then, and it neither ends nor hangs."""
    forget_caches(monkeypatch)
    (tmp_path / "file").write_text("")
    if home == "none":

        def none() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pathlib.Path.home", none)
    else:
        monkeypatch.setenv("HOME", {"a process": "/proc/1", "a file": str(tmp_path / "file")}[home])
    place = Path(zig_environment()["ZIG_GLOBAL_CACHE_DIR"])
    assert place.parent == own_tmp
    (tmp_path / "a.c").write_text("int one(void) { return 1; }\n")
    run_zig(["-c", "a.c", "-o", "a.o"], tmp_path)
    assert (tmp_path / "a.o").stat().st_size > 100


def test_where_zig_keeps_its_caches(
    own_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's choice, else beside our own; a folder that cannot be written is passed over."""
    forget_caches(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = tmp_path / "cache" / "shiftedge" / "zig"
    for named, expected in ((None, own), (tmp_path / "mine", tmp_path / "mine"), ("/proc/1", own)):
        if named is not None:
            monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(named))
        found = zig_environment()
        assert Path(found["ZIG_GLOBAL_CACHE_DIR"]) == expected
        assert found["ZIG_LOCAL_CACHE_DIR"] == found["ZIG_GLOBAL_CACHE_DIR"]
    assert list(own_tmp.iterdir()) == []


def test_a_cache_in_which_zig_fails(
    own_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, or without locks: it is tried in a temporary one."""
    forget_caches(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "shiftedge" / "zig").mkdir(parents=True)
    (tmp_path / "cache" / "shiftedge" / "zig" / "o").write_text("in the way")
    (tmp_path / "a.c").write_text("int one(void) { return 1; }\n")
    run_zig(["-c", "a.c", "-o", "a.o"], tmp_path)
    assert (tmp_path / "a.o").stat().st_size > 100
    with pytest.raises(CompileError, match=r"failed with status .*check the free space of"):
        run_zig(["-c", "absent.c", "-o", "a.o"], tmp_path)


def test_a_user_who_stands_in_no_list(
    tiny_onnx: Path, tmp_path: Path, own_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker run --user 1234`: TVM asks for a home as it is imported."""
    forget_caches(monkeypatch)
    program = (
        "import pathlib, sys\n"
        "real = pathlib.Path.home.__func__\n"
        "def home(cls):\n"
        "    import os\n"
        "    if 'HOME' not in os.environ:\n"
        "        raise RuntimeError('Could not determine home directory.')\n"
        "    return real(cls)\n"
        "pathlib.Path.home = classmethod(home)\n"
        "from shiftedge.__main__ import main\n"
        "from shiftedge.export.compiler import compile\n"
        "def reached(*words, **more): raise SystemExit(7)\n"
        "compile.link = reached\n"
        "main(['compile', sys.argv[1], '--output', sys.argv[2]])"
    )
    own = environment(TMPDIR=str(own_tmp))
    own.pop("HOME", None)
    line = [sys.executable, "-c", program, str(tiny_onnx), str(tmp_path / "b")]
    done = subprocess.run(line, capture_output=True, text=True, env=own, check=False)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr


def test_nowhere_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_caches(monkeypatch)
    monkeypatch.setenv("HOME", "/proc/1")

    def none() -> Path:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(zig, "_temporary", none)
    with pytest.raises(CompileError, match="set TMPDIR to one that can be written to"):
        zig_environment()


@pytest.mark.parametrize("where", ["/proc/1", None], ids=["closed", "no home"])
def test_without_a_cache_of_bundles(
    where: str | None, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an aid only: a bundle is made all the same, of the same bytes."""
    compile_model(tiny_onnx, tmp_path / "a")
    if where is None:

        def none() -> Path:
            raise OutputError("This user has no home.")

        monkeypatch.setattr(cache, "bundles_folder", none)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", where)
    assert not compile_model(tiny_onnx, tmp_path / "b").cached
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.so"))
    assert names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_entry_that_goes_while_it_is_copied(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process throws out what was unused for longest."""
    compile_model(tiny_onnx, tmp_path / "a")
    copytree = shutil.copytree

    def half(source: Any, target: Path, *words: object, **more: object) -> None:
        if Path(source).parent == cache.bundles_folder():
            copytree(source / "lib", target / "lib")
            raise FileNotFoundError(2, "No such file or directory")
        copytree(source, target, *words, **more)  # type: ignore[arg-type]

    def make(sources: object, target: object, folder: Path, **_: object) -> None:
        assert list(folder.iterdir()) == [], "nothing of the entry is left"
        copytree(tmp_path / "a", folder, dirs_exist_ok=True)

    monkeypatch.setattr(compiling.shutil, "copytree", half)
    monkeypatch.setattr(compiling, "_make", make)
    assert not compile_model(tiny_onnx, tmp_path / "b").cached
    assert Bundle.open(tmp_path / "b")


# A compile that is killed.


def test_what_a_killed_compile_leaves_goes_with_the_next(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, signal, sys\n"
        "from shiftedge.__main__ import main\n"
        "from shiftedge.export.compiler import compile\n"
        "def killed(*words): os.kill(os.getpid(), signal.SIGKILL)\n"
        "compile.link = killed\n"
        "main(['compile', sys.argv[1], '--no-cache', '--output', sys.argv[2]])"
    )
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("dear")
    line = [sys.executable, "-c", program, str(tiny_onnx), str(tmp_path / "out" / "b")]
    own = environment(TMPDIR=str(tmp_path / "tmp"))
    done = subprocess.run(line, capture_output=True, env=own, check=False)
    assert done.returncode == -signal.SIGKILL
    for place in ("tmp", "out"):
        assert [name for name in os.listdir(tmp_path / place) if "shiftedge-work-" in name]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    compile_model(tiny_onnx, tmp_path / "out" / "other", use_cache=False)
    assert sorted(os.listdir(tmp_path / "out")) == ["mine", "other"]
    assert not [name for name in os.listdir(tmp_path / "tmp") if "shiftedge" in name]


# Processors that nobody knows.


@pytest.mark.parametrize(
    ("base", "cpu", "near"),
    [
        ("rpi4", "cortex-a37", "cortex-a73"),
        ("rpi4", "Cortex-A72", "cortex-a72"),
        ("rpi3-armv7", "cortex-a51", "cortex-a15"),
        ("x86-64-v3", "haswel", "haswell"),
        ("rpi4", "haswell", ""),
        ("x86-64-v3", "cortex-a72", ""),
    ],
)
def test_a_processor_that_llvm_does_not_know(
    base: str, cpu: str, near: str, tiny_onnx: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Refused before any work, with the nearest names, and LLVM has nothing to say of it."""
    (tmp_path / "my.toml").write_text(f'[mine]\nbase = "{base}"\ncpu = "{cpu}"\n')
    words = ["--targets", str(tmp_path / "my.toml")]
    model = [str(tiny_onnx), "--output", str(tmp_path / "b"), "--target", "mine"]
    for more in (model, ["--list-targets"]):
        assert main(["compile", *words, *more]) == 1
        captured = capfd.readouterr()
        (said,) = captured.err.splitlines()
        assert captured.out == ""
        assert f"The target mine has the cpu {cpu!r}, which is none that LLVM knows for" in said
        assert near in said
    assert not (tmp_path / "b").exists()


def test_a_target_that_a_program_made(tiny_onnx: Path, tmp_path: Path) -> None:
    target = TARGETS["rpi4"]
    cpu = replace(target.devices[0], cpu="cortex-a37")
    target = replace(target, name="mine", devices=(cpu,))
    with pytest.raises(CompileError, match="has the cpu 'cortex-a37'"):
        compile_model(tiny_onnx, tmp_path / "b", target=target)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_of_ours_is_known(name: str) -> None:
    check(TARGETS[name])
