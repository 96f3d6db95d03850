"""Channels of two-way weights put in the order that the one-way form reads.

Two-way training gives the frame after to the first 1/8 of a shifted map's channels and the frame
before to the second 1/8; the one-way form gives the frame before to the first. A network computes
the same whatever the order of its channels, as long as what writes a map and what reads it agree.
So the two groups of channels are exchanged, in every layer that writes or reads a residual stream:
single frames give what they gave, and the channels that learned the past are where it arrives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shiftedge.export.models.inverted_residual import InvertedResidual, MobileNetV2
from shiftedge.export.models.resnet import ResNet
from shiftedge.export.models.shift import TemporalShift


class _Stream:
    """Maps that share their channels, because additions join them: what writes and reads them."""

    def __init__(self) -> None:
        self.axes: list[tuple[Tensor, int]] = []
        """Parameters, and along which axis they have the stream's channels."""

    def writes(self, *layers: nn.Module) -> None:
        """Convolutions that make the stream, and norms upon it."""
        for layer in layers:
            self.axes += [(value, 0) for value in layer.state_dict().values() if value.dim() > 0]

    def reads(self, layer: nn.Module) -> None:
        """A convolution or the classifier."""
        assert isinstance(layer.weight, Tensor)
        self.axes.append((layer.weight.data, 1))


def past_first(net: nn.Module) -> None:
    """Exchange the first and the second group of shifted channels in ``net``, in place.

    Single frames give the same logits as before, and so does a clip in the two-way form.

    Args:
        net: a MobileNetV2 or a ResNet of two-way weights in the official order.

    Raises:
        TypeError: another network.
    """
    if isinstance(net, MobileNetV2):
        streams = _mobilenet(net)
    elif isinstance(net, ResNet):
        streams = _resnet(net)
    else:
        raise TypeError(f"a {type(net).__name__} is none of ours; expected MobileNetV2 or ResNet")
    for stream in streams:
        first, axis = stream.axes[0]
        channels = first.shape[axis]
        fold = channels // net.shift_div
        order = torch.arange(channels)
        order[:fold], order[fold : 2 * fold] = order[fold : 2 * fold].clone(), order[:fold].clone()
        for value, axis in stream.axes:
            value.copy_(value.index_select(axis, order))
    for module in net.modules():
        if isinstance(module, TemporalShift):
            module.past_first = not module.past_first


def _mobilenet(net: MobileNetV2) -> list[_Stream]:
    stem, *blocks, head = net.features
    streams = [_Stream()]
    streams[-1].writes(stem[0], stem[1])  # type: ignore[index]
    for block in blocks:
        assert isinstance(block, InvertedResidual)
        first, norm, *_, project, last = block.conv
        if block.expansion == 1:  # depthwise: its channels are the stream's
            streams[-1].writes(first, norm)
            streams[-1].reads(project)
        else:
            streams[-1].reads(first)
        if not block.residual:
            streams.append(_Stream())
        streams[-1].writes(project, last)
    streams[-1].reads(head[0])  # type: ignore[index]
    return streams


def _resnet(net: ResNet) -> list[_Stream]:
    streams = [_Stream()]
    streams[-1].writes(net.conv1, net.bn1)
    for block in net.blocks():
        streams[-1].reads(block.conv1)
        if block.downsample is not None:
            project, norm = block.downsample.children()
            streams[-1].reads(project)
            streams.append(_Stream())
            streams[-1].writes(project, norm)
        streams[-1].writes(block.conv3, block.bn3)
    streams[-1].reads(net.fc)
    return streams
