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

__all__ = ["entries", "new_folder", "write_texts"]

_LICENSE = """\
The code in this bundle that comes from shiftedge (the step loop, the threads, the kernels it
generated) is licensed under the Apache License, Version 2.0:
https://www.apache.org/licenses/LICENSE-2.0

The weights are those of the model that was compiled; their licence is that model's.
"""


_SEVERAL = """
The first of them that a processor can run is used. For another, name its folder's `shiftedge-run`,
or in Python `shiftedge.load("this folder", precision="fp32")`.
"""


def write_texts(folder: Path, spec: ModelSpec, target: str, variants: Sequence[Variant]) -> None:
    """What a bundle holds beside libraries and programs: a page for people, the licence, and for C
    the headers and how pkg-config and CMake find the libraries."""
    native = importlib.resources.files("shiftedge.runtime.native")
    texts = {"LICENSE": _LICENSE, "README.md": _readme(spec, target, variants)}
    for name in ("shiftedge.h", "live.h"):
        texts[f"include/shiftedge/{name}"] = (native / name).read_text()
    config = (native / "package" / "shiftedge-model.pc").read_text()
    for each in variants:
        config_of = config.replace("@VARIANT@", each.name).replace("@VERSION@", __version__)
        texts[f"lib/{each.name}/pkgconfig/shiftedge-model.pc"] = config_of
    name = "shiftedge-model-config.cmake"
    config = (native / "package" / name).read_text().replace("@DEFAULT@", variants[-1].name)
    config = config.replace("@VARIANTS@", ", ".join(each.name for each in variants))
    texts[f"lib/cmake/shiftedge-model/{name}"] = config
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _readme(spec: ModelSpec, target: str, variants: Sequence[Variant]) -> str:
    """A page for who finds the folder on a board."""
    libraries = "\n".join(
        f"- `{variant.library}`, {variant.precision}, for {variant.architecture} with "
        f"{' '.join(variant.features)}"
        for variant in variants
    )
    several = len({variant.precision for variant in variants}) > 1
    return f"""\
# {spec.name}, compiled by shiftedge for {target}

One step of a streaming model: a frame of {spec.width}x{spec.height} pixels in, {spec.classes}
logits out, the states in between kept by the caller. Needs glibc 2.27 or newer and nothing else.

{libraries}
{_SEVERAL if several else ""}
From a shell, without Python: raw frames in, a JSON line for each gesture out:

    ffmpeg -i clip.mp4 -f rawvideo -pix_fmt bgr24 - | \\
        bin/{variants[0].name}/shiftedge-run --size 640x480 --fps 30

`shiftedge-run --self-test` compares this machine with what was recorded when the model was
compiled, and times a step.

From Python: `shiftedge.load("this folder").stream().step(frame)`; needs the package
shiftedge and numpy.
From C and C++: `include/shiftedge/shiftedge.h` (a frame in, logits out) and `live.h` beside it (a
camera's frames in, events out). To link a program with a variant: `find_package(shiftedge-model)`
with this folder in CMAKE_PREFIX_PATH, or pkg-config with PKG_CONFIG_PATH=`lib/<variant>/pkgconfig`.
The program asks for the library by its SONAME, `libmodel-<digest>.so`, a link beside it.

`manifest.json` holds the model's spec, the SHA-256 of every file, the memory that a model takes,
and how far the compiled step is from the ONNX file it was made from.
"""


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
