"""What the tests on the emulated machine share; imports neither torch nor TVM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
GESTURES = ROOT / "runtime" / "assets" / "gestures.onnx"
NETWORKS = ("mobilenet-0.5@112x112", "mobilenet-1.0@224x224", "lite0@64x48")
"""In the order in which export_networks.py writes them."""
HEADER_BYTES = 64
"""Of a state block, before the states: shiftedge_state_header in program.h."""


def steps(
    file: Path, classes: int, state_bytes: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Logits, and the states without their header, of each step that the driver wrote."""
    data = np.fromfile(file, np.uint8)
    size = 4 * classes + HEADER_BYTES + state_bytes
    assert len(data) % size == 0
    for step in data.reshape(-1, size):
        logits = np.ascontiguousarray(step[: 4 * classes]).view(np.float32)
        yield logits, np.ascontiguousarray(step[4 * classes + HEADER_BYTES :])
