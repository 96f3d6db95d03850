"""The object of kernels, the table and ``runtime/native`` -> libmodel.so, with Zig's C compiler.

``zig cc`` comes from PyPI and carries the headers and stubs of every glibc, so one command links
for any target on any workstation, against the oldest glibc that the target asks for.
"""

from __future__ import annotations

import importlib.resources
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shiftedge import __version__
from shiftedge.export.compiler.targets import Target
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.extras import require

__all__ = ["link", "link_runner"]

_FLAGS = (
    "-std=c11",
    "-O2",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fno-sanitize=all",  # Zig's default adds checks that need its own library
    "-g0",
    "-pthread",
)
_LINKER_FLAGS = (
    "-Wl,--gc-sections",
    "-Wl,-s",
    "-Wl,-z,nodelete",  # threads of the pool may outlive a dlclose
    "-Wl,-z,noexecstack",
    "-Wl,-z,relro",
    "-Wl,-z,now",
    "-Wl,--build-id=none",  # the same input, the same bytes
)
_TIMEOUT_S = 300
"""The first link for a target also compiles Zig's own support library: some 20 s."""


def link(
    kernels: Path, table: Path, output: Path, target: Target, *, include: Sequence[Path] = ()
) -> None:
    """Link ``output`` from TVM's object, the generated table and the native runtime.

    Args:
        kernels: object file.
        table: C file that defines ``shiftedge_program_table``.
        output: the shared library to write.
        target: for which machine.
        include: folders with what ``table`` includes.

    Raises:
        MissingExtraError: ziglang is not installed.
        CompileError: the compiler failed; its last line is in the message.
    """
    require("ziglang")
    native = Path(str(importlib.resources.files("shiftedge.runtime.native")))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target.zig]
    command += [*_FLAGS, *_LINKER_FLAGS, f"-Wl,--version-script={native / 'exports.map'}"]
    command += [f"-I{native}", *(f"-I{folder}" for folder in include)]
    # The assembler looks for the weights there.
    command += [f"-Wa,-I{folder}" for folder in include]
    # Only what a model needs: TVM's packed kernels are not generated.
    sources = sorted(path for path in native.glob("*.c") if path.name != "tvm_abi.c")
    command += [str(table), *map(str, sources), str(kernels), "-o", str(output)]
    _run(command)


def link_runner(output: Path, target: Target) -> None:
    """Build ``output``, the standalone runner, for a target: one program for every model.

    Raises:
        As :func:`link`.
    """
    require("ziglang")
    native = Path(str(importlib.resources.files("shiftedge.runtime.native")))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target.zig, "-std=c11", "-O2"]
    # No contraction: the same numbers on every processor, and the same as Python's.
    command += ["-ffp-contract=off", "-fno-sanitize=all", "-g0", "-pthread", "-Wl,-s"]
    command += [f'-DSHIFTEDGE_VERSION="{__version__}"', f"-I{native}", "-Wl,--build-id=none"]
    command += [*map(str, sorted((native / "runner").glob("*.c"))), "-ldl", "-lm"]
    _run([*command, "-o", str(output)])


def _run(command: Sequence[str]) -> None:
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, "ZIG_PROGRESS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(
            f"The C compiler (zig cc, of the package ziglang) did not run: {error}; reinstall it "
            "with `pip install --force-reinstall ziglang`."
        ) from error
    if run.returncode != 0:
        lines = [line for line in run.stderr.splitlines() if line.strip()] or ["no message"]
        said = next((line for line in lines if "error" in line), lines[-1]).strip()
        raise CompileError(
            f"The C compiler (zig cc) failed with status {run.returncode}: {said}; check the free "
            "space of the temporary folder, and the ziglang package."
        )
