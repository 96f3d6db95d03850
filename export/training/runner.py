"""``shiftedge train``: data in, a checkpoint and its scores out."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftedge.export.checkpoint import load_checkpoint, save_checkpoint
from shiftedge.export.models import build
from shiftedge.export.to_onnx import describe
from shiftedge.export.training.calibrate import Calibration, Streamed, apply, calibrate
from shiftedge.export.training.clips import ClipSet, synthetic_clips
from shiftedge.export.training.folder import FolderClip, find_clips, load_clips, split_clips
from shiftedge.export.training.loop import Epoch, Settings, fit
from shiftedge.export.training.score import (
    ClipScore,
    logits_of_clips,
    score_clips,
    score_films,
    stream_film,
)
from shiftedge.runtime.capture.synthetic import Film
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.files import atomic_path, output_folder
from shiftedge.runtime.progress import ProgressFactory, progress
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

__all__ = ["CHECKPOINT", "SCORES", "SYNTHETIC", "Shape", "train"]

SYNTHETIC = "synthetic:"
"""DATA that stands for rendered clips."""
CHECKPOINT = "checkpoint.pt"
SCORES = "scores.json"
"""Names of the files in the output folder."""

PAPER_SIZE = 224
"""Pixels a side where a checkpoint does not say."""
_FOLDER_FRAMES = 36
"""Frames kept of a user's clip: 3 s at 12 Hz, which is what Jester's clips last."""
_CALIBRATION_SEED = 500_000
"""Films for the calibration start at this seed plus a thousand times the training's own."""
_UNSEEN_SEED = 1_000_003
"""Films for the scores start at this seed plus the training's own."""


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

    def description(self, classes: int) -> dict[str, Any]:
        """Arguments of :func:`shiftedge.export.models.build.build`."""
        return {
            "architecture": "mobilenet_v2",
            "classes": classes,
            "width": self.multiplier,
            "previous_frame": self.previous_frame,
            "dropout": self.dropout,
        }


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
    cache: Path | None = None,
    settings: Settings | None = None,
    command: str = "",
    bar: ProgressFactory = progress,
) -> dict[str, Any]:
    """Train a one-way model and write ``checkpoint.pt`` and ``scores.json`` into ``output``.

    The checkpoint is replaced as a whole after each epoch, so Ctrl-C keeps the last one.

    Args:
        data: :data:`SYNTHETIC`, or a folder ``DATA/<Label name>/<clip>``.
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
        cache: folder that keeps the rendered clips for the next run.
        settings: everything else about training; ``epochs``, ``seed`` and ``threads`` win.
        command: how this was called, for the record.
        bar: shows progress.

    Returns:
        What ``scores.json`` holds.

    Raises:
        DataError: the data cannot be used.
        CheckpointError: ``start`` cannot.
        OutputError: ``output`` cannot be written to.
    """
    if epochs < 1:
        raise DataError(f"{epochs} epochs were asked for; expected at least 1.")
    output = output_folder(output)
    started = time.perf_counter()
    shape = _shape(shape, start, size, multiplier)
    settings = dataclasses.replace(
        settings or Settings(), epochs=epochs, seed=seed, threads=threads
    )
    synthetic = data == SYNTHETIC
    if synthetic:
        learn = _rendered(clips, "train", seed, shape, workers, cache, bar)
        check = _rendered(check_clips, "validation", seed, shape, workers, cache, bar)
    else:
        learn, check = _from_folder(Path(data), shape, bar)
        settings = dataclasses.replace(settings, frames=_FOLDER_FRAMES)
    torch.manual_seed(seed)
    description = shape.description(len(learn.names))
    net = build(description)
    if start is not None:
        _take_over(net, start, learn.names)
    spec = describe(
        net,
        name="gestures",
        labels=learn.names,
        height=shape.height,
        width=shape.width,
        resize_short_side=min(shape.height, shape.width),
        frame_rate_hz=shape.rate_hz,
        **({} if decoder is None else {"decoder": decoder}),
    )
    record: dict[str, Any] = {
        "data": data if synthetic else "folder",
        "clips": len(learn),
        "seed": seed,
        "epochs": 0,
        "command": command,
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
    }

    def keep(epoch: Epoch) -> None:
        record.update(
            epochs=epoch.number,
            loss=round(epoch.loss, 4),
            frame_accuracy=round(epoch.frame_accuracy, 4),
            seconds=round(time.perf_counter() - started, 1),
        )
        save_checkpoint(
            output / CHECKPOINT,
            net,
            description,
            labels=learn.names,
            spec=_stored(spec),
            training=record,
        )

    with bar("training", settings.epochs * len(learn), "clips") as advance:
        last = fit(net, learn, settings, after_epoch=keep, after_step=advance)[-1]
    torch.set_num_threads(1)  # one frame at a time is too little work to share
    if synthetic and films and decoder is None:
        chosen = _calibration(net, check, spec, seed, films, film_seconds, bar)
        apply(net, chosen)
        spec = dataclasses.replace(spec, decoder=chosen.decoder)
        record["calibration"] = {"bias": dict(zip(spec.labels, chosen.bias, strict=True))}
        keep(last)
    scores = {**record, "clip": _clip_score(net, check, spec, bar)}
    if synthetic and films:
        scores.update(_film_scores(net, spec, seed, films, film_seconds, bar))
    with atomic_path(output / SCORES) as temporary:
        temporary.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return scores


def _rendered(
    count: int,
    split: str,
    seed: int,
    shape: Shape,
    workers: int,
    cache: Path | None,
    bar: ProgressFactory,
) -> ClipSet:
    with bar(f"rendering clips ({split})", count, "clips") as advance:
        return synthetic_clips(
            count,
            seed=seed,
            split=split,
            rate_hz=shape.rate_hz,
            height=shape.height,
            width=shape.width,
            workers=workers,
            cache=cache,
            advance=advance,
        )


def _from_folder(data: Path, shape: Shape, bar: ProgressFactory) -> tuple[ClipSet, ClipSet]:
    found = find_clips(data)
    names = tuple(sorted({clip.label for clip in found}))
    with bar("reading clips", len(found), "clips") as advance:

        def read(part: list[FolderClip]) -> ClipSet:
            return load_clips(
                part,
                names,
                frames=_FOLDER_FRAMES,
                rate_hz=shape.rate_hz,
                height=shape.height,
                width=shape.width,
                advance=advance,
            )

        learn, check = split_clips(found)
        return read(learn), read(check)


def _shape(
    shape: Shape | None,
    start: Path | None,
    size: tuple[int, int] | None,
    multiplier: float | None,
) -> Shape:
    """The network to train: as asked, else as the start, else as the bundled model."""
    if shape is None and start is not None:
        checkpoint = load_checkpoint(start, accept_two_way=True)
        description, spec = checkpoint.description, checkpoint.spec
        if description["architecture"] != "mobilenet_v2":
            raise DataError(
                f"{start} is a {description['architecture']}; training goes on from MobileNetV2."
            )
        shape = Shape(
            multiplier=description["width"],
            previous_frame=bool(description.get("previous_frame")),
            height=spec.get("height", PAPER_SIZE),
            width=spec.get("width", PAPER_SIZE),
            rate_hz=spec.get("frame_rate_hz", Shape.rate_hz),
        )
    shape = shape or Shape()
    if size is not None:
        shape = dataclasses.replace(shape, width=size[0], height=size[1])
    if multiplier is not None:
        shape = dataclasses.replace(shape, multiplier=multiplier)
    return shape


def _take_over(net: nn.Module, start: Path, labels: tuple[str, ...]) -> None:
    """Copy the weights of ``start`` that fit; the last layer only if the labels are the same."""
    # Two-way weights may start it: training teaches them to do without the frames of the future.
    checkpoint = load_checkpoint(start, accept_two_way=True)
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
            f"{start} fits {len(fitting)} of the {len(own)} tensors of the network to train; "
            "expected a checkpoint of the same architecture and width."
        )
    net.load_state_dict(fitting, strict=False)


def _stored(spec: ModelSpec) -> dict[str, Any]:
    """The part of the spec that training fixes, as plain values."""
    keys = ("height", "width", "resize_short_side", "frame_rate_hz", "mean", "std")
    everything = dataclasses.asdict(spec)
    stored = {key: everything[key] for key in (*keys, "max_gap_s", "silent_labels", "decoder")}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in stored.items()}


def _clip_score(
    net: nn.Module, check: ClipSet, spec: ModelSpec, bar: ProgressFactory
) -> dict[str, Any]:
    with bar("checking on clips", len(check), "clips") as advance:
        score: ClipScore = score_clips(net, check, spec, advance)
    return {
        "clips": score.clips,
        "accuracy": round(score.accuracy, 4),
        "accuracy_by_mean": round(score.accuracy_by_mean, 4),
        "recall": {name: round(value, 4) for name, value in score.recall.items()},
        "labels": list(check.names),
        "confusion": score.confusion,
    }


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


def _film_scores(
    net: nn.Module, spec: ModelSpec, seed: int, films: int, seconds: float, bar: ProgressFactory
) -> dict[str, Any]:
    """Scores by kind of film: good light, the worst of training, and a person who sits still."""
    kinds = {
        "films": (True, True, 0),
        "harsh_films": (True, False, 300),
        "still": (False, False, 500),
    }
    summaries = {}
    for name, (gestures, clean, offset) in kinds.items():
        with bar(f"checking on {name.replace('_', ' ')}", films, "films") as advance:
            score = score_films(
                net,
                spec,
                seed=_UNSEEN_SEED + 1000 * seed + offset,
                films=films,
                seconds=seconds,
                gestures=gestures,
                clean=clean,
                advance=advance,
            )
        summaries[name] = score.summary()
    return summaries
