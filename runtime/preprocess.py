"""Camera frame -> model frame: one crop, one resize, one normalisation.

The exact semantic, for every implementation of it (this one, and any in C):

1. **Scale.** For an image of h x w and a model of H x W with short side R, the scale is the
   largest of R / min(h, w), H / h and W / w, kept as a fraction of whole numbers.
2. **Crop.** In the image, H / scale by W / scale pixels are needed, each rounded to whole pixels
   (half up) and cut from the centre; where the margin is odd, the smaller half lies at the top and
   left. Whole pixels cost at most half a pixel of the camera against the exact region, and let any
   resizer work on a plain view. Pixels outside the crop never matter.
3. **Resize** of the crop, c pixels to n on each axis, in real numbers:

   - neither axis grows: area averaging. Output i is the mean of the input over [i c/n, (i+1) c/n);
   - else half-pixel bilinear on both axes. Output i is read at (i + 0.5) c/n - 0.5, held to
     [0, c - 1], between its two neighbours.

   Then to the nearest grey level. How an exact half rounds is not part of the semantic, and
   implementations in fixed point may be off by one grey level.
4. An image of exactly H x W is already a model frame and passes through untouched, even where
   R > H would have cut a border off: what :meth:`Preprocessor.fit` gives can be fed again.
5. **Normalise**: BGR to RGB, (x / 255 - mean) / std, planar, float32.

OpenCV does step 3 when it is installed, numpy otherwise; no global thread setting is touched.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import FrameError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["Preprocessor", "check_frame", "crop_box"]

_EXPECTED = "expected uint8 of shape (height, width, 3), BGR"


def check_frame(image: object) -> NDArray[np.uint8]:
    """Return ``image`` if it is uint8, shape (height, width, 3), neither side zero; any strides.

    Raises:
        FrameError: it is not; one sentence with what came, what was expected and what to do.
    """
    if (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and image.size > 0
    ):
        return image
    raise FrameError(_complaint(image))


def _complaint(image: object) -> str:
    if image is None:
        return f"The frame is None; {_EXPECTED}: check that the camera gave an image."
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        return f"The frame is a {kind}; {_EXPECTED}: convert it with numpy.asarray first."
    got = f"The frame is {image.dtype} of shape {image.shape}; {_EXPECTED}"
    if image.size == 0:
        return f"{got}: it holds no pixels, check that the camera gave an image."
    if image.dtype != np.uint8:
        advice = "convert its values to 0..255 and use .astype(numpy.uint8)"
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            return f"{got}, and it holds NaN or infinity: find where they come from, then {advice}."
        return f"{got}: {advice}."
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return f"{got}: a grey image needs cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)."
    if image.ndim == 3 and image.shape[2] == 4:
        return f"{got}: drop the fourth channel with image[..., :3] (and reverse it if RGBA)."
    if image.ndim == 3 and image.shape[0] == 3:
        return f"{got}: channels come last here, use image.transpose(1, 2, 0)."
    if image.ndim == 4:
        return f"{got}: pass one frame at a time, such as images[0]."
    return f"{got}."


def crop_box(
    image_height: int, image_width: int, height: int, width: int, short_side: int
) -> tuple[int, int, int, int]:
    """The centred region of an image that becomes the model frame (steps 1 and 2 above).

    Args:
        image_height: rows of the camera's image, in pixels.
        image_width: columns of the camera's image.
        height: rows of the model frame.
        width: columns of the model frame.
        short_side: what the image's short side is scaled to before the cut.

    Returns:
        (top, left, rows, columns) in pixels of the image; always inside it, never empty.
    """
    above, below = short_side, min(image_height, image_width)
    for a, b in ((height, image_height), (width, image_width)):
        if a * below > above * b:  # a / b is the larger scale
            above, below = a, b
    rows = min(image_height, max(1, (2 * height * below + above) // (2 * above)))
    columns = min(image_width, max(1, (2 * width * below + above) // (2 * above)))
    return (image_height - rows) // 2, (image_width - columns) // 2, rows, columns


class Preprocessor:
    """Makes model frames for one spec. Stateless but for caches; several threads may share it."""

    def __init__(self, spec: ModelSpec) -> None:
        self._height = spec.height
        self._width = spec.width
        self._short_side = spec.resize_short_side
        self._shape = (spec.height, spec.width, 3)
        mean, std = np.asarray(spec.mean, np.float64), np.asarray(spec.std, np.float64)
        # (x / 255 - mean) / std as x * scale + offset, rounded to float32 once.
        self._scale = [np.float32(value) for value in 1.0 / (255.0 * std)]
        self._offset = [np.float32(value) for value in -mean / std]

    def fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut and scale a camera frame to the model's size.

        Args:
            image: uint8, shape (any height, any width, 3), BGR, any strides.

        Returns:
            uint8, shape (height, width, 3) of the spec, BGR, C-contiguous. ``image`` itself when
            it has that form already; never written to here.

        Raises:
            FrameError: ``image`` is not such an array.
        """
        check_frame(image)
        if image.shape == self._shape:
            return np.ascontiguousarray(image)
        image_height, image_width = image.shape[:2]
        top, left, rows, columns = crop_box(
            image_height, image_width, self._height, self._width, self._short_side
        )
        crop = image[top : top + rows, left : left + columns]
        if rows == self._height and columns == self._width:
            return np.ascontiguousarray(crop)
        return _resize(crop, self._height, self._width)

    def normalise(self, image: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        """Write the network's input for a fitted frame into ``out``, allocating nothing.

        Args:
            image: uint8, shape (height, width, 3) of the spec, BGR, C-contiguous.
            out: float32, shape (1, 3, height, width), C-contiguous; overwritten with RGB planes of
                (x / 255 - mean) / std.

        Raises:
            FrameError: ``image`` has another shape.
        """
        if image.shape != self._shape:
            raise FrameError(
                f"The fitted frame has shape {image.shape}; expected {self._shape}: "
                "use Preprocessor.fit first."
            )
        # One dimension, one channel at a time: numpy's fastest form of this (80 us at 224 x 224;
        # a table through numpy.take takes 230, three dimensions at once 125).
        pixels = image.reshape(-1, 3)
        planes = out.reshape(3, -1)
        for channel in range(3):
            plane = planes[channel]
            np.copyto(plane, pixels[:, 2 - channel])
            np.multiply(plane, self._scale[channel], out=plane)
            np.add(plane, self._offset[channel], out=plane)


@functools.cache
def _opencv() -> ModuleType | None:
    """OpenCV, or None; imported at the first frame that needs resizing, as that takes a while."""
    try:
        return importlib.import_module("cv2")
    except ImportError:
        return None


def _resize(crop: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    shrinks = crop.shape[0] >= height and crop.shape[1] >= width
    cv2 = _opencv()
    if cv2 is None:
        return _resize_numpy(crop, height, width)
    if crop.strides[0] <= 0 or crop.strides[1:] != (3, 1):
        crop = np.ascontiguousarray(crop)  # flipped or sliced: OpenCV takes only steps of rows
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast("NDArray[np.uint8]", cv2.resize(crop, (width, height), interpolation=method))


def _resize_numpy(crop: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Step 3 without OpenCV: weighted sums of whole rows, then of whole columns."""
    shrinks = crop.shape[0] >= height and crop.shape[1] >= width
    index, weight = _taps(crop.shape[0], height, shrinks)
    rows = np.zeros((height, crop.shape[1], 3), np.float32)
    for tap in range(len(index)):
        rows += crop[index[tap]] * weight[tap][:, None, None]
    index, weight = _taps(crop.shape[1], width, shrinks)
    result = np.full((height, width, 3), 0.5, np.float32)  # so that truncation rounds half up
    for tap in range(len(index)):
        result += rows[:, index[tap]] * weight[tap][:, None]
    return np.minimum(result, 255.0).astype(np.uint8)


@functools.lru_cache(maxsize=32)
def _taps(size: int, count: int, area: bool) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Where each of ``count`` outputs reads an axis of ``size``, and how much of each place.

    Returns:
        Indices and weights, both of shape (taps, count); the weights of one output sum to 1, and
        places past the edge have weight 0.
    """
    step = size / count
    place = np.arange(count, dtype=np.float64)
    if area:
        first = np.floor(place * step + 1e-9)
        index = first + np.arange(int(np.ceil(step)) + 1)[:, None]
        low = np.maximum(index, place * step)
        high = np.minimum(index + 1, (place + 1) * step)
        weight = np.maximum(high - low, 0.0)
        weight /= weight.sum(axis=0)
    else:
        position = np.clip((place + 0.5) * step - 0.5, 0.0, size - 1.0)
        first = np.floor(position)
        index = np.stack([first, first + 1])
        weight = np.stack([1.0 - (position - first), position - first])
    places = np.minimum(index, size - 1).astype(np.intp)
    used = weight.max(axis=1) > 1e-9  # a whole-number step leaves the last tap empty
    return places[used], weight[used].astype(np.float32)
