"""Proof that two forms of one model are the same function over a stream.

A stream of frames with motion in it runs through the clip form, the online form and ONNX Runtime;
logits and every state of every frame are compared. A state matters as much as the logits: an error
in one would grow over the stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftedge.export.models.shift import ClipForm, running
from shiftedge.export.models.streaming import StreamingModel
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["FRAMES", "TOLERANCE", "Comparison", "Report", "moving_frames", "verify_onnx"]

FRAMES = 32
"""Three times the receptive field of MobileNetV2 TSM: an error in a state has time to grow."""

TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest value of the tensor. Float32 sums of some
thousand products in another order differ by about 1e-6 of it."""

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


@dataclass(frozen=True)
class Report:
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
        return {**asdict(self), "passed": self.passed}

    def table(self) -> str:
        """Lines of text, one tensor each."""
        head = f"{'tensor':<16} {'forms':<22} {'largest value':>13} {'worst error':>12}  frame"
        rows = [
            f"{row.tensor:<16} {row.forms:<22} {row.scale:>13.4g} {row.worst:>12.3g} "
            f"{row.frame:>6}{'' if row.passed else '  FAILED'}"
            for row in self.comparisons
        ]
        return "\n".join((head, *rows))

    def require_passed(self) -> None:
        """Raise VerificationError, naming the worst tensor, unless everything agrees."""
        failed = [row for row in self.comparisons if not row.passed]
        if failed:
            worst = max(failed, key=lambda row: row.worst / max(row.scale, 1e-30))
            raise VerificationError(
                f"{worst.tensor} differs between {worst.forms} by {worst.worst:.3g} at frame "
                f"{worst.frame} (largest value {worst.scale:.3g}; accepted {self.tolerance:g} of "
                f"it); {len(failed)} of {len(self.comparisons)} comparisons failed and nothing "
                "was written."
            )


def moving_frames(spec: ModelSpec, frames: int = FRAMES, *, seed: int = 0) -> Array:
    """A scene with moving objects and noise, normalised: float32 (frames, 3, H, W), RGB."""
    from shiftedge.runtime.capture.synthetic.moving import moving_scene

    images = moving_scene(seed, frames=frames, height=spec.height, width=spec.width)
    pixels = images[..., ::-1].astype(np.float32) / 255.0
    mean, std = (np.array(values, np.float32) for values in (spec.mean, spec.std))
    return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))


class _RecordedClip(ClipForm):
    """A one-way clip form that keeps what each shift saw: the states of every frame at once."""

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.seen: list[Tensor] = []

    def earlier(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return super().earlier(x)


@torch.no_grad()
def clip_outputs(model: StreamingModel, frames: Array) -> Iterator[Outputs]:
    """Logits and states of every frame from one pass over the whole clip."""
    form = _RecordedClip(len(frames))
    with running(form):
        logits = model.net(torch.from_numpy(frames))
    for index in range(len(frames)):
        states = [seen[index : index + 1].numpy() for seen in form.seen]
        yield _named(logits[index : index + 1].numpy(), states)


@torch.no_grad()
def online_outputs(model: StreamingModel, frames: Array) -> Iterator[Outputs]:
    """Logits and states frame by frame from torch."""
    states: list[Tensor] | None = None
    for frame in torch.from_numpy(frames):
        logits, states = model.step(frame[None], states)
        yield _named(logits.numpy(), [state.numpy() for state in states])


def onnx_outputs(model: bytes, spec: ModelSpec, frames: Array) -> Iterator[Outputs]:
    """Logits and states frame by frame from a plain ONNX Runtime session, our runtime left out."""
    onnxruntime = require("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    states = [np.zeros(state.shape, np.float32) for state in spec.states]
    for frame in frames:
        feed = {"frame": frame[None]}
        feed |= {f"state_{index}": state for index, state in enumerate(states)}
        outputs = dict(zip(names, session.run(None, feed), strict=True))
        states = [outputs[f"next_state_{index}"] for index in range(len(states))]
        yield outputs


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
        # The floor keeps an all-zero tensor from failing over a denormal.
        passed = worst <= tolerance * max(scale, 1e-6)
        rows.append(Comparison(name, forms, scale, worst, at, passed))
    return sorted(rows, key=lambda row: -row.worst / max(row.scale, 1e-6))


def verify_onnx(
    model: StreamingModel,
    onnx_model: bytes,
    spec: ModelSpec,
    *,
    frames: int = FRAMES,
    tolerance: float = TOLERANCE,
) -> Report:
    """Run the clip form, the online form and the ONNX file over the same moving scene.

    Args:
        model: in evaluation mode.
        onnx_model: the serialised ONNX model.
        spec: of the model.
        frames: length of the stream.
        tolerance: see :data:`TOLERANCE`.

    Raises:
        VerificationError: an output is absent, misshapen or not finite. A difference past the
            tolerance is in the report instead; see :meth:`Report.require_passed`.
    """
    scene = moving_frames(spec, frames)
    clip = list(clip_outputs(model, scene))
    online = list(online_outputs(model, scene))
    exported = list(onnx_outputs(onnx_model, spec, scene))
    rows = compare("clip / online", clip, online, tolerance=tolerance)
    rows += compare("online / ONNX Runtime", online, exported, tolerance=tolerance)
    return Report(frames, tolerance, tuple(rows))


def _named(logits: Array, states: Sequence[Array]) -> Outputs:
    return {"logits": logits} | {f"next_state_{i}": state for i, state in enumerate(states)}
