"""What the tests of the whole compiler share; imports neither torch nor TVM."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]
GESTURES = ROOT / "runtime" / "assets" / "gestures.onnx"
TOLERANCE = 1e-4
"""Of a difference, relative to the largest value."""
NETWORKS = (
    "mobilenet-0.5@112x112",
    "own@64x48",
    "mobilenet-1.4@160x120",
    "mobilenet-0.5@256x256",
    "mobilenet-1.0@224x224",
    "resnet@64x64",
)
"""In the order in which export_networks.py writes them."""


def said(stderr: str) -> list[str]:
    """Its lines, but for those that tell a busy machine's progress."""
    return [
        line for line in stderr.splitlines() if not re.search(r" (left|so far|just begun)$", line)
    ]


def environment(**changes: str) -> dict[str, str]:
    """For a subprocess that imports shiftedge from this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), **changes}


def near(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    return bool(np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max())
