"""shiftedge in an emulated aarch64 Python, as on a board: numpy's wheel, and ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")

from kit.arm import GESTURES

import shiftedge
from shiftedge.benchmarks.emulation.python import EmulatedPython
from shiftedge.runtime.capture.synthetic.moving import moving_scene
from shiftedge.runtime.errors import ShiftedgeError

Bundles = Callable[[str, str], Path]
OWN, CAMERAS = 8, 4
"""Frames of the model's size, and of a camera's: those are resized by whatever is installed, so
only engines on the same machine get the same."""
TOLERANCE = 1e-4
"""Of a difference, relative to the largest value."""

STREAMED = f"""\
import sys
import numpy as np, shiftedge
from shiftedge.runtime.capture.synthetic.moving import moving_scene
model = shiftedge.load(sys.argv[1], threads=1)
stream = model.stream()
own = moving_scene(5, frames={OWN}, height=model.spec.height, width=model.spec.width)
cameras = moving_scene(6, frames={CAMERAS}, height=150, width=210)
np.save(sys.argv[2], np.stack([stream.step(frame) for frame in (*own, *cameras)]))
print(model.engine.name, *sorted({{"tvm", "torch", "onnx", "onnxruntime"}} & set(sys.modules)))
"""


def streamed(python: EmulatedPython, model: Path, folder: Path) -> tuple[np.ndarray, list[str]]:
    """The logits of the moving scenes there, and what the program said."""
    file = folder / "logits.npy"
    done = python.run(["-c", STREAMED, model, file])
    return np.load(file), done.stdout.split()


def test_load_of_a_bundle(python: EmulatedPython, bundles: Bundles, tmp_path: Path) -> None:
    """With numpy alone; ONNX Runtime says the same, there and here. The bundle has dot products
    too, which this core has not."""
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    ours, said = streamed(python, bundles("gestures", "aarch64"), tmp_path)
    assert said == ["native"]
    theirs, said = streamed(python, GESTURES, tmp_path)
    assert said == ["onnxruntime", "onnxruntime"]
    model = shiftedge.load(GESTURES)
    stream, spec = model.stream(), model.spec
    own = moving_scene(5, frames=OWN, height=spec.height, width=spec.width)
    expected = np.stack([stream.step(frame) for frame in own])
    assert ours.shape == theirs.shape == (OWN + CAMERAS, model.spec.classes)
    most = TOLERANCE * np.abs(expected).max()
    assert np.abs(ours - theirs).max() <= most
    assert np.abs(ours[:OWN] - expected).max() <= most


def test_a_bundle_for_another_core_is_refused(
    python: EmulatedPython, bundles: Bundles, tmp_path: Path
) -> None:
    """Before its code is loaded, and with the feature's name."""
    with pytest.raises(ShiftedgeError, match=r"needs a CPU with .*asimddp"):
        streamed(python, bundles("gestures", "rpi5"), tmp_path)
