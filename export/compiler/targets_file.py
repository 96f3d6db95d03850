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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shiftedge.export.compiler.backends.base import Target
from shiftedge.export.compiler.backends.cpu.devices import Cpu, nearest
from shiftedge.export.compiler.targets import TARGETS
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.cpu import KNOWN

# The same library under two names.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

_KEYS = ("base", "description", "cpu", "features", "cores", "l1_bytes", "l2_bytes")
_CACHE_BYTES = (1 << 12, 1 << 30)
"""Least and most; 32 and 512 are meant as KiB."""


def read_targets(path: str | Path) -> dict[str, Target]:
    """The targets of a file, by name.

    Raises:
        CompileError: no such file, not TOML, an unknown key, base or feature, or a value out of
            range. Whether LLVM knows the ``cpu`` is for ``targets.check``.
    """
    path = Path(path)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CompileError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CompileError(f"{path} is not TOML: {error}.") from error
    found = {name: _Table(path, name, entry).target() for name, entry in document.items()}
    if not found:
        raise CompileError(f"{path} names no target; expected a table for each, as [my-board].")
    return found


@dataclass(frozen=True)
class _Table:
    """One table of a file."""

    path: Path
    name: str
    entry: Any

    def target(self) -> Target:
        path, name, entry = self.path, self.name, self.entry
        if not isinstance(entry, Mapping):
            raise CompileError(f"{path}: {name} is no table; expected [{name}] and its keys below.")
        plain = name.replace("-", "").replace("_", "")
        if name in TARGETS or name == "host" or not plain.isalnum():
            raise CompileError(f"{path}: {name!r} cannot be a target's name, or is one already.")
        unknown = [key for key in entry if key not in _KEYS]
        if unknown:
            raise CompileError(
                f"{path}: {name} has the unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}."
            )
        base = TARGETS.get(str(entry.get("base", "")))
        if base is None:
            raise CompileError(
                f"{path}: {name} needs a base, one of {', '.join(TARGETS)}; "
                f"got {entry.get('base')!r}."
            )
        return replace(
            base,
            name=name,
            description=self.text("description", base.description),
            devices=(*(d for d in base.devices if not isinstance(d, Cpu)), self.cpu(base)),
            cores=self.number("cores", base.cores, 1, 64),
            source=f"{path.name}; else as {base.name}: {base.source}",
        )

    def cpu(self, base: Target) -> Cpu:
        """The base's best processor, with what the table says of it."""
        best = next(device for device in base.devices if isinstance(device, Cpu))
        core = replace(
            best.core,
            l1_bytes=self.number("l1_bytes", best.core.l1_bytes, *_CACHE_BYTES),
            l2_bytes=self.number("l2_bytes", best.core.l2_bytes, *_CACHE_BYTES),
        )
        features = self.entry.get("features", list(best.features))
        words = isinstance(features, list) and all(
            isinstance(each, str) and each.isascii() and each.replace("_", "").isalnum()
            for each in features
        )
        if not words:
            raise CompileError(
                f"{self.path}: features of {self.name} is {features!r}; expected a list of words "
                "as in /proc/cpuinfo."
            )
        known = KNOWN[base.architecture]
        for feature in features:
            if feature not in known:
                raise CompileError(
                    f"{self.path}: features of {self.name} has {feature!r}, which is none that can "
                    f"be asked of {base.architecture}; {nearest(feature, known)}."
                )
        return replace(
            best, cpu=self.text("cpu", best.cpu), features=tuple(features), core=core
        )  # fmt: skip

    def number(self, key: str, default: int, least: int, most: int) -> int:
        value = self.entry.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise CompileError(
                f"{self.path}: {key} of {self.name} is {value!r}; expected a whole number from "
                f"{least} to {most}."
            )
        return value

    def text(self, key: str, default: str) -> str:
        value = self.entry.get(key, default)
        if not isinstance(value, str) or not value.strip():
            raise CompileError(
                f"{self.path}: {key} of {self.name} is {value!r}; expected some text."
            )
        return value
