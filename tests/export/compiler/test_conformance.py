"""Every kernel family in every precision, interpreted, against the evaluated graph."""

from __future__ import annotations

import numpy as np
import pytest
from kit.conformance import CASES, each, inexact
from kit.layers import UNITS, Layers, Made, interpreted

from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.numerics.precision import Precision
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
