"""Specs for tests that read clips and have no network yet."""

from __future__ import annotations

from typing import Any

from shiftedge.runtime.spec import ModelSpec

__all__ = ["frame_spec"]


def frame_spec(
    height: int,
    width: int,
    rate_hz: float = 12.0,
    labels: tuple[str, ...] = ("clip",),
    **more: Any,
) -> ModelSpec:
    """Frames of that size and rate."""
    return ModelSpec(
        name="clips",
        labels=labels,
        height=height,
        width=width,
        resize_short_side=more.pop("resize_short_side", min(height, width)),
        frame_rate_hz=rate_hz,
        states=(),
        receptive_field=1,
        **more,
    )
