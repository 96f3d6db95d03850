"""A step in bfloat16 computed by numpy: rounded where compiled code rounds, summed in float64.

Compiled code rounds to bfloat16 what it writes to memory, what a projection reads, and the weights
of convolutions that multiply pairs (:func:`counting.in_pairs`); everything between is float32. So
the two differ by roundings of float32 alone, until one of those decides to which side a bfloat16
is rounded. That happens to few of them, and the stream goes on with them: this is a reference
within a tolerance, which :mod:`proof` takes from the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.agreement import normalised
from shiftedge.export.compiler.bf16 import rounded
from shiftedge.export.compiler.builder import FRAME_MAP
from shiftedge.export.compiler.calls import Memory, Step
from shiftedge.export.compiler.counting import in_pairs
from shiftedge.export.compiler.fusion import InvertedResidual, fuse
from shiftedge.export.compiler.graph import Conv, Graph, KeepState, Operator, is_vector
from shiftedge.export.compiler.reference import run_operator
from shiftedge.export.compiler.tir_kernel import BF16
from shiftedge.runtime.spec import ModelSpec

__all__ = ["HalfReference", "rounded_values"]

Array = NDArray[np.float64]


class HalfReference:
    """A stream of a float32 graph whose maps and states are kept in bfloat16."""

    def __init__(self, graph: Graph, step: Step, spec: ModelSpec) -> None:
        """``step`` is what was made of the graph for a target with bf16; it says what is kept."""
        self._spec = spec
        self._rounded = rounded_values(graph, step)
        operators = tuple(_narrowed(operator, graph) for operator in graph.operators)
        self._graph = replace(graph, operators=operators)
        self.states: list[Array] = [np.zeros(shape) for shape in graph.states]
        """Of the next frame; a fresh stream's at first."""

    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One frame.

        Args:
            image: uint8 (height, width, 3), BGR.

        Returns:
            Logits, float32 (classes,).
        """
        logits = self.frame(image)[self._graph.logits]
        result: NDArray[np.float32] = logits.reshape(-1).astype(np.float32)
        return result

    def frame(
        self, image: NDArray[np.uint8], given: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """One frame: every value of the graph by name; ``given`` are those from outside it."""
        graph = self._graph
        frame = normalised(image[None], self._spec)[0].transpose(1, 2, 0)
        values = {**(given or {}), graph.frame: self._kept(graph.frame, frame)}
        values |= {f"state_{number}": state for number, state in enumerate(self.states)}
        states = list(self.states)
        for operator in graph.operators:
            if isinstance(operator, KeepState):
                kept = values[operator.inputs[0]][..., operator.begin : operator.end]
                states[operator.state] = kept.reshape(graph.states[operator.state])
            else:
                found = run_operator(operator, values)
                values[operator.out] = self._kept(operator.out, found)
        self.states = states
        return values

    def _kept(self, name: str, value: NDArray[Any]) -> Array:
        exact: Array = value.astype(np.float64)
        return rounded(exact).astype(np.float64) if name in self._rounded else exact


def rounded_values(graph: Graph, step: Step) -> frozenset[str]:
    """Names of the graph's values that are rounded to bfloat16 in a step: what lies in memory so,
    and what an inverted residual keeps for its projection."""
    stored = {
        call.arguments[buffer.name].name: buffer.dtype
        for call in step.calls
        for buffer in call.kernel.buffers
        if call.arguments[buffer.name].memory is Memory.WORKSPACE
    }
    names = {name for name, dtype in stored.items() if dtype == BF16}
    for kernel in fuse(graph)[0]:
        if isinstance(kernel, InvertedResidual):
            head = kernel.stem or kernel.expand or kernel.depthwise
            (read,) = kernel.project.conv.inputs
            if not is_vector(graph.shapes[head.conv.inputs[0]]) and read not in stored:
                names.add(read)
    if FRAME_MAP in names:
        names.add(graph.frame)
    return frozenset(names)


def _narrowed(operator: Operator, graph: Graph) -> Operator:
    if isinstance(operator, Conv) and in_pairs(operator, graph):
        source = graph.shapes[operator.inputs[0]]
        hidden = any(
            isinstance(kernel, InvertedResidual) and kernel.project.conv is operator
            for kernel in fuse(graph)[0]
        )
        if hidden or not is_vector(source):
            return replace(operator, weight=rounded(operator.weight))
    return operator
