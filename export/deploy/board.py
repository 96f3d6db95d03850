"""What a board is, by its own words, and whether a bundle can stand and run on it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from shiftedge.export.deploy.connection import Connection, Destination, last_words
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import BundleError, DeployError
from shiftedge.runtime.manifest import Variant
from shiftedge.runtime.process.cpu import architecture_of, features_of

GLIBC_OLDEST = (2, 27)
"""That libmodel.so and shiftedge-run need, see docs/formats.md."""

_LOOK = """\
say() { printf 'shiftedge:%s=%s\\n' "$1" "$2"; }
unset CDPATH
{
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT)"
say libc "$(getconf GNU_LIBC_VERSION || ldd --version 2>&1 | head -n 1)"
say loader "$(ls /lib/ld-linux*.so* /lib64/ld-linux*.so* | head -n 1)"
if [ -r /proc/device-tree/model ]; then
    say model "$(tr -d '\\000' < /proc/device-tree/model)"
fi
if [ ! -d @PARENT@ ]; then
    say parent absent
elif [ ! -w @PARENT@ ]; then
    say parent closed
else
    say parent there
    say folder "$(cd @PARENT@ && pwd -P)"
    say free "$(df -Pk @PARENT@ | tail -n 1)"
fi
if [ -L @PATH@ ]; then
    say path link
elif [ -f @PATH@/manifest.json ] && [ -d @PATH@/lib ]; then
    say path bundle
elif [ -e @PATH@ ]; then
    say path other
else
    say path absent
fi
say left "$(ls -d @PATH@.uploading-* @PATH@.replaced-* | tr '\n' ' ')"
say sums "$(command -v sha256sum)"
} 2> /dev/null
echo shiftedge:cpuinfo
cat /proc/cpuinfo
echo
echo shiftedge:end
"""


@dataclass(frozen=True)
class Board:
    """What :func:`look` saw."""

    architecture: str
    """As a variant names it: of the system's programs, which may be 32-bit on a 64-bit kernel."""
    features: frozenset[str]
    """Of the processor, as in /proc/cpuinfo."""
    cores: int
    model: str
    """"Raspberry Pi 4 Model B Rev 1.4"; "" where the board does not say."""
    libc: str
    """What it says of its C library."""
    loader: bool
    """Whether glibc's loader was found, where nothing tells the version."""
    parent: str
    """Of the folder that the bundle is to stand in: "there", "absent", "closed" (not writable)."""
    path: str
    """What stands at the destination: "absent", "bundle", "link", "other"."""
    folder: str
    """The parent's absolute path, "" if it is not there."""
    free_bytes: int | None
    """Where the bundle is to stand; None: not known."""
    sums: bool
    """Whether it has sha256sum."""
    left: str
    """What stands there of deployments that were cut off, or are going on; "" is nothing."""

    def sentence(self) -> str:
        """Architecture, cores, model, C library."""
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}"
        parts = [self.architecture, cores, self.model, self.libc]
        return ", ".join(part for part in parts if part)


def look(connection: Connection) -> Board:
    """Ask the board.

    Raises:
        DeployError: the connection failed, or the answer makes no sense.
    """
    where = connection.destination
    script = _LOOK.replace("@PARENT@", shlex.quote(where.parent))
    answer = connection.run(script.replace("@PATH@", shlex.quote(where.path)))
    head, _, rest = answer.out.partition("shiftedge:cpuinfo\n")
    cpuinfo, end, _ = rest.partition("shiftedge:end")
    said = dict(re.findall(r"^shiftedge:(\w+)=(.*)$", head, re.MULTILINE))
    if not end or not said.get("machine"):
        words = last_words(answer.err, "no words")
        raise DeployError(
            f"{where.login} did not say what it is ({words}); it needs a POSIX sh and uname."
        )
    machine = said["machine"].strip()
    bits = said.get("bits", "").strip()
    wide = bits == "64" or (bits != "32" and re.match(r"armv|i\d86", machine) is None)
    model = said.get("model") or _line(cpuinfo, "Model") or _line(cpuinfo, "model name")
    free = re.search(r"\d+\s+\d+\s+(\d+)\s+\d+%", said.get("free", ""))
    return Board(
        architecture=architecture_of(machine, bits=64 if wide else 32),
        features=features_of(cpuinfo, bits=64 if wide else 32),
        cores=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
        model=_plain(model),
        libc=_plain(said.get("libc", "")),
        loader=bool(said.get("loader")),
        parent=said.get("parent", "absent"),
        path=said.get("path", "absent"),
        folder=said.get("folder", ""),
        free_bytes=int(free[1]) * 1024 if free else None,
        sums=bool(said.get("sums")),
        left=_plain(said.get("left", "")),
    )


def fits(board: Board, bundle: Bundle, where: Destination, size: int) -> Variant:
    """The variant of a bundle that the board can run, once the bundle can stand there too.

    Raises:
        DeployError: it cannot; the message says why.
    """
    try:
        variant = bundle.variant(board.architecture, board.features)
    except BundleError as error:
        raise DeployError(f"{where.login}: {error}") from error
    _check_libc(board, where)
    if board.parent == "absent":
        raise DeployError(
            f"{where.login} has no folder {where.parent}; make it there, or name another."
        )
    if board.parent == "closed":
        raise DeployError(
            f"{where.login} lets its user write nothing into {where.parent}; name another folder, "
            "or another user."
        )
    if board.path in ("link", "other"):
        what = "a link" if board.path == "link" else "there and is no bundle"
        raise DeployError(
            f"{where} is {what}, and only a bundle is ever replaced; name a folder that is not "
            f"there yet, such as {where}/{bundle.folder.resolve().name}."
        )
    if board.free_bytes is not None and board.free_bytes < size:
        raise DeployError(
            f"{where.login} has {board.free_bytes / 1e6:.1f} MB free in {where.parent}, and the "
            f"bundle takes {size / 1e6:.1f} MB beside the one that it replaces; make room there."
        )
    return variant


def _check_libc(board: Board, where: Destination) -> None:
    needed = ".".join(map(str, GLIBC_OLDEST))
    found = re.search(r"(?:glibc|gnu libc)\D*(\d+)\.(\d+)", board.libc, re.IGNORECASE)
    if found is not None:
        if (int(found[1]), int(found[2])) < GLIBC_OLDEST:
            raise DeployError(
                f"{where.login} has glibc {found[1]}.{found[2]}, and a bundle needs {needed} or "
                "newer; use a newer system there."
            )
    elif "musl" in board.libc.lower() or not board.loader:
        kind = "musl" if "musl" in board.libc.lower() else "another C library"
        raise DeployError(
            f"{where.login} has {kind} where a bundle needs glibc {needed} or newer; use a system "
            "with glibc, such as Debian's, there."
        )


def _line(cpuinfo: str, key: str) -> str:
    found = re.search(rf"^{key}\s*:(.*)$", cpuinfo, re.MULTILINE)
    return found[1] if found else ""


def _plain(text: str) -> str:
    """One short line without control characters, whatever the board said."""
    return last_words(text, "")[:120]
