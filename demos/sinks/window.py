"""The window's own process: ``python window.py TITLE DESCRIPTOR``, started by :mod:`.screen`.

OpenCV's window library ends the process that it runs in, film and all, where the display does not
answer (``ssh -X`` that is gone, ``sudo``, a service) or goes away. So it runs in one that has
nothing to lose. It takes pictures from the connection of that descriptor, and answers with a byte
each: ``r`` the window is there, ``g`` go on, with a second byte for a key that was pressed, ``c``
the user has closed it, ``n`` this OpenCV knows no windows. The end of the connection ends it.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

END_KEYS = (ord("q"), ord("Q"), 27)
"""27 is Escape."""
NO_KEY = 255
"""-1 as a byte."""


def main() -> int:
    """Serve one parent."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent's to answer
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    import cv2

    title, parent = sys.argv[1], Connection(int(sys.argv[2]))
    try:
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    except cv2.error:
        parent.send_bytes(b"n")
        return 1
    parent.send_bytes(b"r")
    sized = False
    while True:
        try:
            picture = parent.recv()
        except (EOFError, OSError):
            return 0
        if not sized:
            cv2.resizeWindow(title, picture.shape[1], picture.shape[0])
            sized = True
        cv2.imshow(title, picture)
        parent.send_bytes(_answer(cv2, title))


def _answer(cv2: Any, title: str) -> bytes:
    key = cv2.waitKey(1) & 0xFF
    if key in END_KEYS or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
        return b"c"
    return b"g" if key == NO_KEY else bytes((ord("g"), key))


if __name__ == "__main__":
    sys.exit(main())
