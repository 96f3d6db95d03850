"""A window on the screen, where there is one, and what is shown in it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment, Sink, Wants
from shiftedge.demos.sinks.overlay import Overlay
from shiftedge.demos.sinks.paint import Image
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.signals import Closing
from shiftedge.runtime.words import plain

TITLE = "shiftedge (q ends)"
START_S = 30.0
"""Longest wait for the window's process, which loads OpenCV first; a display that hangs is none."""
ANSWER_S = 10.0
"""Longest wait for a picture to be shown. A display that is gone may never say so."""
END_S = 2.0
INSTEAD = "leave --window out and watch a film instead, with --film demo.mp4."


class ScreenLostError(OutputError):
    """The window was there, and its display is gone."""


class Screen(Closing):
    """One window, in a process of its own, see :mod:`shiftedge.demos.sinks.window`.

    Args:
        instead: what to do where there is no screen, for the messages.

    Raises:
        OutputError: there is no screen or it does not answer, or OpenCV was built without windows.
        MissingExtraError: OpenCV is not installed.
    """

    key = ""
    """The key that was pressed while the last picture was shown; nothing where none was."""

    def __init__(self, instead: str = INSTEAD) -> None:
        named = [name for name in ("DISPLAY", "WAYLAND_DISPLAY") if os.environ.get(name)]
        if sys.platform.startswith("linux") and not named:
            raise OutputError(
                "There is no screen for a window (neither DISPLAY nor WAYLAND_DISPLAY is set): "
                f"{instead}"
            )
        require("cv2")
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs:
            program = str(Path(__file__).with_name("window.py"))
            self._process = subprocess.Popen(
                [sys.executable, program, TITLE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # whatever a library prints
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONSAFEPATH": "1"},
            )
        try:
            answer = self._answer(START_S)
        except BaseException:
            self.close()
            raise
        if answer == b"r":
            return
        self.close()
        if answer == b"n":
            raise OutputError(
                "This OpenCV cannot open a window: install opencv-python instead of "
                f"opencv-python-headless, or {instead}"
            )
        where = ", ".join(f"{name}={plain(os.environ[name], 60)}" for name in named)
        raise OutputError(
            f"There is no screen for a window ({where or 'the display'} does not answer, or not to "
            f"this user): {instead}"
        )

    def show(self, canvas: Image) -> bool:
        """Show a canvas; False once the user has closed the window or pressed q or Escape.

        Raises:
            ScreenLostError: the display is gone.
        """
        answer = b""
        with contextlib.suppress(OSError):
            self._pipe.send(canvas)
            answer = self._answer(ANSWER_S)
        if not answer:
            self.close()
            raise ScreenLostError("The window is gone: its display does not answer any more.")
        self.key = answer[1:].decode("latin-1")
        return answer[:1] == b"g"

    def close(self) -> None:
        """Close the window. May be called twice."""
        self._pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self, seconds: float) -> bytes:
        """The next byte; none if the process has ended, or is silent for so long."""
        with contextlib.suppress(OSError, EOFError):
            if self._pipe.poll(seconds):
                return self._pipe.recv_bytes()
        return b""


class WindowSink(Sink):
    """Shows the annotated frames of the first camera: always the newest."""

    name = "window"
    wants: Wants = "images"
    most = 1
    grace_s = END_S

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._overlay: Overlay | None = None

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        self._session = sessions[0]

    def take(self, image: NDArray[np.uint8], moment: Moment) -> bool:
        """See :class:`Sink`.

        Raises:
            ScreenLostError: the display is gone.
        """
        if self._overlay is None:
            self._overlay = Overlay.of(self._session, (image.shape[0], image.shape[1]))
        return self._screen.show(self._overlay.draw(image, moment))

    def close(self) -> None:
        self._screen.close()
