"""A model and a folder of own clips in, a model that knows them out.

::

    clips -> variants -> features (ONNX Runtime, states and all)       clips.py, features.py
    what the model knows already: remembered features                  memory.py
    both -> what is to be added, checked on clips left out             classifier.py
    -> the ONNX file with a branch, its memory beside                  onnx_branch.py

numpy and ONNX Runtime do it, on the machine that is to run the model; nothing is sent anywhere.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.personalise import memory as remembered
from shiftedge.export.personalise.classifier import (
    NEW_BIAS,
    Example,
    Learner,
    logits_of,
    raised,
)
from shiftedge.export.personalise.clips import (
    ENOUGH,
    FEWEST,
    Labels,
    Reading,
    find_labels,
    may_mirror,
    read,
    variants,
)
from shiftedge.export.personalise.features import FeatureModel
from shiftedge.export.personalise.onnx_branch import Branch, state_of
from shiftedge.export.score.clips import call_clip
from shiftedge.runtime.capture.synthetic import moving_scene
from shiftedge.runtime.errors import DataError, VerificationError
from shiftedge.runtime.loading import load
from shiftedge.runtime.process.files import atomic_path, expanded
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

Floats = NDArray[np.float32]

VARIANTS = 4
"""Of each clip, beside itself."""
FOLDS = 5
RAISES = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)
"""Of the new labels' biases, among which one is chosen by clips left out."""
LOSS_MOST = 0.045
"""Share of remembered clips that may be called otherwise than before, by what was learned without
them. About half of those were called wrongly before."""
SEED = 1
CHECKED = 16
"""Frames of a moving scene on which the written file is compared with what was learned."""
AGREEMENT = 1e-4
"""Of logits of the written file with those of the layer, over the largest."""


@dataclass(frozen=True)
class PersonalJob:
    """What is to be done."""

    data: Path
    output: Path
    model: Path | None = None
    """None: the bundled one."""
    memory: Path | None = None
    """A file; None: that beside the model, or rendered clips."""
    mirror: bool = True
    threads: int | None = None
    say: Callable[[str], None] = lambda sentence: None
    progress: ProgressFactory = progress


@dataclass
class LabelScore:
    """How clips left out of the learning were judged."""

    clips: int = 0
    right: int = 0
    called: dict[str, int] = field(default_factory=dict)
    """What the others were taken for."""


@dataclass(frozen=True)
class PersonalReport:
    """What came of it."""

    output: Path
    labels: tuple[str, ...]
    scores: dict[str, LabelScore]
    """Of each label of the data; background counts as right where no event comes."""
    memory: str
    """What was remembered."""
    kept: int
    """Of remembered clips, those that are called as before by what was learned without them."""
    asked: int
    """How many those are."""
    folds: int
    raised: float
    unusable: tuple[str, ...]
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        document = dataclasses.asdict(self)
        document["output"] = str(self.output)
        return document


def personalise(job: PersonalJob) -> PersonalReport:
    """Write a model that knows the labels of ``job.data`` too.

    Raises:
        DataError: no labels, or clips that cannot be learned from; the sentence says which.
        ModelError: the model cannot be personalised.
        OutputError: the result cannot be written; nothing is there then that was not before.
        VerificationError: the written file does not compute what was learned.
    """
    model = FeatureModel(job.model, job.threads)
    labels = find_labels(expanded(job.data), model.spec)
    spec = _spec(model, labels)
    with atomic_path(job.output) as partial:  # what cannot be written is told before the work
        branch, seen, report = _learned(job, model, spec, labels)
        _write(partial, job.threads, model, spec, branch)
        remembered.save(remembered.memory_file(job.output), seen, model.digest)
    return report


def _learned(
    job: PersonalJob, model: FeatureModel, spec: ModelSpec, labels: Labels
) -> tuple[tuple[Floats, Floats], list[NDArray[np.float16]], PersonalReport]:
    """What is to be added to the logits, the features of all clips, and the report."""
    past = _past(job, model)
    # In no order, so that each part of them is like the whole.
    order = np.random.default_rng(SEED).permutation(len(past.clips))
    names, known = spec.labels, model.spec.classes
    learner = Learner(
        known,
        len(names),
        [names.index(label) for label in spec.silent_labels],
        [names.index(label) for label in labels.gestures if label in model.spec.labels],
        [(past.clips[index], model.logits(past.clips[index])) for index in order],
        model.keep,
        spec.frame_rate_hz,
    )
    found = Reading()
    own = _own(job, model, spec, labels, learner, found)
    remarks = [*_too_few(labels, own), *found.remarks]
    folds = min(FOLDS, *(sum(clip.label == label for clip in own) for label in labels.gestures))
    left_out: list[Floats] = []
    """What was learned without each part of all clips."""
    with job.progress("learning", folds + 1, "rounds") as advance:
        for fold in range(folds):
            rest = (clip.examples for clip in own if clip.turn % folds != fold)
            examples = [example for each in rest for example in each]
            left_out.append(learner.learn(examples, without=(fold, folds)))
            advance(1)
        change = learner.learn([example for clip in own for example in clip.examples])
        advance(1)
    fresh = [index for index in range(known, len(names)) if names[index] in labels.gestures]

    def call(example: Example, turn: int, by: float) -> int:
        """What a clip is taken for by what was learned without it."""
        return call_clip(logits_of(raised(left_out[turn % folds], fresh, by), example), spec)

    asked = learner.remembered
    before = [call_clip(example.start[:, :known], model.spec) for example in asked]

    def kept(by: float) -> int:
        after = (call(example, turn, by) for turn, example in enumerate(asked))
        return sum(_alike(a, b, spec) for a, b in zip(after, before, strict=True))

    def calls(by: float) -> list[int]:
        return [call(clip.examples[0], clip.turn, by) for clip in own]

    def right(by: float) -> int:
        return sum(_alike(a, clip.index, spec) for a, clip in zip(calls(by), own, strict=True))

    keeps = {by: kept(by) for by in RAISES}
    least = min((1.0 - LOSS_MOST) * len(asked), max(keeps.values()))
    good = [by for by in RAISES if keeps[by] >= least]
    by = max(good, key=lambda by: (right(by), -abs(by)))
    scores = {label: LabelScore() for label in labels.paths}
    for clip, taken in zip(own, calls(by), strict=True):
        score = scores[clip.label]
        score.clips += 1
        if _alike(taken, clip.index, spec):
            score.right += 1
        else:
            score.called[names[taken]] = score.called.get(names[taken], 0) + 1
    branch = learner.branch(raised(change, fresh, by))
    seen = [*past.clips, *(clip.features for clip in own)]
    report = PersonalReport(
        output=job.output,
        labels=names,
        scores=scores,
        memory=past.origin,
        kept=keeps[by],
        asked=len(asked),
        folds=folds,
        raised=by,
        unusable=tuple(found.unusable),
        remarks=tuple(remarks),
    )
    return branch, seen, report


@dataclass(frozen=True, eq=False)
class _Clip:
    """An own clip."""

    label: str
    index: int
    """Of the label in the new model; of background any silent one."""
    turn: int
    """Its number among those of its label."""
    features: NDArray[np.float16]
    """(T, inputs)."""
    examples: tuple[Example, ...]
    """The clip, and its variants."""


def _past(job: PersonalJob, model: FeatureModel) -> remembered.Remembered:
    """What the model is to keep."""
    beside = None if job.model is None else remembered.memory_file(job.model)
    if job.memory is not None:
        return remembered.read(expanded(job.memory), model)
    if beside is not None and beside.is_file():
        return remembered.read(beside, model)
    with job.progress("rendering what is known", remembered.CLIPS, "clips") as advance:
        return remembered.rendered(model, advance)


def _spec(model: FeatureModel, labels: Labels) -> ModelSpec:
    """The new model's: labels that are new behind the old ones, and the branch's state."""
    spec = model.spec
    new = [label for label in labels.gestures if label not in spec.labels]
    silent = list(spec.silent_labels)
    if not silent:  # then what stands for no gesture is to be a label
        silent = sorted(labels.background)
        new += [label for label in silent if label not in spec.labels]
    names = (*spec.labels, *new)
    base = dataclasses.replace(spec, states=model.base_states)
    states = (*model.base_states, state_of(base, len(names)))
    return dataclasses.replace(spec, labels=names, silent_labels=tuple(silent), states=states)


def _own(
    job: PersonalJob,
    model: FeatureModel,
    spec: ModelSpec,
    labels: Labels,
    learner: Learner,
    found: Reading,
) -> list[_Clip]:
    """The clips of the data, seen by the model."""
    own: list[_Clip] = []
    turns: Counter[str] = Counter()
    rng = np.random.default_rng(SEED)
    total = sum(map(len, labels.paths.values()))
    with job.progress("looking at clips", total, "clips") as advance:
        for label, _, images in read(labels, model.spec, found, advance):
            mirror = job.mirror and may_mirror(label)
            name = label if label in spec.labels else next(iter(spec.silent_labels))
            index = spec.labels.index(name)
            shown = itertools.chain([images], variants(images, VARIANTS, rng, mirror=mirror))
            rows = [model.features(each) for each in shown]
            examples = tuple(learner.example(index, each, model.logits(each)) for each in rows)
            own.append(_Clip(label, index, turns[label], rows[0].astype(np.float16), examples))
            turns[label] += 1
    short = [label for label in labels.gestures if turns[label] < FEWEST]
    if short:
        raise DataError(
            f"The label {short[0]!r} has {turns[short[0]]} clips that can be used, expected "
            f"{FEWEST} at least: {' '.join(found.unusable[:3])}"
        )
    return own


def _too_few(labels: Labels, own: Sequence[_Clip]) -> Iterator[str]:
    counts = Counter(clip.label for clip in own)
    for label in labels.gestures:
        if counts[label] < ENOUGH:
            yield f"{label!r} has {counts[label]} clips; {ENOUGH} or more are learned far better."
    if not labels.background:
        yield (
            'There are no clips of nobody gesturing; some of "No gesture" and "Doing other '
            'things" keep false events away.'
        )


def _alike(call: int, label: int, spec: ModelSpec) -> bool:
    """Whether a call is as good as another: silent labels are one."""
    silent = [spec.labels[index] in spec.silent_labels for index in (call, label)]
    return call == label or all(silent)


def _write(
    path: Path,
    threads: int | None,
    model: FeatureModel,
    spec: ModelSpec,
    added: tuple[Floats, Floats],
) -> None:
    """Write the file, and see that it computes what was learned."""
    classes, known = spec.classes, model.spec.classes
    weight = np.zeros((classes, model.parts.weight.shape[1]), np.float32)
    weight[:known] = model.parts.weight
    bias = np.full(classes, NEW_BIAS, np.float32)
    bias[:known] = model.parts.bias
    new, shift = (np.float32(1.0 - model.keep) * each for each in added)
    old = model.parts.branch
    if old is not None:
        new[:known] += np.concatenate(old.weights, axis=1)
        shift[:known] += old.bias
    split = np.cumsum(model.sizes)[:-1]
    parts = tuple(np.ascontiguousarray(each) for each in np.split(new, split, axis=1))
    branch = Branch(parts, np.asarray(shift, np.float32), model.keep)
    path.write_bytes(model.parts.taught(weight, bias, branch, spec))
    after = FeatureModel(path, threads)
    session = load(path, threads=threads).engine.open_session()
    frames = moving_scene(SEED, frames=CHECKED, height=spec.height, width=spec.width)
    wanted = after.logits(after.features(frames))
    got = np.stack([session.step(frame) for frame in frames])
    worst = float(np.abs(got - wanted).max() / max(1.0, np.abs(wanted).max()))
    if not worst <= AGREEMENT or after.digest != model.digest:
        raise VerificationError(
            f"The personalised model differs from what was learned by {worst:.1e} of its largest "
            "logit, so it was not written; please report it."
        )
