"""Where frames come from: cameras, files, folders, pipes, streams, and rendered films.

::

    with open_source("0") as camera:
        for frame in LatestFrame(camera):
            ...

Nothing here imports OpenCV before a source needs it.
"""

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.capture.folder import ImageFolder
from shiftedge.runtime.capture.reader import LatestFrame, Paced
from shiftedge.runtime.capture.retry import Retry
from shiftedge.runtime.capture.source import open_source
from shiftedge.runtime.capture.video import open_video

__all__ = [
    "FrameSource",
    "ImageFolder",
    "LatestFrame",
    "Paced",
    "Retry",
    "TimedFrame",
    "open_source",
    "open_video",
]
