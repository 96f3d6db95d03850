"""Figures of others, quoted. None of them is measured here, accuracies least of all.

The paper is Lin, Gan and Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV
2019, arXiv 1811.08383. What it calls FLOPs are multiply-adds (:mod:`.count`). Each figure says in
``checked`` what it was compared with when this file was written; the paper's tables themselves
could not be opened then, so a figure without such a second source should be looked up before it is
cited.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUOTED", "Quoted", "quoted"]

PAPER = "TSM paper, arXiv 1811.08383"
TABLE_2 = f"{PAPER}, table 2 (Something-Something V1, validation)"
LATENCY = f"{PAPER}, table of latency on a Tesla P100"
ABSTRACT_V2 = "the ratios 9.5x in latency and 12.7x in throughput, in the abstract of version 2"
UNCHECKED = "no second source"


@dataclass(frozen=True)
class Quoted:
    """One network's published figures; None where none is given."""

    name: str
    contender: str | None
    """Key of the contender that is the same network; None where there is none here."""
    frames: str
    giga_macs: float
    """Of one clip, in thousands of millions."""
    clips: int
    """For one prediction as it was scored."""
    parameters: float
    """In millions."""
    top1: float
    """Accuracy in percent on Something-Something V1, validation. Quoted, not measured here."""
    source: str
    checked: str
    latency_ms: float | None = None
    """Of one prediction at batch 1 on a Tesla P100."""
    videos_per_s: float | None = None
    """On a Tesla P100, in batches."""


QUOTED = (
    Quoted(
        "TSN ResNet-50",
        "tsn-resnet50-8",
        "8",
        33.0,
        1,
        24.3,
        19.7,
        TABLE_2,
        "32.7 G in the README of BeSpontaneous/AFNet-pytorch, which has 18.6% for its own TSN",
    ),
    Quoted(
        "TSM ResNet-50",
        "tsm-resnet50-8",
        "8",
        33.0,
        1,
        24.3,
        45.6,
        TABLE_2,
        "45.6% in the README of mit-han-lab/temporal-shift-module; 24.3 M in its issue 195; "
        f"32.7 G in that of AFNet-pytorch; {ABSTRACT_V2}",
        17.4,
        77.4,
    ),
    Quoted(
        "TSM ResNet-50",
        "tsm-resnet50-16",
        "16",
        65.0,
        1,
        24.3,
        47.2,
        TABLE_2,
        "47.2% in the README of mit-han-lab/temporal-shift-module",
        29.0,
        39.5,
    ),
    Quoted(
        "TSM ResNet-50, ensemble of both",
        None,
        "8 + 16",
        98.0,
        1,
        48.6,
        49.7,
        TABLE_2,
        "49.7% on paperswithcode.com; the sum of the two rows above",
    ),
    Quoted(
        "I3D ResNet-50 (Wang and Gupta)",
        "i3d-resnet50-32",
        "32",
        153.0,
        2,
        28.0,
        41.6,
        TABLE_2,
        "28.04 M in the model zoo of PyTorchVideo; " + ABSTRACT_V2,
        165.3,
        6.1,
    ),
    Quoted(
        "Non-local I3D ResNet-50",
        None,
        "32",
        168.0,
        2,
        35.3,
        44.4,
        TABLE_2,
        "the text's 10 times fewer FLOPs and 1.2% more accuracy of TSM with 8 frames",
    ),
    Quoted(
        "Non-local I3D + GCN",
        None,
        "32",
        303.0,
        2,
        62.2,
        46.1,
        TABLE_2,
        "46.1% on paperswithcode.com; the abstract's 6X, which is 606 over the ensemble's 98",
    ),
    Quoted("ECO", None, "16", 64.0, 1, 47.5, 41.4, TABLE_2, UNCHECKED, 30.6, 45.6),
    Quoted(
        "ECO En Lite",
        None,
        "92",
        267.0,
        1,
        150.0,
        46.4,
        TABLE_2,
        "the abstract's 2.7X, which is 267 over the ensemble's 98",
    ),
)
"""In the order of the table below ours. Latencies are of another table: :data:`LATENCY`."""


def quoted(contender: str) -> Quoted | None:
    """The published figures of a contender; None where there are none."""
    return next((row for row in QUOTED if row.contender == contender), None)
