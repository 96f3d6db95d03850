"""A shell command whose output is read: never waited for endlessly, never left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from shiftedge.runtime.capture.base import Handle
from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.words import shown

PIECE_BYTES = 65536
TAIL_BYTES = 4096
"""How much of the end of stderr is kept for the error message."""
EXIT_S = 2.0
"""Time a command has from the end of its output to its exit."""
TERMINATE_S = 1.0
"""Time from SIGTERM to SIGKILL: gst-launch and rpicam-vid give the camera back on SIGTERM."""

POLL_S = 0.005
"""Between two looks at whether a stopped command is gone."""

MARK = "SHIFTEDGE_SOURCE"
"""Variable in the environment of a command and of all that it starts, which tells them from others
once they have left its process group (``setsid``, a daemon)."""

WATCH = r"""
read -r said && exit
stop() {
    kill -"$1" "-$2"
    for each in /proc/[0-9]*/environ; do
        grep -qs "$3" "$each" && each=${each%/environ} && kill -"$1" "${each#/proc/}"
    done
}
stop TERM "$1" "$2"
sleep 1
stop KILL "$1" "$2"
"""
"""A shell's script that stops the process group $1 and what carries the mark $2, once its standard
input ends without a line: this process is gone, killed in a way that left it no time to stop the
command. One that waits for its camera would not notice, and keep the camera."""


class CommandStalledError(SourceError):
    """The command wrote nothing for too long."""


class CommandOutput:
    """Runs ``command``, as typed at a prompt, in a shell and a process group of its own.

    Raises:
        SourceError: the shell could not be started.
    """

    def __init__(self, command: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mark = f"{os.getpid()}-{uuid.uuid4()}"
        try:
            self._process = subprocess.Popen(  # a shell, since pipes and quotes are wanted
                command,
                shell=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env={**os.environ, MARK: self._mark},
            )
        except (OSError, ValueError) as error:
            raise SourceError(f"Cannot start the command {shown(command)}: {error}.") from error
        self._tail = b""
        self._deadline_s: float | None = None
        self._stopping = threading.Lock()
        self._stopped = False
        self._watcher = _watch(self._process.pid, self._mark)
        # For mypy: both were asked for as pipes.
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdout, self._stderr = self._process.stdout, self._process.stderr
        selector = selectors.DefaultSelector()
        for stream in (self._stdout, self._stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        self._handle: Handle[selectors.BaseSelector] = Handle(selector, self._close_pipes)

    @property
    def process_id(self) -> int:
        """The shell's, which is also its process group's."""
        return self._process.pid

    def expect_within(self, seconds: float) -> None:
        """From now on, until the next call, bytes must come within that time altogether."""
        self._deadline_s = self._clock() + seconds

    def fill(self, view: memoryview) -> int:
        """Read some bytes of stdout into ``view``; their number, or 0 at the end or once closed.

        Raises:
            CommandStalledError: nothing came in time.
        """
        with self._handle.use() as selector:
            while selector is not None:
                left_s = None
                if self._deadline_s is not None:
                    left_s = self._deadline_s - self._clock()
                    if left_s <= 0.0:
                        raise CommandStalledError("The command stalled.")
                ready = {key.fileobj for key, _ in selector.select(left_s)}
                if self._stderr in ready:
                    self._read_stderr(selector)
                if self._stdout in ready:
                    with contextlib.suppress(BlockingIOError):
                        return os.readv(self._stdout.fileno(), [view])
        return 0

    def finish(self) -> tuple[int, str]:
        """After the end of stdout: exit status (as in subprocess) and the last line of stderr.

        A command that closed its output and runs on is stopped; that counts as status 0.
        """
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(EXIT_S)
        with self._handle.use() as selector:
            while selector is not None and self._read_stderr(selector):
                pass
        self.close()
        lines = self._tail.decode("utf-8", "replace").split("\n")
        return status or 0, next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Stop the command and all that it started, wait for it, and close the pipes.

        May be called twice, and from another thread, in which the reader is woken.
        """
        with self._stopping:
            if not self._stopped:
                self._stopped = True  # never twice: the group's number may be a stranger's by then
                self._stop()
                if self._watcher is not None:
                    with contextlib.suppress(OSError):
                        self._watcher.communicate(b"stopped\n")
        self._handle.close()

    def _stop(self) -> None:
        """SIGTERM, then SIGKILL, to the whole group and to what has left it; returns when nothing
        of it runs."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):  # all of it has gone already
                os.killpg(self._process.pid, number)
            for process in _marked(self._mark):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, number)
            until_s = time.monotonic() + TERMINATE_S
            while time.monotonic() < until_s:
                # poll() reaps the shell; the group lives on while anything that it started does.
                gone = self._process.poll() is not None and not _any_runs(self._process.pid)
                if gone and not _marked(self._mark):
                    return
                time.sleep(POLL_S)

    def _close_pipes(self, selector: selectors.BaseSelector) -> None:
        for each in (selector, self._stdout, self._stderr):
            each.close()

    def _read_stderr(self, selector: selectors.BaseSelector) -> bool:
        """Take what stderr holds; False when it holds nothing now or has ended."""
        try:
            piece = os.read(self._stderr.fileno(), PIECE_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            with contextlib.suppress(KeyError):
                selector.unregister(self._stderr)  # else it is ready for ever: a busy wait
            return False
        self._tail = (self._tail + piece)[-TAIL_BYTES:]
        return True


def _watch(group: int, mark: str) -> subprocess.Popen[bytes] | None:
    """Starts :data:`WATCH`; None where there is no process to spare."""
    nothing = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            ["sh", "-c", WATCH, "shiftedge-watch", str(group), f"{MARK}={mark}"],
            stdin=subprocess.PIPE,
            stdout=nothing,
            stderr=nothing,
            start_new_session=True,  # Ctrl-C in a terminal is not for it
        )
    except OSError:
        return None


def _marked(mark: str) -> list[int]:
    """Processes of ours, or their children, that carry the mark and have not ended."""
    word = f"{MARK}={mark}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            if word in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


def _any_runs(group: int) -> bool:
    """Whether a process of the group is left that is not merely waiting to be reaped."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # proc(5): pid (name) state ppid pgrp ...; the name may hold spaces and parentheses
            state, _, member_of = stat.read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
            if int(member_of) == group and state not in "ZX":
                return True
    return False
