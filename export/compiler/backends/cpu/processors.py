"""What LLVM and our own check of a CPU know by name, so that a misspelt target is refused.

LLVM generates code for a plain processor where it does not know one's name, with a line on standard
error, and the bundle would be said to be for the one that was named. A feature that
``cpu_features.c`` does not know would be one that no processor has.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
from collections.abc import Sequence

from shiftedge.export.compiler.backends.cpu.targets import Target
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.extras import require

__all__ = ["check_processor", "known_features", "nearest"]

_SECTIONS = {"x86": "x86_64", "aarch64": "aarch64", "32-bit ARM": "armv7l"}
"""What cpu_features.c calls an architecture -> how a target does."""


def check_processor(target: Target) -> None:
    """Refuse a target one of whose variants names a processor that LLVM does not know.

    Raises:
        CompileError: it is unknown; the nearest names are in the message.
        MissingExtraError: TVM is not installed.
    """
    for each in target.variants:
        known = _processors(each.triple)
        if each.cpu not in known:
            raise CompileError(
                f"The target {target.name} has the cpu {each.cpu!r}, which is none that LLVM knows "
                f"for {each.architecture}; {nearest(each.cpu, known)}."
            )


def known_features(architecture: str) -> tuple[str, ...]:
    """The features that a compiled library can ask a CPU for, as in /proc/cpuinfo.

    Args:
        architecture: of a target.
    """
    return _features()[architecture]


def nearest(name: str, known: Sequence[str]) -> str:
    """What to say behind a name that is unknown."""
    found = difflib.get_close_matches(name.lower(), known, n=20, cutoff=0.5)
    # The same characters in another order first, which difflib does not count as near.
    found.sort(key=lambda each: sorted(each) != sorted(name.lower()))
    found = found[:5]
    return f"the nearest are {', '.join(found)}" if found else "none of those is near it"


@functools.cache
def _processors(triple: str) -> tuple[str, ...]:
    require("tvm")
    from tvm.target import Target as Llvm
    from tvm.target.codegen import llvm_get_cpu_archlist

    return tuple(map(str, llvm_get_cpu_archlist(Llvm({"kind": "llvm", "mtriple": triple}))))


@functools.cache
def _features() -> dict[str, tuple[str, ...]]:
    """From the table that is compiled into every library."""
    file = importlib.resources.files("shiftedge.runtime.native") / "cpu/cpu_features.c"
    _, *parts = re.split(r'^#define ARCHITECTURE "(.*)"$', file.read_text(), flags=re.MULTILINE)
    sections = zip(parts[::2], parts[1::2], strict=True)
    return {
        _SECTIONS[name]: tuple(re.findall(r'\{"(\w+)",', text))
        for name, text in sections
        if name in _SECTIONS
    }
