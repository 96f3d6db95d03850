"""What is shown of a compiled model before its bundle is written, and what a board is to repeat.

Each precision has a reference of its own. Float32 code is held against ONNX Runtime. Codes are held
against our integers in numpy, bit for bit; ONNX Runtime rounds a quantised file in more places than
we do, so its run of the file is a looser check, that the file was read as it is meant. In bf16 the
reference is numpy's, which rounds where we do, and ONNX Runtime says what the rounding loses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shiftedge.export.agreement import (
    TOLERANCE,
    Outputs,
    Report,
    compare,
    moving_images,
    normalised,
    onnx_outputs,
)
from shiftedge.export.compiler.backends.base import TargetVariant
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.layout import Layout
from shiftedge.export.compiler.sources import Source
from shiftedge.export.compiler.targets import backend_of, find_variant, runs_here
from shiftedge.export.compiler.verify.agreement import (
    bf16_outputs,
    check,
    check_bf16,
    check_int8,
    check_self_test,
    int8_tolerance,
    integer_outputs,
)
from shiftedge.export.compiler.verify.bf16_reference import Bf16Reference
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.manifest import SelfTest
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.selftest import CLIP, self_test_clip
from shiftedge.runtime.spec import ModelSpec

__all__ = ["UNVERIFIED", "Bf16Proof", "FloatProof", "IntegerProof", "Proof", "proof_of", "verified"]

UNVERIFIED: Mapping[str, Any] = {"verified": False, "reason": "left out when compiling"}
"""What a manifest says of a model that was not compared."""

INT8_FRAMES = 12
"""Of the stream that codes are compared over: past the receptive field of MobileNetV2 TSM, 11.
Where every code is equal nothing can grow, and a frame takes numpy's integers half a second."""

ABSURD = 1.0
"""Of ONNX Runtime's own run of a quantised file: difference of a logit, relative to the largest,
past which the two are not one function. Its additional roundings make 0.04 of it over 32 frames of
a MobileNetV2 of 224x224 pixels, and 0.33 of an untrained one of 64x32, whose logits are nearly
noise. That every code is right is for the integers in numpy to say."""

BF16_FRAMES = 12
"""Of the stream that bf16 is compared over, likewise."""

BF16_STEP = 2.0**-8
"""Relative to a tensor's largest value: what one number of it may be off by rounding once."""

TARGETS_OWN = "the target's"
"""In a report, of the code that ran: not a stand-in's."""

Linker = Callable[[Step, Layout, ModelSpec, TargetVariant, Path], None]
"""Generates and links a library: ``compile.build_library``."""


class Proof(Protocol):
    """A model's reference, computed once for all variants of its precision."""

    @property
    def needs_plain(self) -> bool:
        """Whether only the plain lowering can be held against it to the bit, so that it is on every
        machine, also on one that runs the target's own code."""

    def self_test(self) -> SelfTest:
        """What a board is to compute, for the manifest.

        Raises:
            VerificationError: a logit is not finite.
        """

    def of(self, step: Step, places: Layout, library: Path, *, plain: bool) -> dict[str, Any]:
        """The report on a library for this machine, for the manifest.

        Args:
            step: that was compiled.
            places: where everything in the step lies.
            library: of the step.
            plain: whether it was made without the target's own instructions.

        Raises:
            VerificationError: it differs from the reference.
        """


def proof_of(source: Source, step: Step) -> Proof:
    """The proof for a file, by the precision that it is compiled in; ``step`` is what was made of
    it for the first variant of that precision."""
    if source.precision == "fp32":
        return FloatProof(source.data, source.spec)
    if source.precision == "bf16":
        return Bf16Proof(source.data, source.spec, step)
    return IntegerProof(source.data, source.spec)


class FloatProof:
    """Against ONNX Runtime, logits and states over a stream of 32 frames."""

    needs_plain = False

    def __init__(self, data: bytes, spec: ModelSpec) -> None:
        self._data, self._spec = data, spec

    def self_test(self) -> SelfTest:
        """See :meth:`Proof.self_test`."""
        spec = self._spec
        frames = normalised(self_test_clip(spec.height, spec.width), spec)
        return _recorded("ONNX Runtime", list(onnx_outputs(self._data, spec, frames)), TOLERANCE)

    def of(self, step: Step, places: Layout, library: Path, *, plain: bool) -> dict[str, Any]:
        """See :meth:`Proof.of`."""
        report = check(library, self._data, self._spec, step, places)
        report.require_passed()
        return _document(report)


class IntegerProof:
    """Against integers in numpy: codes bit for bit, and ONNX Runtime's logits loosely.

    A file that keeps layers in float32 in front of others has codes that are rounded from sums of
    float32; there codes and logits may differ by ``check.FLIPPED``, and the report says so.
    """

    needs_plain = False
    """Integers are the same, whichever instructions add them."""

    def __init__(self, data: bytes, spec: ModelSpec) -> None:
        self._spec = spec
        self._graph = read_onnx(data, spec)
        self._images = moving_images(spec, INT8_FRAMES)
        self._expected = list(integer_outputs(self._graph, spec, self._images))
        self._tolerance = int8_tolerance(self._graph)
        self._loose = list(onnx_outputs(data, spec, normalised(self._images, spec)))

    def self_test(self) -> SelfTest:
        """See :meth:`Proof.self_test`."""
        images = self_test_clip(self._spec.height, self._spec.width)
        outputs = list(integer_outputs(self._graph, self._spec, images))
        return _recorded("integers in numpy", outputs, max(self._tolerance, TOLERANCE))

    def of(self, step: Step, places: Layout, library: Path, *, plain: bool) -> dict[str, Any]:
        """See :meth:`Proof.of`."""
        report, ours = check_int8(
            library, self._images, self._expected, step, places, tolerance=self._tolerance
        )
        report.require_passed()
        exact = "bit for bit" if self._tolerance == 0 else f"within {self._tolerance:g}"
        return {**_document(report), "codes": exact, "onnxruntime": self._rounded(ours)}

    def _rounded(self, ours: Sequence[Outputs]) -> dict[str, Any]:
        """How far ONNX Runtime is, with the roundings that we leave out."""
        theirs = np.array([each["logits"] for each in self._loose])
        scale = max(float(np.abs(theirs).max()), 1e-6)
        worst = float(np.abs(theirs - np.array([each["logits"] for each in ours])).max()) / scale
        if not worst <= ABSURD:
            raise VerificationError(
                f"Logits of the compiled model differ from ONNX Runtime's run of the same file by "
                f"{worst:.2g} of the largest; its roundings make a few hundredths (accepted "
                f"{ABSURD:g}), so the file was misread: please report it. Nothing was written."
            )
        return {"tensor": "logits", "relative_error": worst, "accepted": ABSURD}


class Bf16Proof:
    """Against bfloat16 in numpy: states bit for bit where plain arithmetic makes the sums.

    Where the processor's own instruction does, or the model has what numpy does not reproduce to
    the bit, one rounding that goes another way moves others, layer by layer and frame by frame. How
    far that goes is taken from the model itself: at most as far as rounding to bfloat16 takes it
    from float32, tensor by tensor, since those are the roundings there are; half as far again as
    that is accepted. Such a bound is wider than what a wrong bit of the weights does, so the plain
    lowering is held against numpy on every machine.
    """

    needs_plain = True

    def __init__(self, data: bytes, spec: ModelSpec, step: Step) -> None:
        self._spec, self._step = spec, step
        self._graph = read_onnx(data, spec)
        self._images = moving_images(spec, BF16_FRAMES)
        self._expected = list(bf16_outputs(self._reference(), self._images))
        floats = list(onnx_outputs(data, spec, normalised(self._images, spec)))
        rows = compare("float32 / bf16 in numpy", floats, self._expected, tolerance=ABSURD)
        self._lost = {row.tensor: row.worst / max(row.scale, 1e-6) for row in rows}
        self._loose = {
            name: min(1.5 * max(lost, BF16_STEP), ABSURD) for name, lost in self._lost.items()
        }
        self._reproduced = self._reference().exact

    def self_test(self) -> SelfTest:
        """See :meth:`Proof.self_test`."""
        images = self_test_clip(self._spec.height, self._spec.width)
        outputs = list(bf16_outputs(self._reference(), images))
        return _recorded("bf16 in numpy", outputs, self._loose["logits"])

    def of(self, step: Step, places: Layout, library: Path, *, plain: bool) -> dict[str, Any]:
        """See :meth:`Proof.of`."""
        accepted, exact = self._loose, plain and self._reproduced
        if exact:  # but the mean and the classifier, which are float32
            accepted = {name: TOLERANCE if name == "logits" else 0.0 for name in accepted}
        report = check_bf16(library, self._images, self._expected, step, places, accepted=accepted)
        report.require_passed()
        states = "bit for bit" if exact else "within roundings of bf16"
        lost = {"tensor": "logits", "relative_error": self._lost["logits"]}
        return {**_document(report), "accepted": accepted, "bf16": states, "float32": lost}

    def _reference(self) -> Bf16Reference:
        return Bf16Reference(self._graph, self._step, self._spec)


def verified(
    proof: Proof,
    test: SelfTest,
    spec: ModelSpec,
    variant: TargetVariant,
    step: Step,
    places: Layout,
    library: Path,
    build: Linker,
) -> dict[str, Any]:
    """Hold a variant against its reference; the report as the manifest keeps it.

    The self-test passes too. What this machine cannot run is generated for this machine, and so is
    what only the plain lowering shows; then the report is of that, and under ``instructions`` of
    the library itself, where this machine can run it.

    Args:
        proof: of the model.
        test: that the manifest will hold.
        spec: of the model.
        variant: that it is.
        step: that was compiled for it.
        places: where everything in the step lies.
        library: of the variant.
        build: makes another library of the same step.

    Raises:
        VerificationError: they differ.
        CompileError: no target fits this machine, and it cannot run the variant.
    """
    own: dict[str, Any] | None = None
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


def _document(report: Report) -> dict[str, Any]:
    document = report.to_dict()
    return {**document, "comparisons": list(document["comparisons"])}


def _recorded(source: str, outputs: Sequence[Outputs], tolerance: float) -> SelfTest:
    rows = []
    for index, each in enumerate(outputs):
        logits = each["logits"][0]
        if not np.isfinite(logits).all():
            raise VerificationError(
                f"{source}: logits hold NaN or infinity at frame {index} of the self-test's clip; "
                "the weights are damaged or overflow."
            )
        # The shortest decimals that are this float32 again.
        rows.append(tuple(float(str(value)) for value in logits))
    return SelfTest(CLIP, tolerance, tuple(rows))
