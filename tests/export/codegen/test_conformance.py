"""What each backend generates of every case, against the interpreter: bit for bit, whole and in
pieces. A backend more is a row of ``BACKENDS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from kit.conformance import ALL, CASES, each
from kit.layers import UNITS, Made, Unit, interpreted
from kit.libraries import Compiled

from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step


class Generated(Protocol):
    """A step as a backend made it."""

    def run(
        self,
        given: dict[str, np.ndarray],
        states: Sequence[np.ndarray] = (),
        image: np.ndarray | None = None,
        cuts: Sequence[int] = (),
    ) -> Made: ...


BACKENDS: Mapping[str, tuple[Callable[[Graph, Unit, Step], Generated], tuple[str, ...]]] = {
    "cpu": (Compiled, ALL)
}
"""How it generates a step of a graph, and for which units."""


@pytest.mark.parametrize(
    ("backend", "name", "unit"),
    [
        (backend, name, unit)
        for backend, (_, units) in BACKENDS.items()
        for name, unit in each(units)
    ],
)
def test_code_computes_what_the_interpreter_does(backend: str, name: str, unit: str) -> None:
    case, of = CASES[name], UNITS[unit]
    layers = case.layers(unit)
    graph = layers.graph()
    step = of.step(graph, case.spec)
    want = interpreted(graph, of, step, layers.given, layers.states, layers.image)
    code = BACKENDS[backend][0](graph, of, step)
    for cuts in ((), (1,), (1, 4, 7)):
        got = code.run(layers.given, layers.states, layers.image, cuts)
        assert got.values.keys() == want.values.keys()
        assert got.states.keys() == want.states.keys()
        pairs = [(value, want.values[name], name) for name, value in got.values.items()]
        pairs += [(state, want.states[n], f"state {n}") for n, state in got.states.items()]
        pairs += [(got.logits[: len(want.logits)], want.logits, "logits")]
        for ours, theirs, name in pairs:
            if case.fused or of.precision.rounds:
                np.testing.assert_array_equal(ours, theirs, err_msg=name)
            else:
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6, err_msg=name)
