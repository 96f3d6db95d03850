"""Compiled bundles kept between runs, by everything that they depend on.

The key is a digest of the ONNX file, the target's description, which of its variants this machine
runs (a home may serve several, and each verifies what it can), the sources of the compiler, of the
native runtime and of what else writes into a bundle, and the versions of TVM and Zig: when it is
the same, so is the bundle. An entry is a whole bundle, verified again when it is used, so a damaged
one is only compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.resources
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from shiftedge import __version__
from shiftedge.export import agreement
from shiftedge.export.compiler.backends.base import Target
from shiftedge.export.compiler.targets import precisions_of, runs_here, variants_of
from shiftedge.runtime import manifest, selftest, spec
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import OutputError, ShiftedgeError
from shiftedge.runtime.process.files import cache_folder

_TOOLS = ("apache-tvm", "apache-tvm-ffi", "ziglang", "onnx", "onnxruntime")
_WRITERS = (agreement, manifest, selftest, spec)
"""Modules outside of the compiler on which a bundle's content depends."""
_KEPT = 32
"""Bundles kept; the one unused for longest goes first. 0.3 GB of MobileNets."""


def tool_versions() -> dict[str, str]:
    """Version of each package that has a part in a bundle."""
    found = {"shiftedge": __version__}
    for name in _TOOLS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def bundles_folder() -> Path:
    return cache_folder() / "bundles"


def key_of(models: Sequence[bytes], target: Target, settings: str) -> str:
    """The key of a bundle made from these files, in the order of its builds; ``settings`` say what
    else it was asked to be."""
    digest = hashlib.sha256()
    for model in models:
        digest.update(hashlib.sha256(model).digest())
    # Of this machine depend which variants a bundle for it has, and what a verification ran.
    here = [
        (each.name, runs_here(each))
        for precision in precisions_of(target)
        for each in variants_of(target, precision)
    ]
    digest.update(repr((target, here, settings, sorted(tool_versions().items()))).encode())
    for package in ("shiftedge.export.compiler", "shiftedge.runtime.native"):
        root = Path(str(importlib.resources.files(package)))
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(path.relative_to(root).as_posix().encode() + b"\0")
                digest.update(path.read_bytes())
    for module in _WRITERS:
        digest.update(module.__name__.encode() + b"\0")
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:32]


def find(key: str) -> Bundle | None:
    """The bundle of that key, whole and verified, or None."""
    try:
        folder = bundles_folder() / key
    except OutputError:  # no home, no cache
        return None
    try:
        bundle = Bundle.open(folder)
    except (ShiftedgeError, OSError):
        shutil.rmtree(folder, ignore_errors=True)  # what is damaged would only stand in the way
        return None
    with contextlib.suppress(OSError):  # one that cannot be written to can be read all the same
        os.utime(folder)
    return bundle


def forget_oldest() -> None:
    """Remove the entries past the limit that were unused for longest.

    Raises:
        OSError: the folder cannot be read.
    """
    folder = bundles_folder()
    names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    entries = [path for path in names if path.is_dir() and not path.is_symlink()]
    for path in sorted(entries, key=lambda entry: entry.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
