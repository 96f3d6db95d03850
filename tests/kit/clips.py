"""What tests of clips share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from shiftedge.runtime.spec import ModelSpec

__all__ = ["frame_spec", "no_bar"]


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


@contextlib.contextmanager
def no_bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """A progress bar that shows nothing."""
    yield lambda count: None
