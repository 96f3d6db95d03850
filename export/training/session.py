"""A training under way: its clips, its record, and the checkpoint of the last whole epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from shiftedge.export.checkpoint import serialise_checkpoint
from shiftedge.export.networks import TRAINED
from shiftedge.export.score.clips import Confusion, share_of
from shiftedge.export.score.curve import curve_of
from shiftedge.export.score.films import KINDS, SCORE_SEED, SEEDS, film_tasks
from shiftedge.export.score.report import Scored, document
from shiftedge.export.training.data import Job, Named, read_data
from shiftedge.export.training.keep import PAGE, Keeper
from shiftedge.export.training.logs import Logs
from shiftedge.export.training.loop import Epoch, Settings, TrainingStep, fit
from shiftedge.export.training.resume import Unfinished
from shiftedge.export.training.score import ClipScore, score_clips, watch
from shiftedge.export.training.supply import steps_of
from shiftedge.runtime.errors import MissingExtraError, OutputError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.process.signals import Closing
from shiftedge.runtime.spec import ModelSpec

_LINE_EVERY_S = 10.0
_MACHINE = ("threads", "device", "mixed")
"""Settings that say how to compute, and not what."""


def stored(spec: ModelSpec) -> dict[str, Any]:
    """The part of the spec that training fixes, as plain values."""
    everything = dataclasses.asdict(spec)
    stored = {key: everything[key] for key in (*TRAINED, "decoder")}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in stored.items()}


def _digest(net: nn.Module) -> str:
    """Of the weights, whatever kind of file or folder they came from."""
    found = hashlib.sha256()
    for value in net.state_dict().values():
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


class Session(Closing):
    """What a training and a fine-tune do alike.

    Args:
        net: to train, a network of ``description``.
        description: see :func:`shiftedge.export.models.build.build`.
        spec: of the network; may be replaced until the checkpoint is kept for the last time.
        clips: to render, where the data is rendered.
        ranges: that the checkpoint is to hold, filled later; None: it holds none.

    Raises:
        DataError: the data cannot be used.
        OutputError: there is no room for the checkpoint.
    """

    def __init__(
        self,
        job: Job,
        settings: Settings,
        net: nn.Module,
        description: Mapping[str, Any],
        spec: ModelSpec,
        named: Named,
        clips: int,
        ranges: Mapping[str, tuple[float, int]] | None = None,
    ) -> None:
        self._job, self._settings = job, settings
        self._net, self._description, self._ranges = net, description, ranges
        self.spec, self._rendered = spec, named.rendered
        self._started = time.perf_counter()
        self._next_line_s = 0.0
        self.record: dict[str, Any] = {
            "data": [data if layout is None else "folder" for data, layout in named.parts],
            "clips": 0,
            "seed": job.seed,
            "start": _digest(net) if job.start is not None or job.imagenet else None,
            "epochs": 0,
            "command": job.command,
            "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
        }
        """What the checkpoint says of how it was trained."""
        self._keeper = Keeper(output_folder(job.output), self._serialise, job.say)
        self.learn, self.check = read_data(job, named, spec, clips)
        self.record["clips"] = len(self.learn)

    def close(self) -> None:
        for part in self.learn.parts:
            if isinstance(part, Closing):
                part.close()

    def _serialise(self) -> bytes:
        return serialise_checkpoint(
            self._net,
            self._description,
            labels=self.spec.labels,
            spec=stored(self.spec),
            training=self.record,
            ranges=self._ranges,
        )

    def _identity(self) -> dict[str, Any]:
        """What a training must have in common with one that goes on from it: all but where and how
        fast it computes."""
        settings = {k: v for k, v in self.record["settings"].items() if k not in _MACHINE}
        return {
            "seed": self.record["seed"],
            "start": self.record["start"],
            "data": [*self.record["data"], self.learn.digest()],
            "labels": list(self.spec.labels),
            "network": json.loads(json.dumps(dict(self._description))),
            "settings": settings,
        }

    def fit(self, title: str, net: nn.Module, teacher: nn.Module | None = None) -> Epoch:
        """Train ``net``, from where an earlier training was stopped, and keep the checkpoint after
        each epoch; the last one.

        Raises:
            DataError: the output holds a stopped training of something else.
        """
        job, settings = self._job, self._settings
        unfinished = Unfinished(job.output, self._identity(), job.say)
        resume = None if job.fresh else unfinished.load()
        done = 0 if resume is None else int(resume["done"])
        total = settings.epochs * steps_of(self.learn, settings.batch)
        if resume is not None:
            job.say(f"going on after step {done:,} of {total:,}, where it was stopped")
            self._keeper.epochs = done * settings.epochs // total
        size = self.check.frames.shape[2], self.check.frames.shape[3]
        with (
            Logs(job.logs, done) as logs,
            job.bar(title, settings.epochs * len(self.learn), "clips") as advance,
        ):
            if done:
                advance(min(done * settings.batch, settings.epochs * len(self.learn)))

            def after_step(step: TrainingStep) -> None:
                advance(step.clips)
                logs.step(step)

            def after_epoch(epoch: Epoch) -> None:
                logs.epoch(epoch)
                self._after_epoch(epoch)

            try:
                last = fit(
                    net,
                    self.learn,
                    settings,
                    size,
                    teacher=teacher,
                    resume=resume,
                    after_epoch=after_epoch,
                    after_step=after_step,
                    keep=lambda state, last: unfinished.keep(state, now=last),
                )
            except KeyboardInterrupt:
                job.say(self._keeper.interrupted())
                if unfinished.path.exists():
                    job.say("the same command goes on from there; --fresh would begin anew")
                raise
        self._unfinished = unfinished
        self._note(last)
        return last

    def _note(self, epoch: Epoch) -> None:
        self.record |= {
            "epochs": epoch.number,
            "loss": round(epoch.loss, 4),
            "frame_accuracy": round(epoch.frame_accuracy, 4),
        }

    def keep(self, epoch: Epoch) -> None:
        """The checkpoint as it is now, after ``epoch``."""
        self._note(epoch)
        self._keeper.keep(epoch.number)

    def _after_epoch(self, epoch: Epoch) -> None:
        self.keep(epoch)
        epochs = self._settings.epochs
        # Of quick ones not each.
        if time.monotonic() >= self._next_line_s or epoch.number == epochs:
            self._next_line_s = time.monotonic() + _LINE_EVERY_S
            self._job.say(
                f"epoch {epoch.number} of {epochs}: loss {epoch.loss:.3f}, {epoch.seconds:.0f} s, "
                f"{len(self.learn) / max(epoch.seconds, 1e-9):.1f} clips/s"
            )

    def score(self, net: nn.Module, title: str = "checking on clips") -> ClipScore:
        """``net`` on the clips to check with."""
        with self._job.bar(title, len(self.check), "clips") as advance:
            return score_clips(net, self.check, self.spec, advance)

    def finish(self, net: nn.Module, found: ClipScore, **more: Any) -> dict[str, Any]:
        """Write the scores, those on rendered films included; what was written.

        Raises:
            OutputError: they, or the last checkpoint, could not be written.
        """
        clip = {
            "clips": found.clips,
            "accuracy": round(found.accuracy, 4),
            "accuracy_by_mean": round(found.accuracy_by_mean, 4),
            "recall": {name: round(value, 4) for name, value in found.recall.items()},
            "labels": list(self.check.names),
            "confusion": found.confusion,
        }
        seconds = round(time.perf_counter() - self._started, 1)
        scores = {**self.record, "seconds": seconds, "clip": clip, **more}
        if self._rendered and self._job.films:
            scores["films"] = self._on_films(net, found)
        self._keeper.finish(scores)
        self._unfinished.remove()
        return scores

    def _on_films(self, net: nn.Module, clips: ClipScore) -> dict[str, Any]:
        """``net`` on films that nothing was chosen on, as ``shiftedge score`` has it; its page lies
        beside the scores, where the packages that draw it are installed."""
        job, spec = self._job, self.spec
        films = film_tasks(
            {kind: max(1, round(job.films * count)) for kind, count in KINDS.items()},
            first_seed=SCORE_SEED + SEEDS * job.seed,
            pictures=job.pictures,
        )
        with job.bar("streaming films to score on", len(films), "films") as advance:
            watched = watch(net, spec, films, advance=advance)
        names, table = self.check.names, np.array(clips.confusion)
        called = Confusion(names, names, table, share_of(clips.right))
        scored = Scored(spec.name, curve_of(watched, spec), called)
        found = document([scored], watched, made={"command": job.command, "seed": job.seed})
        try:
            from shiftedge.export.score.page import write_page  # asks for what draws it

            write_page(job.output / PAGE, found)
        except (MissingExtraError, OutputError) as error:
            job.say(f"the page of the scores is left out: {error}")
        return found
