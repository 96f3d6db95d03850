"""``shiftedge train --quantize``: a short fine-tune that makes a trained network bear int8.

::

    checkpoint -> ranges (streamed) -> steps in fake int8 towards its float answers -> checkpoint

The network learns to give, rounded, the probabilities that it gave before in float. Labels would
also teach, but undo what was set after training, such as how readily a label is believed. The
ranges are held while it learns and go with the checkpoint to ``shiftedge quantize``.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shiftedge.export.checkpoint import Checkpoint
from shiftedge.export.models import InvertedResidualNet
from shiftedge.export.networks import spec_of
from shiftedge.export.quantize.source import FRAMES, Clips, checked
from shiftedge.export.score.clips import change
from shiftedge.export.training.data import Job, name_data
from shiftedge.export.training.fake_quantize import FRAME, FakeQuantized, Int8, stream_ranges
from shiftedge.export.training.loop import Settings
from shiftedge.export.training.session import Session
from shiftedge.export.training.supply import Mixture
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.process.progress import working

CLIPS = 1_200
"""Rendered, to learn from."""
_CALIBRATION = 17
"""Draws the clips that the ranges come from, together with the seed."""


def gentle() -> Settings:
    """A low rate on frames of full size: the weights have to move by steps of int8, and
    ranges of smaller frames would be others."""
    return Settings(epochs=2, rate=3e-4, decay=0.0, lesson=0.0)


@working("fine-tuning")
def fine_tune(job: Job) -> dict[str, Any]:
    """Fine-tune a MobileNetV2 or EfficientNet-Lite0 for int8; write ``checkpoint.pt`` and
    ``scores.json``.

    The checkpoint is an ordinary float one, replaced as a whole after each epoch, so Ctrl-C keeps
    the last one. Its spec is the start's, whose labels the clips must have.

    Returns:
        What ``scores.json`` holds. "clip", "films" and others are those of the fake-quantized
        network after the fine-tune, with the ranges that the file of ``shiftedge quantize`` will
        have; "quantised" compares its clips with those before.

    Raises:
        DataError: the data or the network cannot be used.
        CheckpointError, TwoWayCheckpointError: the start cannot.
        NumericsError: the network gives values that are not finite.
        OutputError: the output cannot be written to; see :func:`~.runner.train`.
    """
    settings = job.settings(gentle())
    output_folder(job.output)
    if job.start is not None:
        checkpoint = _trained(job, job.start)
    else:
        bundled = importlib.resources.files("shiftedge.export.assets") / "gestures.pt"
        with importlib.resources.as_file(bundled) as path:
            checkpoint = _trained(dataclasses.replace(job, reading={}), path)
    net, spec = checkpoint.net, spec_of(checkpoint)
    assert isinstance(net, InvertedResidualNet)
    named = name_data(job.data, spec.labels, job.classes)
    settings = dataclasses.replace(settings, steady=spec.silent_labels)
    ranges: dict[str, tuple[float, int]] = {}
    clips = CLIPS if job.clips is None else job.clips
    with Session(job, settings, net, checkpoint.description, spec, named, clips, ranges) as session:
        torch.set_num_threads(1)  # one frame at a time is too little work to share
        observed = stream_ranges(
            net, spec, _drawn(job, session.learn, session.check.frames.shape[1]), job.bar
        )
        ranges |= {
            place: (affine.scale, affine.zero_point)
            for place, affine in observed.items()
            if place != FRAME  # every pixel's, whatever was trained
        }
        fake = FakeQuantized(net, Int8(observed, spec.std))
        torch.set_num_threads(settings.threads)
        teacher = copy.deepcopy(net)
        wanted = session.score(teacher, "checking on clips, float")
        before = session.score(fake, "checking on clips, int8")
        session.fit("fine-tuning", fake, teacher)
        after = session.score(fake, "checking on clips, int8")
        torch.set_num_threads(1)
        return session.finish(
            fake,
            after,
            quantised={
                "clips": len(session.check),
                "float": round(wanted.accuracy, 4),
                "before": _against(wanted.right, before.right),
                "after": _against(wanted.right, after.right),
            },
        )


def _trained(job: Job, start: Path) -> Checkpoint:
    """The network to fine-tune."""
    checkpoint = job.checkpoint(start)
    if not isinstance(checkpoint.net, InvertedResidualNet):
        raise DataError(
            f"{start} is a {checkpoint.description['architecture']}; --quantize fine-tunes "
            "MobileNetV2 and EfficientNet-Lite0: give such a checkpoint, or quantise this one as "
            "it is."
        )
    if checkpoint.ranges:
        raise DataError(
            f"{start} has been fine-tuned for int8 already, and its float answers are no longer "
            "those to keep; start from the checkpoint that it was made from, with more --epochs."
        )
    return checkpoint


def _drawn(job: Job, clips: Mixture, length: int) -> Clips:
    """As many frames as ``shiftedge quantize`` reads, of clips of ``length`` drawn from all."""
    plan = clips.plan(0)
    order = np.random.default_rng((job.seed, _CALIBRATION)).permutation(len(plan))
    drawn = clips.begin(plan[order[: -(-FRAMES // length)]])()
    return checked(Clips(" and ".join(job.data), tuple(drawn.frames)))


def _against(wanted: NDArray[np.bool_], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Accuracy, and how it differs from the float network's on the same clips."""
    found = change(wanted, right)
    error = round(found["standard_error"], 4)
    return {"accuracy": round(float(right.mean()), 4), **found, "standard_error": error}
