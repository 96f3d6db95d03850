"""Runs a program and tells what it sends to the internet, or tries to, and what files it leaves.

With strace where that may trace (it is a system call that containers forbid at times), else with a
library of our own in front of the C library's calls (``outgoing.c``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLS = "socket,connect,sendto,sendmsg,sendmmsg"
KEPT = (".cache", "shiftedge")
"""Our cache, below the home folder."""


@dataclass(frozen=True)
class Tracer:
    """A way to see what is sent."""

    name: str
    words: tuple[str, ...] = ()
    """Before the command, without the log's name."""
    library: Path | None = None

    def line(self, command: Sequence[str], log: Path) -> list[str]:
        """The command, traced into ``log``."""
        return [*self.words, *(["-o", str(log)] if self.words else []), *command]

    def environment(self, log: Path) -> dict[str, str]:
        """What the command has to find set."""
        if self.library is None:
            return {}
        return {"LD_PRELOAD": str(self.library), "OUTGOING_LOG": str(log)}


def strace() -> Tracer | str:
    """It, or why not."""
    program = shutil.which("strace")
    if program is None:
        return "there is no strace: apt-get install strace"
    words = (program, "-f", "--seccomp-bpf", "-qq", "-e", f"trace={CALLS}", "-e", "signal=none")
    line = [*words, "-o", os.devnull, "true"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"strace may not trace here: {done.stderr.strip()[:200]}"
    return Tracer("strace", words)


def preloaded(folder: Path) -> Tracer | str:
    """The library, compiled into ``folder``, or why not."""
    compilers = [[path] for name in ("gcc", "clang", "cc") if (path := shutil.which(name))]
    said = "no C compiler"
    for compiler in (*compilers, [sys.executable, "-m", "ziglang", "cc"]):
        library = folder / "outgoing.so"
        line = [*compiler, "-shared", "-fPIC", "-O1", "-o", str(library)]
        line += [str(ROOT / "tests" / "kit" / "outgoing.c"), "-ldl"]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Tracer("LD_PRELOAD", library=library)
        said = done.stderr.strip()[-200:] or said
    return f"outgoing.c was not compiled: {said}"


class Run:
    """A command in folders of its own: home, temporary files, the current folder.

    Its environment is made from nothing, so that no ``CI`` and no switch of the caller's is in it.
    """

    def __init__(
        self,
        tracer: Tracer,
        command: Sequence[str],
        folder: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        for name in ("home", "tmp", "work"):
            (folder / name).mkdir(parents=True)
        self._log, self._err = folder / "sent", folder / "err"
        self._log.touch()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "src"),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            **tracer.environment(self._log),
            **(variables or {}),
        }
        with self._err.open("wb") as err:
            self._process = subprocess.Popen(
                tracer.line(command, self._log),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                cwd=folder / "work",
                env=environment,
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float = 600.0) -> int:
        """Its exit status."""
        return self._process.wait(timeout_s)

    @property
    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    @property
    def said(self) -> str:
        """On stderr."""
        return self._err.read_text("utf-8", "replace")

    def sent(self) -> list[str]:
        """Calls so far that have to do with the internet."""
        text = self._log.read_text("utf-8", "replace")
        return [line for line in text.splitlines() if "AF_INET" in line]

    def left(self) -> list[str]:
        """Files in its home and among the temporary ones, but for our cache."""
        home = self.folder / "home"
        ours = home.joinpath(*KEPT)
        found = [
            path
            for top in (home, self.folder / "tmp")
            for path in top.rglob("*")
            if not path.is_dir() and not path.is_relative_to(ours)
        ]
        return sorted(str(path.relative_to(self.folder)) for path in found)
