"""A loaded model and its streams, stepped one camera frame at a time."""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.engines.base import Engine
from shiftedge.runtime.errors import (
    FrameError,
    ModelError,
    NumericsError,
    ShiftedgeError,
    SnapshotError,
)
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.spec import ModelSpec
from shiftedge.runtime.words import shown

GROUP_MOST = 256
"""Streams of a group."""

SNAPSHOT_MAGIC = b"SEst"
SNAPSHOT_VERSION = 1
SNAPSHOT_HEADER = struct.Struct("<4sHH16sIIQII")
"""Little-endian: magic, version, bytes of this header, first 16 bytes of the model's digest, CRC-32
of the layout (engine, states), bytes of the states, frames fed, CRC-32 of the states, CRC-32 of
the header before it."""


def checked_model(model: object) -> Model:
    """``model``, if it is one.

    Raises:
        ModelError: it is something else, such as a model's path or its spec.
    """
    if not isinstance(model, Model):
        raise ModelError(
            f"The stream was given {shown(model)}; expected a Model, such as shiftedge.load(path)."
        )
    return model


class Model:
    """One loaded model. Opens any number of streams, which may step in different threads.

    Raises:
        ModelError: ``engine`` is none; models are loaded with :func:`load`.
    """

    def __init__(self, engine: Engine, device: str = "cpu") -> None:
        if not isinstance(engine, Engine):
            raise ModelError(
                f"The model was given {shown(engine)}; expected an engine: load models with "
                "shiftedge.load(path)."
            )
        self.engine = engine
        self.device = device
        """What a bundle's variant runs on, "cpu" or "cuda"; of a file see its providers."""
        self.spec: ModelSpec = engine.spec
        self.preprocessor = Preprocessor(self.spec)

    def stream(self) -> Stream:
        """A new stream with empty states."""
        return Stream(self)

    def stream_group(self, count: int) -> StreamGroup:
        """That many new streams, stepped by one call.

        Raises:
            ModelError: ``count`` is no whole number from 1 to :data:`GROUP_MOST`.
        """
        return StreamGroup(self, count)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Model holds a library of this process, so it cannot be copied or sent to another: "
            "call shiftedge.load() in each process."
        )

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"Model({spec.name!r}, engine={self.engine.name!r}, classes={spec.classes}, "
            f"frame={spec.height}x{spec.width}, states={len(spec.states)})"
        )


class Stream:
    """One camera's way through a model: owns the states. Used by one thread at a time.

    A second thread that calls in while the first is inside gets a :class:`ShiftedgeError`, and the
    states stay whole.

    Raises:
        ModelError: ``model`` is none.
    """

    def __init__(self, model: Model) -> None:
        checked_model(model)
        self._model = model
        self._session = model.engine.open_session()
        self._fit = model.preprocessor.fit
        self._frames = 0
        self._alone = _Alone()
        states = ",".join(f"{state.name}{list(state.shape)}" for state in model.spec.states)
        self._layout = zlib.crc32(f"{model.engine.name};{states}".encode())

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Stream holds states of this process, so it cannot be copied or sent to another: "
            "open one there with model.stream() and restore() what snapshot() gave here."
        )

    @property
    def model(self) -> Model:
        """The model that this stream steps."""
        return self._model

    @property
    def frames(self) -> int:
        """Frames fed since the states were last empty."""
        return self._frames

    @property
    def warm(self) -> int:
        """Frames still needed until predictions no longer see the empty start; 0 is warm."""
        return max(0, self._model.spec.receptive_field - self._frames)

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Feed the next frame.

        Args:
            frame: uint8, shape (any height, any width, 3), BGR.

        Returns:
            Logits, float32, shape (classes,).

        Raises:
            FrameError: not such a frame; the states are as before.
            ModelError: the engine failed; the states are as before.
            NumericsError: the logits are not finite; the states have been emptied, so that the
                next frame begins anew.
        """
        return self.step_fitted(self._fit(frame))

    def step_fitted(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """:meth:`step` for who has fitted the frame already, by ``model.preprocessor.fit``."""
        with self._alone:
            logits = self._session.step(frame)
            if not np.isfinite(logits).all():
                self._empty()
                raise _not_finite(self._model, "its states")
            self._frames += 1
            return logits

    def reset(self) -> None:
        """Empty the states, as in a new stream."""
        with self._alone:
            self._empty()

    def states(self) -> list[NDArray[np.float32]] | None:
        """What the states stand for, one array (1, channels, height, width) each in the spec's
        order, to be looked at; None where the engine lays them out in its own way."""
        with self._alone:
            found = self._session.states()
        if found is None:
            return None
        return [
            spec.numbers(state) for spec, state in zip(self._model.spec.states, found, strict=True)
        ]

    def snapshot(self) -> bytes:
        """The states and the frame count as one block, for :meth:`restore`, here or elsewhere."""
        with self._alone:
            block, frames = self._session.save(), self._frames
        kind = SNAPSHOT_MAGIC, SNAPSHOT_VERSION, SNAPSHOT_HEADER.size
        origin = self._model.engine.digest[:16], self._layout
        header = SNAPSHOT_HEADER.pack(*kind, *origin, len(block), frames, zlib.crc32(block), 0)[:-4]
        return header + struct.pack("<I", zlib.crc32(header)) + block

    def restore(self, snapshot: bytes) -> None:
        """Continue from a snapshot that the same model and engine made.

        Raises:
            SnapshotError: damaged, from another model or engine, or from a newer version; the
                states are as before.
        """
        frames, block = self._parse(snapshot)
        with self._alone:
            expected = len(self._session.save())
            if len(block) != expected:
                raise SnapshotError(
                    f"The snapshot holds {len(block)} bytes of states; expected {expected}."
                )
            self._session.load(block)
            self._frames = frames

    def _parse(self, snapshot: bytes) -> tuple[int, bytes]:
        if not isinstance(snapshot, (bytes, bytearray, memoryview)):
            raise SnapshotError(
                f"The snapshot is a {type(snapshot).__name__}; expected bytes from snapshot()."
            )
        snapshot = bytes(snapshot)
        size = SNAPSHOT_HEADER.size
        if snapshot[:4] != SNAPSHOT_MAGIC or len(snapshot) < size:
            raise SnapshotError(
                f"These {len(snapshot)} bytes are not a snapshot; expected what snapshot() gave."
            )
        fields = SNAPSHOT_HEADER.unpack_from(snapshot)
        _, version, header_size, digest, layout, block_size, frames, block_sum, header_sum = fields
        if version != SNAPSHOT_VERSION:
            raise SnapshotError(
                f"The snapshot has version {version}, and this shiftedge reads "
                f"{SNAPSHOT_VERSION}: take a new one."
            )
        if header_size != size or header_sum != zlib.crc32(snapshot[: size - 4]):
            raise SnapshotError("The snapshot's header is damaged; take a new one.")
        if digest != self._model.engine.digest[:16]:
            raise SnapshotError(
                "The snapshot is of another model; restore it into the model that made it."
            )
        if layout != self._layout:
            raise SnapshotError(
                "The snapshot was made by another engine; restore it with the engine that made it "
                f"(this one is {self._model.engine.name})."
            )
        block = snapshot[size:]
        if len(block) != block_size or zlib.crc32(block) != block_sum:
            raise SnapshotError(
                f"The snapshot is damaged or cut short: {len(block)} bytes of states, expected "
                f"{block_size}; take a new one."
            )
        return frames, block

    def _empty(self) -> None:
        self._session.reset()
        self._frames = 0


class StreamGroup:
    """Several streams of a model that one call steps, a frame each: cameras that are looked at
    together. What each sees is what it would see alone, bit for bit.

    ``streams`` are ordinary ones: each can be reset, looked at, kept and restored by itself between
    the steps. Compiled for processors or for GPUs, and by ONNX Runtime, the frames of a step are
    computed one after the other, each with all threads of the model.

    Raises:
        ModelError: ``model`` is none, or ``count`` no whole number from 1 to :data:`GROUP_MOST`.
    """

    def __init__(self, model: Model, count: int) -> None:
        checked_model(model)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= GROUP_MOST:
            raise ModelError(
                f"The group was given {shown(count)} streams; expected a whole number from 1 to "
                f"{GROUP_MOST}."
            )
        self._model = model
        self.streams = tuple(Stream(model) for _ in range(count))

    @property
    def model(self) -> Model:
        """The model that the streams step."""
        return self._model

    def __len__(self) -> int:
        return len(self.streams)

    def step(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Feed the next frame of every stream.

        Args:
            frames: one for each stream, as :meth:`Stream.step` takes it; their sizes may differ.

        Returns:
            Logits, float32, shape (streams, classes).

        Raises:
            FrameError: not so many, or one is no such frame; all states are as before.
            ModelError: the engine failed; all states are as before.
            NumericsError: the logits of a stream are not finite; its states have been emptied, and
                those of the others are as before.
            ShiftedgeError: another thread uses one of the streams; all states are as before.
        """
        if not isinstance(frames, (Sequence, np.ndarray)) or len(frames) != len(self):
            count = len(frames) if isinstance(frames, (Sequence, np.ndarray)) else shown(frames)
            raise FrameError(f"The group was given {count} frames; expected {len(self)}.")
        images = []
        for number, frame in enumerate(frames):
            try:
                images.append(self._model.preprocessor.fit(frame))
            except FrameError as error:  # noqa: PERF203 - a frame's fit takes far longer
                raise FrameError(f"Frame {number} of the group: {error}") from error
        with contextlib.ExitStack() as held:
            for stream in self.streams:
                held.enter_context(stream._alone)
            return self._step(images)

    def _step(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        sessions = [stream._session for stream in self.streams]
        before = [session.save() for session in sessions]
        broken: list[int] = []
        try:
            logits = self._model.engine.step_group(sessions, images)
            broken = np.flatnonzero(~np.isfinite(logits).all(axis=1)).tolist()
            if broken:
                of = f"the states of stream {', '.join(map(str, broken))} of the group"
                raise _not_finite(self._model, of)
        except BaseException:
            for number, (session, block) in enumerate(zip(sessions, before, strict=True)):
                session.load(block)
                if number in broken:
                    self.streams[number]._empty()
            raise
        for stream in self.streams:
            stream._frames += 1
        return logits

    def reset(self) -> None:
        """Empty the states of every stream."""
        for stream in self.streams:
            stream.reset()


def _not_finite(model: Model, states: str) -> NumericsError:
    return NumericsError(
        f"The model {model.spec.name} gave logits that are not finite; {states} were emptied so "
        "that the next frame starts anew. If it happens again, check the weights with `shiftedge "
        "export`."
    )


class _Alone:
    """A lock that nobody waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise ShiftedgeError(
                "This stream is in use by another thread; open one stream per thread with "
                "model.stream()."
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()
