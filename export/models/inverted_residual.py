"""Networks of inverted residual blocks with temporal shifts: MobileNetV2 (arXiv 1801.04381; TSM as
in arXiv 1811.08383, section 5) and EfficientNet-Lite0.

Parameter names are those of the official TSM online model: ``features.N.conv.M``, ``classifier``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from shiftedge.export.models.shift import FOLD_DIV, PreviousFrame, ShiftedBlock, place_shifts


@dataclass(frozen=True)
class Stage:
    """Blocks of one width."""

    expansion: int
    channels: int
    repeats: int
    stride: int
    """Of the first block."""
    kernel: int = 3
    """Of the depthwise convolutions."""


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
"""Of MobileNetV2: table 2 of arXiv 1801.04381."""
LITE0_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1),
)
"""Of EfficientNet-Lite0: table 1 of arXiv 1905.11946, without squeeze and excitation."""
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
HEAD_WIDENING = 4
"""Channels of the head by those of the last block: 1280 by 320 in the whole networks."""


def scaled(base: int, width: float) -> int:
    """Scale a channel count and round it to a multiple of 8, losing at most a tenth of it.

    The rule of the reference implementation; at width 1.0 it changes nothing.
    """
    wanted = base * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int, eps: float, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=eps),
    ]


class InvertedResidual(ShiftedBlock):
    """Expand 1x1, depthwise, project 1x1; with a skip where stride and widths allow."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        expansion: int,
        kernel: int = 3,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expansion = expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv_bn(inputs, hidden, 1, 1, eps), nn.ReLU6(inplace=True)]
        layers += [*_conv_bn(hidden, hidden, kernel, stride, eps, hidden), nn.ReLU6(inplace=True)]
        layers += _conv_bn(hidden, outputs, 1, 1, eps)
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        x = self.whole(x)
        y: Tensor = self.conv(self.shift(x))
        return x + y if self.residual else y


class InvertedResidualNet(nn.Module):
    """A network over single frames, with a shift in each of its residual blocks; architectures
    differ in :attr:`stages` and :attr:`eps`.

    A block without a skip connection is not shifted by default: its output would lose the features
    of now that the shift pushed out (paper, section 3.2, "residual shift").

    Args:
        blocks: how many of the blocks there are, the first ones; None: all.
        width: multiplier of all channel counts; 1.0 is the paper's.
        previous_frame: let the first convolution see the frame before as well (6 channels in); the
            states then begin with that frame.
        shifts: where the shifts stand, of ``features.N.conv.0`` (before the branch of a block) and
            ``features.N`` (before the whole block); None: as said above.

    Raises:
        ValueError: a shift cannot stand there, or there are not so many blocks.
    """

    stages: ClassVar[tuple[Stage, ...]]
    eps: ClassVar[float]
    """Of the batch norms."""

    def __init__(
        self,
        classes: int,
        *,
        blocks: int | None = None,
        width: float = 1.0,
        previous_frame: bool = False,
        dropout: float = 0.0,
        shifts: Collection[str] | None = None,
        shift_div: int = FOLD_DIV,
    ) -> None:
        super().__init__()
        self.shift_div = shift_div
        self.previous = PreviousFrame() if previous_frame else nn.Identity()
        channels = scaled(STEM_CHANNELS, width)
        colours = 6 if previous_frame else 3
        stem = [*_conv_bn(colours, channels, 3, 2, self.eps), nn.ReLU6(inplace=True)]
        layers: list[nn.Module] = [nn.Sequential(*stem)]
        rows = [(stage, index) for stage in self.stages for index in range(stage.repeats)]
        if blocks is not None and not 1 <= blocks <= len(rows):
            raise ValueError(f"it has {len(rows)} blocks, and {blocks} of them are asked for")
        for stage, index in rows[:blocks]:
            outputs = scaled(stage.channels, width)
            stride = stage.stride if index == 0 else 1
            layers.append(
                InvertedResidual(channels, outputs, stride, stage.expansion, stage.kernel, self.eps)
            )
            channels = outputs
        # Thin models keep the wide head; one that ends early has one of its last block's width.
        head = scaled(HEAD_CHANNELS, max(width, 1.0))
        if blocks is not None and blocks < len(rows):
            head = HEAD_WIDENING * channels
        last = [*_conv_bn(channels, head, 1, 1, self.eps), nn.ReLU6(inplace=True)]
        layers.append(nn.Sequential(*last))
        self.features = nn.Sequential(*layers)
        places = {
            f"features.{index}": block
            for index, block in enumerate(self.features)
            if isinstance(block, InvertedResidual)
        }
        if shifts is None:
            shifts = [f"{name}.conv.0" for name, block in places.items() if block.residual]
        self.shifts = place_shifts(places, shifts, ".conv.0", shift_div)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(head, classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Per group: torch's fan-out counts all of a depthwise layer's channels as one.
                area = module.kernel_size[0] * module.kernel_size[1]
                fan_out = area * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
        stem = self.features[0][0]  # type: ignore[index]
        if isinstance(self.previous, PreviousFrame):
            half = stem.out_channels // 2  # these filters start as differences in time
            with torch.no_grad():
                stem.weight[:half, :3] = -stem.weight[:half, 3:]

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N, 3, H, W) to logits (N, classes)."""
        x = self.features(self.previous(x))
        logits: Tensor = self.classifier(self.dropout(torch.mean(x, dim=(2, 3))))
        return logits


class MobileNetV2(InvertedResidualNet):
    """MobileNetV2 with shifts; at width 1.0 and 27 classes it has 2,258,459 parameters."""

    stages = STAGES
    eps = 1e-5


class EfficientNetLite0(InvertedResidualNet):
    """EfficientNet-Lite0 with shifts: 5x5 among its depthwise convolutions, and weights from
    ImageNet to be had (:mod:`shiftedge.export.models.imagenet`); 3,405,595 parameters, 27 classes.

    Unlike TensorFlow's, its strided convolutions pad both sides alike: what they see lies a pixel
    further up and left. Of its 16 blocks the first 11 have the detail of a sixteenth of the frame,
    which is what far hands need, in two thirds of the time.
    """

    stages = LITE0_STAGES
    eps = 1e-3
