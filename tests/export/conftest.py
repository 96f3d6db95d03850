"""Networks that a mistake cannot hide in: batch norm statistics far from (0, 1), moving input."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch


@pytest.fixture
def trained() -> Callable[..., torch.nn.Module]:
    """A function that gives a network statistics and weights as training might leave them."""
    import torch

    torch.set_num_threads(1)  # the test machine's cores are few, and the networks small

    def randomise(net: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)

        def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    uniform(module.running_mean, -0.3, 0.3)
                    uniform(module.running_var, 0.5, 1.5)
                    uniform(module.weight, 0.5, 1.5)
                    uniform(module.bias, -0.3, 0.3)
                elif isinstance(module, torch.nn.Linear):
                    uniform(module.weight, -0.1, 0.1)
        return net.eval()

    return randomise


@pytest.fixture
def scene() -> Callable[..., torch.Tensor]:
    """A function that gives clips (N, T, 3, H, W) in which every frame differs."""
    import torch

    from shiftedge.runtime.capture.synthetic.moving import moving_scene

    def clips(clip_count: int, frames: int, height: int, width: int) -> torch.Tensor:
        import numpy as np

        videos = [
            moving_scene(seed, frames=frames, height=height, width=width)
            for seed in range(clip_count)
        ]
        pixels = torch.from_numpy(np.stack(videos)).permute(0, 1, 4, 2, 3).float()
        return (pixels / 255 - 0.45) / 0.25

    return clips
