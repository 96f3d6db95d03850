"""shiftedge: stream a camera through a temporal shift model, one small step a frame.

::

    import shiftedge

    model = shiftedge.load("gestures.onnx")
    stream = model.stream()
    decoder = shiftedge.GestureDecoder(model.spec)
    logits = stream.step(frame)                     # uint8 (H, W, 3) BGR -> float32 (classes,)
    event = decoder.update(logits, timestamp)       # seconds -> GestureEvent | None
"""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from pathlib import Path

if (
    (
        Path(sys.argv[0]).name == "shiftedge"
        or ("-m", "shiftedge") in itertools.pairwise(sys.orig_argv)
    )
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    # The process is the command, of which nothing has begun: until it takes its signals itself
    # (runtime/process/signals.py), Ctrl-C ends it as it is, without the traceback of an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# First of all: packages read these switches when they are imported, child processes inherit them.
from shiftedge.runtime.process.telemetry import switch_off

switch_off()

from shiftedge.runtime.errors import ShiftedgeError  # noqa: E402
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent  # noqa: E402
from shiftedge.runtime.live.stream import LiveStream, Result  # noqa: E402
from shiftedge.runtime.loading import load  # noqa: E402
from shiftedge.runtime.model import Model, Stream  # noqa: E402
from shiftedge.runtime.spec import DecoderSettings, ModelSpec, StateSpec  # noqa: E402

__version__ = "0.1.0"

__all__ = [
    "DecoderSettings",
    "GestureDecoder",
    "GestureEvent",
    "LiveStream",
    "Model",
    "ModelSpec",
    "Result",
    "ShiftedgeError",
    "StateSpec",
    "Stream",
    "__version__",
    "load",
]
