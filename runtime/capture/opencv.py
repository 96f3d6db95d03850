"""OpenCV, imported late and kept from talking to the user: our own sentence says it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.extras import require

__all__ = ["as_bgr", "opencv"]

QUIET = "-8"
"""AV_LOG_QUIET of libavutil/log.h."""
V4L_SELECT_TIMEOUT_S = "5"
"""A camera that hangs is found after this time, not after OpenCV's 10 s. Read as cv2 is loaded."""


def opencv() -> Any:
    """Return the module ``cv2`` with its own and FFmpeg's log messages turned off.

    OpenCV reports a missing camera or a damaged file as several lines on stderr, beside our error.
    Whoever wants those lines sets OPENCV_LOG_LEVEL (and OPENCV_FFMPEG_LOGLEVEL): a level that is
    set in the environment is left as it is.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", QUIET)
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", V4L_SELECT_TIMEOUT_S)
    cv2 = require("cv2")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        logging = cv2.utils.logging
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    return cv2


def as_bgr(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return ``image`` as uint8 (height, width, 3) BGR; grey becomes three channels, alpha goes.

    Raises:
        SourceError: it is not an 8-bit image of 1, 3 or 4 channels; ``name`` says whose it is.
    """
    if image.dtype == np.uint8 and image.size:
        if image.ndim == 2:
            image = image[:, :, np.newaxis]
        if image.ndim == 3 and image.shape[2] == 3:
            return image
        if image.ndim == 3 and image.shape[2] in (1, 4):
            return np.ascontiguousarray(np.broadcast_to(image[:, :, :3], (*image.shape[:2], 3)))
    raise SourceError(
        f"{name} gave an image of shape {image.shape} and type {image.dtype}; "
        "expected uint8 (height, width, 3)."
    )
