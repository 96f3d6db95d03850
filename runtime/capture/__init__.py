"""Where frames come from: cameras, files, folders, pipes, streams, and rendered films.

::

    with open_source("0") as camera:
        for frame in LatestFrame(camera):
            ...

Nothing here imports OpenCV before a source needs it.
"""

from __future__ import annotations

from shiftedge.runtime.capture.base import FrameSource, TimedFrame
from shiftedge.runtime.capture.camera import open_camera
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.capture.folder import ImageFolder
from shiftedge.runtime.capture.live import CaptureDevice, LiveSource, Retry
from shiftedge.runtime.capture.network import open_url
from shiftedge.runtime.capture.pipe import PipeCommand, PipeSource, RestartedPipe, parse_pipe
from shiftedge.runtime.capture.rawvideo import RawVideo
from shiftedge.runtime.capture.reader import LatestFrame, Paced
from shiftedge.runtime.capture.source import SOURCE_FORMS, SourceText, open_source, parse_source
from shiftedge.runtime.capture.synthetic_source import SyntheticSource
from shiftedge.runtime.capture.video import VideoFile, open_video

__all__ = [
    "SOURCE_FORMS",
    "CaptureDevice",
    "FilmWriter",
    "FrameSource",
    "ImageFolder",
    "LatestFrame",
    "LiveSource",
    "Paced",
    "PipeCommand",
    "PipeSource",
    "RawVideo",
    "RestartedPipe",
    "Retry",
    "SourceText",
    "SyntheticSource",
    "TimedFrame",
    "VideoFile",
    "open_camera",
    "open_source",
    "open_url",
    "open_video",
    "parse_pipe",
    "parse_source",
]
