"""live.h of a library through ctypes, and the spec that shiftedge.h gives."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESETS = (None, "gap", "clock", "cut")
FORMATS = ("bgr24", "rgb24", "bgrx", "rgbx", "gray", "yuv420p", "nv12")
FULL_RANGE, ONE_SCENE = 1, 2


class LiveOptions(ctypes.Structure):
    """shiftedge_live_options."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("format", ctypes.c_uint32),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("stride_bytes", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    )


class Event(ctypes.Structure):
    """shiftedge_event."""

    _fields_ = (
        ("time_s", ctypes.c_double),
        ("start_s", ctypes.c_double),
        ("confidence", ctypes.c_double),
        ("index", ctypes.c_int32),
        ("label", ctypes.c_char_p),
    )


class Result(ctypes.Structure):
    """shiftedge_live_result."""

    _fields_ = (
        ("event", ctypes.POINTER(Event)),
        ("logits", ctypes.POINTER(ctypes.c_float)),
        ("steps", ctypes.c_int64),
        ("reset", ctypes.c_int32),
        ("fit_s", ctypes.c_double),
        ("step_s", ctypes.c_double),
    )


class Spec(ctypes.Structure):
    """shiftedge_spec."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("resize_short_side", ctypes.c_int32),
        ("classes", ctypes.c_int32),
        ("labels", ctypes.POINTER(ctypes.c_char_p)),
        ("silent", ctypes.POINTER(ctypes.c_ubyte)),
        ("frame_rate_hz", ctypes.c_double),
        ("max_gap_s", ctypes.c_double),
        ("decoder", ctypes.c_double * 5),
    )


class LiveLibrary:
    """One model of a library, for as many streams as are wanted."""

    def __init__(self, path: Path) -> None:
        library = self.library = ctypes.CDLL(str(path))
        pointer = ctypes.c_void_p
        library.shiftedge_last_error.restype = ctypes.c_char_p
        library.shiftedge_get_spec.restype = ctypes.POINTER(Spec)
        library.shiftedge_live_frame_bytes.restype = ctypes.c_size_t
        for name in ("frame_bytes", "reset", "close"):
            getattr(library, f"shiftedge_live_{name}").argtypes = [pointer]
        library.shiftedge_close.argtypes = [pointer]
        library.shiftedge_live_feed.argtypes = [pointer, ctypes.c_char_p, ctypes.c_double, pointer]
        self.model = pointer()
        assert library.shiftedge_open(None, ctypes.byref(self.model)) == 0, self.error()

    def error(self) -> str:
        return str(self.library.shiftedge_last_error().decode())

    @property
    def spec(self) -> dict[str, Any]:
        """What C is told of the model, under the names of ModelSpec."""
        spec = self.library.shiftedge_get_spec().contents
        labels = [spec.labels[i].decode() for i in range(spec.classes)]
        plain = ("height", "width", "resize_short_side", "frame_rate_hz", "max_gap_s")
        return {
            "name": spec.name.decode(),
            "precision": spec.precision.decode(),
            **{name: getattr(spec, name) for name in plain},
            "labels": tuple(labels),
            "silent_labels": tuple(
                label for label, silent in zip(labels, spec.silent[: len(labels)], strict=True)
                if silent
            ),
            "decoder": tuple(spec.decoder),
        }  # fmt: skip

    def try_open(self, **options: int) -> tuple[int, int | None]:
        """(status, handle)."""
        fields = {"size": ctypes.sizeof(LiveOptions), "width": 96, "height": 64, **options}
        handle = ctypes.c_void_p(1)
        status = self.library.shiftedge_live_open(
            self.model, ctypes.byref(LiveOptions(**fields)), ctypes.byref(handle)
        )
        return status, handle.value

    def stream(self, **options: int) -> LiveStream:
        status, handle = self.try_open(**options)
        assert status == 0, self.error()
        assert handle is not None
        return LiveStream(self, handle)

    def close(self) -> None:
        self.library.shiftedge_close(self.model)


class LiveStream:
    """shiftedge_live."""

    def __init__(self, owner: LiveLibrary, handle: int) -> None:
        self.owner, self.handle, self._library = owner, handle, owner.library
        self.frame_bytes: int = self._library.shiftedge_live_frame_bytes(handle)

    def try_feed(self, frame: bytes, time_s: float) -> tuple[int, Result | None]:
        """(status, result)."""
        assert len(frame) >= self.frame_bytes
        result = ctypes.POINTER(Result)()
        address = ctypes.byref(result)
        status = self._library.shiftedge_live_feed(self.handle, frame, time_s, address)
        return status, result.contents if result else None

    def feed(self, frame: NDArray[np.uint8] | bytes, time_s: float) -> dict[str, Any]:
        """What came of a frame, in Python's types."""
        data = frame if isinstance(frame, bytes) else frame.tobytes()
        status, result = self.try_feed(data, time_s)
        assert status == 0, self.owner.error()
        assert result is not None
        event = result.event.contents if result.event else None
        classes = self._library.shiftedge_get_spec().contents.classes
        return {
            "steps": result.steps,
            "reset": RESETS[result.reset],
            "logits": list(result.logits[:classes]) if result.logits else None,
            "event": event
            and (event.time_s, event.label.decode(), event.index, event.confidence, event.start_s),
        }

    def reset(self) -> None:
        self._library.shiftedge_live_reset(self.handle)

    def close(self) -> None:
        self._library.shiftedge_live_close(self.handle)
