"""ResNet-50 with temporal shifts (arXiv 1512.03385; TSM as in arXiv 1811.08383, section 5).

Parameter names are those of the common ResNet: ``conv1``, ``layer1.0.conv1``, ``fc``. The official
TSM training code wraps ``conv1`` of each block, which adds ``.net`` to the names in its checkpoints
and ``new_fc`` for the classifier; :mod:`shiftedge.export.checkpoint` translates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftedge.export.models.shift import FOLD_DIV, TemporalShift

__all__ = ["Bottleneck", "ResNet50", "tsm_resnet50"]

BLOCKS = (3, 4, 6, 3)  # table 1 of arXiv 1512.03385, 50 layers
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided), 1x1, with the shift before the first, inside the residual branch."""

    def __init__(self, inputs: int, planes: int, stride: int, *, fold_div: int = FOLD_DIV) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.shift = TemporalShift(fold_div=fold_div)
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
        y = F.relu(self.bn1(self.conv1(self.shift(x))))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(y + skip)


class ResNet50(nn.Module):
    """The network over single frames, with a shift in each of its 16 blocks."""

    def __init__(self, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, count in enumerate(BLOCKS):
            planes = 64 << stage
            blocks = []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Bottleneck(inputs, planes, stride))
                inputs = planes * EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(self.fc.weight, std=0.001)  # as the official training code
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N, 3, H, W) to logits (N, classes)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        logits: Tensor = self.fc(self.dropout(torch.mean(x, dim=(2, 3))))
        return logits


def tsm_resnet50(classes: int, *, dropout: float = 0.0) -> ResNet50:
    """A :class:`ResNet50` with 1/8 residual shift."""
    return ResNet50(classes, dropout=dropout)
