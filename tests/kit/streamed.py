"""Films that have been through a model that is none: logits that wander, and a truth of chance."""

from __future__ import annotations

import numpy as np

from shiftedge.export.score.stream import Streamed
from shiftedge.runtime.capture.synthetic import TrueEvent
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

SPEC = ModelSpec(
    name="gestures",
    labels=("No gesture", "Doing other things", "Swiping Left", "Swiping Right"),
    silent_labels=("No gesture", "Doing other things"),
    height=32,
    width=32,
    resize_short_side=32,
    states=(),
    receptive_field=12,
    frame_rate_hz=12.0,
    decoder=DecoderSettings(0.05, 0.5, 0.3, 0.08, 0.2),
)


def random_film(seed: int, kind: str = "gestures") -> Streamed:
    """Some seconds, with events of a label that the model lacks among them, and cuts."""
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(20, 120))
    walk = rng.normal(0.0, 1.2, (frames, len(SPEC.labels))).cumsum(axis=0)
    logits = (walk - 0.9 * walk.mean(axis=1, keepdims=True)).astype(np.float32)
    seconds = frames / SPEC.frame_rate_hz
    starts = np.sort(rng.uniform(0.0, seconds, int(rng.integers(0, 6))))
    names = rng.choice(["Swiping Left", "Swiping Right", "Thumb Up"], len(starts))
    events = tuple(
        TrueEvent(str(name), float(start), float(start + rng.uniform(0.2, 1.0)))
        for name, start in zip(names, starts, strict=True)
    )
    cuts = tuple(sorted({int(at) for at in rng.integers(1, frames, int(rng.integers(0, 3)))}))
    bands = tuple({"distance": str(rng.choice(["near", "far"]))} for _ in events)
    return Streamed(logits, events, seconds, cuts, kind, f"film {seed}", bands)


def clear_film(
    seed: int, *, found: int, missed: int, false: int, kind: str = "gestures"
) -> Streamed:
    """Twenty seconds and more, of which a model says at once and surely what it says."""
    rng = np.random.default_rng(seed)
    kinds = ["found"] * found + ["missed"] * missed + ["false"] * false
    rng.shuffle(kinds)
    logits = np.zeros((48 + 36 * len(kinds), len(SPEC.labels)), np.float32)
    logits[:, 0] = 9.0
    events = []
    for place, what in enumerate(kinds):
        first = 24 + 36 * place
        if what != "missed":
            logits[first : first + 8, 2] = 18.0
        if what != "false":
            start = first / SPEC.frame_rate_hz
            events.append(TrueEvent("Swiping Left", start - 0.3, start + 0.3))
    seconds = len(logits) / SPEC.frame_rate_hz
    bands = tuple({"distance": "near" if seed % 2 else "far"} for _ in events)
    return Streamed(logits, tuple(events), seconds, (), kind, f"clear {seed}", bands)
