"""A model as a program of ours runs it: uint8 frame in, logits out; compiled, or as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import (
    BF16_TOLERANCE,
    FP16_TOLERANCE,
    INT8_TOLERANCE,
    Array,
    Contender,
)
from shiftedge.runtime.engines.base import Engine
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.loading import load
from shiftedge.runtime.spec import ModelSpec


class NativeContender(Contender):
    """A bundle's folder, or a ``libmodel.so`` by itself. The timed step is one call of
    ``EngineSession.step``, the normalisation, ctypes and a new array for the logits included.

    Of a bundle of several precisions the variant of the model's own is taken, so that it meets
    what runs the same file. Its int8 is compared as loosely as a peer's: the reference rounds where
    we do not, and that its values are right, compiling has shown."""

    engine = "native"
    """Of the runtime."""
    wanted: str | None = None
    """The precision of the variant, where it is not the model's own."""
    device = "cpu"
    """What a bundle's variant runs on."""
    normalises = True
    packages: tuple[str, ...] = ("shiftedge",)

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        wanted = self.wanted or (None if spec is None else spec.precision)
        engine: Engine
        if path.suffix == ".so":
            engine = NativeEngine(path, threads=threads)
        else:
            engine = load(
                path, engine=self.engine, threads=threads, precision=wanted, device=self.device
            ).engine
        self._path = path
        self._engine = engine
        self.version = engine.version
        self.spec = engine.spec
        self.precision = self.spec.precision
        if self.precision == "int8":
            self.tolerance = INT8_TOLERANCE
        self.settings = {"threads": getattr(engine, "threads", threads)}
        self._session = engine.open_session()
        self._image = np.zeros((self.spec.height, self.spec.width, 3), np.uint8)
        self._logits = np.zeros(self.spec.classes, np.float32)

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: a copy, so that the frame is as fresh as the peers'."""
        np.copyto(self._image, image)

    def step(self) -> None:
        self._logits = self._session.step(self._image)

    def logits(self) -> Array:
        return self._logits

    def states(self) -> None:
        """The block's layout is the compiled model's own."""
        return

    def reset(self) -> None:
        self._session.reset()

    def another(self) -> NativeContender:
        """See :meth:`Contender.another`: the library is mapped once, its workspace and threads are
        per stream, since steps of one open model take turns."""
        return type(self)(self._path, self.settings["threads"], self.spec)

    def kernel_seconds(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
        if not isinstance(self._engine, NativeEngine):
            return super().kernel_seconds(images)
        found = []
        with self._engine.profiled() as seconds:
            for image in images:
                self._session.step(image)
                found.append(seconds.copy())
        medians = np.median(found[len(found) // 2 :], axis=0)
        return dict(zip(self._engine.kernels, medians.tolist(), strict=True))


class NativeBf16Contender(NativeContender):
    """Of a bundle that holds bfloat16, beside the float32 variant in the same run; its row meets
    peers in bfloat16 only."""

    wanted = "bf16"
    tolerance = BF16_TOLERANCE


class NativeCudaContender(NativeContender):
    """Of a bundle with code for a GPU of this machine; frame, states and logits cross over to it
    and back within the timed step, as in a program of ours."""

    device = "cuda"

    def kernel_seconds(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
        raise ModelError("Of kernels on a GPU there is no roofline here yet.")


class NativeCudaHalfContender(NativeCudaContender):
    """Of a bundle with code of half precision for that GPU; its row meets peers in that only."""

    wanted = "fp16"
    tolerance = FP16_TOLERANCE


class StreamContender(NativeContender):
    """The runtime's own engine for .onnx files: what it adds to a bare session, with its checks and
    its normalisation, is what it takes longer than ``onnxruntime``."""

    engine = "onnxruntime"
    packages = ("shiftedge", "onnxruntime")
