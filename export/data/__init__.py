"""People's own clips: where they lie, what they show, and their frames at a model's rate and size.

::

    DATA -> find_data: folders or lists -> Clip (label, path) -> reader: frames on the model's ticks

Training and quantising read clips through this package alone, and it reads them through
:mod:`shiftedge.runtime.capture`, so that a network learns from the frames that it will be shown.
"""

from shiftedge.export.data.files import Clip, Layout
from shiftedge.export.data.layouts import find_data
from shiftedge.export.data.silent import looks_silent, silent_labels

__all__ = ["Clip", "Layout", "find_data", "looks_silent", "silent_labels"]
