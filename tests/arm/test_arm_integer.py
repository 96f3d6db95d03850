"""A quantised model on the emulated machine against the integer reference: by its dot products, and
by pairs of products where it has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.arm import steps
from kit.compiled import prepared
from kit.qdq import quantized, with_equal_std

from shiftedge.benchmarks.emulation import qemu
from shiftedge.benchmarks.emulation.qemu import read_recording
from shiftedge.export.agreement import moving_images, normalised
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.compile import build_library
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.export.compiler.numerics.precision import INT8
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.targets import find_target, find_variant, variants_of
from shiftedge.export.compiler.verify.agreement import states_of
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.runtime.spec import ModelSpec

Get = Callable[[str], Path]
FRAMES = 6
MOST_INSTRUCTIONS = 45e6
"""Of a step of MobileNetV2 at 224 x 224 on a Cortex-A76; 43.6 M when this was written."""
MOST_OF_SMALL = {"rpi5": 5.0e6, "rpi4": 8.6e6}
"""Of a step of the network of half width at 112 x 112; 4.82 and 8.35 M when this was written."""


class Built(NamedTuple):
    """A quantised model for the board, its libmodel.so and how it was made."""

    model: bytes
    spec: ModelSpec
    target: CpuVariant
    step: Step
    places: MemoryLayout
    library: Path
    images: NDArray[np.uint8]


def build(file: Path, folder: Path, board: str = "rpi5") -> Built:
    [target] = variants_of(find_target(board), "int8")
    if why := qemu.missing(target.architecture):
        pytest.skip(why)
    data, spec = read_model(file)
    spec = with_equal_std(spec)
    images = moving_images(spec, FRAMES)
    model, spec = quantized(data, spec, normalised(images, spec))
    step, places = prepared(model, spec, target)
    library = folder / "libmodel.so"
    build_library(step, places, spec, target, library)
    return Built(model, spec, target, step, places, library, images)


def codes_of(built: Built, block: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The states of a block, as the codes that they stand for, (height, width, channels)."""
    assert None not in built.step.quantization
    states = states_of(block, built.step, built.places)
    return [state[0].transpose(1, 2, 0) for state in states]


@pytest.mark.parametrize(("board", "dot"), [("rpi5", "sdot"), ("rpi4", "smlal")])
def test_the_step_is_the_reference_bit_for_bit(
    board: str, dot: str, exported: Get, tmp_path: Path
) -> None:
    """Moving frames: every code of every state, and the same bytes from 1, 2 and 3 threads."""
    built = build(exported("mobilenet-0.5@112x112"), tmp_path, board)
    assert dot in built.target.dots
    machine, counts = qemu.machine_of(built.target.architecture), tmp_path / "counts"
    files = {threads: tmp_path / str(threads) for threads in (1, 2, 3)}
    for threads, file in files.items():
        qemu.stream(
            built.library, built.images, built.spec.classes, machine, built.target.device.cpu,
            threads=threads, output=file, recorded=counts if threads == 1 else None,
        )  # fmt: skip
        assert file.read_bytes() == files[1].read_bytes(), f"{threads} threads differ from 1"
    reference = Evaluator(read_onnx(built.model, built.spec), built.spec, INT8)
    ours = steps(files[1], built.spec.classes, built.places.state_bytes)
    moved = np.zeros(len(built.step.states), bool)
    before: list[NDArray[np.float32]] = []
    for image, (logits, block) in zip(built.images, ours, strict=True):
        expected, states = reference.step(image), codes_of(built, block)
        for index, (state, wanted) in enumerate(zip(states, expected.states, strict=True)):
            np.testing.assert_array_equal(state, wanted, err_msg=f"state {index}")
        np.testing.assert_allclose(logits, expected.logits, rtol=0, atol=1e-5)
        moved |= [bool((a != b).any()) for a, b in zip(states, before, strict=False)] or moved
        before = states
    assert qemu.instructions(read_recording(counts).between(0, 1)) <= MOST_OF_SMALL[board]
    assert moved.all(), "a state that never changes shows nothing"


@pytest.fixture(scope="module")
def large(exported: Get, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(exported("mobilenet-1.0@224x224"), tmp_path_factory.mktemp("large"))


def test_how_many_instructions_a_step_takes(large: Built, tmp_path: Path) -> None:
    machine, counts = qemu.machine_of(large.target.architecture), tmp_path / "counts"
    qemu.stream(
        large.library, large.images[:2], large.spec.classes, machine, large.target.device.cpu,
        recorded=counts,
    )  # fmt: skip
    assert qemu.instructions(read_recording(counts).between(0, 1)) <= MOST_INSTRUCTIONS


def test_what_a_quantised_model_weighs(large: Built, exported: Get) -> None:
    """A third of the float32 model's library, and a quarter of its states."""
    data, spec = read_model(exported("mobilenet-1.0@224x224"))
    _, floats = prepared(data, spec, find_variant("rpi5"))
    assert large.places.weights_bytes <= 0.32 * floats.weights_bytes
    assert large.places.state_bytes <= 0.26 * floats.state_bytes
