"""``shiftedge train --quantize``: a short fine-tune that makes a trained network bear int8.

::

    checkpoint -> ranges (streamed) -> steps in faked int8 towards its float answers -> checkpoint

The network learns to give, rounded, the probabilities that it gave before in float. Labels would
also teach, but undo what was set after training, such as how readily a label is believed. The
ranges are held while it learns and go with the checkpoint to ``shiftedge quantize``.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.resources
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftedge.export.checkpoint import load_checkpoint, serialise_checkpoint
from shiftedge.export.models import MobileNetV2
from shiftedge.export.networks import spec_of
from shiftedge.export.quantize.ranges import Affine
from shiftedge.export.quantize.source import FRAMES, Clips, checked
from shiftedge.export.training.clips import ClipSet
from shiftedge.export.training.data import name_data, read_data, settings_for
from shiftedge.export.training.fake import FRAME, FakeQuantised, Int8
from shiftedge.export.training.keep import Keeper, Say, log
from shiftedge.export.training.loop import Epoch, Settings, fit
from shiftedge.export.training.observe import stream_ranges
from shiftedge.export.training.record import (
    begun,
    clip_summary,
    epoch_lines,
    film_scores,
    so_far,
    stored,
)
from shiftedge.export.training.score import ClipScore, score_clips
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.process.progress import ProgressFactory, progress, working
from shiftedge.runtime.spec import ModelSpec

__all__ = ["CLIPS", "EPOCHS", "fine_tune", "gentle"]

EPOCHS = 2
CLIPS = 1_200
"""Rendered, to learn from."""
_CALIBRATION = 17
"""Draws the clips that the ranges come from, together with the seed."""


def gentle() -> Settings:
    """A low rate on frames of full size: the weights have to move by steps of their codes, and
    ranges of smaller frames would be others."""
    return Settings(rate=3e-4, decay=0.0, sizes=((1.0, 1.0),), lesson=0.0)


@working("fine-tuning")
def fine_tune(
    data: str,
    output: Path,
    *,
    epochs: int = EPOCHS,
    clips: int = CLIPS,
    check_clips: int = 600,
    films: int = 8,
    film_seconds: float = 60.0,
    seed: int = 0,
    threads: int = 2,
    workers: int = 1,
    start: Path | None = None,
    reading: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    settings: Settings | None = None,
    classes: Path | None = None,
    clip_rate_hz: float | None = None,
    mirror: bool = True,
    command: str = "",
    bar: ProgressFactory = progress,
    say: Say = log,
) -> dict[str, Any]:
    """Fine-tune a checkpoint for int8; write ``checkpoint.pt`` and ``scores.json`` into ``output``.

    The checkpoint is an ordinary float one, replaced as a whole after each epoch, so Ctrl-C keeps
    the last one. Its spec is the start's.

    Args:
        data: ``synthetic:``, or a folder or list of clips of the start's labels, see
            :func:`shiftedge.export.data.find_data`.
        epochs: passes over the clips.
        clips, check_clips: rendered clips to learn from and to check with.
        films: rendered films for the scores, as many with gestures as without; 0: none.
        film_seconds: length of each.
        seed: fixes data and order.
        threads: of torch.
        workers: processes that render.
        start: a MobileNetV2 checkpoint of any known kind; None: the bundled model's.
        reading: how, as keywords of :func:`shiftedge.export.checkpoint.load_checkpoint`.
        cache: folder that keeps the rendered clips for the next run.
        settings: everything else about training, instead of :func:`gentle`; ``epochs``, ``seed``
            and ``threads`` win.
        classes: names of the classes that a list gives by number.
        clip_rate_hz: of clips that do not say theirs: folders of pictures, raw streams.
        mirror: False where clips are not to be shown mirrored.
        command: how this was called, for the record.
        bar: shows progress.
        say: told what the user should know of the data, and after each epoch.

    Returns:
        What ``scores.json`` holds. "clip", "films" and others are those of the faked int8 network
        after the fine-tune, with the ranges that the file of ``shiftedge quantize`` will have;
        "quantised" compares its clips with those before.

    Raises:
        DataError: the data or the network cannot be used.
        CheckpointError, TwoWayCheckpointError: ``start`` cannot.
        NumericsError: the network gives values that are not finite.
        OutputError: ``output`` cannot be written to; see :func:`~.runner.train`.
    """
    settings = settings_for(data, settings or gentle(), epochs=epochs, seed=seed, threads=threads)
    output = output_folder(output)
    started = time.perf_counter()
    net, spec, description = _trained(start, reading or {}, say)
    named = name_data(data, spec.labels, classes)
    settings = dataclasses.replace(
        settings, steady=spec.silent_labels, mirror=mirror and settings.mirror
    )
    record = begun(data if named.synthetic else "folder", 0, seed, command, settings)
    ranges: dict[str, Affine] = {}

    def serialise() -> bytes:
        return serialise_checkpoint(
            net,
            description,
            labels=spec.labels,
            spec=stored(spec),
            training=record,
            ranges={
                place: (affine.scale, affine.zero_point)
                for place, affine in ranges.items()
                if place != FRAME  # every pixel's, whatever was trained
            },
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
    calibration = _drawn(data, learn, seed)
    torch.set_num_threads(1)  # one frame at a time is too little work to share
    ranges |= stream_ranges(net, spec, calibration, bar)
    fake = FakeQuantised(net, Int8(ranges, spec.std))
    torch.set_num_threads(settings.threads)
    teacher = copy.deepcopy(net)
    wanted = _score(teacher, check, spec, "float", bar)
    before = _score(fake, check, spec, "int8", bar)

    line = epoch_lines(say, settings.epochs, len(learn))

    def keep(epoch: Epoch) -> None:
        record.update(so_far(epoch, time.perf_counter() - started))
        keeper.keep(epoch.number)
        line(epoch)

    try:
        with bar("fine-tuning", settings.epochs * len(learn), "clips") as advance:
            fit(fake, learn, settings, teacher=teacher, after_epoch=keep, after_step=advance)
    except KeyboardInterrupt:
        say(keeper.interrupted())
        raise
    after = _score(fake, check, spec, "int8", bar)
    scores = {
        **record,
        "clip": clip_summary(after, check.names),
        "quantised": {
            "clips": len(check),
            "float": round(wanted.accuracy, 4),
            "before": _against(wanted.right, before.right),
            "after": _against(wanted.right, after.right),
        },
    }
    torch.set_num_threads(1)
    if named.synthetic and films:
        scores.update(film_scores(fake, spec, seed, films, film_seconds, bar))
    keeper.finish(scores)
    return scores


def _trained(
    start: Path | None, reading: Mapping[str, Any], say: Say
) -> tuple[MobileNetV2, ModelSpec, dict[str, Any]]:
    """The network to fine-tune, its spec, and what it is built from."""
    if start is None:
        bundled = importlib.resources.files("shiftedge.export.assets") / "gestures.pt"
        with importlib.resources.as_file(bundled) as path:
            return _trained(path, {}, say)
    checkpoint = load_checkpoint(start, **reading)
    for note in checkpoint.notes:
        say(note)
    net, spec = checkpoint.net, spec_of(checkpoint)
    if not isinstance(net, MobileNetV2):
        raise DataError(
            f"{start} is a {checkpoint.description['architecture']}; --quantize fine-tunes "
            "MobileNetV2: give such a checkpoint, or quantise this one as it is."
        )
    if checkpoint.ranges:
        raise DataError(
            f"{start} has been fine-tuned for int8 already, and its float answers are no longer "
            "those to keep; start from the checkpoint that it was made from, with more --epochs."
        )
    return net, spec, checkpoint.description


def _drawn(source: str, clips: ClipSet, seed: int) -> Clips:
    """As many frames as ``shiftedge quantize`` reads, of clips drawn from all."""
    order = np.random.default_rng((seed, _CALIBRATION)).permutation(len(clips))
    count = -(-FRAMES // clips.frames.shape[1])
    return checked(Clips(source, tuple(np.array(clips.frames[i]) for i in order[:count])))


def _score(
    net: nn.Module, check: ClipSet, spec: ModelSpec, what: str, bar: ProgressFactory
) -> ClipScore:
    with bar(f"checking on clips, {what}", len(check), "clips") as advance:
        return score_clips(net, check, spec, advance)


def _against(wanted: NDArray[np.bool_], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Accuracy, and how it differs from the float network's on the same clips."""
    change = right.astype(float) - wanted
    return {
        "accuracy": round(float(right.mean()), 4),
        "lost": int((wanted & ~right).sum()),
        "won": int((right & ~wanted).sum()),
        "standard_error": round(float(np.std(change) / len(change) ** 0.5), 4),
    }
