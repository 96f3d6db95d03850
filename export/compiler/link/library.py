"""The object of kernels, the table and ``runtime/native`` -> libmodel.so, with Zig's C compiler.

``zig cc`` comes from PyPI and carries the headers and stubs of every glibc, so one command links
for any target on any workstation, against the oldest glibc that the target asks for.
"""

from __future__ import annotations

import importlib.resources
import shutil
from pathlib import Path

from shiftedge import __version__
from shiftedge.export.compiler.backends.cpu.targets import Target
from shiftedge.export.compiler.link.zig import run_zig
from shiftedge.runtime.process.files import work_folder

__all__ = ["KERNELS", "TABLE", "link", "link_runner"]

KERNELS, TABLE = "kernels.o", "table.c"
"""TVM's object file; the C file that defines ``shiftedge_program_table``."""
_EXPORTS = "exports.map"

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
    f"-Wl,--version-script={_EXPORTS}",
    "-Wl,--gc-sections",
    "-Wl,-s",
    "-Wl,-z,nodelete",  # threads of the pool may outlive a dlclose
    "-Wl,-z,noexecstack",
    "-Wl,-z,relro",
    "-Wl,-z,now",
    "-Wl,--build-id=none",  # the same input, the same bytes
)


def link(folder: Path, output: Path, target: Target) -> None:
    """Link ``output`` from TVM's object, the generated table and the native runtime.

    Args:
        folder: a temporary one that holds :data:`KERNELS`, :data:`TABLE` and what that includes.
            Zig works in it and is told plain names only, since of a path it, or its linker, takes
            some characters for something else.
        output: the shared library to write, of any name.
        target: for which machine.

    Raises:
        MissingExtraError: ziglang is not installed.
        CompileError: the compiler failed; its first error is in the message.
        OSError: ``output`` cannot be written.
    """
    native = Path(str(importlib.resources.files("shiftedge.runtime.native")))
    shutil.copy(native / _EXPORTS, folder)
    words = ["-target", target.zig, *_FLAGS, *_LINKER_FLAGS, f"-I{native}", "-I."]
    words += ["-Wa,-I."]  # the assembler looks for the weights there
    # Only what a model needs: TVM's packed kernels are not generated.
    sources = sorted(path for path in native.glob("*.c") if path.name != "tvm_abi.c")
    run_zig([*words, TABLE, *map(str, sources), KERNELS, "-o", "libmodel.so"], folder)
    shutil.copy(folder / "libmodel.so", output)


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
    with work_folder() as folder:
        run_zig([*words, "-o", "shiftedge-run"], folder)
        shutil.copy(folder / "shiftedge-run", output)
