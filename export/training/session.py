"""A training under way: its clips, its record, and the checkpoint of the last whole epoch."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

from torch import nn

from shiftedge.export.checkpoint import serialise_checkpoint
from shiftedge.export.networks import TRAINED
from shiftedge.export.training.data import Job, Named, read_data
from shiftedge.export.training.keep import Keeper
from shiftedge.export.training.loop import Epoch, Settings, fit
from shiftedge.export.training.score import ClipScore, score_clips, score_films
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.spec import ModelSpec

_LINE_EVERY_S = 10.0
_UNSEEN_SEED = 1_000_003
"""Films for the scores start at this seed plus a thousand times the training's own."""
_KINDS = {
    "films": (True, True, 0),
    "harsh_films": (True, False, 300),
    "still": (False, False, 500),
}
"""Films for the scores: with gestures or still, in good light or the worst of training, and where
their seeds begin."""


def stored(spec: ModelSpec) -> dict[str, Any]:
    """The part of the spec that training fixes, as plain values."""
    everything = dataclasses.asdict(spec)
    stored = {key: everything[key] for key in (*TRAINED, "decoder")}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in stored.items()}


class Session:
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
        self.spec, self.synthetic = spec, named.synthetic
        self._started = time.perf_counter()
        self._next_line_s = 0.0
        self.record: dict[str, Any] = {
            "data": job.data if named.synthetic else "folder",
            "clips": 0,
            "seed": job.seed,
            "epochs": 0,
            "command": job.command,
            "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
        }
        """What the checkpoint says of how it was trained."""
        self._keeper = Keeper(output_folder(job.output), self._serialise, job.say)
        self.learn, self.check = read_data(job, named, spec, clips)
        self.record["clips"] = len(self.learn)

    def _serialise(self) -> bytes:
        return serialise_checkpoint(
            self._net,
            self._description,
            labels=self.spec.labels,
            spec=stored(self.spec),
            training=self.record,
            ranges=self._ranges,
        )

    def fit(self, title: str, net: nn.Module, teacher: nn.Module | None = None) -> Epoch:
        """Train ``net``, and keep the checkpoint after each epoch; the last one."""
        try:
            with self._job.bar(title, self._settings.epochs * len(self.learn), "clips") as advance:
                return fit(
                    net,
                    self.learn,
                    self._settings,
                    teacher=teacher,
                    after_epoch=self._after_epoch,
                    after_step=advance,
                )[-1]
        except KeyboardInterrupt:
            self._job.say(self._keeper.interrupted())
            raise

    def keep(self, epoch: Epoch) -> None:
        """The checkpoint as it is now, after ``epoch``."""
        self.record |= {
            "epochs": epoch.number,
            "loss": round(epoch.loss, 4),
            "frame_accuracy": round(epoch.frame_accuracy, 4),
            "seconds": round(time.perf_counter() - self._started, 1),
        }
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
        scores = {**self.record, "clip": clip, **more}
        if self.synthetic and self._job.films:
            for name, (gestures, clean, offset) in _KINDS.items():
                title = f"checking on {name.replace('_', ' ')}"
                with self._job.bar(title, self._job.films, "films") as advance:
                    scores[name] = score_films(
                        net,
                        self.spec,
                        seed=_UNSEEN_SEED + 1000 * self._job.seed + offset,
                        films=self._job.films,
                        seconds=self._job.film_seconds,
                        gestures=gestures,
                        clean=clean,
                        advance=advance,
                    ).summary()
        self._keeper.finish(scores)
        return scores
