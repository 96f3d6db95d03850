"""The networks that are compared, each as a module that makes one prediction from its inputs; among
them ResNet-50s over volumes (time, height, width), whose parameters have the names of
:class:`shiftedge.export.models.resnet.ResNet`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftedge.export.models import (
    MobileNetV2,
    ResNet,
    StreamingModel,
    TemporalShift,
)
from shiftedge.export.models.resnet import EXPANSION, LAYERS

KINETICS = 400
"""Classes. The paper's 24.3 M and 28.0 M parameters are those of heads for Kinetics-400; with the
174 classes of Something-Something both are 0.46 M smaller."""
BLOCKS = LAYERS["resnet50"]
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


@dataclass(frozen=True)
class ResNet3dPlan:
    """How far each layer of a ResNet-50 sees in time. All kernels are odd, padded to keep length.

    Height and width are those of the 2-D network throughout.
    """

    stem_time: int
    """Frames that the 7x7 convolution spans."""
    pool_time: int
    """Frames that the max pooling after it spans; with 3 it also halves their number."""
    reduce_time: tuple[tuple[int, ...], ...]
    """Frames that the first 1x1 convolution of each block spans, stage by stage."""
    conv_time: int
    """Frames that the 3x3 convolution of every block spans."""
    time_strides: tuple[int, int, int, int]
    """Of the 3x3 convolution in the first block of each stage."""
    pool_after_first: bool = False
    """Halve the frames by a 2x1x1 max pooling after the first stage."""
    last_stride: int = 2
    """Of the last stage in space. 1 keeps its maps at 1/16 of the frame instead of 1/32."""


def i3d_resnet50(classes: int, *, last_stride: int = 2) -> ResNet3d:
    """I3D-ResNet-50, the 3-D network that the TSM paper is measured against: inflated as in Wang,
    Girshick, Gupta and He, "Non-local Neural Networks" (arXiv 1711.07971), and ``obtain_arc`` in
    ``lib/models/resnet_video.py`` of its code, facebookresearch/video-nonlocal-net. Which layers
    those are, and why the last stride is an argument, is in docs/complexity.md.

    Args:
        classes: length of the logits; with 400 (Kinetics) it has 28,043,472 parameters.
        last_stride: of res5 in space: 2 as in a ResNet, 1 as the published cost implies.
    """
    reduce = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))
    plan = ResNet3dPlan(
        5, 1, reduce, 1, (1, 1, 1, 1), pool_after_first=True, last_stride=last_stride
    )
    return ResNet3d(plan, classes)


def resnet3d_50(classes: int) -> ResNet3d:
    """The 3-D ResNet-50 of Hara, Kataoka and Satoh (CVPR 2018, arXiv 1711.09577).

    Every 3x3 convolution is 3x3x3; the stem is 7x7x7; frames are halved by the max pooling and at
    the start of stages 2 to 4; shortcuts of type B. Their clips are of 16 frames, 112x112. Checked
    against ``models/resnet.py`` of kenshohara/3D-ResNets-PyTorch.
    """
    flat = tuple((1,) * count for count in BLOCKS)
    return ResNet3d(ResNet3dPlan(7, 3, flat, 3, (1, 2, 2, 2)), classes)


class Bottleneck3d(nn.Module):
    """t x 1x1, t x 3x3 (strided), 1x1x1 and the skip connection."""

    def __init__(
        self, inputs: int, planes: int, reduce_time: int, conv_time: int, stride: tuple[int, ...]
    ) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = _conv(inputs, planes, (reduce_time, 1, 1))
        self.bn1 = nn.BatchNorm3d(planes)
        self.conv2 = _conv(planes, planes, (conv_time, 3, 3), stride)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3 = _conv(planes, outputs, (1, 1, 1))
        self.bn3 = nn.BatchNorm3d(outputs)
        self.downsample: nn.Module | None = None
        if stride != (1, 1, 1) or inputs != outputs:
            self.downsample = nn.Sequential(
                _conv(inputs, outputs, (1, 1, 1), stride), nn.BatchNorm3d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, T, H, W) to (N, 4 * planes, T', H', W')."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(y + skip)


class ResNet3d(nn.Module):
    """A ResNet-50 over clips, built to a plan."""

    def __init__(self, plan: ResNet3dPlan, classes: int) -> None:
        super().__init__()
        self.plan = plan
        self.conv1 = _conv(3, 64, (plan.stem_time, 7, 7), (1, 2, 2))
        self.bn1 = nn.BatchNorm3d(64)
        inputs = 64
        for stage, count in enumerate(BLOCKS):
            planes, blocks = 64 << stage, []
            for index in range(count):
                space = (1, 2, 2, plan.last_stride)[stage] if index == 0 else 1
                time = plan.time_strides[stage] if index == 0 else 1
                reduce = plan.reduce_time[stage][index]
                stride = (time, space, space)
                blocks.append(Bottleneck3d(inputs, planes, reduce, plan.conv_time, stride))
                inputs = planes * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def features(self, clip: Tensor) -> Tensor:
        """Map a clip (N, 3, T, H, W) to the last stage's features (N, 2048, T', H', W')."""
        x = F.relu(self.bn1(self.conv1(clip)))
        span = self.plan.pool_time
        x = F.max_pool3d(x, (span, 3, 3), (2 if span > 1 else 1, 2, 2), (span // 2, 1, 1))
        for stage in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            if stage == 0 and self.plan.pool_after_first:
                x = F.max_pool3d(x, (2, 1, 1))
        return x

    def forward(self, clip: Tensor) -> Tensor:
        """Map a clip (N, 3, T, H, W) to logits (N, classes)."""
        logits: Tensor = self.fc(torch.mean(self.features(clip), dim=(2, 3, 4)))
        return logits


def _conv(
    inputs: int, outputs: int, kernel: tuple[int, ...], stride: tuple[int, ...] = (1, 1, 1)
) -> nn.Conv3d:
    padding = tuple(size // 2 for size in kernel)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)  # type: ignore[arg-type]


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
