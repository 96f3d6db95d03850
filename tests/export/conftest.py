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
    from networks import trained

    return trained


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
