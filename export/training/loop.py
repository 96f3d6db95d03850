"""The training loop: clips in their clip form, a loss per frame and a loss per clip."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from shiftedge.export.data.clip_set import IGNORED, ClipSet
from shiftedge.export.data.silent import silent_labels
from shiftedge.export.models import StreamingModel
from shiftedge.export.training.augment import Batch, make_batch, mirror_table, reverse_table
from shiftedge.export.training.frozen import Frozen, Key
from shiftedge.export.training.hands import HEADS_RATE, HandLesson
from shiftedge.export.training.supply import Mixture, steps_of, turns
from shiftedge.runtime.errors import NumericsError
from shiftedge.runtime.spec import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Settings:
    """How to train. The defaults made the bundled model."""

    epochs: int = 9
    batch: int = 12
    """Clips in a step."""
    frames: int = 20
    """Frames of each clip in a step; the receptive field of the model is 12 or less."""
    rate: float = 2e-3
    """Highest learning rate, of AdamW."""
    decay: float = 0.02
    """Weight decay, of all weights that are not biases or batch norm."""
    smoothing: float = 0.05
    """Label smoothing."""
    clip_weight: float = 0.3
    """Weight of the loss of a clip's mean logits against the loss per frame."""
    cuts: tuple[tuple[float, float, int], ...] = ((0.5, 0.5, 12), (0.75, 0.75, 16))
    """Until which share of the epochs which share of a frame's sides is seen, and of how many
    frames: cuts around the hands, of clips that come with hands. Whole frames cost eight times as
    much as the first kind, and most of what they show are no hands. Shrunken ones would be as
    cheap, but fingers are gone there, and so is what they sign."""
    seed: int = 0
    threads: int = 2
    mirror: bool = True
    """Whether clips may be mirrored, which swaps "Swiping Left" and "Swiping Right"; see
    :func:`~shiftedge.export.training.augment.mirror_table`."""
    lesson: float = 1.0
    """Weight of the lesson about hands at the start; it falls to 0 at the end."""
    reverse: bool = True
    """Whether clips whose frames have no labels of their own may be played backwards, which swaps
    labels such as "Zooming In" and "Zooming Out"; see
    :func:`~shiftedge.export.training.augment.reverse_table`."""
    freeze: int = 0
    """Parts of the network that are held, see :mod:`shiftedge.export.training.frozen`; clips then
    are of full size, and there is no lesson."""
    device: str = "cpu"
    """Of torch."""
    mixed: bool = False
    """Whether convolutions and products are in bfloat16."""
    steady: tuple[str, ...] | None = None
    """Labels that hold at any moment of their clips, which are the model's silent ones; None: those
    known by their names."""


@dataclass
class Epoch:
    """What one pass over the clips gave."""

    number: int
    """From 1."""
    steps: int = 0
    loss: float = 0.0
    """Mean over the steps so far."""
    right: int = 0
    counted: int = 0
    """Frames that have a label, and those of them that were called right."""
    seconds: float = 0.0

    @property
    def frame_accuracy(self) -> float:
        """Share of the frames with a label."""
        return self.right / max(self.counted, 1)

    def add(self, loss: float, hits: Tensor, seconds: float) -> None:
        """Count a step in."""
        self.steps += 1
        self.loss += (loss - self.loss) / self.steps
        self.right += int(hits.sum())
        self.counted += len(hits)
        self.seconds += seconds


@dataclass(frozen=True)
class TrainingStep:
    """What one step gave."""

    number: int
    """From 1, over all epochs."""
    clips: int
    loss: float
    rate: float
    """Learning rate."""


def keep_freed_memory() -> None:
    """Ask glibc to reuse large blocks instead of returning them to the kernel.

    Each step frees and allocates the same activations. Returning them costs a page fault per 4 KB:
    a step at 96x128 takes half the time without (measured: 130 against 281 frames a second).
    """
    if not sys.platform.startswith("linux"):
        return
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is not None:  # musl has none
        trim_threshold, mmap_max = -1, -4  # malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)  # never


def clip_logits(model: StreamingModel, frames: Tensor, length: int) -> Tensor:
    """Logits (N, T, classes) of N * T frames (N * T, 3, H, W) in clips of ``length`` frames."""
    return model.clip(frames.reshape(-1, length, *frames.shape[1:]))


def _loss(logits: Tensor, batch: Batch, settings: Settings) -> tuple[Tensor, Tensor]:
    """The loss, and for each frame that counts whether it is right (1.0) or not (0.0)."""
    truth = torch.from_numpy(batch.frame_labels).to(logits.device)
    labels = torch.from_numpy(batch.labels).to(logits.device)
    flat = logits.flatten(0, 1)
    counted = truth != IGNORED
    total = flat.new_zeros(())
    if bool(counted.any()):
        losses = F.cross_entropy(
            flat[counted], truth[counted], label_smoothing=settings.smoothing, reduction="none"
        )
        total = losses.sum() / len(losses)  # its own mean rounds otherwise, and seeds are promised
    known = labels != IGNORED
    if bool(known.any()):
        total = total + settings.clip_weight * F.cross_entropy(
            logits.mean(1)[known], labels[known], label_smoothing=settings.smoothing
        )
    right = (flat.detach().argmax(1)[counted] == truth[counted]).float()
    return total, right


def _likeness(logits: Tensor, wanted: Tensor) -> Tensor:
    """How far ``logits`` (N, T, classes) are from giving the probabilities of ``wanted``: the cross
    entropy, which both clips and frames of any label can teach."""
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(0, 1).softmax(-1))


def _groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    learned = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in learned if p.ndim > 1]
    others = [p for p in learned if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]


def fit(
    net: nn.Module,
    clips: Mixture,
    settings: Settings,
    size: tuple[int, int],
    *,
    teacher: nn.Module | None = None,
    resume: Mapping[str, Any] | None = None,
    after_epoch: Callable[[Epoch], None] | None = None,
    after_step: Callable[[TrainingStep], None] | None = None,
    keep: Callable[[Callable[[], dict[str, Any]], bool], None] | None = None,
) -> Epoch:
    """Train ``net`` in place.

    Args:
        net: a network over single frames with shifts inside, as the constructors in
            :mod:`shiftedge.export.models` make them.
        clips: at the size that the model will be used at.
        size: (height, width) of the clips.
        teacher: a network of the same frames and classes, in evaluation mode, whose probabilities
            ``net`` is to give for every frame; labels then count for the accuracy alone.
        resume: what the function given to ``keep`` gave, of a training of the same network, clips
            and settings: this one goes on from there, and ends with the same bytes.
        after_epoch: called when an epoch is done, with ``net`` in the state it reached.
        after_step: called after each step.
        keep: called after each step and epoch, with a function for the state that was reached, and
            whether it is the last.

    Returns:
        The last epoch.

    Raises:
        NumericsError: the loss is no longer a number; ``net`` is then of no use.
        ValueError, KeyError, RuntimeError: ``resume`` is of another network.
    """
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    # Twice as fast as NCHW in oneDNN's training; torch's stubs do not know the argument.
    net.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with contextlib.ExitStack() as stack:
        heads: HandLesson | None = None
        if settings.lesson > 0.0 and not settings.freeze and HandLesson.suits(net):
            torch.manual_seed(settings.seed)
            heads = stack.enter_context(HandLesson(net, size[1] / size[0])).to(settings.device)
        run = _Run(net, heads, clips, settings, teacher)
        if resume is not None:
            run.restore(resume)
        last = run.to_end(size, after_epoch, after_step, keep)
    net.to("cpu")  # where it is scored and exported
    return last


class _Run:
    """What lasts from step to step."""

    def __init__(
        self,
        net: nn.Module,
        heads: HandLesson | None,
        clips: Mixture,
        settings: Settings,
        teacher: nn.Module | None,
    ) -> None:
        self._net, self._heads, self._clips, self._settings = net, heads, clips, settings
        self._model = StreamingModel(net)
        self._teacher = None if teacher is None else StreamingModel(teacher.to(settings.device))
        names = clips.names
        steady = silent_labels(names) if settings.steady is None else settings.steady
        self._steady = frozenset(i for i, n in enumerate(names) if n in steady)
        self._mirror = mirror_table(names) if settings.mirror else None
        self._reverse = reverse_table(names, self._steady) if settings.reverse else None
        self._frozen = Frozen(net, settings.freeze, settings.seed) if settings.freeze else None
        self._total = steps_of(clips, settings.batch) * settings.epochs
        self._done = 0
        self._epoch = self._last = Epoch(1)
        groups = _groups(net, settings.decay)
        rates = [settings.rate] * len(groups)
        if heads is not None:
            groups.append({"params": list(heads.parameters()), "weight_decay": 0.0})
            rates.append(HEADS_RATE * settings.rate)
        self._optimizer = torch.optim.AdamW(groups, lr=settings.rate)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            max_lr=rates,
            total_steps=max(2, self._total),
            pct_start=min(0.3, max(0.05, 300 / max(1, self._total))),
        )

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values."""
        return {
            "done": self._done,
            "epoch": dataclasses.asdict(self._epoch),
            "last": dataclasses.asdict(self._last),
            "net": self._net.state_dict(),
            "heads": None if self._heads is None else self._heads.heads.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self._net.load_state_dict(state["net"])
        if self._heads is not None:
            self._heads.heads.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._done = state["done"]
        self._epoch, self._last = Epoch(**state["epoch"]), Epoch(**state["last"])

    def to_end(
        self,
        full: tuple[int, int],
        after_epoch: Callable[[Epoch], None] | None,
        after_step: Callable[[TrainingStep], None] | None,
        keep: Callable[[Callable[[], dict[str, Any]], bool], None] | None,
    ) -> Epoch:
        """Take the steps that are left."""
        settings = self._settings

        def vary(clips: ClipSet, rng: np.random.Generator, passed: int = -1) -> Batch:
            share = (passed + 1) / settings.epochs
            cuts = settings.cuts if self._heads is not None and self._clips.hands else ()
            cut, frames = next(
                ((cut, frames) for until, cut, frames in cuts if share <= until + 1e-9),
                (1.0, settings.frames),
            )
            return make_batch(
                clips,
                np.arange(len(clips)),
                rng,
                frames=min(frames, clips.frames.shape[1]),
                height=full[0],
                width=full[1],
                cut=cut,
                mean=IMAGENET_MEAN,
                std=IMAGENET_STD,
                mirror=self._mirror,
                reverse=self._reverse,
                steady=self._steady,
            )

        def make(
            step: int, passed: int, draws: NDArray[np.int64], clips: ClipSet
        ) -> Batch | list[tuple[Key, Batch]]:
            if self._frozen is not None:
                return self._frozen.make(draws, clips, vary)
            return vary(clips, self._clips.variations(step), passed)

        self._train()
        started = time.perf_counter()
        ready = turns(self._clips, settings.batch, self._done, settings.epochs, make)
        with contextlib.closing(ready):
            for turn in ready:
                rate = float(self._schedule.get_last_lr()[0])
                loss, hits, clips = self._step(turn.ready)
                if not math.isfinite(loss):
                    raise NumericsError(
                        f"The loss is no longer a number in step {turn.step + 1}, epoch "
                        f"{turn.passed + 1}: the training diverged, or its start was damaged. "
                        "Start from another checkpoint, or check the clips."
                    )
                now = time.perf_counter()
                self._epoch.add(loss, hits, now - started)
                started = now
                if after_step is not None:
                    after_step(TrainingStep(self._done, clips, loss, rate))
                if turn.last:
                    self._last, self._epoch = self._epoch, Epoch(turn.passed + 2)
                    if after_epoch is not None:
                        after_epoch(self._last)
                        self._train()
                if keep is not None:
                    keep(self.state, self._done == self._total)
        return self._last

    def _train(self) -> None:
        if self._frozen is None:
            self._net.train()
        else:
            self._frozen.train()

    def _step(self, made: Batch | list[tuple[Key, Batch]]) -> tuple[float, Tensor, int]:
        """Loss, which labelled frames are right, and clips of a step."""
        settings = self._settings
        torch.manual_seed((settings.seed << 32) + self._done)  # of dropout
        if isinstance(made, Batch):
            batch = made
            # The array is NHWC: seen as NCHW it already is channels_last.
            frames = torch.from_numpy(batch.frames).to(settings.device).permute(0, 3, 1, 2)
        else:
            assert self._frozen is not None
            frames, batch = self._frozen.features(made, settings.device)
        length = batch.length
        # bfloat16 has the range of float32; what must be exact autocast keeps in float32 itself.
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.mixed):
            if self._frozen is not None:
                logits = self._frozen.logits(frames, length)
            else:
                logits = clip_logits(self._model, frames, length)
            loss, hits = _loss(logits.float(), batch, settings)
            if self._teacher is not None:
                with torch.no_grad():
                    wanted = clip_logits(self._teacher, frames, length)
                loss = _likeness(logits, wanted)
            shown = float(loss.detach())
            if self._heads is not None and batch.hands is not None:
                share = 1.0 - self._done / max(1, self._total)
                hands = torch.from_numpy(batch.hands).to(settings.device)
                loss = loss + settings.lesson * share * self._heads.loss(hands, length, batch.cut)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._net.parameters(), 5.0)
        self._optimizer.step()
        self._schedule.step()
        self._done += 1
        return shown, hits, len(batch.labels)
