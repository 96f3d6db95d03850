"""Largest or mean value of a window. Padding never wins, and counts in no mean.

The border of a largest is the lowest float. A mean's divisor would differ along a border, so a mean
with padding is refused. The mean over a whole map is a window of its size.
"""

from __future__ import annotations

from shiftedge.export.compiler.schedules import window
from shiftedge.export.compiler.schedules.tiles import VectorUnit
from shiftedge.export.compiler.schedules.window import Window
from shiftedge.export.compiler.tir_kernel import LOWEST, Kernel

__all__ = ["schedule"]


def schedule(name: str, shape: Window, unit: VectorUnit, *, largest: bool) -> tuple[Kernel, ...]:
    """``name_padded`` where needed, then ``name``: padded (or x), out."""
    note = f"pool {shape.kernel[0]} x {shape.kernel[1]}"
    if largest:
        return window.schedule(name, shape, unit, largest=True, fill=LOWEST, note=f"largest {note}")
    if any(shape.padding):
        raise ValueError(f"{name}: a mean over a window with padding has no schedule")
    return window.schedule(name, shape, unit, scale=1.0 / shape.taps, note=f"mean {note}")
