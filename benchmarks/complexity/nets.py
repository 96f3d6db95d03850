"""The networks that are compared, each as a module that makes one prediction from its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shiftedge.benchmarks.complexity.volumes import i3d_resnet50, resnet3d_50
from shiftedge.export.models import (
    MobileNetV2,
    ResNet,
    StreamingModel,
    TemporalShift,
)

KINETICS = 400
"""Classes. The paper's 24.3 M and 28.0 M parameters are those of heads for Kinetics-400; with the
174 classes of Something-Something both are 0.46 M smaller."""
JESTER = 27
WINDOW = 8
"""Frames of the offline models, as most of the paper's."""


class Segments(nn.Module):
    """A 2-D network over the frames of one clip; its prediction is the mean of their logits.

    TSN's consensus over segments (Wang et al., arXiv 1608.00859), which offline TSM keeps.

    Args:
        net: over single frames; its shifts, if it has any, are run two-way.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.model = StreamingModel(net)

    def forward(self, clip: Tensor) -> Tensor:
        """Map a clip (N, T, 3, H, W) to logits (N, classes)."""
        return torch.mean(self.model.clip(clip, two_way=True), dim=1)


def without_shift(net: nn.Module) -> nn.Module:
    """Take the shifts out of ``net``, in place: the plain 2-D network. Returns ``net``."""
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, TemporalShift):
                setattr(parent, name, nn.Identity() if child.net is None else child.net)
    return net


class Published(NamedTuple):
    """What the TSM paper says of a network, for one clip (arXiv 1811.08383, table 2; the sources
    are in docs/complexity.md)."""

    parameters: float
    """In millions."""
    giga_macs: float
    """Multiply-adds, in thousands of millions; the paper calls them FLOPs."""


@dataclass(frozen=True)
class Network:
    key: str
    label: str
    """For people: network and how it is run."""
    frames: int
    """New frames that go into one prediction: those of the clip, or 1 online."""
    classes: int
    layout: str
    """Of the input: "frames" (N, T, 3, H, W), "volume" (N, 3, T, H, W) or "online"."""
    make: Callable[[int], nn.Module]
    """classes -> module; over the frames of a clip by :class:`Segments`, online streaming."""
    published: Published | None = None
    """None where the paper has no figures."""
    timed: bool = True
    """Whether its latency is measured too."""

    def build(self, device: str = "cpu", *, seed: int = 0) -> nn.Module:
        """The module in evaluation mode, with random weights."""
        torch.manual_seed(seed)
        with torch.device(device):
            net = self.make(self.classes)
            if self.layout == "frames":
                net = Segments(net)
            elif self.layout == "online":
                net = StreamingModel(net)
            return net.eval()

    def inputs(self, net: nn.Module, size: int) -> tuple[Tensor, ...]:
        """Random inputs of one prediction, on the module's device."""
        device = next(net.parameters()).device
        shape = {
            "frames": (1, self.frames, 3, size, size),
            "volume": (1, 3, self.frames, size, size),
            "online": (1, 3, size, size),
        }[self.layout]
        image = torch.randn(shape, device=device)
        if isinstance(net, StreamingModel):
            return (image, *net.initial_states(size, size))
        return (image,)


def _tsn(classes: int) -> nn.Module:
    return without_shift(ResNet(classes))


def _fine_i3d(classes: int) -> nn.Module:
    return i3d_resnet50(classes, last_stride=1)


NETWORKS = {
    row[0]: Network(*row)
    for row in (
        ("tsn-resnet50-8", "TSN ResNet-50, no shift", 8, KINETICS, "frames", _tsn,
         Published(24.3, 33.0)),
        ("tsm-resnet50-8", "TSM ResNet-50, offline", 8, KINETICS, "frames", ResNet,
         Published(24.3, 33.0)),
        ("tsm-resnet50-online", "TSM ResNet-50, online", 1, KINETICS, "online", ResNet),
        ("tsm-resnet50-16", "TSM ResNet-50, offline", 16, KINETICS, "frames", ResNet,
         Published(24.3, 65.0)),
        ("i3d-resnet50-32", "I3D ResNet-50, res5 at 1/16", 32, KINETICS, "volume", _fine_i3d,
         Published(28.0, 153.0)),
        ("i3d-resnet50-32-strided", "I3D ResNet-50, res5 at 1/32", 32, KINETICS, "volume",
         i3d_resnet50, None, False),
        ("resnet3d-50-16", "3-D ResNet-50 (Hara et al.)", 16, KINETICS, "volume", resnet3d_50),
        ("tsm-mobilenetv2-8", "TSM MobileNetV2, offline", 8, JESTER, "frames", MobileNetV2),
        ("tsm-mobilenetv2-online", "TSM MobileNetV2, online", 1, JESTER, "online",
         MobileNetV2),
    )
}  # fmt: skip
"""By key, in the order of the table; a network's step follows its window, to be timed beside it."""
