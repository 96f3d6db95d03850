"""Networks by name and plain arguments, so that a checkpoint can say what it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from shiftedge.export.models.mobilenet_v2 import tsm_mobilenet_v2
from shiftedge.export.models.resnet import tsm_resnet50, tsm_resnet101, tsm_resnet152
from shiftedge.runtime.errors import CheckpointError

__all__ = ["ARCHITECTURES", "build"]

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": tsm_mobilenet_v2,
    "resnet50": tsm_resnet50,
    "resnet101": tsm_resnet101,
    "resnet152": tsm_resnet152,
}
"""Name of each architecture -> its constructor."""


def build(description: Mapping[str, Any]) -> nn.Module:
    """Make the network of ``{"architecture": NAME, "classes": N, ...constructor arguments}``.

    Raises:
        CheckpointError: the name or an argument is unknown.
    """
    arguments = dict(description)
    name = arguments.pop("architecture", None)
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"The architecture is {name!r}; known ones are {', '.join(ARCHITECTURES)}."
        )
    try:
        return ARCHITECTURES[name](**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"The network {name} cannot be made from {arguments}: {error}."
        ) from error
