"""``[USER@]HOST:PATH``, and one connection of the system's ssh and scp there for everything, so
that a password is asked once.

What ssh's own configuration says of the host counts: keys, jump hosts, users, ports. Scripts go to
the board's ``sh`` through its standard input, so that no other shell ever reads them.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftedge.runtime.errors import DeployError
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.process.progress import ProgressFactory

_FORM = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.@+-]*)@)?"
    r"(?:(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*)|\[(?P<six>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\])"
    r":(?P<path>.*)",
    re.DOTALL,
)
"""Nothing that begins with "-": ssh would take it for an option."""
_PATH = re.compile(r"[A-Za-z0-9._@+/-]{1,512}")
"""Every shell, and both ways in which scp reads a path, take these as they are."""
_EXAMPLE = "expected [USER@]HOST:PATH, such as pi@board:jester or pi@[fe80::1]:/opt/jester"

SSH_FAILED = 255
"""ssh's own exit status, whatever the script's would have been."""

SOCKET_PATH_MOST = 80
"""Bytes; the system takes 107, and ssh makes a longer name of it for a moment."""

DEFAULTS = ("ConnectTimeout=20", "ServerAliveInterval=15", "ServerAliveCountMax=4")
"""A board that was unplugged ends the work after a minute."""

KEEP_S = 900
"""After which an unused shared connection ends by itself, should this process be killed."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_NOISE = re.compile(r"Warning: Permanently added|\*\* ")
_OWN = re.compile(
    r"ssh|mux_|kex_|client_loop|Connection |Timeout|Host key|Received dis|.*Permission denied"
)
"""How a line of ssh's own begins."""
_GENERAL = re.compile(r"(scp: )?(Connection closed|lost connection|Connection to .* closed)")


@dataclass(frozen=True)
class Destination:
    """A folder on a board; :func:`parse_destination` makes it."""

    user: str | None
    """None is who ssh's configuration says."""
    host: str
    path: str
    """"/opt/jester", or "./jester" below the user's home; without a slash at the end."""

    @property
    def login(self) -> str:
        """As ssh takes it: "pi@board", "pi@fe80::1"."""
        return self.host if self.user is None else f"{self.user}@{self.host}"

    @property
    def scp_login(self) -> str:
        """As scp takes it in front of a colon: "pi@board", "pi@[fe80::1]"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.user is None else f"{self.user}@{host}"

    @property
    def parent(self) -> str:
        """The folder that :attr:`path` is to stand in: "/opt", "."."""
        return posixpath.dirname(self.path)

    @property
    def name(self) -> str:
        """Of the bundle's folder there."""
        return posixpath.basename(self.path)

    def __str__(self) -> str:
        return f"{self.scp_login}:{self.path.removeprefix('./')}"


def parse_destination(text: str) -> Destination:
    """Take a destination apart.

    ``~/x`` is ``x``, which lies in the home. Paths of other characters than letters, digits and
    ``. _ @ + - /`` are refused, since old and new versions of scp read them differently.

    Raises:
        DeployError: it is none; the message says what is wrong.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise DeployError(f"{text!r} is no destination: {_EXAMPLE}.")
    path = found["path"]
    if path.startswith("~/"):
        path = path[2:].lstrip("/")
    if not path.strip("/"):
        raise DeployError(f"{text!r} names no folder for the bundle: {_EXAMPLE}.")
    if _PATH.fullmatch(path) is None:
        raise DeployError(
            f"{text!r} has a path of other characters than letters, digits and . _ @ + - /, or a "
            f"very long one: {_EXAMPLE}."
        )
    path = path.rstrip("/")
    if posixpath.basename(path) in (".", ".."):
        raise DeployError(f"{text!r} names no folder of its own for the bundle: {_EXAMPLE}.")
    if not path.startswith("/"):
        path = f"./{path}"
    return Destination(found["user"], found["host"] or found["six"], path)


@dataclass(frozen=True)
class Answer:
    """What a script left."""

    status: int
    out: str
    err: str


def last_words(text: str, otherwise: str) -> str:
    """The line of an output that says most, short and harmless to a terminal.

    Args:
        text: what a program wrote to standard error.
        otherwise: what to answer if it wrote nothing.
    """
    lines = [_CONTROL.sub(" ", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not _NOISE.match(line)]
    telling = [line for line in lines if not _GENERAL.match(line)] or lines or [otherwise]
    line = telling[-1].rstrip(".")
    return line if len(line) <= 300 else f"{line[:297]}..."


class Connection:
    """A connection to a board, as a context.

    Args:
        port: None is ssh's choice.
        identity: file of a private key; None is ssh's choice.
        options: "Name=value" as in ssh_config, which count before what is set here, but for the
            sharing.

    Raises:
        DeployError: ssh or scp is not installed, or the board cannot be reached.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        port: int | None = None,
        identity: str | Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.destination = destination
        self._ssh, self._scp = _program("ssh"), _program("scp")
        words = [word for option in options for word in ("-o", option)]
        if port is not None:
            words += ["-o", f"Port={port}"]
        if identity is not None:
            # ssh expands the % of -i too, but looks for the file before it has.
            path = str(identity)
            doubled = f'IdentityFile="{path.replace("%", "%%")}"'
            words += ["-o", doubled] if "%" in path else ["-i", path]
        self._options = words + [word for option in DEFAULTS for word in ("-o", option)]
        self._folder: Path | None = None
        self._kept = contextlib.ExitStack()
        """Holds that folder."""

    def __enter__(self) -> Connection:
        self._share()
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            line = [self._ssh, *self._options, "-O", "exit", "--", self.destination.login]
            nothing = subprocess.DEVNULL
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(line, stdin=nothing, capture_output=True, check=False, timeout=60)
            self._kept.close()

    def run(self, script: str) -> Answer:
        """Run a script in the board's ``sh``. Programs in it must not read standard input.

        Raises:
            DeployError: the connection failed.
        """
        line = [self._ssh, *self._options, "-T", "--", self.destination.login, "sh"]
        done = subprocess.run(line, input=script.encode(), capture_output=True, check=False)
        out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
        if done.returncode == SSH_FAILED:
            # Beside what the board's login shell may have said.
            own = [line for line in err.splitlines() if _OWN.match(line)]
            raise self._failure("\n".join(own), "it was closed")
        return Answer(done.returncode, out, err)

    def copy(self, paths: Sequence[Path], folder: str, size: int, show: ProgressFactory) -> None:
        """Copy files and folders into a folder of the board.

        Args:
            folder: there, of the characters that a destination may have.

        Raises:
            DeployError: scp failed.
        """
        to = f"{self.destination.scp_login}:{folder}/"
        line = [self._scp, "-q", "-r", *self._options, "--", *map(str, paths), to]
        with (
            show(f"copying to {self.destination.login}", size, "bytes") as advance,
            tempfile.TemporaryFile() as said,
        ):
            nothing = subprocess.DEVNULL
            process = subprocess.Popen(line, stdin=nothing, stdout=nothing, stderr=said)
            done = 0
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.1)
                    sent = min(_written(process.pid), size)
                    advance(max(sent - done, 0))
                    done = max(sent, done)
            except BaseException:
                process.kill()
                process.wait()
                raise
            if process.returncode != 0:
                said.seek(0)
                words = last_words(said.read().decode("utf-8", "replace"), "scp said nothing")
                raise DeployError(f"The copy to {self.destination.login} failed ({words}).")
            advance(size - done)

    def _share(self) -> None:
        """Open the connection that the others use. Where ssh cannot share one, each has its own."""
        with contextlib.ExitStack() as stack:
            folder = _short_folder(stack)
            if folder is None:
                return
            shared = ["-o", "ControlMaster=no", "-o", f"ControlPath={folder / 's'}"]
            master = ["-o", "ControlMaster=yes", "-o", f"ControlPath={folder / 's'}"]
            master += ["-o", f"ControlPersist={KEEP_S}", "-N", "-f"]
            # In front of the user's: with a ControlPath of his, it could not be ended.
            line = [self._ssh, *master, *self._options, "-T", "--", self.destination.login]
            nothing = subprocess.DEVNULL
            # A file: the connection stays open behind this process, and would keep a pipe open.
            with tempfile.TemporaryFile() as said:
                done = subprocess.run(line, stdin=nothing, stdout=nothing, stderr=said, check=False)
                said.seek(0)
                err = said.read().decode("utf-8", "replace")
            if done.returncode != 0 and not re.search(
                r"(?i)control ?(path|socket|persist)|mux", err
            ):
                raise self._failure(err)
            if done.returncode == 0 and (folder / "s").exists():
                self._folder, self._options = folder, [*shared, *self._options]
                self._kept = stack.pop_all()

    def _failure(self, err: str, otherwise: str = "ssh said nothing") -> DeployError:
        words = last_words(err, otherwise)
        return DeployError(
            f"The connection to {self.destination.login} failed ({words}); check it with  ssh "
            f"{self.destination.login}."
        )


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise DeployError(
            f"There is no program {name} on this machine; install OpenSSH's client (on Debian and "
            "Ubuntu: apt-get install openssh-client)."
        )
    return path


def _short_folder(stack: contextlib.ExitStack) -> Path | None:
    """A new private folder whose path leaves room for a socket's name, and means itself to ssh."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):
        short = len(os.fsencode(parent)) < SOCKET_PATH_MOST - 40
        if short and re.fullmatch(r"[A-Za-z0-9/._@+-]+", parent):
            with contextlib.suppress(OSError):
                return stack.enter_context(work_folder(parent))
    return None


def _written(process: int) -> int:
    """Bytes that a process has written so far, nearly all to ssh; 0 where Linux does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{process}/io").read_text()
        return int(text.partition("wchar:")[2].split()[0])
    return 0
