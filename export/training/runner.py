"""``shiftedge train``: data in, a checkpoint and its scores out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shiftedge.export.checkpoint import Checkpoint
from shiftedge.export.data import silent_labels
from shiftedge.export.models import EfficientNetLite0, build
from shiftedge.export.models.imagenet import start_from_imagenet
from shiftedge.export.models.shift import FOLD_DIV
from shiftedge.export.to_onnx import describe
from shiftedge.export.training.advice import after, before
from shiftedge.export.training.calibrate import apply, calibrate_net
from shiftedge.export.training.data import Job, name_data
from shiftedge.export.training.loop import Settings
from shiftedge.export.training.session import Session
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.process.progress import working

TRAINABLE = ("mobilenet_v2", "efficientnet_lite0")
"""Architectures that are trained here."""
CLIPS = 10_000
"""Rendered, to learn from."""
_START_RATE = 1e-3
"""Learning rate of a network that has learned before."""
PAPER_SIZE = 224
"""Pixels a side where a checkpoint does not say."""

_LAST = "classifier"
"""Layer that has a row for each label."""


@dataclass(frozen=True)
class Shape:
    """The network, and the frames it is made for."""

    architecture: str = "mobilenet_v2"
    """Or "efficientnet_lite0"."""
    multiplier: float = 0.35
    """Of MobileNetV2's channels."""
    blocks: int | None = None
    """Of EfficientNet-Lite0, the first ones; None: all."""
    height: int = 96
    width: int = 128
    rate_hz: float = 12.0
    previous_frame: bool = True
    """Whether the first convolution also sees the frame before."""
    dropout: float = 0.1
    shifts: tuple[str, ...] | None = None
    """Where the shifts stand; None: in every residual block."""
    shift_div: int = FOLD_DIV
    """Channels per shifted channel."""

    def description(self, classes: int) -> dict[str, Any]:
        """Arguments of :func:`shiftedge.export.models.build.build`."""
        return {
            "architecture": self.architecture,
            "classes": classes,
            **({"width": self.multiplier} if self.architecture == "mobilenet_v2" else {}),
            **({} if self.blocks is None else {"blocks": self.blocks}),
            "previous_frame": self.previous_frame,
            "dropout": self.dropout,
            **({} if self.shifts is None else {"shifts": list(self.shifts)}),
            **({} if self.shift_div == FOLD_DIV else {"shift_div": self.shift_div}),
        }


@working("training")
def train(
    job: Job,
    *,
    shape: Shape | None = None,
    size: tuple[int, int] | None = None,
    multiplier: float | None = None,
    architecture: str | None = None,
    blocks: int | None = None,
    silent: Sequence[str] = (),
    usual_silent: bool = True,
) -> dict[str, Any]:
    """Train a one-way model and write ``checkpoint.pt`` and ``scores.json``.

    The checkpoint is replaced as a whole after each epoch, so Ctrl-C keeps the last one. One that
    cannot be written is written elsewhere, and the training goes on.

    Args:
        shape: network and frame; the default is the start's, or the bundled model's.
        size: (width, height) of the frame in pixels, instead of the shape's.
        multiplier: of MobileNetV2's channels, instead of the shape's.
        architecture: one of :data:`TRAINABLE`, instead of the shape's.
        blocks: of EfficientNet-Lite0, instead of the shape's.
        silent: labels of a person who shows no gesture, besides those whose names are usual for it.
        usual_silent: whether the usual ones are, or those of a start that has the same labels.

    Returns:
        What ``scores.json`` holds.

    Raises:
        DataError: the data cannot be used.
        SpecError: one of ``silent`` is no label.
        CheckpointError, TwoWayCheckpointError: the start cannot.
        NumericsError: the training diverged; the checkpoint of the epoch before is there.
        OutputError: the output cannot be written to; of a training that was done, the sentence
            says where it is instead.
    """
    usual = Settings()
    if job.start is not None or job.imagenet:
        usual = dataclasses.replace(usual, rate=_START_RATE)
    settings = job.settings(usual)
    output_folder(job.output)
    start = None if job.start is None else job.checkpoint(job.start)
    shape = _shape(shape, start, size, multiplier)
    if architecture is not None:
        shape = dataclasses.replace(shape, architecture=architecture)
    if blocks is not None:
        if shape.architecture != "efficientnet_lite0":
            raise DataError(
                f"--blocks is for efficientnet_lite0, and the network to train is "
                f"{shape.architecture}; leave it out, or give --architecture efficientnet_lite0."
            )
        shape = dataclasses.replace(shape, blocks=blocks)
    named = name_data(job.data, classes=job.classes)
    torch.manual_seed(job.seed)
    description = shape.description(len(named.labels))
    net = build(description)
    if start is not None:
        _take_over(net, start, named.labels)
    elif job.imagenet:
        if not isinstance(net, EfficientNetLite0):
            raise DataError(
                f"There are ImageNet weights for efficientnet_lite0, and the network to train is "
                f"{shape.architecture}; give --architecture efficientnet_lite0, or another --start."
            )
        start_from_imagenet(net)
    spec = describe(
        net,
        name="gestures",
        labels=named.labels,
        height=shape.height,
        width=shape.width,
        resize_short_side=min(shape.height, shape.width),
        frame_rate_hz=shape.rate_hz,
        silent_labels=_silent(named.labels, silent, usual_silent, start),
    )
    settings = dataclasses.replace(settings, steady=spec.silent_labels)
    clips = CLIPS if job.clips is None else job.clips
    with Session(job, settings, net, description, spec, named, clips) as session:
        for note in before(
            session.learn, session.check, spec, settings, fresh=start is None and not job.imagenet
        ):
            job.say(note)
        last = session.fit("training", net)
        torch.set_num_threads(1)  # one frame at a time is too little work to share
        if named.rendered and job.films:
            chosen = calibrate_net(
                net, spec, seed=job.seed, share=job.films, pictures=job.pictures, bar=job.bar
            )
            apply(net, chosen)
            session.spec = spec = dataclasses.replace(spec, decoder=chosen.decoder)
            session.record["calibration"] = chosen.record(spec.labels)
            session.keep(last)
        found = session.score(net)
        scores = session.finish(net, found)
        if not named.rendered:
            for note in after(found, session.check, spec):
                job.say(note)
    return scores


def _shape(
    shape: Shape | None,
    checkpoint: Checkpoint | None,
    size: tuple[int, int] | None,
    multiplier: float | None,
) -> Shape:
    """The network to train: as asked, else as the start, else as the bundled model."""
    if shape is None and checkpoint is not None:
        description, spec = checkpoint.description, checkpoint.spec
        if description["architecture"] not in TRAINABLE:
            raise DataError(
                f"{checkpoint.path} is a {description['architecture']}; training goes on from "
                f"{' and '.join(TRAINABLE)}."
            )
        shifts = description.get("shifts")
        shape = Shape(
            architecture=description["architecture"],
            multiplier=description.get("width", Shape.multiplier),
            blocks=description.get("blocks"),
            previous_frame=bool(description.get("previous_frame")),
            height=spec.get("height", PAPER_SIZE),
            width=spec.get("width", PAPER_SIZE),
            rate_hz=spec.get("frame_rate_hz", Shape.rate_hz),
            shifts=None if shifts is None else tuple(shifts),
            shift_div=description.get("shift_div", FOLD_DIV),
        )
    shape = shape or Shape()
    if size is not None:
        shape = dataclasses.replace(shape, width=size[0], height=size[1])
    if multiplier is not None:
        shape = dataclasses.replace(shape, multiplier=multiplier)
    return shape


def _silent(
    labels: tuple[str, ...], named: Sequence[str], usual: bool, start: Checkpoint | None
) -> tuple[str, ...]:
    """The silent labels: those the user names, and unless they say no, those of the start where it
    has these labels, else those with usual names."""
    stored = None if start is None else start.spec.get("silent_labels")
    if not usual or stored is None or start is None or set(start.labels or ()) != set(labels):
        return silent_labels(labels, named, usual=usual)
    return silent_labels(labels, (*named, *stored), usual=False)


def _take_over(net: nn.Module, checkpoint: Checkpoint, labels: tuple[str, ...]) -> None:
    """Copy the weights that fit; of the last layer, the rows of labels that the start has as well.

    Two-way weights may start it: training teaches them to do without the frames of the future.
    """
    weights = checkpoint.net.state_dict()
    own = net.state_dict()
    fitting = {
        key: value
        for key, value in weights.items()
        if key in own and own[key].shape == value.shape and not key.startswith(_LAST)
    }
    if len(fitting) < len(own) // 2:
        raise DataError(
            f"{checkpoint.path} fits {len(fitting)} of the {len(own)} tensors of the network to "
            "train; expected a checkpoint of the same architecture and width."
        )
    known = checkpoint.labels or ()
    rows = [(at, known.index(name)) for at, name in enumerate(labels) if name in known]
    for key, value in own.items():
        if key.startswith(_LAST) and key in weights and weights[key].shape[1:] == value.shape[1:]:
            fitting[key] = value.clone()
            for at, there in rows:
                fitting[key][at] = weights[key][there]
    net.load_state_dict(fitting, strict=False)
