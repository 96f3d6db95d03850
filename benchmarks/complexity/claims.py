"""Figures of others, quoted; and the cost half of what the TSM paper says, each statement beside
what is counted here. None of the quoted figures is measured here, accuracies least of all.

The paper is Lin, Gan and Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV
2019, arXiv 1811.08383. What it calls FLOPs are multiply-adds (:mod:`.count`). Each figure says in
``checked`` what it was compared with when this file was written; the paper's tables themselves
could not be opened then, so a figure without such a second source should be looked up before it is
cited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftedge.benchmarks.complexity.count import NetworkCost

PAPER = "TSM paper, arXiv 1811.08383"
TABLE_2 = f"{PAPER}, table 2 (Something-Something V1, validation)"
LATENCY = f"{PAPER}, table of latency on a Tesla P100"
ABSTRACT_V2 = "the ratios 9.5x in latency and 12.7x in throughput, in the abstract of version 2"
HOLDS, FAILS, PARTLY, OPEN = "holds", "does not hold", "partly", "not recomputed"


@dataclass(frozen=True)
class Quoted:
    """One network's published figures; None where none is given."""

    name: str
    network: str | None
    """Key of the same network here; None where there is none."""
    frames: str
    giga_macs: float
    """Of one clip, in thousands of millions."""
    clips: int
    """For one prediction as it was scored."""
    parameters: float
    """In millions."""
    top1: float
    """Accuracy in percent on Something-Something V1, validation. Quoted, not measured here."""
    checked: str
    latency_ms: float | None = None
    """Of one prediction at batch 1 on a Tesla P100."""
    videos_per_s: float | None = None
    """On a Tesla P100, in batches."""
    source: str = TABLE_2


QUOTED = (
    Quoted("TSN ResNet-50", "tsn-resnet50-8", "8", 33.0, 1, 24.3, 19.7,
           "32.7 G in the README of BeSpontaneous/AFNet-pytorch, which has 18.6% for its own TSN"),
    Quoted("TSM ResNet-50", "tsm-resnet50-8", "8", 33.0, 1, 24.3, 45.6,
           "45.6% in the README of mit-han-lab/temporal-shift-module; 24.3 M in its issue 195; "
           f"32.7 G in that of AFNet-pytorch; {ABSTRACT_V2}", 17.4, 77.4),
    Quoted("TSM ResNet-50", "tsm-resnet50-16", "16", 65.0, 1, 24.3, 47.2,
           "47.2% in the README of mit-han-lab/temporal-shift-module", 29.0, 39.5),
    Quoted("TSM ResNet-50, ensemble of both", None, "8 + 16", 98.0, 1, 48.6, 49.7,
           "49.7% on paperswithcode.com; the sum of the two rows above"),
    Quoted("I3D ResNet-50 (Wang and Gupta)", "i3d-resnet50-32", "32", 153.0, 2, 28.0, 41.6,
           "28.04 M in the model zoo of PyTorchVideo; " + ABSTRACT_V2, 165.3, 6.1),
    Quoted("Non-local I3D ResNet-50", None, "32", 168.0, 2, 35.3, 44.4,
           "the text's 10 times fewer FLOPs and 1.2% more accuracy of TSM with 8 frames"),
    Quoted("Non-local I3D + GCN", None, "32", 303.0, 2, 62.2, 46.1,
           "46.1% on paperswithcode.com; the abstract's 6X, which is 606 over the ensemble's 98"),
    Quoted("ECO", None, "16", 64.0, 1, 47.5, 41.4, "no second source", 30.6, 45.6),
    Quoted("ECO En Lite", None, "92", 267.0, 1, 150.0, 46.4,
           "the abstract's 2.7X, which is 267 over the ensemble's 98"),
)  # fmt: skip
"""In the order of the table below ours. Latencies are of another table: :data:`LATENCY`."""


def quoted(network: str) -> Quoted | None:
    """The published figures of a network that is compared; None where there are none."""
    return next((row for row in QUOTED if row.network == network), None)


def claims(
    costs: Mapping[str, NetworkCost], cpu_ms: Mapping[str, float | None], size: int
) -> list[dict[str, Any]]:
    """Statement, source, ours and verdict of each, as plain JSON types.

    Args:
        costs: of every network, by key.
        cpu_ms: the same keys -> median processor time, or None where it was not measured.
        size: pixels a side; statements about 224 are judged at 224 alone.
    """
    tsn, tsm = costs["tsn-resnet50-8"], costs["tsm-resnet50-8"]
    online, i3d = costs["tsm-resnet50-online"], costs["i3d-resnet50-32"]
    volume, state_mb = costs["resnet3d-50-16"], online.state_bytes / 1e6
    eco = next(row for row in QUOTED if row.name == "ECO En Lite")
    fewer = tsm.parameters == tsn.parameters and tsm.macs == tsn.macs
    plain_ms, tsm_ms, i3d_ms = (
        cpu_ms.get(key) for key in ("tsn-resnet50-8", "tsm-resnet50-8", "i3d-resnet50-32")
    )
    shift_ms = ""
    if plain_ms and tsm_ms:
        ratio = f"{tsm_ms / plain_ms:.2f}"
        shift_ms = f", and takes {ratio} times the processor time in torch, noise included"
    rows = [
        (
            "zero computation and zero parameters",
            f"{PAPER}, abstract",
            f"{tsm.parameters - tsn.parameters} parameters and {tsm.macs - tsn.macs} multiply-adds "
            f"more than without the shift; it moves {tsm.traffic.shift / 1e6:.0f} MB, "
            f"{tsm.traffic.shift / tsn.traffic.total:.1%} more traffic{shift_ms}",
            HOLDS if fewer else FAILS,
        ),
        (
            "2D CNN's complexity",
            f"{PAPER}, abstract",
            f"offline {tsm.macs / tsm.frames / 1e9:.2f} G multiply-adds a frame, online "
            f"{online.macs / 1e9:.2f} G, ResNet-50 on one image {tsn.macs / tsn.frames / 1e9:.2f}",
            HOLDS if tsm.macs == tsn.macs and online.macs <= tsn.macs / tsn.frames else FAILS,
        ),
        (
            "6X fewer FLOPs than the I3D family",
            f"{PAPER}, abstract of versions 1 and 2; 606 G of Non-local I3D + GCN over 98 G of the "
            "ensemble",
            f"I3D takes {i3d.macs / tsm.macs:.1f} times the multiply-adds of TSM with 8 frames, "
            f"{2 * i3d.macs / tsm.macs:.1f} times with the two clips of the paper; no non-local "
            "blocks and no GCN here",
            PARTLY,
        ),
        (
            "10 times fewer FLOPs than Non-local I3D",
            f"{PAPER}, section on Something-Something; 336 G over 33 G",
            f"{2 * i3d.macs / tsm.macs:.1f} times for two clips of I3D without non-local blocks",
            PARTLY,
        ),
        (
            "2.7X fewer FLOPs than the ECO family",
            f"{PAPER}, abstract of versions 1 and 2; 267 G over 98 G",
            "ECO is not defined here",
            OPEN,
        ),
        (
            "one sixth of the parameters",
            "not found in the abstracts and summaries of the paper that could be read",
            f"{tsm.parameters / i3d.parameters:.2f} of I3D's, "
            f"{tsm.parameters / volume.parameters:.2f} of the 3-D ResNet-50's; of the published "
            f"figures it fits ECO En Lite alone, {tsm.parameters / eco.parameters / 1e6:.2f} of "
            f"{eco.parameters:.0f} M (quoted). A sixth is stated of FLOPs, see 6X",
            FAILS,
        ),
        (
            "0.9 MB of cache for ResNet-50 online",
            f"{PAPER}, section 4, through notes of a reader",
            f"{state_mb:.2f} MB in float32, {state_mb / 2:.2f} in float16, {state_mb / 4:.2f} at a "
            f"byte each, at {size}x{size}",
            OPEN if size != 224 else FAILS,
        ),
    ]
    if tsm_ms and i3d_ms:
        rows.append(
            (
                "9.5X lower latency than I3D",
                f"{PAPER}, abstract of version 2, on a Tesla P100",
                f"{i3d_ms / tsm_ms:.1f} times less processor time for one clip each, in torch",
                PARTLY if i3d_ms > tsm_ms else FAILS,
            )
        )
    return [dict(zip(("statement", "source", "ours", "verdict"), row, strict=True)) for row in rows]
