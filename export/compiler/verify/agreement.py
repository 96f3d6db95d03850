"""The compiled step against its reference over a stream: logits, every state, every thread count.

The library is loaded through the same engine that users load it with, and given the camera's bytes.
Of a float32 model the reference is ONNX Runtime, given the frames that numpy normalised; so the
comparison covers the normalisation inside the first kernel, the states' places in the block, and
the split of the work over threads. Of a quantised model it is ``integer.IntegerReference``, whose
codes compiled code must have one and all; in bf16 it is ``bf16_reference.HalfReference``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from shiftedge.export.compiler.graph.graph import Activate, Graph, Quantize
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.kernel import BF16
from shiftedge.export.compiler.kernel_ir.layout import Layout
from shiftedge.export.compiler.numerics.bf16 import numbers_of
from shiftedge.export.compiler.verify.bf16_reference import Bf16Reference
from shiftedge.export.compiler.verify.integer import Int8Reference
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.manifest import SelfTest
from shiftedge.runtime.selftest import self_test_clip
from shiftedge.runtime.spec import ModelSpec

__all__ = [
    "HEADER_BYTES",
    "bf16_outputs",
    "check",
    "check_bf16",
    "check_int8",
    "check_self_test",
    "int8_tolerance",
    "integer_outputs",
    "native_outputs",
    "states_of",
]

HEADER_BYTES = 64
"""Of a state block, before the states: shiftedge_state_header in program.h."""

FLIPPED = 0.3
"""Largest accepted difference of codes and logits, relative to the largest, of a model some of
whose codes are rounded from float32 sums. Those are summed in another order, and one that lies on
the border between two codes takes the other; the layers behind it hand that on. Of an untrained
MobileNetV2 of 64x32 pixels, whose first layer's weights were changed by 3e-6 of themselves, no code
differed over 8 frames; changed by 3e-5, codes by 0.05 and logits by 0.27."""


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
    """Compare a compiled library with the float32 ONNX file it was made from.

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
    ours = _on_all_threads(library, images, step, places)
    rows = compare("ONNX Runtime / compiled", expected, ours, tolerance=tolerance)
    return Report(frames, tolerance, tuple(rows))


def check_int8(
    library: Path,
    images: NDArray[np.uint8],
    expected: Sequence[Outputs],
    step: Step,
    places: Layout,
    *,
    tolerance: float,
) -> tuple[Report, list[Outputs]]:
    """Compare a library of a quantised model with what numpy's integers made of the same frames.

    Args:
        library: libmodel.so.
        images: uint8 (frames, height, width, 3), BGR, of the model's size.
        expected: of :func:`integer_outputs`.
        step: that was compiled.
        places: where the states lie in the block.
        tolerance: of codes, relative to the largest; 0 is bit for bit. Numbers have at least
            ``agreement.TOLERANCE``, since a float32 sum depends on its order.

    Returns:
        The report, in which a state of codes is compared as codes, and what the library gave.

    Raises:
        VerificationError: as for :func:`check`.
    """
    forms = "integers in numpy / compiled"
    ours = _on_all_threads(library, images, step, places)
    quantized = {f"next_state_{i}" for i, each in enumerate(step.quantization) if each is not None}
    loose = max(tolerance, TOLERANCE)
    rows = compare(forms, _only(expected, quantized), _only(ours, quantized), tolerance=tolerance)
    rest = set(expected[0]) - quantized
    rows += compare(forms, _only(expected, rest), _only(ours, rest), tolerance=loose)
    return Report(len(images), loose, tuple(rows)), ours


def check_bf16(
    library: Path,
    images: NDArray[np.uint8],
    expected: Sequence[Outputs],
    step: Step,
    places: Layout,
    *,
    accepted: Mapping[str, float],
) -> Report:
    """Compare a library in bf16 with what numpy made of the same frames.

    Args:
        library: libmodel.so.
        images: uint8 (frames, height, width, 3), BGR, of the model's size.
        expected: of :func:`bf16_outputs`.
        step: that was compiled.
        places: where the states lie in the block.
        accepted: of each tensor, relative to its largest value.

    Raises:
        VerificationError: as for :func:`check`.
    """
    ours = _on_all_threads(library, images, step, places)
    rows = []
    for name, tolerance in accepted.items():
        pair = _only(expected, {name}), _only(ours, {name})
        rows += compare("bf16 in numpy / compiled", *pair, tolerance=tolerance)
    rows.sort(key=lambda row: -row.worst / max(row.scale, 1e-6))
    return Report(len(images), max(accepted.values()), tuple(rows))


def bf16_outputs(reference: Bf16Reference, images: NDArray[np.uint8]) -> Iterator[Outputs]:
    """Logits and states frame by frame from numpy's bfloat16, of a fresh reference."""
    for image in images:
        logits = reference.step(image)
        yield named_outputs(logits[None], [_map(state) for state in reference.states])


def int8_tolerance(graph: Graph) -> float:
    """What :func:`check_int8` may accept of codes: 0, unless a sum of float32 is rounded to
    them, or an activation that no two processors compute alike."""
    rounded = any(isinstance(operator, Quantize) for operator in graph.operators)
    curved = any(
        isinstance(operator, Activate) and not operator.kind.value.exact
        for operator in graph.operators
    )
    return FLIPPED if rounded or curved else 0.0


def integer_outputs(graph: Graph, spec: ModelSpec, images: NDArray[np.uint8]) -> Iterator[Outputs]:
    """Logits and states frame by frame from numpy's integers; of a state of codes, the codes as
    float32 numbers."""
    reference = Int8Reference(graph, spec)
    for image in images:
        found = reference.step(image)
        yield named_outputs(found.logits[None], [_map(state) for state in found.states])


def check_self_test(library: Path, spec: ModelSpec, test: SelfTest) -> None:
    """See to it that a library passes the self-test that is recorded for it.

    Args:
        library: libmodel.so, for this machine.
        spec: of the model.
        test: as the manifest has it.

    Raises:
        VerificationError: it would fail.
    """
    session = NativeEngine(library, threads=1).open_session()
    images = self_test_clip(spec.height, spec.width, len(test.logits))
    expected = [{"logits": np.array([row], np.float32)} for row in test.logits]
    ours = [{"logits": session.step(image)[None]} for image in images]
    rows = compare("reference / self-test", expected, ours, tolerance=test.tolerance)
    Report(len(ours), test.tolerance, tuple(rows)).require_passed()


def native_outputs(
    library: Path, images: NDArray[np.uint8], step: Step, places: Layout, *, threads: int
) -> Iterator[Outputs]:
    """Logits and states frame by frame from a library; of a state of codes, the codes as float32
    numbers.

    More threads than cores are really started: it is the split of the work that is tested.
    """
    engine = NativeEngine(library, threads=threads, oversubscribe=True)
    session = engine.open_session()
    for image in images:
        logits = session.step(image)
        block = np.frombuffer(session.save(), np.uint8)[HEADER_BYTES:]
        yield named_outputs(logits[None], states_of(block, step, places))


def states_of(block: NDArray[np.uint8], step: Step, places: Layout) -> list[NDArray[np.float32]]:
    """The states in a block's bytes after its header, as the ONNX contract has them.

    Returns:
        Each (1, channels, height, width): numbers, or of a state of codes the codes.
    """
    return [_state(block, number, step, places) for number in range(len(step.states))]


def _on_all_threads(
    library: Path, images: NDArray[np.uint8], step: Step, places: Layout
) -> list[Outputs]:
    """What one thread gives, and others to the bit."""
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
    return reference


def _only(outputs: Sequence[Outputs], names: set[str]) -> list[Outputs]:
    return [{name: each[name] for name in each if name in names} for each in outputs]


def _state(
    block: NDArray[np.uint8], number: int, step: Step, places: Layout
) -> NDArray[np.float32]:
    buffer, quantization, offset = (
        step.state_buffer(number),
        step.quantization[number],
        places.states[number],
    )
    size = buffer.size * np.dtype(buffer.dtype).itemsize
    values = block[offset : offset + size].view(buffer.dtype).reshape(step.states[number])
    if values.dtype == BF16:
        values = numbers_of(values)
    elif quantization is not None:
        # Whatever the type, it holds the code less the code of 0, cut to its width.
        values = (values.astype(np.int32) + quantization.zero_point) & 255
    return _map(values)


def _map(values: NDArray[Any]) -> NDArray[np.float32]:
    """(height, width, channels) to float32 (1, channels, height, width)."""
    return np.ascontiguousarray(values.astype(np.float32).transpose(2, 0, 1))[None]
