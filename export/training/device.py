"""Where a training computes."""

from __future__ import annotations

import torch

from shiftedge.runtime.errors import DataError


def on_device(name: str = "auto", mixed: bool | None = None) -> tuple[str, bool]:
    """The device, and whether to compute in bfloat16 there.

    Args:
        name: "cpu", "cuda", or "auto": a GPU where torch finds one.
        mixed: None: on a GPU that has bfloat16. A CPU without instructions for it is slower so.

    Raises:
        DataError: "cuda", and torch finds no GPU.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise DataError(
            "torch finds no GPU of NVIDIA's: its build is for CPUs, or the driver is missing; use "
            "--device cpu, or install torch's CUDA build."
        )
    device = "cuda" if found and name != "cpu" else "cpu"
    if mixed is None:
        mixed = device == "cuda" and torch.cuda.is_bf16_supported()
    return device, mixed
