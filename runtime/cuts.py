"""Scene cuts: tell a hard change of the whole picture from anything that moves inside it.

After a cut the states describe a scene that is gone, and the next predictions mix both. A false
cut is worse, though: it empties the states in the middle of a gesture. So a cut needs two
witnesses, both about structure instead of brightness, on a luma thumbnail of about 28 x 28:

1. the correlation of the whole thumbnail with the last one is low. Gain and offset (exposure,
   a lamp, white balance) cancel in it, and noise is averaged away by the cells;
2. hardly any region still looks as it did. The thumbnail is split into 4 x 4 tiles, and each tile
   that has texture is correlated with its predecessor. A hand close to the camera may cover most
   of the picture and ruin the first witness, but the tiles that it leaves free still match.

A picture without texture (a covered lens, a black frame between two shots) is no evidence either
way: it is passed over, and the next picture is compared with the last one that had texture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CutDetector"]

CELLS = 28
"""Thumbnail cells on the longer axis at most: 8 x 8 pixels each at 224, where noise averages out
and a gesture's step from frame to frame is about one cell."""
TILES = 4
"""Tiles on each axis."""
LUMA_BGR = (0.114, 0.587, 0.299)
"""Weights of ITU-R BT.601, in the frame's channel order."""

CORRELATION_MAX = 0.5
"""Whole-picture correlation below which a cut is possible."""
TILE_CORRELATION = 0.6
"""A tile at or above this looks as it did."""
TILES_KEPT_MAX = 0.2
"""A cut keeps less than this share of the textured tiles."""
TEXTURE_LEVELS = 10.0
"""Standard deviation of a thumbnail, in grey levels, below which the picture is blank."""
TILE_TEXTURE_LEVELS = 4.0
"""The same for a tile; blank tiles do not vote. Sensor noise reaches 2 to 3 in a cell."""
TILES_LEAST = 3
"""With fewer tiles voting there is no second witness, so no cut."""


class CutDetector:
    """Compares each fitted frame with the one before. One per stream."""

    def __init__(self) -> None:
        self._last: _Thumbnail | None = None

    def reset(self) -> None:
        """Forget the last frame: the next one is never a cut."""
        self._last = None

    def update(self, image: NDArray[np.uint8]) -> bool:
        """Take the next frame; True when it begins another scene.

        Args:
            image: uint8, shape (height, width, 3), BGR, as :meth:`Preprocessor.fit` gives it and
                of one size throughout; a frame of another size is never a cut.
        """
        now = _Thumbnail(image)
        if now.scale < TEXTURE_LEVELS:
            return False
        last, self._last = self._last, now
        if last is None or last.cells.shape != now.cells.shape:
            return False
        whole = float(np.vdot(last.cells, now.cells)) / (last.norm * now.norm)
        if whole >= CORRELATION_MAX:
            return False
        return _keeps_few_tiles(last.cells, now.cells)


class _Thumbnail:
    """Mean-removed luma of a frame in cells, float32 (rows, columns), and how much it varies."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        side = max(1, -(-max(height, width) // CELLS))
        rows, columns = max(1, height // side), max(1, width // side)
        # One line of pixels from the middle of each row of cells: 28 lines instead of 224 keep
        # this under 20 us, and a line of 8 pixels x 3 channels already averages the noise.
        lines = image[side // 2 : rows * side : side, : columns * side]
        lines = lines[:rows].reshape(rows * columns, -1).astype(np.float32)
        weights = np.resize(np.asarray(LUMA_BGR, np.float32), lines.shape[1]) * (
            3.0 / lines.shape[1]
        )
        cells = (lines @ weights.astype(np.float32)).reshape(rows, columns)
        cells -= cells.mean()
        self.cells = cells
        self.norm = float(np.sqrt(np.vdot(cells, cells)))
        self.scale = self.norm / float(np.sqrt(cells.size))


def _keeps_few_tiles(last: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """The second witness; only asked for the rare frames that the first one suspects."""
    kept = voting = 0
    rows, columns = last.shape
    for i in range(TILES):
        for j in range(TILES):
            place = (
                slice(rows * i // TILES, rows * (i + 1) // TILES),
                slice(columns * j // TILES, columns * (j + 1) // TILES),
            )
            a, b = last[place], now[place]
            if a.size < 4:
                continue
            a, b = a - a.mean(), b - b.mean()
            norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
            least = TILE_TEXTURE_LEVELS * float(np.sqrt(a.size))
            if max(norms) < least:
                continue
            voting += 1
            kept += float(np.vdot(a, b)) >= TILE_CORRELATION * norms[0] * norms[1] > 0.0
    return voting >= TILES_LEAST and kept < TILES_KEPT_MAX * voting
