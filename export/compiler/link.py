"""The object of kernels, the table and ``runtime/native`` -> libmodel.so, with Zig's C compiler.

``zig cc`` comes from PyPI and carries the headers and stubs of every glibc, so one command links
for any target on any workstation, against the oldest glibc that the target asks for.
"""

from __future__ import annotations

import importlib.resources
import shutil
from collections.abc import Sequence
from pathlib import Path

from shiftedge import __version__
from shiftedge.export.compiler.targets import Target
from shiftedge.export.compiler.zig import run_zig
from shiftedge.runtime.temporary import work_folder

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
    "-Wl,--version-script=exports.map",
    "-Wl,--gc-sections",
    "-Wl,-s",
    "-Wl,-z,nodelete",  # threads of the pool may outlive a dlclose
    "-Wl,-z,noexecstack",
    "-Wl,-z,relro",
    "-Wl,-z,now",
    "-Wl,--build-id=none",  # the same input, the same bytes
)


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
        CompileError: the compiler failed; its first error is in the message.
        OSError: ``output`` cannot be written.
    """
    native = Path(str(importlib.resources.files("shiftedge.runtime.native")))
    words = ["-target", target.zig, *_FLAGS, *_LINKER_FLAGS, f"-I{native}"]
    words += [f"-I{folder}" for folder in include]
    for folder in include:  # the assembler looks for the weights there
        words += ["-Xassembler", f"-I{folder}"]
    # Only what a model needs: TVM's packed kernels are not generated.
    sources = sorted(path for path in native.glob("*.c") if path.name != "tvm_abi.c")
    words += [str(table), *map(str, sources), str(kernels)]
    _build(words, output, "libmodel.so", [native / "exports.map"])


def link_runner(output: Path, target: Target) -> None:
    """Build ``output``, the standalone runner, for a target: one program for every model.

    Raises:
        As :func:`link`.
    """
    native = Path(str(importlib.resources.files("shiftedge.runtime.native")))
    # No contraction: the same numbers on every processor, and the same as Python's.
    words = ["-target", target.zig, "-std=c11", "-O2", "-ffp-contract=off", "-fno-sanitize=all"]
    words += ["-g0", "-pthread", "-Wl,-s", "-Wl,--build-id=none", f"-I{native}"]
    words += [f'-DSHIFTEDGE_VERSION="{__version__}"']
    words += [*map(str, sorted((native / "runner").glob("*.c"))), "-ldl", "-lm"]
    _build(words, output, "shiftedge-run")


def _build(words: Sequence[str], output: Path, plain: str, files: Sequence[Path] = ()) -> None:
    """Build in a folder of its own, since the linker takes some characters of a path for orders.

    Args:
        words: of the command.
        output: may have any name.
        plain: what it is called meanwhile.
        files: that the words name by their names alone.
    """
    with work_folder() as folder:
        for file in files:
            shutil.copy(file, folder)
        run_zig([*words, "-o", plain], folder)
        shutil.copy(folder / plain, output)
