"""The kernel interface of the installed TVM, with a kernel that it compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_library import HERE, RUNTIME, build, run_program

COMPILE = """
import sys
import tvm
from tvm.script import tirx as T

@T.prim_func(s_tir=True)
def scale(a: T.handle, w: T.handle, o: T.handle, begin: T.int32, end: T.int32):
    T.func_attr({"global_symbol": "scale", "tir.noalias": True})
    A = T.match_buffer(a, (24, 96), "uint8", align=1)
    W = T.match_buffer(w, (96,), "float32")
    O = T.match_buffer(o, (24, 96), "float32")
    for y in T.serial(end - begin):
        for x in T.vectorized(96):
            O[begin + y, x] = T.Cast("float32", A[begin + y, x]) * W[x]

target = tvm.target.Target({"kind": "llvm"})
tvm.compile(tvm.IRModule({"scale": scale}), target=target).mod.write_to_file(sys.argv[1])
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object file, made in a process of its own: TVM stays out of this one."""
    folder = tmp_path_factory.mktemp("tvm")
    source, path = folder / "kernel.py", folder / "kernel.o"  # TVMScript wants a file
    source.write_text(COMPILE)
    line = [sys.executable, "-c", "import tvm"]
    if subprocess.run(line, capture_output=True, check=False).returncode != 0:
        pytest.skip("TVM is not installed:  pip install 'shiftedge[compile]'")
    run = subprocess.run(
        [sys.executable, str(source), str(path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return path


def run_kernel(compiler: list[str], folder: Path, kernel: Path, *flags: str) -> list[str]:
    sources = [*RUNTIME, HERE / "tvm_program.c", kernel]
    path = build(compiler, folder / "program", sources, *flags, "-lm")
    run = run_program([path])
    assert run.returncode == 0
    return run.stdout.splitlines()


def test_a_kernel_gets_its_arguments(compiler: list[str], tmp_path: Path, kernel: Path) -> None:
    assert run_kernel(compiler, tmp_path, kernel) == ["wrong: 0", "wrong: 0"]


def test_what_it_says_of_a_mismatch(compiler: list[str], tmp_path: Path, kernel: Path) -> None:
    for line in run_kernel(compiler, tmp_path, kernel, "-DROWS=23"):
        assert line.startswith("Kernel scale failed with code -1 (")
        assert "shape" in line
        assert "expected 24" in line
        assert line.endswith("the state is as it was.")
