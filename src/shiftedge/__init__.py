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

# First of all: packages read these switches when they are imported, child processes inherit them.
from shiftedge.runtime.telemetry import switch_off

switch_off()

from shiftedge.runtime import (  # noqa: E402
    DecoderSettings,
    GestureDecoder,
    GestureEvent,
    LiveStream,
    Model,
    ModelSpec,
    Result,
    ShiftedgeError,
    StateSpec,
    Stream,
    load,
)

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
