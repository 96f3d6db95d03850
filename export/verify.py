"""Proof that two forms of one model are the same function over a stream.

A stream of frames with motion in it runs through the clip form, the online form and ONNX Runtime;
logits and every state of every frame are compared (``agreement``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftedge.export.agreement import (
    FRAMES,
    OWN_FORMS,
    TOLERANCE,
    AgreementReport,
    Outputs,
    compare,
    moving_frames,
    named_outputs,
    onnx_outputs,
)
from shiftedge.export.models.shift import ClipForm, running
from shiftedge.export.models.streaming import StreamingModel
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import ModelSpec
from shiftedge.runtime.words import first_line

Array = NDArray[np.float32]


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
        yield named_outputs(logits[index : index + 1].numpy(), states)


@torch.no_grad()
def online_outputs(model: StreamingModel, frames: Array) -> Iterator[Outputs]:
    """Logits and states frame by frame from torch."""
    states: list[Tensor] | None = None
    for frame in torch.from_numpy(frames):
        logits, states = model.step(frame[None], states)
        yield named_outputs(logits.numpy(), [state.numpy() for state in states])


def verify_onnx(
    model: StreamingModel,
    onnx_model: bytes,
    spec: ModelSpec,
    *,
    frames: int = FRAMES,
    tolerance: float = TOLERANCE,
) -> AgreementReport:
    """Run the clip form, the online form and the ONNX file over the same moving scene.

    Raises:
        ModelError: the network does not run over a clip, or the file not in ONNX Runtime.
        VerificationError: an output is absent, misshapen or not finite. A difference past the
            tolerance is in the report instead; see :meth:`AgreementReport.require_passed`.
    """
    scene = moving_frames(spec, frames)
    try:
        clip = list(clip_outputs(model, scene))
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"The network does not run on {frames} frames at once, as a batch "
            f"({first_line(error)}); expected a module over (N, 3, height, width) for every N."
        ) from error
    online = list(online_outputs(model, scene))
    try:
        exported = list(onnx_outputs(onnx_model, spec, scene))
    except ModelError as error:
        raise ModelError(
            "ONNX Runtime does not run the exported network: "
            f"{first_line(error.__cause__ or error)}"
        ) from error
    rows = compare(OWN_FORMS, clip, online, tolerance=tolerance)
    rows += compare("online / ONNX Runtime", online, exported, tolerance=tolerance)
    return AgreementReport(frames, tolerance, tuple(rows))
