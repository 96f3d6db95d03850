"""The compiled step against its reference over a stream: logits, every state, every thread count.

The library is loaded through the same engine that users load it with, and given the camera's bytes.
Of a float32 model the reference is ONNX Runtime, given the frames that numpy normalised; so the
comparison covers the normalisation inside the first kernel, the states' places in the block, and
the split of the work over threads. Of a quantised model it is ``evaluate.Evaluator``, whose
quantised values compiled code must have one and all; of narrower floats the kernels themselves,
run by ``kernel_ir.interpret``, once :func:`check_kernels` has shown that they are the graph's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import AgreementReport, Outputs, compare, named_outputs
from shiftedge.export.compiler.graph.graph import Activate, Conv, Graph, Quantize
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.interpret import Interpreter
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.export.compiler.numerics.precision import INT8, NARROW
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.manifest import SelfTest
from shiftedge.runtime.selftest import self_test_clip
from shiftedge.runtime.spec import ModelSpec

HEADER_BYTES = 64
"""Of a state block, before the states: shiftedge_state_header in program.h."""

FLIPPED = 0.3
"""Largest accepted difference of quantised values and logits, relative to the largest, of a model
some of whose values are rounded from float32 sums. Those are summed in another order, and one that
lies on the border between two steps takes the other; the layers behind it hand that on. Of an
untrained MobileNetV2 of 64x32 pixels, whose first layer's weights were changed by 3e-6 of
themselves, no value differed over 8 frames; changed by 3e-5, values by 0.05 and logits by 0.27."""

KERNELS = 1e-5
"""Largest accepted difference of a step that rounds nothing from its graph, relative to a tensor's
largest value: constants are float32."""


def check(
    library: Path,
    images: NDArray[np.uint8],
    expected: Sequence[Outputs],
    step: Step,
    places: MemoryLayout,
    *,
    reference: str,
    accepted: Mapping[str, float],
) -> tuple[AgreementReport, list[Outputs]]:
    """Compare a libmodel.so with what its reference gives, frame by frame.

    Args:
        images: uint8 (frames, height, width, 3), BGR, of the model's size.
        accepted: difference of each tensor, relative to its largest value; 0 is bit for bit.

    Returns:
        The report, in which a quantised state is compared as such, and what the library gave.

    Raises:
        VerificationError: an output is not finite, or depends on the number of threads. A
            difference past what is accepted is in the report instead.
    """
    ours = _on_all_threads(library, images, step, places)
    forms = f"{reference} / compiled"
    return compared(forms, expected, ours, accepted), ours


def check_kernels(
    graph: Graph,
    spec: ModelSpec,
    step: Step,
    images: NDArray[np.uint8],
    weight: Callable[[Conv], NDArray[Any]],
) -> None:
    """See to it that the kernels of a float32 model's step, run without rounding, compute what its
    graph says, with each convolution's ``weight`` as its kernel multiplies it.

    Raises:
        VerificationError: they differ.
    """
    evaluator, interpreter = Evaluator(graph, spec, weight=weight), Interpreter(step, exact=True)
    pairs = []
    for image in images:
        made, logits = evaluator.step(image), interpreter.step(image).logits
        theirs = named_outputs(made.logits[None], list(map(_map, made.states)))
        pairs.append((theirs, named_outputs(logits[None], _states(interpreter, step))))
    expected, ours = zip(*pairs, strict=True)
    accepted = dict.fromkeys(expected[0], KERNELS)
    compared("the graph / its kernels", expected, ours, accepted).require_passed()


def evaluated_outputs(
    graph: Graph, spec: ModelSpec, images: NDArray[np.uint8]
) -> Iterator[Outputs]:
    """Logits and states frame by frame from the graph; a quantised state's own values, as
    float32."""
    evaluator = Evaluator(graph, spec, INT8)
    for image in images:
        found = evaluator.step(image)
        yield named_outputs(_float32(found.logits)[None], list(map(_map, found.states)))


def interpreted_outputs(
    step: Step, images: NDArray[np.uint8], execute: Callable[..., object] | None = None
) -> Iterator[Outputs]:
    """The same from the kernels of a step; ``execute`` runs each, if not the interpreter."""
    interpreter = Interpreter(step, execute=execute)
    for image in images:
        logits = interpreter.step(image).logits
        yield named_outputs(logits[None], _states(interpreter, step))


def quantized_tolerance(graph: Graph) -> float:
    """What may be accepted of quantised values: 0, unless a sum of float32 is rounded to them, or
    an activation that no two processors compute alike."""
    rounded = any(isinstance(operator, Quantize) for operator in graph.operators)
    return FLIPPED if rounded or not exact_activations(graph) else 0.0


def exact_activations(graph: Graph) -> bool:
    """Whether every processor computes its activations alike."""
    return all(
        operator.kind.value.exact for operator in graph.operators if isinstance(operator, Activate)
    )


def check_self_test(library: Path, spec: ModelSpec, test: SelfTest) -> None:
    """See to it that a libmodel.so for this machine passes the self-test that the manifest records.

    Raises:
        VerificationError: it would fail.
    """
    session = NativeEngine(library, threads=1).open_session()
    images = self_test_clip(spec.height, spec.width, len(test.logits))
    expected = [{"logits": np.array([row], np.float32)} for row in test.logits]
    ours = [{"logits": session.step(image)[None]} for image in images]
    rows = compare("reference / self-test", expected, ours, tolerance=test.tolerance)
    AgreementReport(len(ours), test.tolerance, tuple(rows)).require_passed()


def native_outputs(
    library: Path, images: NDArray[np.uint8], step: Step, places: MemoryLayout, *, threads: int
) -> Iterator[Outputs]:
    """Logits and states frame by frame from a library, a quantised state as
    :func:`evaluated_outputs` has it.

    More threads than cores are really started: it is the split of the work that is tested.
    """
    engine = NativeEngine(library, threads=threads, oversubscribe=True)
    session = engine.open_session()
    for image in images:
        logits = session.step(image)
        block = np.frombuffer(session.save(), np.uint8)[HEADER_BYTES:]
        yield named_outputs(logits[None], states_of(block, step, places))


def states_of(
    block: NDArray[np.uint8], step: Step, places: MemoryLayout
) -> list[NDArray[np.float32]]:
    """The states in a block's bytes after its header, as the ONNX contract has them.

    Returns:
        Each (1, channels, height, width): numbers, or quantised values.
    """
    states = []
    for number, offset in enumerate(places.states):
        buffer = step.state_buffer(number)
        values = np.frombuffer(block, buffer.dtype, buffer.size, offset)
        narrow = NARROW.get(buffer.dtype)
        states.append(_state(narrow.numbers(values) if narrow else values, number, step))
    return states


def _on_all_threads(
    library: Path, images: NDArray[np.uint8], step: Step, places: MemoryLayout
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


def compared(
    forms: str, expected: Sequence[Outputs], ours: Sequence[Outputs], accepted: Mapping[str, float]
) -> AgreementReport:
    """The comparisons of each tensor, the worst first; ``accepted`` is of each, relative to its
    largest value."""
    rows = []
    for name, tolerance in accepted.items():
        pair = ([{name: each[name]} for each in outputs] for outputs in (expected, ours))
        rows += compare(forms, *pair, tolerance=tolerance)
    rows.sort(key=lambda row: -row.worst / max(row.scale, 1e-6))
    return AgreementReport(len(ours), max(accepted.values()), tuple(rows))


def _states(interpreter: Interpreter, step: Step) -> list[NDArray[np.float32]]:
    sizes = [step.state_buffer(number).size for number in range(len(step.states))]
    found = zip(interpreter.states, sizes, strict=True)
    return [_state(state[:size], number, step) for number, (state, size) in enumerate(found)]


def _state(values: NDArray[Any], number: int, step: Step) -> NDArray[np.float32]:
    """A state as it is stored, narrow floats as numbers."""
    quantization = step.quantization[number]
    if quantization is not None:
        # Whatever the type, it holds a value less the zero point, cut to its width.
        values = (values.astype(np.int32) + quantization.zero_point) & 255
    return _map(values.reshape(step.states[number]))


def _map(values: NDArray[Any]) -> NDArray[np.float32]:
    """(height, width, channels) to float32 (1, channels, height, width)."""
    return np.ascontiguousarray(_float32(values).transpose(2, 0, 1))[None]


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32)
