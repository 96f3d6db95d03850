"""Compiled models on the emulated machine against ONNX Runtime on this one, and their guards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.arm import steps
from kit.compiled import prepared

from shiftedge.benchmarks.emulation import qemu
from shiftedge.export.agreement import (
    FRAMES,
    TOLERANCE,
    compare,
    moving_images,
    named_outputs,
    normalised,
    onnx_outputs,
)
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.targets import find_variant
from shiftedge.runtime.bundle import Bundle

Get = Callable[[str], Path]
Bundles = Callable[[str, str], Path]

FEW = 12
"""Frames for the threads beyond one."""
ERROR_CPU = 9  # SHIFTEDGE_ERROR_CPU


def library(bundle: Path) -> Path:
    """Its only one."""
    opened = Bundle.open(bundle)
    return opened.folder / opened.manifest.variants[0].library


@pytest.mark.parametrize("target", ["rpi4", "rpi3-armv7"])
@pytest.mark.parametrize("name", ["gestures", "mobilenet-0.5@112x112"])
def test_the_step_is_the_models(
    name: str, target: str, bundles: Bundles, exported: Get, tmp_path: Path
) -> None:
    """32 moving frames: logits, every state; the same bytes of the first 12, which every state has
    reached the logits in, from 2 and 3 threads."""
    chosen = find_variant(target)
    if why := qemu.missing(chosen.architecture):
        pytest.skip(why)
    machine = qemu.machine_of(chosen.architecture)
    data, spec = read_model(exported(name))
    step, places = prepared(data, spec, chosen)
    images = moving_images(spec, FRAMES)
    assert spec.receptive_field <= FEW
    files = {threads: tmp_path / str(threads) for threads in (1, 2, 3)}
    for threads, file in files.items():
        qemu.stream(
            library(bundles(name, target)), images[: FRAMES if threads == 1 else FEW],
            spec.classes, machine, chosen.device.name, threads=threads, output=file,
        )  # fmt: skip
    first = files[1].read_bytes()
    for threads in (2, 3):
        found = files[threads].read_bytes()
        assert len(found) == len(first) * FEW // FRAMES
        assert first.startswith(found), f"{threads} threads differ from 1"
    ours = []
    for logits, block in steps(files[1], spec.classes, places.state_bytes):
        states = []
        for offset, shape in zip(places.states, step.states, strict=True):
            size = 4 * int(np.prod(shape))
            state = block[offset : offset + size].view(np.float32).reshape(shape)
            states.append(state.transpose(2, 0, 1)[None])
        ours.append(named_outputs(logits[None], states))
    assert len(ours) == FRAMES
    expected = list(onnx_outputs(data, spec, normalised(images, spec)))
    rows = list(compare("ONNX Runtime / emulated", expected, ours, tolerance=TOLERANCE))
    assert len(rows) == 1 + len(spec.states)
    for row in rows:
        assert row.passed, f"{row.tensor}: {row.worst} of {row.scale} at frame {row.frame}"
        assert row.scale > 1e-3, "nothing moved"


def test_a_cortex_a72_refuses_dot_products(bundles: Bundles) -> None:
    """Said when the model is opened; it would be a crash (SIGILL) at the first step."""
    if why := qemu.missing("aarch64"):
        pytest.skip(why)
    machine = qemu.machine_of("aarch64")
    bundle = bundles("gestures", "rpi5")
    spec = Bundle.open(bundle).manifest.spec
    images = moving_images(spec, 2)

    def on(cpu: str) -> tuple[int, str]:
        done = qemu.stream(library(bundle), images, spec.classes, machine, cpu, check=False)
        return done.returncode, done.stderr

    status, said = on("cortex-a72")
    assert status == ERROR_CPU, said
    assert "needs a CPU with asimddp" in said
    assert on("cortex-a76") == (0, "")
