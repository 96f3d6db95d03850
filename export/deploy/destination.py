"""``[USER@]HOST:PATH``: which board, and where on it the bundle is to stand."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from shiftedge.runtime.errors import DeployError

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


@dataclass(frozen=True)
class Destination:
    """A folder on a board; :func:`parse_destination` makes it.

    Args:
        user: None is who ssh's configuration says.
        host: a name of ssh's configuration, of the network, or an address.
        path: "/opt/jester", or "./jester" below the user's home; without a slash at the end.
    """

    user: str | None
    host: str
    path: str

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
