"""Who is quicker than whom, where that can be told at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from shiftedge.benchmarks.entry import Entry, rivals
from shiftedge.benchmarks.figures import CONFIDENCE, Ratio, paired_ratio, percentiles_ms

__all__ = ["Rounds", "against_best_peer", "frame_rounds", "ratio_dict", "step_rounds", "verdicts"]

Rounds = Callable[[Entry], Sequence[Sequence[int]]]
"""Which times of an entry: those of the step alone, or from the uint8 frame on."""


def step_rounds(entry: Entry) -> Sequence[Sequence[int]]:
    """Of the unit alone."""
    return entry.rounds_ns


def frame_rounds(entry: Entry) -> Sequence[Sequence[int]]:
    """From the uint8 frame on."""
    return entry.frame_rounds_ns


def _p50(entry: Entry, rounds: Rounds) -> float:
    return percentiles_ms([time for times in rounds(entry) for time in times])["p50"]


def against_best_peer(
    entry: Entry, entries: Sequence[Entry], rounds: Rounds, starts: Sequence[int]
) -> dict[str, Any] | None:
    """The ratio to the peer of the smallest median that did the same with as many threads, as plain
    JSON types; 1 for that peer itself, None where there is no peer.

    Only a peer of the same precision counts, since fewer bits are another computation.
    """
    if entry.status != "ok":
        return None
    peers = [
        other
        for other in rivals(entry, entries)
        if other.candidate.peer
        and other.ready["checked"]
        and other.ready["precision"] == entry.ready["precision"]
    ]
    if not peers or not entry.ready["checked"]:
        return None
    best = min(peers, key=lambda other: _p50(other, rounds))
    ratio = paired_ratio(rounds(entry), rounds(best), starts=starts)
    return {"peer": best.candidate.engine, **ratio_dict(ratio)}


def ratio_dict(ratio: Ratio) -> dict[str, Any]:
    """As plain JSON types: an end that is unknown is None."""
    return {
        "ratio": ratio.value,
        "low": ratio.low if ratio.low > 0 else None,
        "high": ratio.high if math.isfinite(ratio.high) else None,
        "confidence": CONFIDENCE,
    }


def verdicts(entries: Sequence[Entry], starts: Sequence[int]) -> list[dict[str, Any]]:
    """The quicker of the two quickest from the uint8 frame on, or None and a sentence where the
    interval of their ratio spans 1; for each workload, thread count and precision of two engines or
    more. Fewer bits are another computation, so two precisions are never held against each other.
    """
    found: list[dict[str, Any]] = []
    groups = {
        (entry.threads, entry.workload, entry.ready["precision"]): entry
        for entry in entries
        if entry.status == "ok"
    }
    for (threads, workload, precision), one in groups.items():
        timed = [
            entry
            for entry in rivals(one, entries)
            if entry.ready["checked"] and entry.ready["precision"] == precision
        ]
        if len(timed) < 2:
            continue
        first, second = sorted(timed, key=lambda entry: _p50(entry, frame_rounds))[:2]
        ratio = paired_ratio(frame_rounds(first), frame_rounds(second), starts=starts)
        names = (first.candidate.engine, second.candidate.engine)
        interval = f"{ratio.value:.3f} of its time, {ratio.low:.3f} to {ratio.high:.3f}"
        if ratio.spans_one:
            sentence = f"No winner: {names[0]} and {names[1]} cannot be told apart ({interval})."
        else:
            sentence = f"{names[0]} is quicker than {names[1]}: {interval}."
        found.append(
            {
                "threads": threads,
                "workload": workload,
                "precision": precision,
                "winner": None if ratio.spans_one else names[0],
                "engines": list(names),
                **ratio_dict(ratio),
                "sentence": sentence,
            }
        )
    return found
