"""All of it: a float model and clips in, an int8 model and its proof out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from shiftedge.export.agreement import compare, moving_images
from shiftedge.export.quantize.accuracy import (
    CLIPS,
    FILMS,
    RANK_FRAMES,
    ClipAccuracy,
    LabelAgreement,
    event_scores,
    keep_until,
    rank_layers,
    rendered,
)
from shiftedge.export.quantize.calibration import gather, read_ranges
from shiftedge.export.quantize.drift import LENGTHS, stream_both
from shiftedge.export.quantize.fold import equal_std
from shiftedge.export.quantize.graph import OnnxGraph, parse
from shiftedge.export.quantize.plan import make_plan
from shiftedge.export.quantize.report import Report
from shiftedge.export.quantize.rewrite import rewrite
from shiftedge.export.quantize.source import FRAMES, Clips, proof_images, read_clips
from shiftedge.export.score.clips import change
from shiftedge.export.stepper import Stepper
from shiftedge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.spec import ModelSpec

MAX_ACCURACY_DROP = 0.5
"""Points."""

FOLD_FRAMES = 4
FOLD_TOLERANCE = 1e-4
"""Of the logits, relative: folding rounds each weight of the first layer once more."""


@dataclass(frozen=True)
class QuantizeSettings:
    """How much is read, and how much is proved."""

    frames: int = FRAMES
    """For calibration."""
    max_accuracy_drop: float = MAX_ACCURACY_DROP
    """Points: 100 - the share that is still right, less the float model's."""
    lengths: tuple[int, ...] = LENGTHS
    """Frames of the proof's stream."""
    clips: int = CLIPS
    """Rendered to score on, where the renderer knows the labels."""
    films: int = FILMS
    """Of each kind; 0 leaves the events out."""


@dataclass(frozen=True)
class Quantized:
    model: bytes
    """Serialised ONNX, QDQ, with the spec in its metadata."""
    spec: ModelSpec
    report: Report


@working("quantising")
def quantize(path: str | Path, calibration: str | Clips, settings: QuantizeSettings) -> Quantized:
    """Quantise the model at ``path``, which ``shiftedge export`` wrote; nothing is written.

    Raises:
        ModelError: not a float model of the contract.
        SpecError: its spec is absent, malformed, or from a newer version.
        DataError: the clips do not serve; the sentence says why.
        SourceError: the source does not exist, or is of no known form.
        NumericsError: the float model gives NaN or infinity.
        VerificationError: the loss is past the bound whatever is kept in float.
    """
    graph, spec, size = _read(Path(path))
    clips = calibration
    if not isinstance(clips, Clips):
        clips = read_clips(clips, spec, frames=settings.frames)
    whole = make_plan(graph)
    choices = gather(graph, whole, spec, clips, held=read_ranges(graph))
    affine = {group: choice.affine for group, choice in choices.items()}

    def build(kept: Sequence[str]) -> Stepper:
        return Stepper(*rewrite(graph, make_plan(graph, kept), affine, spec))

    reference = Stepper(graph.serialised(), spec)
    longest = max(settings.lengths)
    stream = list(islice(proof_images(clips, spec, longest), min(settings.lengths)))
    measure: ClipAccuracy | LabelAgreement
    if rendered(spec):
        measure = ClipAccuracy(spec, clips=settings.clips)
    else:
        measure = LabelAgreement(reference, stream)
    before = measure(reference)
    after = measure(build(()))
    quantized = float(after.mean())
    names = [layer.name for layer in whole.layers]
    ranking = rank_layers(names, build, reference, stream[:RANK_FRAMES])

    def accuracy(layers: Sequence[str]) -> float:
        nonlocal after
        after = measure(build(layers))
        return float(after.mean())

    kept = keep_until(
        ranking,
        accuracy,
        before=float(before.mean()),
        after=quantized,
        most_drop=settings.max_accuracy_drop,
        what=measure.what,
    )
    floats = [entry.layer for entry in kept]
    plan = make_plan(graph, floats)
    result = build(floats)
    events = None
    if rendered(spec) and settings.films:
        first, second = event_scores([reference, result], films=settings.films)
        events = first, second
    images = proof_images(clips, spec, longest)
    drift = stream_both(reference, result, images, longest, lengths=settings.lengths)
    report = Report(
        calibration={
            "source": clips.source,
            "clips": len(clips.clips),
            "frames": clips.frames,
            "notes": list(clips.notes),
        },
        layers=len(plan.layers),
        tensors={name: choices[name] for name in plan.groups},
        float_states=tuple(s.name for s in result.spec.states if s.dtype == "float32"),
        accuracy={
            "what": measure.what,
            "over": measure.over,
            "before": float(before.mean()),
            "after": float(after.mean()),
            **change(before, after),
            "quantised": quantized,
            "most_drop": settings.max_accuracy_drop,
        },
        events=events,
        drift=tuple(drift),
        ranking=ranking,
        kept=kept,
        bytes_before=size,
        bytes_after=len(result.model),
    )
    return Quantized(result.model, result.spec, report)


def _read(path: Path) -> tuple[OnnxGraph, ModelSpec, int]:
    """The graph with one std for all colours where that can be, its spec, and the file's bytes."""
    spec = OnnxRuntimeEngine(path).spec  # the contract, checked
    content = path.read_bytes()
    graph = parse(content, str(path))
    folded, changed = equal_std(graph, spec)
    if changed != spec:
        images = moving_images(spec, FOLD_FRAMES)
        original = Stepper(content, spec)
        other = Stepper(folded.serialised(), changed)
        rows = compare(
            "the model / one std for all colours",
            [{"logits": logits} for logits in original.logits(images)],
            [{"logits": logits} for logits in other.logits(images)],
            tolerance=FOLD_TOLERANCE,
        )
        if not rows[0].passed:
            raise VerificationError(
                f"{path}: folding the colours' std into the first weights changes the logits by "
                f"{rows[0].worst:.3g}; the weights are too large for float32: export it again."
            )
    return folded, changed, len(content)
