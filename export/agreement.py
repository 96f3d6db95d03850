"""Whether two forms of one model are the same function over a stream: what is compared, and how.

A state matters as much as the logits: an error in one would grow over the stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.stepper import Stepper
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.process.tables import Table
from shiftedge.runtime.spec import ModelSpec

FRAMES = 32
"""Three times the receptive field of MobileNetV2 TSM: an error in a state has time to grow."""

TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest value of the tensor. Float32 sums of some
thousand products in another order differ by about 1e-6 of it."""
SCALE_LEAST = 1e-6

Array = NDArray[np.float32]
Outputs = Mapping[str, Array]
"""Name of each output of one step -> its value."""


@dataclass(frozen=True)
class Comparison:
    """The worst disagreement of one tensor between two forms over a stream."""

    tensor: str
    forms: str
    """Such as "clip / online"."""
    scale: float
    """Largest magnitude of the tensor in the first form."""
    worst: float
    """Largest absolute difference."""
    frame: int
    """Index of the frame it occurred in."""
    passed: bool

    @property
    def relative(self) -> float:
        """``worst`` over ``scale``, with a floor, so that no tensor of zeros fails over a
        denormal."""
        return self.worst / max(self.scale, SCALE_LEAST)


OWN_FORMS = "clip / online"
"""Of a comparison of a network's two forms, both run by torch."""

_CAUSES = (
    " The shifts alone may carry something from frame to frame: look for random numbers, dropout "
    "or batch statistics in use, and buffers or counts that each frame changes."
)
"""What makes those differ, for who wrote the network."""


@dataclass(frozen=True)
class AgreementReport:
    """Every comparison made, worst first within each pair of forms."""

    frames: int
    tolerance: float
    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """True when every tensor agrees within the tolerance."""
        return all(row.passed for row in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        rows = [asdict(row) for row in self.comparisons]
        return {**asdict(self), "comparisons": rows, "passed": self.passed}

    def table(self) -> str:
        """Lines of text, one tensor each."""
        cells = [
            (row.tensor, row.forms, f"{row.scale:.4g}", f"{row.worst:.3g}", str(row.frame), failed)
            for row in self.comparisons
            for failed in ("" if row.passed else "FAILED",)
        ]
        headings = ("tensor", "forms", "largest value", "worst error", "frame", "")
        return "\n".join(Table(headings, cells, "llrrrl").lines())

    def require_passed(self) -> None:
        """Raise VerificationError, naming the worst tensor, unless everything agrees."""
        failed = [row for row in self.comparisons if not row.passed]
        if failed:
            worst = max(failed, key=lambda row: row.relative)
            own = any(row.forms == OWN_FORMS for row in failed)
            raise VerificationError(
                f"{worst.tensor} differs between {worst.forms} by {worst.worst:.3g} at frame "
                f"{worst.frame} (largest value {worst.scale:.3g}; accepted {self.tolerance:g} of "
                f"it); {len(failed)} of {len(self.comparisons)} comparisons failed and nothing "
                f"was written.{_CAUSES if own else ''}"
            )


def moving_images(spec: ModelSpec, frames: int = FRAMES, *, seed: int = 0) -> NDArray[np.uint8]:
    """A scene with moving objects and noise: uint8 (frames, H, W, 3), BGR."""
    from shiftedge.runtime.capture.synthetic.moving import moving_scene

    height, width = max(spec.height, 8), max(spec.width, 8)  # a scene has room for its objects
    return moving_scene(seed, frames=frames, height=height, width=width)[
        :, : spec.height, : spec.width
    ]


def normalised(images: NDArray[np.uint8], spec: ModelSpec) -> Array:
    """Frames as the model takes them: float32 (frames, 3, H, W), RGB."""
    pixels = images[..., ::-1].astype(np.float32) / 255.0
    mean, std = (np.array(values, np.float32) for values in (spec.mean, spec.std))
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))


def moving_frames(spec: ModelSpec, frames: int = FRAMES, *, seed: int = 0) -> Array:
    """:func:`moving_images`, normalised: float32 (frames, 3, H, W), RGB."""
    return normalised(moving_images(spec, frames, seed=seed), spec)


def onnx_outputs(model: bytes, spec: ModelSpec, frames: Array) -> Iterator[Outputs]:
    """Logits and states frame by frame from a plain ONNX Runtime session, our runtime left out.

    States of a quantised model come as the float32 numbers that they stand for.
    """
    stepper = Stepper(model, spec)
    for frame in frames:
        stepper.feed(frame[None])
        yield named_outputs(stepper.latest[None], stepper.states())


def compare(
    forms: str, reference: Sequence[Outputs], other: Sequence[Outputs], *, tolerance: float
) -> list[Comparison]:
    """Compare two streams of outputs tensor by tensor, the worst relative error first.

    Raises:
        VerificationError: a tensor is absent, misshapen, or holds NaN or infinity.
    """
    rows = []
    for name in reference[0]:
        scale, worst, at = 0.0, -1.0, 0
        for index, (ours, theirs) in enumerate(zip(reference, other, strict=True)):
            if name not in theirs or theirs[name].shape != ours[name].shape:
                got = theirs[name].shape if name in theirs else "nothing"
                raise VerificationError(
                    f"{forms}: {name} has shape {ours[name].shape} in the first and {got} in the "
                    "second."
                )
            if not (np.isfinite(ours[name]).all() and np.isfinite(theirs[name]).all()):
                raise VerificationError(
                    f"{forms}: {name} holds NaN or infinity at frame {index}; the weights are "
                    "damaged or overflow."
                )
            scale = max(scale, float(np.abs(ours[name]).max()))
            difference = float(np.abs(ours[name] - theirs[name]).max())
            if difference > worst:
                worst, at = difference, index
        passed = worst <= tolerance * max(scale, SCALE_LEAST)
        rows.append(Comparison(name, forms, scale, worst, at, passed))
    return sorted(rows, key=lambda row: -row.relative)


def named_outputs(logits: Array, states: Sequence[Array]) -> Outputs:
    """Logits and next states under their names in the ONNX contract."""
    return {"logits": logits} | {f"next_state_{i}": state for i, state in enumerate(states)}
