"""The clip of a bundle's self-test: frames that Python and C make alike, from whole numbers alone.

A board that is to prove what it computes needs frames that are the same there and here, and no
file for them. Frame ``t`` of a clip of H x W pixels, value of row ``y``, column ``x`` and channel
``c`` (0 blue, 1 green, 2 red), all in whole numbers, divisions rounded down, and what a 32-bit
unsigned number cannot hold cut off::

    mix(n)   n ^= n >> 16; n *= 0x7feb352d; n ^= n >> 15; n *= 0x846ca68b; n ^= n >> 16
    cell     max(1, max(H, W) / 12)
    pace     1 + cell / 4
    texel(layer, row, column) =
        (mix((row / cell * 4099 + column / cell) * 8 + 4 * layer + c) & 255)
      ^ (mix((row * 65537 + column) * 8 + 4 * layer + c + 0x9e3779b9) & 15)

    down, right = (y + H - t * pace % H) % H, (x + W - t * 2 * pace % W) % W
    side        = max(1, min(H, W) / 3)
    value       = texel(1, down, right)                   where down < side and right < side
                  texel(0, y + t * pace, x + t * pace)    elsewhere

So a ground of flat patches with grain drifts up and to the left, over it a square drifts down and
to the right and comes in again on the other side, and each grey level is about as frequent as any
other. ``runtime/native/runner/clip.c`` makes the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLIP = "drift-1"
"""Name of the formula above, as a manifest has it."""

FRAMES = 16
"""That a compiled bundle has logits for: longer than a prediction of MobileNetV2 TSM looks back."""


def self_test_clip(height: int, width: int, frames: int = FRAMES) -> NDArray[np.uint8]:
    """The first frames of the clip.

    Args:
        height, width: of a frame, pixels, 1 to 8192.
        frames: how many, from 1.

    Returns:
        uint8 (frames, height, width, 3), BGR.

    Raises:
        ValueError: a size or the number of frames is out of range.
    """
    if not (1 <= height <= 8192 and 1 <= width <= 8192 and frames >= 1):
        raise ValueError(
            f"a clip of {frames} frames of {height}x{width} pixels; expected sizes from 1 to 8192 "
            "and at least one frame"
        )
    return np.stack([_frame(height, width, index) for index in range(frames)])


def _frame(height: int, width: int, index: int) -> NDArray[np.uint8]:
    cell = max(1, max(height, width) // 12)
    pace = 1 + cell // 4
    side = max(1, min(height, width) // 3)
    y, x = np.arange(height, dtype=np.int64), np.arange(width, dtype=np.int64)
    down = (y + height - index * pace % height) % height
    right = (x + width - index * 2 * pace % width) % width
    inside = (down < side)[:, None, None] & (right < side)[None, :, None]
    ground = _texels(0, y + index * pace, x + index * pace, cell)
    frame: NDArray[np.uint8] = np.where(inside, _texels(1, down, right, cell), ground)
    return frame


def _texels(
    layer: int, rows: NDArray[np.int64], columns: NDArray[np.int64], cell: int
) -> NDArray[np.uint8]:
    """uint8 (rows, columns, 3)."""
    channel = 4 * layer + np.arange(3, dtype=np.int64)
    y, x = rows[:, None, None], columns[None, :, None]
    patch = _mix((y // cell * 4099 + x // cell) * 8 + channel)
    grain = _mix((y * 65537 + x) * 8 + channel + 0x9E3779B9)
    return ((patch & 255) ^ (grain & 15)).astype(np.uint8)


def _mix(numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Numbers without a pattern from numbers with one, each for itself."""
    n: NDArray[np.uint32] = numbers.astype(np.uint32)  # the lowest 32 bits
    n ^= n >> np.uint32(16)
    n *= np.uint32(0x7FEB352D)
    n ^= n >> np.uint32(15)
    n *= np.uint32(0x846CA68B)
    n ^= n >> np.uint32(16)
    return n
