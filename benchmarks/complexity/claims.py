"""The cost half of what the TSM paper says, each statement beside what is counted here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shiftedge.benchmarks.complexity.count import Cost
from shiftedge.benchmarks.complexity.published import PAPER, QUOTED

__all__ = ["claims"]

HOLDS, FAILS, PARTLY, OPEN = "holds", "does not hold", "partly", "not recomputed"


def claims(
    costs: Mapping[str, Cost], cpu_ms: Mapping[str, float | None], size: int
) -> list[dict[str, Any]]:
    """Statement, source, ours and verdict of each, as plain JSON types.

    Args:
        costs: of every contender, by key.
        cpu_ms: the same keys -> median processor time, or None where it was not measured.
        size: pixels a side; statements about 224 are judged at 224 alone.
    """
    tsn, tsm = costs["tsn-resnet50-8"], costs["tsm-resnet50-8"]
    online, i3d = costs["tsm-resnet50-online"], costs["i3d-resnet50-32"]
    volume = costs["resnet3d-50-16"]
    fewer = tsm.parameters == tsn.parameters and tsm.macs == tsn.macs
    found = [
        _claim(
            "zero computation and zero parameters",
            "abstract",
            f"{tsm.parameters - tsn.parameters} parameters and {tsm.macs - tsn.macs} multiply-adds "
            f"more than without the shift; it moves {tsm.traffic.shift / 1e6:.0f} MB, "
            f"{tsm.traffic.shift / tsn.traffic.total:.1%} more traffic{_latency_of_shift(cpu_ms)}",
            HOLDS if fewer else FAILS,
        ),
        _claim(
            "2D CNN's complexity",
            "abstract",
            f"offline {tsm.macs / tsm.frames / 1e9:.2f} G multiply-adds a frame, online "
            f"{online.macs / 1e9:.2f} G, ResNet-50 on one image {tsn.macs / tsn.frames / 1e9:.2f}",
            HOLDS if tsm.macs == tsn.macs and online.macs <= tsn.macs / tsn.frames else FAILS,
        ),
        _claim(
            "6X fewer FLOPs than the I3D family",
            "abstract of versions 1 and 2; 606 G of Non-local I3D + GCN over 98 G of the ensemble",
            f"I3D takes {i3d.macs / tsm.macs:.1f} times the multiply-adds of TSM with 8 frames, "
            f"{2 * i3d.macs / tsm.macs:.1f} times with the two clips of the paper; no non-local "
            "blocks and no GCN here",
            PARTLY,
        ),
        _claim(
            "10 times fewer FLOPs than Non-local I3D",
            "section on Something-Something; 336 G over 33 G",
            f"{2 * i3d.macs / tsm.macs:.1f} times for two clips of I3D without non-local blocks",
            PARTLY,
        ),
        _claim(
            "2.7X fewer FLOPs than the ECO family",
            "abstract of versions 1 and 2; 267 G over 98 G",
            "ECO is not defined here",
            OPEN,
        ),
        _one_sixth(tsm, i3d, volume),
        _cache(online, size),
    ]
    return [*found, *_latency(cpu_ms)]


def _claim(statement: str, source: str, ours: str, verdict: str) -> dict[str, Any]:
    return {
        "statement": statement,
        "source": f"{PAPER}, {source}",
        "ours": ours,
        "verdict": verdict,
    }


def _one_sixth(tsm: Cost, i3d: Cost, volume: Cost) -> dict[str, Any]:
    eco = next(row for row in QUOTED if row.name == "ECO En Lite")
    return {
        "statement": "one sixth of the parameters",
        "source": "not found in the abstracts and summaries of the paper that could be read",
        "ours": f"{tsm.parameters / i3d.parameters:.2f} of I3D's, "
        f"{tsm.parameters / volume.parameters:.2f} of the 3-D ResNet-50's; of the published "
        f"figures it fits ECO En Lite alone, {tsm.parameters / eco.parameters / 1e6:.2f} of "
        f"{eco.parameters:.0f} M (quoted). A sixth is stated of FLOPs, see 6X",
        "verdict": FAILS,
    }


def _cache(online: Cost, size: int) -> dict[str, Any]:
    ours = (
        f"{online.state_bytes / 1e6:.2f} MB in float32, {online.state_bytes / 2e6:.2f} in "
        f"float16, {online.state_bytes / 4e6:.2f} at a byte each, at {size}x{size}"
    )
    verdict = OPEN if size != 224 else FAILS
    return _claim(
        "0.9 MB of cache for ResNet-50 online",
        "section 4, through notes of a reader",
        ours,
        verdict,
    )


def _latency_of_shift(cpu_ms: Mapping[str, float | None]) -> str:
    plain, shifted = cpu_ms.get("tsn-resnet50-8"), cpu_ms.get("tsm-resnet50-8")
    if not plain or not shifted:
        return ""
    return f", and takes {shifted / plain:.2f} times the processor time in torch, noise included"


def _latency(cpu_ms: Mapping[str, float | None]) -> list[dict[str, Any]]:
    tsm, i3d = cpu_ms.get("tsm-resnet50-8"), cpu_ms.get("i3d-resnet50-32")
    if not tsm or not i3d:
        return []
    return [
        _claim(
            "9.5X lower latency than I3D",
            "abstract of version 2, on a Tesla P100",
            f"{i3d / tsm:.1f} times less processor time for one clip each, in torch",
            PARTLY if i3d > tsm else FAILS,
        )
    ]
