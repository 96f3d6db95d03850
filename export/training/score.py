"""How good a model is: on clips, on films streamed frame by frame, before people who sit still."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftedge.export.data.clip_set import ClipSet
from shiftedge.export.models import StreamingModel
from shiftedge.export.score.clips import call_clip
from shiftedge.export.score.films import Image, Watchable
from shiftedge.export.score.stream import Streamed, cuts_of
from shiftedge.export.training.augment import make_batch
from shiftedge.export.training.loop import clip_logits
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.progress import Advance
from shiftedge.runtime.spec import ModelSpec

_PART = 32
"""Frames that go through a network at once, whose features have to fit into memory."""


@dataclass(frozen=True)
class ClipScore:
    """Accuracy over clips, each clip called what :func:`call_clip` says."""

    clips: int
    accuracy: float
    accuracy_by_mean: float
    """The same if a clip is called by the mean of its logits, as offline benchmarks do. A model
    that is silent before and after a gesture, as an online model must be, scores less by it."""
    recall: dict[str, float]
    """Of each label."""
    confusion: list[list[int]]
    """Rows are true labels, columns predicted ones, in the order of the model's labels."""
    right: NDArray[np.bool_]
    """(clips,): which were called by their name."""


@torch.inference_mode()
def logits_of_clips(
    net: nn.Module, clips: ClipSet, spec: ModelSpec
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Numbers of some clips and their logits (clips, frames, classes), until all have come."""
    net.eval()
    model = StreamingModel(net)
    length = clips.frames.shape[1]
    for first in range(0, len(clips), 16):
        chosen = np.arange(first, min(first + 16, len(clips)))
        batch = make_batch(
            clips,
            chosen,
            None,
            frames=length,
            height=spec.height,
            width=spec.width,
            mean=spec.mean,
            std=spec.std,
        )
        frames = torch.from_numpy(batch.frames).permute(0, 3, 1, 2)
        yield chosen, clip_logits(model, frames, length).numpy()


def score_clips(
    net: nn.Module, clips: ClipSet, spec: ModelSpec, advance: Advance = lambda count: None
) -> ClipScore:
    """Accuracy of ``net`` on clips it has not been trained on."""
    names = clips.names
    confusion = np.zeros((len(names), len(names)), np.int64)
    by_mean = 0
    right = np.zeros(len(clips), bool)
    for chosen, rows in logits_of_clips(net, clips, spec):
        by_mean += int((rows.mean(1).argmax(1) == clips.labels[chosen]).sum())
        guesses = np.array([call_clip(row, spec) for row in rows])
        right[chosen] = guesses == clips.labels[chosen]
        np.add.at(confusion, (clips.labels[chosen], guesses), 1)
        advance(len(chosen))
    totals = confusion.sum(1)
    recall = {name: float(confusion[i, i] / totals[i]) for i, name in enumerate(names) if totals[i]}
    accuracy = float(np.trace(confusion) / max(1, confusion.sum()))
    by_mean_share = by_mean / max(1, len(clips))
    return ClipScore(len(clips), accuracy, by_mean_share, recall, confusion.tolist(), right)


@torch.inference_mode()
def stream_film(
    net: nn.Module, frames: Sequence[Image], spec: ModelSpec, cuts: Sequence[int] = ()
) -> NDArray[np.float32]:
    """Logits (frames, classes) of a stream from empty states, emptied again before each of
    ``cuts``: by the clip form, which gives what the online form does in a fraction of the time.

    A part of the stream is preceded by so many frames that it does not see where they begin.
    """
    # Twice as fast as NCHW; torch's stubs do not know the argument.
    net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = StreamingModel(net)
    mean, std = (255.0 * torch.tensor(values) for values in (spec.mean, spec.std))
    rows = [np.zeros((0, spec.classes), np.float32)]
    for first, last in itertools.pairwise((0, *cuts, len(frames))):
        for start in range(first, last, _PART):
            lead = max(first, start - spec.receptive_field)
            part = np.stack(frames[lead : min(start + _PART, last)])[..., ::-1].copy()
            pixels = (torch.from_numpy(part).float() - mean) / std
            logits = clip_logits(model, pixels.permute(0, 3, 1, 2), len(part))
            rows.append(logits[0, start - lead :].numpy())
    return np.concatenate(rows)


def watch(
    net: nn.Module,
    spec: ModelSpec,
    films: Sequence[Watchable],
    *,
    advance: Advance = lambda count: None,
) -> list[Streamed]:
    """Films through a network, for :func:`shiftedge.export.score.curve.curve_of` and the rest of
    that package.

    Args:
        films: such as :func:`shiftedge.export.score.films.film_tasks` gives.
        advance: told about films that are done.
    """
    done, fit = [], Preprocessor(spec).fit
    for film in films:
        opened = film.open(spec)
        frames = [np.array(fit(frame)) for frame in opened.frames]
        cuts = cuts_of(frames)
        logits = stream_film(net, frames, spec, cuts)
        seconds = len(frames) / spec.frame_rate_hz
        done.append(
            Streamed(logits, opened.events, seconds, cuts, film.kind, film.name, opened.conditions)
        )
        advance(1)
    return done
