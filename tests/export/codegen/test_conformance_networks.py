"""Whole networks in every precision over a stream: what is generated against the interpreter, bit
for bit, whatever the number of threads; and the interpreter against the evaluated graph."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from compile_kit import GESTURES
from conformance import STORED
from layers_kit import UNITS, Made, interpreted
from library_kit import Compiled
from random_networks import FRAMES, coded, random_floats, random_network
from step_networks import NETWORKS

from shiftedge.export.agreement import compare, moving_images, normalised, onnx_outputs
from shiftedge.export.compiler.backends.cpu.targets import find_target
from shiftedge.export.compiler.compile import build_library, prepare, read_model
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.graph import Conv, Graph
from shiftedge.export.compiler.numerics.precision import INT8, PRECISIONS
from shiftedge.export.compiler.verify.agreement import check, check_kernels, interpreted_outputs
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.export.compiler.verify.proof import multiplied
from shiftedge.runtime.spec import ModelSpec

LARGE = ("gestures", "mobilenet-0.35@64x48", "previous-0.5@128x96", "own@64x48")
LOGITS = 2e-5
"""Of a difference, relative to the largest: what float32 kernels behind quantised ones may do."""


@cache
def network(name: str, precision: str) -> tuple[bytes, ModelSpec]:
    """ "NAME", "NAME kept" with some layers in float32, or "random SEED"."""
    name, _, more = name.partition(" ")
    if name == "random":
        return (random_network if precision == "int8" else random_floats)(int(more))
    data, spec = read_model(GESTURES) if name == "gestures" else NETWORKS[name]()
    if precision != "int8":
        return data, spec
    count = sum(isinstance(each, Conv) for each in read_onnx(data, spec).operators)
    kept = np.random.default_rng(len(name)).choice(count, count // 3, replace=False) if more else []
    return coded(data, spec, kept=list(map(int, kept)))


CASES = (
    *((name, precision) for name in LARGE for precision in PRECISIONS),
    *((f"{name} kept", "int8") for name in LARGE if not name.startswith("previous")),
    *((f"random {seed}", "fp32") for seed in range(12)),
    *((f"random {seed}", "bf16") for seed in range(4)),
    *((f"random {seed}", "int8") for seed in range(6)),
)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_library(name: str, precision: str, tmp_path: Path) -> None:
    data, spec = network(name, precision)
    target = find_target("host")
    if precision == "bf16":
        target = replace(target, unit=UNITS["vdpbf16ps"].unit, precision="bf16")
    step, places = prepare(data, spec, target)
    images, library = moving_images(spec, FRAMES), tmp_path / "libmodel.so"
    build_library(step, places, spec, target, library)
    expected = list(interpreted_outputs(step, images))
    exact = dict.fromkeys(expected[0], 0.0)
    report, _ = check(
        library, images, expected, step, places, reference="interpreted", accepted=exact
    )
    assert report.passed, report.table()
    graph = read_onnx(data, spec)
    if precision == "int8":
        assert_of_the_graph(graph, spec, images, expected)
        return
    check_kernels(graph, spec, step, images, multiplied(graph, step, PRECISIONS[precision]))
    if precision == "fp32":
        theirs = list(onnx_outputs(data, spec, normalised(images, spec)))
        rows = compare("ONNX Runtime / interpreted", theirs, expected, tolerance=1e-4)
        assert all(row.passed for row in rows), rows


def assert_of_the_graph(graph: Graph, spec: ModelSpec, images: np.ndarray, expected: list) -> None:
    """Quantised values are the evaluated graph's but where a number of float32 lies in the middle
    between two steps."""
    evaluator = Evaluator(graph, spec, INT8)
    inexact = any(name not in graph.quantization for name in graph.shapes if "state_" in name)
    inexact = inexact or any(isinstance(op, Conv) and op.codes is None for op in graph.operators)
    for ours, image in zip(expected, images, strict=True):
        made = evaluator.step(image)
        wrong = total = 0
        for number, theirs in enumerate(made.states):
            state = ours[f"next_state_{number}"][0].transpose(1, 2, 0)
            if theirs.dtype == np.uint8:
                difference = np.abs(state - theirs.astype(np.int64))
                assert difference.max(initial=0) <= inexact, f"state {number}"
                wrong, total = wrong + np.count_nonzero(difference), total + difference.size
            else:
                near(state, theirs, inexact)
        assert wrong <= 0.01 * total
        near(ours["logits"][0], made.logits, inexact)


def near(ours: np.ndarray, theirs: np.ndarray, inexact: bool) -> None:
    bound = (0.02 if inexact else LOGITS) * max(1.0, np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("unit", STORED)
@pytest.mark.parametrize("name", ["own@64x48 kept", *(f"random {seed}" for seed in range(6, 9))])
def test_for_another_processor(name: str, unit: str) -> None:
    data, spec = network(name, "int8")
    graph, of = read_onnx(data, spec), UNITS[unit]
    step = of.step(graph, spec)
    code, evaluator = Compiled(graph, of, step), Evaluator(graph, spec, INT8)
    for number, image in enumerate(moving_images(spec, FRAMES)):
        want = interpreted(graph, of, step, {}, evaluator.states, image)
        got = code.run({}, evaluator.states, image, (number, 3 * number))
        same(got, want)
        made = evaluator.step(image)
        for index, state in want.states.items():
            if state.dtype == np.uint8:
                assert np.abs(state - made.states[index].astype(np.int64)).max() <= 1
        near(want.logits, made.logits, inexact=True)


def same(got: Made, want: Made) -> None:
    assert got.values.keys() == want.values.keys()
    for name, value in got.values.items():
        np.testing.assert_array_equal(value, want.values[name], err_msg=name)
    for number, state in got.states.items():
        np.testing.assert_array_equal(state, want.states[number], err_msg=f"state {number}")
    np.testing.assert_array_equal(got.logits[: len(want.logits)], want.logits)
