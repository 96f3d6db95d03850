"""Which engines a run takes that names none."""

from __future__ import annotations

import importlib.util

from shiftedge.benchmarks.engines import ENGINES, MODULES, OURS

__all__ = ["by_default"]

ALWAYS = ("native", "onnxruntime")
"""A row of their own says why where they cannot run."""
SLOW = ("litert", "torch-compile", "tvm")
"""To convert or to compile, up to minutes; TVM's step is slow as well."""


def by_default() -> tuple[list[str], list[str]]:
    """The engines that are installed and load in seconds, and sentences about those left out.

    Of ours only ``native``: what else a bundle holds, the bundle says.
    """
    every = [name for name in ENGINES if name in ALWAYS or name not in OURS]
    absent = [name for name in every if name not in ALWAYS and not _installed(name)]
    slow = [name for name in SLOW if name not in absent]
    sentences = []
    if absent:
        names = ", ".join(absent)
        sentences.append(f"Not installed: {names} (pip install 'shiftedge[bench,peers]').")
    if slow:
        names = ", ".join(slow)
        sentences.append(f"Left out, since they load slowly: {names}; name them with --engines.")
    return [name for name in every if name not in (*absent, *slow)], sentences


def _installed(engine: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in MODULES[engine])
