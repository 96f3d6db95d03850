"""Every kernel family in every precision, interpreted, against the evaluated graph."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from kit.conformance import CASES, each, inexact
from kit.layers import UNITS, Layers, Made, interpreted

from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.index import Index
from shiftedge.export.compiler.kernel_ir.kernel import BF16 as BFLOAT16
from shiftedge.export.compiler.kernel_ir.kernel import Buffer
from shiftedge.export.compiler.numerics.precision import FP16, Precision
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.export.compiler.verify.proof import multiplied
from shiftedge.runtime.spec import ModelSpec

ROUNDED = 2.0**-6
"""Of a kernel's result, relative to the largest: what roundings to bfloat16 inside of it make."""


def evaluated(
    layers: Layers, graph: Graph, step: Step, spec: ModelSpec, precision: Precision | None
) -> Made:
    evaluator = Evaluator(graph, spec, precision, multiplied(graph, step, layers.precision))
    evaluator.states = list(layers.states)
    image = layers.image
    if image is None:
        image = np.zeros((spec.height, spec.width, 3), np.uint8)
    before = list(evaluator.states)
    made = evaluator.step(image, layers.given)
    states = {
        number: state for number, state in enumerate(made.states) if state is not before[number]
    }
    return Made(made.values, states, made.logits)


def compare(got: Made, want: Made, given: set[str], tolerance: float, loose: set[str]) -> None:
    made = set(got.values) - given
    assert made or got.states
    assert got.states.keys() == want.states.keys()
    pairs = [(name, got.values[name], want.values[name]) for name in made if name in want.values]
    pairs += [(f"state {n}", state, want.states[n]) for n, state in got.states.items()]
    assert pairs
    for name, ours, theirs in pairs:
        theirs = theirs.reshape(ours.shape)
        most = max(tolerance, 1e-5 if name in loose else 0.0)
        if not most:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        else:
            atol = most * max(1.0, float(np.abs(theirs).max()))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)


def as_float16(value: Any) -> Any:
    """A part of a kernel with float16 in place of bfloat16."""
    if isinstance(value, tuple):
        return tuple(map(as_float16, value))
    if isinstance(value, Buffer):
        return replace(value, dtype="float16") if value.dtype == BFLOAT16 else value
    if is_dataclass(value) and not isinstance(value, (type, Index)):
        parts = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        return replace(value, **{name: as_float16(part) for name, part in parts.items()})
    return value


# Cases whose maps are bfloat16 and whose weights are not packed.
STORAGE = (
    "pointwise, odd, RELU6",
    "depthwise, odd channels, NONE",
    "depthwise, shift in a word, RELU6",
    "grouped, odd",
    "block, odd",
    "over the frame, 2, True",
    "largest, odd",
    "mean of windows, 3 x 3",
    "mean, (7, 7, 40)",
    "sum with itself and a state",
    "gates, SIGMOID",
    "join, 3",
    "delay line",
)


@pytest.mark.parametrize("name", STORAGE)
def test_float16_storage(name: str) -> None:
    """Loads widen, stores round to the nearest: half precision needs no line of the interpreter."""
    case, of = CASES[name], UNITS["vdpbf16ps"]
    layers = Layers(case.seed, FP16)
    case.build(layers)
    graph = layers.graph()
    step = of.step(graph, case.spec)
    assert all(each.dtype != np.int32 for each in step.constants.values())
    calls = tuple(replace(call, kernel=as_float16(call.kernel)) for call in step.calls)
    dtypes = {buffer.dtype for call in calls for buffer in call.kernel.buffers}
    assert "float16" in dtypes
    assert BFLOAT16 not in dtypes
    stored = tuple("float16" if each == BFLOAT16 else each for each in step.stored)
    step = replace(step, calls=calls, stored=stored)
    ours = interpreted(graph, of, step, layers.given, layers.states, layers.image)
    given = set(layers.given)
    for kept in (*(ours.values[name] for name in set(ours.values) - given), *ours.states.values()):
        if kept.shape[:2] != (1, 1) and kept.ndim == 3:
            np.testing.assert_array_equal(kept, kept.astype(np.float16))
    compare(ours, evaluated(layers, graph, step, case.spec, FP16), given, 2.0**-9, set())


@pytest.mark.parametrize(("name", "unit"), each())
def test_kernels_compute_what_their_graph_says(name: str, unit: str) -> None:
    case = CASES[name]
    layers, of = case.layers(unit), UNITS[unit]
    graph, given = layers.graph(), set(layers.given)
    step = of.step(graph, case.spec)
    families = [call.family for call in step.calls]
    assert any(each.startswith(case.family) for each in families), families
    assert not any(each.startswith(case.without) for each in families), families
    given_to = (layers.given, layers.states, layers.image)
    ours = interpreted(graph, of, step, *given_to)
    want = evaluated(layers, graph, step, case.spec, of.precision)
    if of.precision.quantized:
        compare(ours, want, given, 0.0, inexact(graph))
        return
    compare(ours, want, given, ROUNDED if of.precision.rounds else 1e-5, set())
    exact = interpreted(graph, of, step, *given_to, exact=True)
    compare(exact, evaluated(layers, graph, step, case.spec, None), given, 1e-6, set())
