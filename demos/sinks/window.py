"""The window's own process: ``python window.py TITLE``, started by :mod:`.screen`.

OpenCV's window library ends the process that it runs in, film and all, where the display does not
answer (``ssh -X`` that is gone, ``sudo``, a service) or goes away. So it runs in one that has
nothing to lose. It takes pictures on stdin, each behind its width and height (little-endian uint32,
then BGR bytes), and answers with a byte each on stdout: ``r`` the window is there, ``g`` go on,
``c`` the user has closed it, ``n`` this OpenCV knows no windows. The end of stdin ends it.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import Any, BinaryIO

END_KEYS = (ord("q"), ord("Q"), 27)
"""27 is Escape."""
HEADER = struct.Struct("<II")


def main() -> int:
    """Serve one parent."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent's to answer
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints
    import cv2
    import numpy as np

    title = sys.argv[1]
    try:
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    except cv2.error:
        answers.write(b"n")
        return 1
    answers.write(b"r")
    sized = False
    pictures = sys.stdin.buffer
    while (header := pictures.read(HEADER.size)) and len(header) == HEADER.size:
        width, height = HEADER.unpack(header)
        data = _whole(pictures, 3 * width * height)
        if data is None:
            break
        if not sized:
            cv2.resizeWindow(title, width, height)
            sized = True
        cv2.imshow(title, np.frombuffer(data, np.uint8).reshape(height, width, 3))
        answers.write(b"c" if _closed(cv2, title) else b"g")
    return 0


def _whole(pictures: BinaryIO, size: int) -> bytes | None:
    data = pictures.read(size)
    return data if len(data) == size else None


def _closed(cv2: Any, title: str) -> bool:
    if cv2.waitKey(1) & 0xFF in END_KEYS:
        return True
    return bool(cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1)


if __name__ == "__main__":
    sys.exit(main())
