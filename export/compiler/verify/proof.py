"""What is shown of a compiled model before its bundle is written, and what a board is to repeat.

Each precision has a reference of its own. Float32 code is held against ONNX Runtime. Quantised code
is held against the graph evaluated by numpy, bit for bit; ONNX Runtime rounds a quantised file in
more places than we do, so its run of the file is a looser check, that the file was read as it is
meant. Of narrower floats the reference is the interpreter, which rounds where the kernels do and
adds in their order, once the kernels are shown to be the graph's; ONNX Runtime says what the
rounding loses. Half precision loses so little that ONNX Runtime is its reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import (
    TOLERANCE,
    Outputs,
    compare,
    moving_images,
    normalised,
    onnx_outputs,
)
from shiftedge.export.compiler.backends.base import TargetVariant
from shiftedge.export.compiler.graph.fusion import InvertedResidualKernel, apart, fuse
from shiftedge.export.compiler.graph.graph import Conv, Graph, is_vector
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory, Step
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.export.compiler.numerics.bf16 import in_pairs
from shiftedge.export.compiler.numerics.precision import PRECISIONS, Precision
from shiftedge.export.compiler.sources import Source
from shiftedge.export.compiler.targets import backend_of, find_variant, runs_here
from shiftedge.export.compiler.verify.agreement import (
    check,
    check_kernels,
    check_self_test,
    compared,
    evaluated_outputs,
    exact_activations,
    interpreted_outputs,
    quantized_tolerance,
)
from shiftedge.export.compiler.verify.gpu.step import Beside, emulated
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.manifest import SelfTest
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.selftest import CLIP, self_test_clip
from shiftedge.runtime.spec import ModelSpec

UNVERIFIED: Mapping[str, Any] = {"verified": False, "reason": "left out when compiling"}
"""What a manifest says of a model that was not compared."""

ABSURD = 1.0
"""Of ONNX Runtime's own run of a quantised file: difference of a logit, relative to the largest,
past which the two are not one function. Its additional roundings make 0.04 of it over 32 frames of
a MobileNetV2 of 224x224 pixels, and 0.33 of an untrained one of 64x32, whose logits are nearly
noise. That every value is right is for the evaluated graph to say."""

FAITHFUL_FRAMES = 3
"""Over which a step is held against its graph without rounding: each state is read twice."""

HALF_FRAMES = 2
"""The same of half precision: each state is read once when it is not empty."""

HALF = 0.05
"""Largest accepted difference of half precision from float32, relative to a tensor's largest value.
A trained MobileNetV2 of 128x96 pixels loses some 2e-3."""

TARGETS_OWN = "the target's"
"""In a report, of the code that ran: not a stand-in's."""
EMULATED = "on the emulated GPU"
"""The same, of a variant for a GPU."""

Linker = Callable[[Step, MemoryLayout, ModelSpec, TargetVariant, Path], None]
"""Generates and links a library: ``compile.build_library``."""


def proof_of(source: Source, graph: Graph, step: Step) -> Proof:
    """The proof for a file, by the precision that it is compiled in; ``step`` is what was made of
    its graph for the first variant of that precision."""
    kinds = {"int8": QuantizedProof, "bf16": RoundedProof, "fp16": HalfProof}
    return kinds.get(source.precision, Proof)(source, graph, step)


class Proof:
    """A model's reference, computed once for all variants of its precision; of a float32 model ONNX
    Runtime, logits and states."""

    needs_plain = False
    """Whether only the plain lowering can be held against it to the bit, so that it is on every
    machine, also on one that runs the target's own code."""

    def __init__(self, source: Source, graph: Graph, step: Step) -> None:
        self._data, self._spec = source.data, source.spec
        self._graph, self._step = graph, step
        self._precision = PRECISIONS[source.precision]
        self._clip = self_test_clip(self._spec.height, self._spec.width)
        self._images = self._stream()
        self._expected = self._outputs(self._images)

    def self_test(self) -> SelfTest:
        """What a board is to compute, for the manifest.

        Raises:
            VerificationError: a logit is not finite.
        """
        outputs = self._expected if self._images is self._clip else self._outputs(self._clip)
        rows = []
        for index, each in enumerate(outputs):
            if not np.isfinite(each["logits"]).all():
                raise VerificationError(
                    f"{self._precision.reference}: logits hold NaN or infinity at frame {index} of "
                    "the self-test's clip; the weights are damaged or overflow."
                )
            # The shortest decimals that are this float32 again.
            rows.append(tuple(float(str(value)) for value in each["logits"][0]))
        return SelfTest(CLIP, self._accepted(plain=False)["logits"], tuple(rows))

    def emulated(self, step: Step, variant: TargetVariant) -> dict[str, Any]:
        """The report on the code of a variant for a GPU, run on the emulated one, over the first
        frames: each state is read twice.

        Raises:
            VerificationError: it differs from the reference, or the code has a fault.
        """
        images = self._images[:FAITHFUL_FRAMES]
        ours = list(interpreted_outputs(step, images, self._device(step, variant)))
        accepted = self._accepted(plain=False)
        report = compared(
            f"{self._precision.reference} / emulated", self._expected[: len(images)], ours, accepted
        )
        report.require_passed()
        words = self._words(ours, accepted, plain=False)
        return {**report.to_dict(), "reference": self._precision.reference, **words}

    def of(self, step: Step, places: MemoryLayout, library: Path, *, plain: bool) -> dict[str, Any]:
        """The report on a step's library for this machine, for the manifest; ``plain``: it was made
        without the target's own instructions.

        Raises:
            VerificationError: it differs from the reference.
        """
        accepted = self._accepted(plain=plain)
        report, ours = check(
            library, self._images, self._expected, step, places,
            reference=self._precision.reference, accepted=accepted,
        )  # fmt: skip
        report.require_passed()
        words = self._words(ours, accepted, plain=plain)
        return {**report.to_dict(), "reference": self._precision.reference, **words}

    def _device(self, step: Step, variant: TargetVariant) -> Callable[..., object]:
        """What runs a step's kernels as the variant's code."""
        return emulated(step.kernels, variant)

    def _stream(self) -> NDArray[np.uint8]:
        """What is compared."""
        return moving_images(self._spec, self._precision.frames)

    def _outputs(self, images: NDArray[np.uint8]) -> list[Outputs]:
        """Of the reference."""
        return self._onnx_outputs(images)

    def _onnx_outputs(self, images: NDArray[np.uint8]) -> list[Outputs]:
        return list(onnx_outputs(self._data, self._spec, normalised(images, self._spec)))

    def _accepted(self, *, plain: bool) -> dict[str, float]:
        """Difference of each tensor, relative to its largest value."""
        return dict.fromkeys(self._expected[0], TOLERANCE)

    def _words(
        self, ours: Sequence[Outputs], accepted: Mapping[str, float], *, plain: bool
    ) -> dict[str, Any]:
        """What a report says beside its comparisons."""
        return {}


class QuantizedProof(Proof):
    """The graph evaluated by numpy: quantised values bit for bit, and ONNX Runtime's logits
    loosely.

    A file that keeps layers in float32 in front of others has values that are rounded from sums of
    float32; there they and the logits may differ by ``agreement.FLIPPED``, and the report says so.
    """

    def __init__(self, source: Source, graph: Graph, step: Step) -> None:
        super().__init__(source, graph, step)
        self._loose = self._onnx_outputs(self._images)

    def _outputs(self, images: NDArray[np.uint8]) -> list[Outputs]:
        return list(evaluated_outputs(self._graph, self._spec, images))

    def _accepted(self, *, plain: bool) -> dict[str, float]:
        tolerance = quantized_tolerance(self._graph)
        accepted = dict.fromkeys(self._expected[0], max(tolerance, TOLERANCE))
        for number, quantization in enumerate(self._step.quantization):
            if quantization is not None:
                accepted[f"next_state_{number}"] = tolerance
        return accepted

    def _words(
        self, ours: Sequence[Outputs], accepted: Mapping[str, float], *, plain: bool
    ) -> dict[str, Any]:
        """With how far ONNX Runtime is, which rounds where we do not."""
        tolerance = quantized_tolerance(self._graph)
        exact = "bit for bit" if tolerance == 0 else f"within {tolerance:g}"
        theirs = np.array([each["logits"] for each in self._loose])
        scale = max(float(np.abs(theirs).max()), 1e-6)
        worst = float(np.abs(theirs - np.array([each["logits"] for each in ours])).max()) / scale
        if not worst <= ABSURD:
            raise VerificationError(
                f"Logits of the compiled model differ from ONNX Runtime's run of the same file by "
                f"{worst:.2g} of the largest; its roundings make a few hundredths (accepted "
                f"{ABSURD:g}), so the file was misread: please report it. Nothing was written."
            )
        far = {"tensor": "logits", "relative_error": worst, "accepted": ABSURD}
        return {"states": exact, "onnxruntime": far}


class RoundedProof(Proof):
    """The kernels interpreted: states bit for bit where plain arithmetic makes the sums, and no
    activation has an exponential.

    Where the processor's own instruction makes them, one rounding that goes another way moves
    others, layer by layer and frame by frame. How far that goes is taken from the model itself: at
    most as far as rounding takes it from float32, tensor by tensor, since those are the roundings
    there are; half as far again as that is accepted. Such a bound is wider than what a wrong bit of
    the weights does, so the plain lowering is held against the interpreter on every machine.
    """

    needs_plain = True

    def __init__(self, source: Source, graph: Graph, step: Step) -> None:
        super().__init__(source, graph, step)
        self._exact = exact_activations(graph)
        images = self._images[:FAITHFUL_FRAMES]
        check_kernels(graph, source.spec, step, images, multiplied(graph, step, self._precision))
        floats = self._onnx_outputs(self._images)
        rows = compare("float32 / rounded", floats, self._expected, tolerance=ABSURD)
        self._lost = {row.tensor: row.worst / max(row.scale, 1e-6) for row in rows}

    def _stream(self) -> NDArray[np.uint8]:
        return self._clip  # a frame takes the interpreter a second

    def _outputs(self, images: NDArray[np.uint8]) -> list[Outputs]:
        return list(interpreted_outputs(self._step, images))

    def _accepted(self, *, plain: bool) -> dict[str, float]:
        if plain and self._exact:  # but the mean and the classifier, which are float32
            return {name: TOLERANCE if name == "logits" else 0.0 for name in self._lost}
        least = self._precision.step
        return {name: min(1.5 * max(lost, least), ABSURD) for name, lost in self._lost.items()}

    def _words(
        self, ours: Sequence[Outputs], accepted: Mapping[str, float], *, plain: bool
    ) -> dict[str, Any]:
        states = (
            "bit for bit"
            if plain and self._exact
            else f"within roundings of {self._precision.name}"
        )
        lost = {"tensor": "logits", "relative_error": self._lost["logits"]}
        return {"accepted": dict(accepted), "states": states, "onnxruntime": lost}


class HalfProof(Proof):
    """Of half precision, which is for GPUs: ONNX Runtime's float32, in logits and states as far as
    rounding takes them; without rounding, the graph, which the kernels are then; and each kernel's
    code beside the interpreter on the same numbers, bit for bit but where an exponential is
    approximate.

    So of a frame of the interpreter, which takes seconds, there are few, and a board's self-test
    says how far it is from float32.
    """

    def __init__(self, source: Source, graph: Graph, step: Step) -> None:
        super().__init__(source, graph, step)
        weights = stored_weights(graph, step)
        check_kernels(graph, source.spec, step, self._images[:HALF_FRAMES], weights)

    def _device(self, step: Step, variant: TargetVariant) -> Callable[..., object]:
        before = (FAITHFUL_FRAMES - 1) * len(step.calls)
        self._beside = Beside(super()._device(step, variant), before, 2 * self._precision.step)
        return self._beside

    def _stream(self) -> NDArray[np.uint8]:
        return self._clip

    def _accepted(self, *, plain: bool) -> dict[str, float]:
        return dict.fromkeys(self._expected[0], HALF)

    def _words(
        self, ours: Sequence[Outputs], accepted: Mapping[str, float], *, plain: bool
    ) -> dict[str, Any]:
        far = self._beside.worst
        return {"kernels": "bit for bit" if far == 0 else f"within {far:.1e}"}


def stored_weights(graph: Graph, step: Step) -> Callable[[Conv], NDArray[Any]]:
    """Weights as the step's constants hold them, rounded to half precision or not."""
    halves = {
        call.arguments["out"]
        for call in step.calls
        for argument in call.arguments.values()
        if step.constants.get(argument.name, np.zeros(0)).dtype == np.float16
    }
    rounded = {
        operator.out
        for kernel in fuse(graph)[0]
        for part in apart(kernel)
        if Argument(Memory.WORKSPACE, part.out) in halves
        for operator in part.operators
    }
    half = PRECISIONS["fp16"].round
    return lambda conv: half(conv.weight) if conv.out in rounded else conv.weight


def multiplied(graph: Graph, step: Step, precision: Precision) -> Callable[[Conv], NDArray[Any]]:
    """Weights as the step's kernels multiply them: rounded where they go in pairs over what is
    stored narrow, in memory or inside of a kernel."""
    stored = {
        call.arguments[buffer.name].name: buffer.dtype
        for call in step.calls
        for buffer in call.kernel.buffers
    }
    rounded = set()
    for kernel in fuse(graph)[0]:
        convs = [each for each in kernel.operators if isinstance(each, Conv)]
        for conv in convs:
            source = conv.inputs[0]
            head = convs[0] if isinstance(kernel, InvertedResidualKernel) else conv
            inside = "" if is_vector(graph.shapes[head.inputs[0]]) else precision.buffer
            if in_pairs(conv, graph) and stored.get(source, inside) == precision.buffer:
                rounded.add(conv.name)
    return lambda conv: precision.round(conv.weight) if conv.name in rounded else conv.weight


def verified(
    proof: Proof,
    test: SelfTest,
    spec: ModelSpec,
    variant: TargetVariant,
    step: Step,
    places: MemoryLayout,
    library: Path,
    build: Linker,
) -> dict[str, Any]:
    """Hold a variant's library against its reference; the report as the manifest keeps it.

    The self-test passes too. What this machine cannot run is generated for this machine, and so is
    what only the plain lowering shows; then the report is of that other library, which ``build``
    makes, and under ``instructions`` of the library itself, where this machine can run it.

    Raises:
        VerificationError: they differ.
        CompileError: no target fits this machine, and it cannot run the variant.
    """
    own: dict[str, Any] | None = None
    if backend_of(variant.device).emulated:
        return {**proof.emulated(step, variant), "verified": True, "code": EMULATED}
    if runs_here(variant):
        own = proof.of(step, places, library, plain=False)
        check_self_test(library, spec, test)
        if not proof.needs_plain:
            return {**own, "verified": True, "code": TARGETS_OWN}
    with work_folder() as folder:
        stand_in = backend_of(variant.device).stand_in(variant, find_variant("host"))
        other = folder / "libmodel.so"
        build(step, places, spec, stand_in, other)
        document = proof.of(step, places, other, plain=True)
        check_self_test(other, spec, test)
    if own is not None:
        document = {**document, "instructions": {**own, "code": TARGETS_OWN}}
    return {
        **document,
        "verified": True,
        "code": f"the same kernels generated for {stand_in.device.name}",
    }
