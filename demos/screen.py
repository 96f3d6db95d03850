"""A window on the screen, where there is one."""

from __future__ import annotations

import os
import sys

from shiftedge.demos.paint import Image
from shiftedge.runtime.closing import Closing
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.extras import require

__all__ = ["Screen"]

TITLE = "shiftedge (q ends)"
END_KEYS = (ord("q"), ord("Q"), 27)
"""27 is Escape."""


class Screen(Closing):
    """One window. To be used by the main thread only, as window systems want it.

    Raises:
        OutputError: there is no screen, or OpenCV was built without windows.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        # Asked before OpenCV is: its window library ends the whole process where it finds no
        # screen.
        named = ("DISPLAY", "WAYLAND_DISPLAY")
        if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in named):
            raise OutputError(
                "There is no screen for a window (neither DISPLAY nor WAYLAND_DISPLAY is set): "
                "leave --window out and watch a film instead, with --film demo.mp4."
            )
        self._cv2 = require("cv2")
        try:
            self._cv2.namedWindow(TITLE, self._cv2.WINDOW_NORMAL | self._cv2.WINDOW_KEEPRATIO)
        except self._cv2.error as error:
            raise OutputError(
                "This OpenCV cannot open a window: install opencv-python instead of "
                "opencv-python-headless, or watch a film instead, with --film demo.mp4."
            ) from error
        self._sized = False

    def show(self, canvas: Image) -> bool:
        """Show a canvas; False once the user has closed the window or pressed q or Escape."""
        if not self._sized:
            self._cv2.resizeWindow(TITLE, canvas.shape[1], canvas.shape[0])
            self._sized = True
        self._cv2.imshow(TITLE, canvas)
        if self._cv2.waitKey(1) & 0xFF in END_KEYS:
            return False
        return bool(self._cv2.getWindowProperty(TITLE, self._cv2.WND_PROP_VISIBLE) >= 1)

    def close(self) -> None:
        """Close the window. May be called twice."""
        if self._sized:
            self._sized = False
            self._cv2.destroyAllWindows()
