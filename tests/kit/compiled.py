"""What the tests of the whole compiler share; imports neither torch nor TVM."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import AgreementReport, moving_images, normalised, onnx_outputs
from shiftedge.export.compiler.backends.base import TargetVariant
from shiftedge.export.compiler.compile import prepare
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.export.compiler.verify.agreement import check
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.spec import ModelSpec

ROOT = Path(__file__).parents[2]
GESTURES = ROOT / "runtime" / "assets" / "gestures.onnx"
TOLERANCE = 1e-4
"""Of a difference, relative to the largest value."""
NETWORKS = (
    "mobilenet-0.5@112x112",
    "own@64x48",
    "mobilenet-1.4@160x120",
    "mobilenet-0.5@256x256",
    "mobilenet-1.0@224x224",
    "lite0@64x48",
    "resnet@64x64",
)
"""In the order in which export_networks.py writes them."""


def environment(**changes: str) -> dict[str, str]:
    """For a subprocess that imports shiftedge from this checkout."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", **changes}


def prepared(data: bytes, spec: ModelSpec, variant: TargetVariant) -> tuple[Step, MemoryLayout]:
    """The step of a serialised ONNX model for a variant, and where everything in it lies."""
    return prepare(read_onnx(data, spec), spec, variant)


def library_of(bundle: Bundle) -> Path:
    """What of a bundle runs on this machine."""
    return bundle.folder / bundle.variant().library


def near(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    return bool(np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max())


def with_onnxruntime(
    library: Path, data: bytes, spec: ModelSpec, step: Step, places: MemoryLayout, *, frames: int
) -> AgreementReport:
    """A library of a float32 model against ONNX Runtime's run of the file."""
    images = moving_images(spec, frames)
    expected = list(onnx_outputs(data, spec, normalised(images, spec)))
    accepted = dict.fromkeys(expected[0], TOLERANCE)
    report, _ = check(
        library, images, expected, step, places, reference="ONNX Runtime", accepted=accepted
    )
    return report
