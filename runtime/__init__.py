"""What runs on the board: load a model, step a stream, decode gestures. Needs numpy alone."""

from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.decode import GestureDecoder, GestureEvent
from shiftedge.runtime.live.stream import LiveStream, Result
from shiftedge.runtime.model import Model, Stream, load
from shiftedge.runtime.spec import DecoderSettings, ModelSpec, StateSpec

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
    "load",
]
