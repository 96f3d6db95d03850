"""A bundle's folder: what stands in it beside the library, and how it is written whole or not."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import importlib.resources
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from shiftedge import __version__
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.manifest import MANIFEST_NAME, FileEntry, Variant
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.spec import ModelSpec


def write_texts(folder: Path, spec: ModelSpec, target: str, variants: Sequence[Variant]) -> None:
    """What a bundle holds beside libraries and programs: a page for people, the licence, and for C
    the headers and how pkg-config and CMake find the libraries."""
    native = importlib.resources.files("shiftedge.runtime.native")
    libraries = (
        f"- `{each.library}`, {each.precision}, for {each.architecture} with {_needed(each)}"
        for each in variants
    )
    values = {
        **{key.upper(): str(getattr(spec, key)) for key in ("name", "width", "height", "classes")},
        "TARGET": target,
        "LIBRARIES": "\n".join(libraries),
        "FIRST": variants[0].name,
        "DEFAULT": variants[-1].name,
        "VARIANTS": ", ".join(each.name for each in variants),
        "VERSION": __version__,
    }
    pc, cmake = "shiftedge-model.pc", "shiftedge-model-config.cmake"
    sources = {name: f"package/{name}" for name in ("LICENSE", "README.md")}
    sources[f"lib/cmake/shiftedge-model/{cmake}"] = f"package/{cmake}"
    sources |= {f"include/shiftedge/{name}": name for name in ("shiftedge.h", "live.h")}
    sources |= {f"lib/{each.name}/pkgconfig/{pc}": f"package/{pc}" for each in variants}
    for path, source in sources.items():
        own = {**values, "VARIANT": Path(path).parts[1]} if source.endswith(pc) else values
        text = (native / source).read_text()
        for key, value in own.items():
            text = text.replace(f"@{key}@", value)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def _needed(variant: Variant) -> str:
    """What a machine must have, in words."""
    names = " ".join(variant.features)
    return names if variant.device == "cpu" else f"an NVIDIA GPU ({names} or newer)"


def entries(folder: Path) -> dict[str, FileEntry]:
    """Every file of a folder by its path, for the manifest; links within it are not listed."""
    result = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            result[name] = FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    return result


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``, which takes its place when the body succeeds.

    A bundle that stands at ``path`` is replaced; anything else there is left and refused. Where
    ``path`` is a link, that holds for what it leads to, and the link stays.

    Raises:
        OutputError: ``path`` is something else than a bundle, or cannot be written.
    """
    given = path
    with contextlib.ExitStack() as stack:
        try:
            path = _real(path)
            if os.path.ismount(path):
                raise OutputError(
                    f"Cannot write {given}: it is a mount point, and so cannot be replaced; name a "
                    "folder in it."
                )
            if path.exists() and not (path / MANIFEST_NAME).is_file():
                empty = path.is_dir() and not any(path.iterdir())
                if not empty:
                    raise OutputError(
                        f"Cannot write {given}: it exists and is no bundle; name a new folder."
                    )
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(work_folder(path.parent))
        except (OSError, ValueError) as error:
            raise OutputError(
                f"Cannot write {given}: {_reason(error)}; choose another folder."
            ) from error
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                _exchange(temporary, path)
            else:
                os.replace(temporary, path)
        except OSError as error:
            raise OutputError(f"Cannot write {given}: {_reason(error)}.") from error


def _real(path: Path) -> Path:
    """Where a path leads, whether or not something is there.

    Raises:
        OSError: links in a circle, or a name that is too long.
    """
    real = Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISLNK(os.lstat(real).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return real


_CWD, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def _exchange(new: Path, path: Path) -> None:
    """Put ``new`` in the place of ``path``, which goes, or stays if that fails."""
    if _exchanged(new, path):
        return
    # Not to be swept: if this process is killed half-way, it is all that is left.
    aside = Path(tempfile.mkdtemp(prefix=".shiftedge-old-", dir=path.parent))
    former = aside / path.name
    try:
        os.replace(path, former)
        os.replace(new, path)
    except BaseException:
        if former.exists() and not path.exists():
            os.replace(former, path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the two have changed places, at once: not on every system and file system."""
    try:
        rename = ctypes.CDLL(None).renameat2  # glibc 2.28
    except (AttributeError, OSError):
        return False
    done: int = rename(_CWD, os.fsencode(one), _CWD, os.fsencode(other), _EXCHANGE)
    return done == 0


def _reason(error: OSError | ValueError) -> str:
    """What the system said; of a tree that was copied, for its first file."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list) and error.args[0]:
        return str(error.args[0][0][-1])
    return getattr(error, "strerror", None) or str(error)
