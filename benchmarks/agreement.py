"""Does an engine compute the same function as the reference? Asked before anything is timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import TOLERANCE
from shiftedge.runtime.errors import VerificationError
from shiftedge.runtime.spec import ModelSpec

SCALE_LEAST = 1e-6
"""Keeps a tensor of zeros from failing over a denormal."""


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
        """True within the tolerance."""
        return self.worst_relative <= self.tolerance


def same_model(spec: ModelSpec, reference: ModelSpec) -> bool:
    """True where both take the same frames, hold the same states and give the same classes."""
    keys = ("labels", "height", "width", "mean", "std")
    return all(getattr(spec, key) == getattr(reference, key) for key in keys) and (
        [state.shape for state in spec.states] == [state.shape for state in reference.states]
    )


def read_outputs(
    file: Path, spec: ModelSpec, *, has_states: bool
) -> dict[str, NDArray[np.float32]]:
    """What a worker wrote: name of each tensor -> its values, float32 (frames, size).

    Raises:
        VerificationError: the file does not hold a whole number of frames.
    """
    sizes = {"logits": spec.classes}
    if has_states:
        sizes |= {f"next_state_{i}": state.size for i, state in enumerate(spec.states)}
    flat = np.fromfile(file, np.float32)
    row = sum(sizes.values())
    if flat.size == 0 or flat.size % row:
        raise VerificationError(
            f"The engine gave {flat.size} numbers; expected {row} for each frame."
        )
    rows = flat.reshape(-1, row)
    ends = np.cumsum(list(sizes.values()))
    return dict(zip(sizes, np.split(rows, ends[:-1], axis=1), strict=True))


def compare(
    outputs: Mapping[str, NDArray[np.float32]],
    reference: Mapping[str, NDArray[np.float32]],
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Compare the logits, and the states where ``outputs`` has them.

    Raises:
        VerificationError: a value is not finite, or the streams are not of equal length.
    """
    errors, relative = {}, {}
    for name, values in outputs.items():
        expected = reference[name]
        if values.shape != expected.shape:
            raise VerificationError(
                f"{name} has {list(values.shape)} numbers; expected {list(expected.shape)}."
            )
        if not (np.isfinite(values).all() and np.isfinite(expected).all()):
            raise VerificationError(f"{name} holds NaN or infinity.")
        errors[name] = float(np.abs(values - expected).max())
        relative[name] = errors[name] / max(float(np.abs(expected).max()), SCALE_LEAST)
    at = max(relative, key=lambda name: relative[name])
    return Agreement(errors["logits"], relative[at], at, len(outputs) > 1, tolerance)
