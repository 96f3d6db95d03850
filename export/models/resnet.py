"""ResNet-50, 101 and 152 with temporal shifts (arXiv 1512.03385; TSM as in arXiv 1811.08383,
section 5).

Parameter names are those of the common ResNet: ``conv1``, ``layer1.0.conv1``, ``fc``. The official
TSM training code wraps ``conv1`` of each block, which adds ``.net`` to the names in its checkpoints
and ``new_fc`` for the classifier; :mod:`shiftedge.export.checkpoint` translates.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftedge.export.models.shift import FOLD_DIV, ShiftedBlock, place_shifts

LAYERS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
"""Blocks of each stage: table 1 of arXiv 1512.03385."""
EXPANSION = 4
DEEP = 23
"""Blocks of the third stage from which on the official code shifts every second block alone."""


class Bottleneck(ShiftedBlock):
    """1x1, 3x3 (strided), 1x1, and a skip connection."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, 4 * planes, H / stride, W / stride)."""
        x = self.whole(x)
        y = F.relu(self.bn1(self.conv1(self.shift(x))))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(y + skip)


class ResNet(nn.Module):
    """The network over single frames.

    Args:
        layers: blocks of each of the four stages; ResNet-50's unless said otherwise.
        shifts: where the shifts stand, of ``layer1.0.conv1`` (before the branch of a block) and
            ``layer1.0`` (before the whole block); None: in the branch of every block, or of every
            second one where the third stage has 23 blocks or more, as in the official code.

    Raises:
        ValueError: a shift cannot stand there.
    """

    def __init__(
        self,
        classes: int,
        *,
        layers: Sequence[int] = LAYERS["resnet50"],
        dropout: float = 0.0,
        shifts: Collection[str] | None = None,
        shift_div: int = FOLD_DIV,
    ) -> None:
        super().__init__()
        self.shift_div = shift_div
        self.stages = len(layers)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        blocks: dict[str, Bottleneck] = {}
        for stage, count in enumerate(layers):
            planes = 64 << stage
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks[f"layer{stage + 1}.{index}"] = Bottleneck(inputs, planes, stride)
                inputs = planes * EXPANSION
            chain = list(blocks.values())[-count:]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*chain))
        every = 2 if layers[2] >= DEEP else 1
        if shifts is None:
            usual = [name for name in blocks if int(name.rpartition(".")[2]) % every == 0]
            shifts = [f"{name}.conv1" for name in usual]
        self.shifts = place_shifts(blocks, shifts, ".conv1", shift_div)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.fc.weight, std=0.001)  # as the official training code
        nn.init.zeros_(self.fc.bias)

    def blocks(self) -> list[Bottleneck]:
        """All blocks, in the order in which they run."""
        return [module for module in self.modules() if isinstance(module, Bottleneck)]

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N, 3, H, W) to logits (N, classes)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        logits: Tensor = self.fc(self.dropout(torch.mean(x, dim=(2, 3))))
        return logits
