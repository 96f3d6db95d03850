"""Does an engine compute the same function as the reference? Asked before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shiftedge.export import agreement
from shiftedge.export.agreement import TOLERANCE, Outputs
from shiftedge.runtime.spec import ModelSpec


@dataclass(frozen=True)
class Agreement:
    """The worst differences between an engine and the reference over :data:`FRAMES` frames."""

    max_abs_error: float
    """Of the logits."""
    worst_relative: float
    """Of any tensor compared, over that tensor's largest value."""
    worst_tensor: str
    """"logits" or "next_state_i"."""
    states_compared: bool
    tolerance: float = TOLERANCE
    """Accepted of ``worst_relative``."""

    @property
    def passed(self) -> bool:
        return self.worst_relative <= self.tolerance


def same_model(spec: ModelSpec, reference: ModelSpec) -> bool:
    """True where both take the same frames, hold the same states and give the same classes."""
    keys = ("labels", "height", "width", "mean", "std")
    return all(getattr(spec, key) == getattr(reference, key) for key in keys) and (
        [state.shape for state in spec.states] == [state.shape for state in reference.states]
    )


def compare(
    outputs: Sequence[Outputs], reference: Sequence[Outputs], tolerance: float = TOLERANCE
) -> Agreement:
    """Compare the logits, and the states where ``outputs`` has them.

    Raises:
        VerificationError: a value is not finite, or the streams do not have the same shapes.
    """
    shown = [{name: step[name] for name in outputs[0]} for step in reference]
    rows = agreement.compare("reference / engine", shown, outputs, tolerance=tolerance)
    logits = next(row for row in rows if row.tensor == "logits")
    worst = rows[0]
    return Agreement(logits.worst, worst.relative, worst.tensor, len(rows) > 1, tolerance)
