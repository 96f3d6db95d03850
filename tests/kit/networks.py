"""Torch networks for tests: of each kind, one as a user might bring it, and statistics like a
trained one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftedge.export import training
from shiftedge.export.checkpoint import load_checkpoint, serialise_checkpoint
from shiftedge.export.models import EfficientNetLite0, MobileNetV2, ResNet, insert_shift
from shiftedge.export.networks import spec_of
from shiftedge.export.to_onnx import describe
from shiftedge.export.training import Shape
from shiftedge.runtime.spec import ModelSpec

__all__ = [
    "KINDS",
    "Own",
    "fine_tune",
    "from_checkpoint",
    "network",
    "save_checkpoint",
    "train",
    "trained",
]

KINDS = ("mobilenet_v2", "previous-frame", "efficientnet_lite0", "resnet50", "own")


class Own(nn.Module):
    """Squeeze and excite, several activations, pooling, groups, 5 x 5 windows, a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.Hardswish())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.a = nn.Conv2d(12, 12, 5, 1, 2, groups=12)
        self.b = nn.Conv2d(12, 16, 1)
        self.squeeze = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)
        self.c = nn.Conv2d(16, 16, 5, 1, 2, groups=4)
        self.mean = nn.AvgPool2d(2)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x))
        x = nn.functional.silu(self.b(torch.relu(self.a(x))))
        gate = torch.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        x = x * nn.functional.hardsigmoid(self.excite(gate))
        x = torch.relu(x + self.c(x))
        x = self.mean(torch.sigmoid(x) * x)
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give a network statistics and weights as training might leave them: a mistake in folding a
    batch norm cannot hide behind a mean of 0 and a variance of 1."""
    torch.set_num_threads(1)  # the test machine's cores are few, and the networks small
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                uniform(module.running_mean, -0.3, 0.3)
                uniform(module.running_var, 0.5, 1.5)
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.3, 0.3)
            elif isinstance(module, nn.Linear):
                uniform(module.weight, -0.1, 0.1)
    return net.eval()


def network(kind: str) -> tuple[nn.Module, ModelSpec]:
    """One of KINDS with three classes, for frames of 64 x 32 pixels; the same each time."""
    torch.manual_seed(0)
    net = trained(
        {
            "mobilenet_v2": lambda: MobileNetV2(3, width=0.35),
            "previous-frame": lambda: MobileNetV2(3, width=0.35, previous_frame=True),
            "efficientnet_lite0": lambda: EfficientNetLite0(3),
            "resnet50": lambda: ResNet(3),
            "own": lambda: insert_shift(Own(), ["b", "c"]),
        }[kind]()
    )
    return net, describe(net, name="n", labels=["a", "b", "c"], height=64, width=32)


def from_checkpoint(path: Path, **more: Any) -> tuple[nn.Module, ModelSpec]:
    """The network of a checkpoint file, and its spec."""
    checkpoint = load_checkpoint(path, read_as=more.pop("read_as", None))
    return checkpoint.net, spec_of(checkpoint, **more)


def save_checkpoint(path: Path, net: nn.Module, description: Any, **more: Any) -> None:
    """Write our own format."""
    path.write_bytes(serialise_checkpoint(net, description, **more))


def train(data: str, output: Path, *, shape: Shape | None = None, **more: Any) -> Any:
    """A training with a job's arguments as they are."""
    silent = {key: more.pop(key) for key in ("silent", "usual_silent") if key in more}
    return training.train(training.Job((data,), output, **more), shape=shape, **silent)


def fine_tune(data: str, output: Path, **more: Any) -> Any:
    """The same of a fine-tune."""
    return training.fine_tune(training.Job((data,), output, **more))
