"""The compiled step against ONNX Runtime, over a stream: logits, every state, every thread count.

The library is loaded through the same engine that users load it with, and given the camera's bytes;
ONNX Runtime is given the frames that numpy normalised. So the comparison covers the normalisation
inside the first kernel, the states' places in the block, and the split of the work over threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import (
    FRAMES,
    TOLERANCE,
    Outputs,
    Report,
    compare,
    moving_images,
    named_outputs,
    normalised,
    onnx_outputs,
)
from shiftedge.export.compiler.calls import Step
from shiftedge.export.compiler.program import Layout
from shiftedge.runtime.bundle import SelfTest
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.selftest import CLIP, self_test_clip
from shiftedge.runtime.spec import ModelSpec

__all__ = ["HEADER_BYTES", "check", "check_self_test", "native_outputs", "record_self_test"]

HEADER_BYTES = 64
"""Of a state block, before the states: shiftedge_state_header in program.h."""


def check(
    library: Path,
    model: bytes,
    spec: ModelSpec,
    step: Step,
    places: Layout,
    *,
    frames: int = FRAMES,
    tolerance: float = TOLERANCE,
) -> Report:
    """Compare a compiled library with the ONNX file it was made from.

    Args:
        library: libmodel.so.
        model: the serialised ONNX model.
        spec: of the model.
        step: that was compiled, for the shapes of its states.
        places: where the states lie in the block.
        frames: length of the stream.
        tolerance: of a difference, relative to the tensor's largest value.

    Raises:
        VerificationError: an output is not finite, or depends on the number of threads. A
            difference past the tolerance is in the report instead.
    """
    images = moving_images(spec, frames)
    expected = list(onnx_outputs(model, spec, normalised(images, spec)))
    reference = list(native_outputs(library, images, step, places, threads=1))
    for threads in (2, 3):
        other = native_outputs(library, images, step, places, threads=threads)
        for index, (ours, theirs) in enumerate(zip(reference, other, strict=True)):
            for name, value in ours.items():
                if value.tobytes() != theirs[name].tobytes():
                    raise VerificationError(
                        f"{name} of the compiled model differs between 1 and {threads} threads at "
                        f"frame {index}: an error in a schedule; please report it."
                    )
    rows = compare("ONNX Runtime / compiled", expected, reference, tolerance=tolerance)
    return Report(frames, tolerance, tuple(rows))


def record_self_test(model: bytes, spec: ModelSpec, *, tolerance: float = TOLERANCE) -> SelfTest:
    """What ONNX Runtime makes of the self-test's clip, for the manifest.

    Args:
        model: the serialised ONNX model.
        spec: of the model.
        tolerance: for the board, relative to the largest magnitude of all logits.

    Raises:
        VerificationError: a logit is not finite.
    """
    images = self_test_clip(spec.height, spec.width)
    rows = []
    for index, outputs in enumerate(onnx_outputs(model, spec, normalised(images, spec))):
        logits = outputs["logits"][0]
        if not np.isfinite(logits).all():
            raise VerificationError(
                f"ONNX Runtime: logits hold NaN or infinity at frame {index} of the self-test's "
                "clip; the weights are damaged or overflow."
            )
        # The shortest decimals that are this float32 again.
        rows.append(tuple(float(str(value)) for value in logits))
    return SelfTest(CLIP, tolerance, tuple(rows))


def check_self_test(library: Path, spec: ModelSpec, test: SelfTest) -> None:
    """See to it that a library passes the self-test that is recorded for it.

    Args:
        library: libmodel.so, for this machine.
        spec: of the model.
        test: from :func:`record_self_test`.

    Raises:
        VerificationError: it would fail.
    """
    session = NativeEngine(library, threads=1).open_session()
    images = self_test_clip(spec.height, spec.width, len(test.logits))
    expected = [{"logits": np.array([row], np.float32)} for row in test.logits]
    ours = [{"logits": session.step(image)[None]} for image in images]
    forms = "ONNX Runtime / self-test"
    rows = compare(forms, expected, ours, tolerance=test.tolerance)
    Report(len(ours), test.tolerance, tuple(rows)).require_passed()


def native_outputs(
    library: Path, images: NDArray[np.uint8], step: Step, places: Layout, *, threads: int
) -> Iterator[Outputs]:
    """Logits and states frame by frame from a library.

    More threads than cores are really started: it is the split of the work that is tested.
    """
    engine = NativeEngine(library, threads=threads, oversubscribe=True)
    session = engine.open_session()
    for image in images:
        logits = session.step(image)
        block = np.frombuffer(session.save(), np.uint8)[HEADER_BYTES:]
        states = [
            _state(block, offset, shape)
            for offset, shape in zip(places.states, step.states, strict=True)
        ]
        yield named_outputs(logits[None], states)


def _state(block: NDArray[np.uint8], offset: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A state as the ONNX contract has it, (1, channels, height, width)."""
    size = 4 * int(np.prod(shape))
    values = block[offset : offset + size].view(np.float32).reshape(shape)
    return np.ascontiguousarray(values.transpose(2, 0, 1))[None]
