"""Networks that a mistake cannot hide in: batch norm statistics far from (0, 1), moving input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from kit.once import locked, run_folder

if TYPE_CHECKING:
    import torch

    from shiftedge.runtime.spec import ModelSpec


@pytest.fixture
def trained() -> Callable[..., torch.nn.Module]:
    """A function that gives a network statistics and weights as training might leave them."""
    from kit.networks import trained

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


@pytest.fixture(scope="session")
def float_file(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[bytes, ModelSpec]]:
    """A function that gives the ONNX file of a kind of ``networks.network``, and its spec.

    Written once in a run of the tests: torch's exporter takes ten seconds for most of them.
    """
    folder = run_folder(tmp_path_factory, "float-files")

    @functools.cache
    def get(kind: str) -> tuple[bytes, ModelSpec]:
        from kit.networks import network

        from shiftedge.export.to_onnx import to_onnx

        path = folder / f"{kind}.onnx"
        net, spec = network(kind)
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                path.write_bytes(to_onnx(net, spec))
        return path.read_bytes(), spec

    return get
