"""Small C programs of ours: compiled where they are first needed, kept in the user's cache."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from shiftedge.benchmarks.machine import cpu_identity
from shiftedge.export.compiler.link.zig import ZIG_CC, zig_environment
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.files import cache_folder, output_folder, work_folder

COMPILE_S = 300.0
"""Zig's first run for a target also compiles its own support library."""

Compiler = tuple[list[str], Mapping[str, str] | None]
"""A command, and the variables that it needs."""


def compilers() -> Iterator[Compiler]:
    """Those that compile for this machine."""
    for name in ("gcc", "clang", "cc"):
        if path := shutil.which(name):
            yield [path], None
    if importlib.util.find_spec("ziglang") is not None:
        yield list(ZIG_CC), zig_environment()


def program(
    name: str,
    sources: Sequence[Path],
    flags: Sequence[str],
    *,
    headers: Sequence[Path] = (),
    by: Iterable[Compiler] | None = None,
    folder: Path | None = None,
) -> Path:
    """The program ``name``, compiled if there is none of the same files and flags for this kind of
    CPU: the same home may serve several machines.

    Args:
        flags: of the compiler, and of the linker.
        headers: of ours that the sources include.
        by: the compilers to try; None is :func:`compilers`.
        folder: where to keep it; None is the user's cache.

    Raises:
        ShiftedgeError: there is no C compiler here, or none can compile it.
    """
    text = b"".join(file.read_bytes() for file in (*sources, *headers))
    text += f"{flags}{platform.machine()}{cpu_identity()}".encode()
    folder = folder or cache_folder()
    output = folder / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}"
    if output.is_file():
        return output
    problem = "there is no C compiler: install gcc or clang, or  pip install ziglang"
    for command, environment in compilers() if by is None else by:
        output_folder(folder)
        with work_folder(folder) as scratch:
            line = [*command, *map(str, sources), *flags, "-o", str(scratch / name)]
            try:
                subprocess.run(
                    line, capture_output=True, text=True, check=True, timeout=COMPILE_S,
                    env=environment,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError) as error:
                said = str(getattr(error, "stderr", None) or error).strip().splitlines()
                problem = f"{command[-1]} failed ({said[0] if said else 'it said nothing'})"
                continue
            os.replace(scratch / name, output)  # whole or not at all, for others that look for it
        return output
    raise ShiftedgeError(f"{sources[0].name} was not compiled: {problem}.")
