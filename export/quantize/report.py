"""What was chosen and what it costs, as a table for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from shiftedge.export.quantize.accuracy import Kept, LayerError
from shiftedge.export.quantize.drift import Drift
from shiftedge.export.quantize.ranges import Choice
from shiftedge.export.score.events import EventScore
from shiftedge.runtime.process.tables import Table

SCHEMA = 1
"""Version of the JSON form."""

SHOWN = 10
"""Layers of the ranking in the table; the JSON has all."""


@dataclass(frozen=True)
class Report:
    """Everything that ``shiftedge quantize`` says about its result."""

    calibration: dict[str, Any]
    """``source``, ``clips``, ``frames``, and ``notes`` about clips left out."""
    layers: int
    """That multiply in int8."""
    tensors: dict[str, Choice]
    """The range of each quantised group."""
    float_states: tuple[str, ...]
    """States that stayed float32."""
    accuracy: dict[str, Any]
    """``what`` it is ``over`` what, ``before`` and ``after``; how many were right before alone
    (``lost``) and after alone (``won``), and the ``standard_error`` of the change; with every layer
    in int8 ``quantised``; the accepted ``most_drop`` in points."""
    events: tuple[EventScore, EventScore] | None
    """Before and after, where the renderer knows the model's labels."""
    drift: tuple[Drift, ...]
    ranking: tuple[LayerError, ...]
    kept: tuple[Kept, ...]
    bytes_before: int
    bytes_after: int

    @property
    def flat(self) -> bool:
        """True where no error certainly grows over the longest stream."""
        return self.drift[-1].flat

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        document = asdict(self)
        document["tensors"] = {
            name: {
                "scale": choice.affine.scale,
                "zero_point": choice.affine.zero_point,
                "method": choice.method,
                "rms_error": choice.error**0.5,
                "low": choice.low,
                "high": choice.high,
            }
            for name, choice in self.tensors.items()
        }
        if self.events is not None:
            document["events"] = {
                when: {
                    "f1": each.f1,
                    "gestures": each.gestures,
                    "found": each.right,
                    "false": each.false,
                }
                for when, each in zip(("before", "after"), self.events, strict=True)
            }
        document["drift"] = [drift.to_dict() for drift in self.drift]
        return {"schema": SCHEMA, **document, "flat": self.flat}

    def table(self) -> str:
        """Lines of text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            f"calibrated  {self.calibration['frames']} frames in {self.calibration['clips']} clips "
            f"of {self.calibration['source']}, streamed"
        )
        methods = Counter(choice.method for choice in self.tensors.values())
        chosen = ", ".join(f"{count} by {method}" for method, count in methods.most_common())
        yield f"layers      {self.layers} in int8, {len(self.kept)} kept in float"
        yield f"ranges      {len(self.tensors)}: {chosen}"
        yield f"size        {self.bytes_before:,} bytes, now {self.bytes_after:,}"
        a = self.accuracy
        yield (
            f"{a['what']}  {a['before']:.2%} before, {a['after']:.2%} after, over {a['over']}: "
            f"{a['lost']} lost and {a['won']} won, standard error of the change "
            f"{a['standard_error']:.2%}; accepted loss {a['most_drop']:g} points"
        )
        if self.events is not None:
            before, after = self.events
            yield (
                f"event F1    {before.f1:.4f} before ({before.right} of {before.gestures} found, "
                f"{before.false} false), {after.f1:.4f} after ({after.right} found, "
                f"{after.false} false)"
            )
        yield ""
        for drift in self.drift:
            yield from _drift_lines(drift)
            yield ""
        yield "error of the logits with one layer in int8 and the others in float"
        for row in self.ranking[:SHOWN]:
            yield f"  {row.error:10.4g}  {row.layer}"
        if len(self.ranking) > SHOWN:
            yield f"  {'':10}  and {len(self.ranking) - SHOWN} with less"
        for entry in self.kept:
            yield f"kept in float: {entry.layer}: {entry.why}"


def _drift_lines(drift: Drift) -> Iterator[str]:
    yield (
        f"{drift.frames} frames, one stream: same best label in {drift.agreement:.2%}; error "
        f"{'does not grow' if drift.flat else 'GROWS'}"
    )
    cells = [
        (
            row.tensor,
            *(f"{value:.4g}" for value in (row.scale, row.error, row.worst)),
            f"{row.slope:+.2e} [{row.low:+.2e}, {row.high:+.2e}]",
            "" if row.flat else "GROWS",
        )
        for row in drift.trends
    ]
    slope = "slope per 1,000 frames, 95% interval"
    table = Table(("tensor", "rms", "rms error", "worst", slope, ""), cells, "lrrrrl")
    yield from (f"  {line}" for line in table.lines())
