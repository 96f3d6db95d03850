"""Whole quantised networks over a stream: built, run by 1 to 3 threads, against the integer
reference; and, call by call, for the processors that this machine is not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from integer_kit import STORED, layer_by_layer, stream
from integer_networks import FRAMES, coded, random_network
from onnx_kit import HEIGHT, SPEC, WIDTH

from shiftedge.export.agreement import moving_images
from shiftedge.export.compiler.compile import build_library, prepare, read_model
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.graph import Conv
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.layout import Layout
from shiftedge.export.compiler.targets import find_variant
from shiftedge.export.compiler.verify.agreement import HEADER_BYTES, states_of
from shiftedge.export.compiler.verify.integer import Int8Reference
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.spec import ModelSpec

LOGITS = 2e-5
"""Of a difference, relative to the largest: what float32 kernels after the codes may do."""


def outputs(
    library: Path, images: np.ndarray, step: Step, places: Layout, threads: int
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Logits and states frame by frame; states of codes as codes."""
    session = NativeEngine(library, threads=threads, oversubscribe=True).open_session()
    for image in images:
        logits = session.step(image)
        block = np.frombuffer(session.save(), np.uint8)[HEADER_BYTES:]
        states = [state[0].transpose(1, 2, 0) for state in states_of(block, step, places)]
        yield logits, states


def agree(data: bytes, spec: ModelSpec, *, steps: int = 0) -> Step:
    """The step built for this machine against the reference, frame by frame.

    ``steps`` is by how many a code may differ, where activations that are no clamps lie on the way.
    """
    graph = read_onnx(data, spec)
    target = find_variant("host")
    step, places = prepare(data, spec, target)
    images = moving_images(spec, FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libmodel.so"
        build_library(step, places, spec, target, library)
        one, *others = (
            list(outputs(library, images, step, places, threads)) for threads in (1, 2, 3)
        )
    for other in others:
        for ours, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(ours[0], same[0], err_msg="depends on the threads")
            for state, too in zip(ours[1], same[1], strict=True):
                np.testing.assert_array_equal(state, too, err_msg="depends on the threads")
    reference = Int8Reference(graph, spec)
    for (logits, states), image in zip(one, images, strict=True):
        want = reference.step(image)
        wrong = total = 0
        for number, (state, theirs) in enumerate(zip(states, want.states, strict=True)):
            if theirs.dtype == np.uint8:
                difference = np.abs(state - theirs.astype(np.int64))
                assert difference.max(initial=0) <= steps, f"state {number}"
                wrong, total = wrong + np.count_nonzero(difference), total + difference.size
            else:
                bound = (0.02 if steps else LOGITS) * max(1.0, np.abs(theirs).max())
                np.testing.assert_allclose(state, theirs, rtol=0, atol=bound)
        assert wrong <= 0.01 * total
        bound = (0.02 if steps else LOGITS) * max(1.0, np.abs(want.logits).max())
        np.testing.assert_allclose(logits, want.logits, rtol=0, atol=bound)
    return step


@pytest.mark.parametrize("name", ["mobilenet-0.5@112x112", "resnet@64x64", "gestures"])
def test_a_network(exported: Callable[[str], Path], name: str) -> None:
    step = agree(*coded(*read_model(exported(name))))
    assert all(codes is not None for codes in step.quantization)


def test_a_network_of_every_layer(exported: Callable[[str], Path]) -> None:
    """Squeeze and excite, hard swish, swish, groups, pools."""
    agree(*coded(*read_model(exported("own@64x48"))), steps=1)


@pytest.mark.parametrize("seed", range(3))
def test_layers_kept_in_float(exported: Callable[[str], Path], seed: int) -> None:
    """Any of them, so that codes and numbers meet anywhere."""
    name = ("mobilenet-0.5@112x112", "gestures", "own@64x48")[seed]
    data, spec = read_model(exported(name))
    count = sum(isinstance(each, Conv) for each in read_onnx(data, spec).operators)
    kept = np.random.default_rng(seed).choice(count, count // 3, replace=False)
    # A number of a float layer that is rounded to codes after it may lie in the middle of two.
    agree(*coded(data, spec, kept=kept.tolist()), steps=1)


@pytest.mark.parametrize("unit", STORED)
def test_each_kernel_of_a_network_of_every_layer(
    exported: Callable[[str], Path], unit: str
) -> None:
    """Some layers kept in float. Codes are the reference's but where swish, of float32 here and of
    float64 there, falls on the other side of the middle between two."""
    data, spec = coded(*read_model(exported("own@64x48")), kept=(3, 5))
    found = layer_by_layer(read_onnx(data, spec), unit, moving_images(spec, 2), spec)
    assert len(found) > 12
    different = total = 0
    for name, ours, theirs in found:
        if theirs.dtype == np.uint8:
            difference = np.abs(ours.astype(int) - theirs)
            assert difference.max() <= 1, name
            different, total = different + np.count_nonzero(difference), total + len(difference)
        else:
            bound = LOGITS * max(1.0, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound, err_msg=name)
    assert different <= 2 < total


@pytest.mark.parametrize("seed", range(6))
def test_a_random_network(seed: int) -> None:
    assert (SPEC.height, SPEC.width) == (HEIGHT, WIDTH)
    agree(*random_network(seed), steps=1)


@pytest.mark.parametrize("unit", STORED)
@pytest.mark.parametrize("seed", range(6, 9))
def test_a_random_network_for_another_processor(seed: int, unit: str) -> None:
    data, spec = random_network(seed)
    graph = read_onnx(data, spec)
    for got, want in stream(graph, unit, moving_images(spec, FRAMES), spec):
        for number, state in got.states.items():
            assert np.abs(state - want.states[number].astype(np.int64)).max() <= 1
        bound = 0.02 * max(1.0, np.abs(want.logits).max())
        np.testing.assert_allclose(got.logits, want.logits, rtol=0, atol=bound)
