"""``shiftedge train``: data in, a checkpoint and its scores out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftedge.export.checkpoint import Checkpoint, load_checkpoint, serialise_checkpoint
from shiftedge.export.data import silent_labels
from shiftedge.export.models import build
from shiftedge.export.models.shift import FOLD_DIV
from shiftedge.export.to_onnx import describe
from shiftedge.export.training.advice import after, before
from shiftedge.export.training.calibrate import Calibration, Streamed, apply, calibrate
from shiftedge.export.training.clips import ClipSet
from shiftedge.export.training.data import name_data, read_data, settings_for
from shiftedge.export.training.keep import Keeper, Say, log
from shiftedge.export.training.loop import Epoch, Settings, fit
from shiftedge.export.training.record import (
    begun,
    clip_summary,
    epoch_lines,
    film_scores,
    so_far,
    stored,
)
from shiftedge.export.training.score import logits_of_clips, score_clips, stream_film
from shiftedge.runtime.capture.synthetic import Film
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.process.progress import ProgressFactory, progress, working
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

__all__ = ["Shape", "train"]

PAPER_SIZE = 224
"""Pixels a side where a checkpoint does not say."""
_CALIBRATION_SEED = 500_000
"""Films for the calibration start at this seed plus a thousand times the training's own."""


@dataclass(frozen=True)
class Shape:
    """The network, and the frames it is made for."""

    multiplier: float = 0.35
    """Of MobileNetV2's channels."""
    height: int = 96
    width: int = 128
    rate_hz: float = 12.0
    previous_frame: bool = True
    """Whether the first convolution also sees the frame before."""
    dropout: float = 0.1
    shifts: tuple[str, ...] | None = None
    """Where the shifts stand; None: where MobileNetV2 has them."""
    shift_div: int = FOLD_DIV
    """Channels per shifted channel."""

    def description(self, classes: int) -> dict[str, Any]:
        """Arguments of :func:`shiftedge.export.models.build.build`."""
        return {
            "architecture": "mobilenet_v2",
            "classes": classes,
            "width": self.multiplier,
            "previous_frame": self.previous_frame,
            "dropout": self.dropout,
            **({} if self.shifts is None else {"shifts": list(self.shifts)}),
            **({} if self.shift_div == FOLD_DIV else {"shift_div": self.shift_div}),
        }


@working("training")
def train(
    data: str,
    output: Path,
    *,
    epochs: int = 9,
    clips: int = 10_000,
    check_clips: int = 600,
    films: int = 8,
    film_seconds: float = 60.0,
    seed: int = 0,
    threads: int = 2,
    workers: int = 1,
    shape: Shape | None = None,
    size: tuple[int, int] | None = None,
    multiplier: float | None = None,
    decoder: DecoderSettings | None = None,
    start: Path | None = None,
    reading: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    settings: Settings | None = None,
    classes: Path | None = None,
    clip_rate_hz: float | None = None,
    silent: Sequence[str] = (),
    usual_silent: bool = True,
    mirror: bool = True,
    command: str = "",
    bar: ProgressFactory = progress,
    say: Say = log,
) -> dict[str, Any]:
    """Train a one-way model and write ``checkpoint.pt`` and ``scores.json`` into ``output``.

    The checkpoint is replaced as a whole after each epoch, so Ctrl-C keeps the last one. One that
    cannot be written is written elsewhere, and the training goes on.

    Args:
        data: ``synthetic:``, or a folder or list of labelled clips, see
            :func:`shiftedge.export.data.find_data`.
        output: folder, made if need be.
        epochs: passes over the clips.
        clips, check_clips: rendered clips to learn from and to check with.
        films: rendered films for the scores, as many with gestures as without; 0: none.
        film_seconds: length of each.
        seed: fixes data, initial weights and order.
        threads: of torch.
        workers: processes that render.
        shape: network and frame; the default is the start's, or the bundled model's.
        size: (width, height) of the frame in pixels, instead of the shape's.
        multiplier: of MobileNetV2's channels, instead of the shape's.
        decoder: settings stored in the spec and used for the scores.
        start: a checkpoint to go on from; its last layer is new if its labels are others.
        reading: how, as keywords of :func:`shiftedge.export.checkpoint.load_checkpoint`.
        cache: folder that keeps the rendered clips for the next run.
        settings: everything else about training; ``epochs``, ``seed``, ``threads`` and the
            arguments below win.
        classes: names of the classes that a list gives by number; see ``find_data``.
        silent: labels of a person who shows no gesture, besides those whose names are usual for it.
        usual_silent: whether the usual ones are, or those of a start that has the same labels.
        mirror: False where clips must not be mirrored, since a label means another thing then.
        clip_rate_hz: of clips that do not say theirs: folders of pictures, raw streams.
        command: how this was called, for the record.
        bar: shows progress.
        say: told what the user should know of the data, and after each epoch.

    Returns:
        What ``scores.json`` holds.

    Raises:
        DataError: the data cannot be used.
        SpecError: one of ``silent`` is no label.
        CheckpointError, TwoWayCheckpointError: ``start`` cannot.
        NumericsError: the training diverged; the checkpoint of the epoch before is there.
        OutputError: ``output`` cannot be written to; of a training that was done, the sentence
            says where it is instead.
    """
    settings = settings_for(data, settings or Settings(), epochs=epochs, seed=seed, threads=threads)
    output = output_folder(output)
    started = time.perf_counter()
    begun_from = None if start is None else load_checkpoint(start, **(reading or {}))
    for note in () if begun_from is None else begun_from.notes:
        say(note)
    shape = _shape(shape, begun_from, size, multiplier)
    named = name_data(data, classes=classes)
    torch.manual_seed(seed)
    description = shape.description(len(named.labels))
    net = build(description)
    if begun_from is not None:
        _take_over(net, begun_from, named.labels)
    spec = describe(
        net,
        name="gestures",
        labels=named.labels,
        height=shape.height,
        width=shape.width,
        resize_short_side=min(shape.height, shape.width),
        frame_rate_hz=shape.rate_hz,
        silent_labels=_silent(named.labels, silent, usual_silent, begun_from),
        **({} if decoder is None else {"decoder": decoder}),
    )
    settings = dataclasses.replace(
        settings, steady=spec.silent_labels, mirror=mirror and settings.mirror
    )
    record = begun(data if named.synthetic else "folder", 0, seed, command, settings)

    def serialise() -> bytes:
        return serialise_checkpoint(
            net, description, labels=named.labels, spec=stored(spec), training=record
        )

    keeper = Keeper(output, serialise, say)
    learn, check = read_data(
        named,
        spec,
        clips=clips,
        check_clips=check_clips,
        seed=seed,
        workers=workers,
        cache=cache,
        clip_rate_hz=clip_rate_hz,
        bar=bar,
        say=say,
    )
    record["clips"] = len(learn)
    if not named.synthetic:
        for note in before(learn, check, spec, settings, fresh=start is None):
            say(note)

    line = epoch_lines(say, settings.epochs, len(learn))

    def keep(epoch: Epoch) -> None:
        record.update(so_far(epoch, time.perf_counter() - started))
        keeper.keep(epoch.number)
        line(epoch)

    try:
        with bar("training", settings.epochs * len(learn), "clips") as advance:
            last = fit(net, learn, settings, after_epoch=keep, after_step=advance)[-1]
    except KeyboardInterrupt:
        say(keeper.interrupted())
        raise
    torch.set_num_threads(1)  # one frame at a time is too little work to share
    if named.synthetic and films and decoder is None:
        chosen = _calibration(net, check, spec, seed, films, film_seconds, bar)
        apply(net, chosen)
        spec = dataclasses.replace(spec, decoder=chosen.decoder)
        record["calibration"] = {"bias": dict(zip(spec.labels, chosen.bias, strict=True))}
        record.update(so_far(last, time.perf_counter() - started))
        keeper.keep(last.number)
    with bar("checking on clips", len(check), "clips") as advance:
        found = score_clips(net, check, spec, advance)
    scores = {**record, "clip": clip_summary(found, check.names)}
    if named.synthetic and films:
        scores.update(film_scores(net, spec, seed, films, film_seconds, bar))
    keeper.finish(scores)
    if not named.synthetic:
        for note in after(found, check, spec):
            say(note)
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
        if description["architecture"] != "mobilenet_v2":
            raise DataError(
                f"{checkpoint.path} is a {description['architecture']}; training goes on from "
                "MobileNetV2."
            )
        shifts = description.get("shifts")
        shape = Shape(
            multiplier=description["width"],
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
    """Copy the weights that fit; the last layer only if the labels are the same.

    Two-way weights may start it: training teaches them to do without the frames of the future.
    """
    weights = checkpoint.net.state_dict()
    own = net.state_dict()
    same = checkpoint.labels == labels
    fitting = {
        key: value
        for key, value in weights.items()
        if key in own
        and own[key].shape == value.shape
        and (same or not key.startswith("classifier"))
    }
    if len(fitting) < len(own) // 2:
        raise DataError(
            f"{checkpoint.path} fits {len(fitting)} of the {len(own)} tensors of the network to "
            "train; expected a checkpoint of the same architecture and width."
        )
    net.load_state_dict(fitting, strict=False)


def _calibration(
    net: nn.Module,
    check: ClipSet,
    spec: ModelSpec,
    seed: int,
    films: int,
    seconds: float,
    bar: ProgressFactory,
) -> Calibration:
    """Choose on films of both kinds, whose seeds lie before those of the scores."""
    streamed = []
    with bar("calibrating on films", 2 * films, "films") as advance:
        for number in range(2 * films):
            film = Film(
                _CALIBRATION_SEED + 1000 * seed + number,
                seconds=seconds,
                rate_hz=spec.frame_rate_hz,
                height=spec.height,
                width=spec.width,
                clean=number % 2 == 0,
            )
            streamed.append(Streamed(stream_film(net, list(film), spec), film.events, seconds))
            advance(1)
    rows = [row for _, logits in logits_of_clips(net, check, spec) for row in logits]
    return calibrate(spec, streamed, rows, check.labels.tolist())
