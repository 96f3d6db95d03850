"""Whole networks in every precision over a stream: what is generated against the interpreter, bit
for bit, whatever the number of threads; and the interpreter against the evaluated graph."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.compiled import GESTURES
from kit.conformance import STORED
from kit.layers import UNITS, Made, interpreted
from kit.libraries import Compiled, agree, near
from kit.random_networks import FRAMES, coded, random_floats, random_network
from kit.step_networks import NETWORKS

from shiftedge.export.agreement import moving_images
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.graph import Conv
from shiftedge.export.compiler.numerics.precision import INT8
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.runtime.spec import ModelSpec

LARGE = ("gestures", "mobilenet-0.35@64x48", "previous-0.5@128x96", "lite0@64x48", "own@64x48")


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
    *((name, precision) for name in LARGE for precision in ("int8", "bf16", "fp32")),
    *((f"{name} kept", "int8") for name in LARGE if not name.startswith("previous")),
    *((f"random {seed}", "fp32") for seed in range(12)),
    *((f"random {seed}", "bf16") for seed in range(4)),
    *((f"random {seed}", "int8") for seed in range(6)),
)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_library(name: str, precision: str, tmp_path: Path) -> None:
    agree(*network(name, precision), precision, tmp_path / "libmodel.so")


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
        near(want.logits, made.logits, 0.02)


def same(got: Made, want: Made) -> None:
    assert got.values.keys() == want.values.keys()
    for name, value in got.values.items():
        np.testing.assert_array_equal(value, want.values[name], err_msg=name)
    for number, state in got.states.items():
        np.testing.assert_array_equal(state, want.states[number], err_msg=f"state {number}")
    np.testing.assert_array_equal(got.logits[: len(want.logits)], want.logits)
