"""Networks by name and plain arguments, so that a checkpoint can say what it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from shiftedge.export.models.inverted_residual import EfficientNetLite0, MobileNetV2
from shiftedge.export.models.resnet import LAYERS, ResNet
from shiftedge.runtime.errors import CheckpointError

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
    **{name: partial(ResNet, layers=layers) for name, layers in LAYERS.items()},
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
