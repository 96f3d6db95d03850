"""Zig's C compiler as a program: what it is run with, and where it keeps its caches.

Zig finds a home for its caches by itself, and ends, or hangs, where there is none (a container
without HOME, a home that can only be read). So it is told: the folder of ``ZIG_GLOBAL_CACHE_DIR``
where the user has set it, else one in our cache folder, else a temporary one of this process. A
cache only saves time: some 20 s with the first link for a target, which compiles Zig's own support
library.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from shiftedge.runtime.errors import CompileError, OutputError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import cache_folder, output_folder, work_folder

ZIG_CC = (sys.executable, "-m", "ziglang", "cc")
_TIMEOUT_S = 300
_OF_THE_CACHE = re.compile(
    "[Cc]ache|NoSpace|ReadOnly|Access|Permission|NotDir|Lock|Quota|InputOutput|Unexpected"
)
"""What Zig says where the fault may be its cache's: a disk that is full, a file system without
locks. It also ends by a signal then."""


def zig_environment() -> dict[str, str]:
    """The variables to run Zig with, whose caches lie where they can be written.

    Raises:
        CompileError: nowhere.
    """
    return next(_environments())


def run_zig(words: Sequence[str], folder: Path) -> None:
    """Run ``zig cc``.

    Args:
        words: behind ``cc``. Names of files to be written should be relative and plain: its linker
            takes a % for something else.
        folder: the working directory.

    Raises:
        MissingExtraError: ziglang is not installed.
        CompileError: it failed; its first error is in the message.
    """
    require("ziglang")
    said = ""
    for environment in _environments():
        try:
            done = subprocess.run(
                [*ZIG_CC, *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
                env=environment,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(
                f"The C compiler (zig cc, of the package ziglang) did not run: {_short(error)}; "
                "reinstall it with `pip install --force-reinstall ziglang`."
            ) from error
        if done.returncode == 0:
            return
        lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
        lines = [line for line in lines if line] or ["no message"]
        first = next((line for line in lines if "error" in line), lines[-1])
        said = said or f"failed with status {done.returncode}: {first}"
        if done.returncode > 0 and not _OF_THE_CACHE.search(" ".join(lines)):
            break  # in another cache it would fail again
    raise CompileError(
        f"The C compiler (zig cc) {said}; check the free space of the temporary folder "
        f"{tempfile.gettempdir()}, and the ziglang package."
    )


def _short(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it was not done after {_TIMEOUT_S} s"
    return str(error)


def _environments() -> Iterator[dict[str, str]]:
    """With each folder that the caches may lie in, the best first."""
    found = False
    for folder in _caches():
        with contextlib.suppress(OutputError, ValueError):
            place = str(output_folder(folder).resolve())
            found = True
            # The local cache holds what was made of single files, such as our own C sources.
            yield {
                **os.environ,
                "ZIG_GLOBAL_CACHE_DIR": place,
                "ZIG_LOCAL_CACHE_DIR": place,
                "ZIG_PROGRESS": "0",
            }
    if not found:
        raise CompileError(
            "The C compiler needs a folder for temporary files; set TMPDIR to one that can be "
            "written to."
        )


def _caches() -> Iterator[Path]:
    if os.environ.get("ZIG_GLOBAL_CACHE_DIR"):
        yield Path(os.environ["ZIG_GLOBAL_CACHE_DIR"])
    with contextlib.suppress(OutputError):  # no home
        yield cache_folder() / "zig"
    with contextlib.suppress(OSError):
        yield _temporary()


@functools.cache
def _temporary() -> Path:
    """A folder that goes with this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(work_folder())
