"""Targets of one's own, from a TOML file: each a known target with what differs.

    [my-board]
    base = "rpi4"                      # a name of --list-targets
    description = "our camera, Cortex-A73"
    cpu = "cortex-a73"                 # LLVM's name
    features = ["asimd", "crc32"]      # as in /proc/cpuinfo
    cores = 2
    l1_bytes = 65536                   # data cache of a core
    l2_bytes = 1048576

Every key but ``base`` may be left out.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shiftedge.export.compiler.backends.cpu.processors import known_features, nearest
from shiftedge.export.compiler.backends.cpu.targets import TARGETS, Target
from shiftedge.runtime.errors import CompileError

# The same library under two names.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

__all__ = ["read_targets"]

_KEYS = ("base", "description", "cpu", "features", "cores", "l1_bytes", "l2_bytes")
_BYTES_LEAST, _BYTES_MOST = 1 << 12, 1 << 30
"""Of a cache; 32 and 512 are meant as KiB."""


def read_targets(path: str | Path) -> dict[str, Target]:
    """The targets of a file, by name.

    Raises:
        CompileError: no such file, not TOML, an unknown key, base or feature, or a value out of
            range. Whether LLVM knows the ``cpu`` is for ``processors.check_processor``.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CompileError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CompileError(f"{path} is not TOML: {error}.") from error
    found = {name: _target(path, name, entry) for name, entry in document.items()}
    if not found:
        raise CompileError(f"{path} names no target; expected a table for each, as [my-board].")
    return found


def _target(path: Path, name: str, entry: object) -> Target:
    if not isinstance(entry, Mapping):
        raise CompileError(f"{path}: {name} is no table; expected [{name}] and its keys below.")
    if name in TARGETS or name == "host" or not name.replace("-", "").replace("_", "").isalnum():
        raise CompileError(f"{path}: {name!r} cannot be a target's name, or is one already.")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise CompileError(
            f"{path}: {name} has the unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}."
        )
    base = TARGETS.get(str(entry.get("base", "")))
    if base is None:
        raise CompileError(
            f"{path}: {name} needs a base, one of {', '.join(TARGETS)}; got {entry.get('base')!r}."
        )
    core = replace(
        base.core,
        l1_bytes=_number(
            path, name, entry, "l1_bytes", base.core.l1_bytes, _BYTES_LEAST, _BYTES_MOST
        ),
        l2_bytes=_number(
            path, name, entry, "l2_bytes", base.core.l2_bytes, _BYTES_LEAST, _BYTES_MOST
        ),
    )
    features = entry.get("features", list(base.features))
    if not isinstance(features, list) or not all(_is_packed(each) for each in features):
        raise CompileError(
            f"{path}: features of {name} is {features!r}; expected a list of words as in "
            "/proc/cpuinfo."
        )
    for feature in features:
        known = known_features(base.architecture)
        if feature not in known:
            raise CompileError(
                f"{path}: features of {name} has {feature!r}, which is none that can be asked of "
                f"{base.architecture}; {nearest(feature, known)}."
            )
    return replace(
        base,
        name=name,
        description=_text(path, name, entry, "description", base.description),
        cpu=_text(path, name, entry, "cpu", base.cpu),
        features=tuple(features),
        cores=_number(path, name, entry, "cores", base.cores, 1, 64),
        core=core,
        source=f"{path.name}; else as {base.name}: {base.source}",
        others=(),
    )


def _is_packed(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.replace("_", "").isalnum()


def _number(
    path: Path, name: str, entry: Mapping[str, Any], key: str, default: int, least: int, most: int
) -> int:
    value = entry.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise CompileError(
            f"{path}: {key} of {name} is {value!r}; expected a whole number from {least} to {most}."
        )
    return value


def _text(path: Path, name: str, entry: Mapping[str, Any], key: str, default: str) -> str:
    value = entry.get(key, default)
    if not isinstance(value, str) or not value.strip():
        raise CompileError(f"{path}: {key} of {name} is {value!r}; expected some text.")
    return value
