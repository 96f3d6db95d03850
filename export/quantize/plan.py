"""Which tensors are quantized, for a choice of layers that multiply in int8.

A group of tensors (see ``graph``) is quantised where

1. a quantised layer reads it, directly or through a shift; or
2. a quantised layer makes it (after its activation) and an addition, a product or a pooling reads
   it: between a convolution and the addition that follows, other engines need int8; or
3. an addition makes it from a quantised group and the mean before the classifier reads it.

Nothing else is: a layer that is kept in float reads and writes float, as do the mean and the
classifier, and a state that only such layers read stays float32.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from shiftedge.export.quantize.graph import Layer, OnnxGraph, constant, uses

POOLS = ("GlobalAveragePool", "ReduceMean", "AveragePool", "MaxPool")
JOINS = ("Add", "Mul")


@dataclass(frozen=True)
class Plan:
    """What becomes of a graph."""

    layers: tuple[Layer, ...]
    """That multiply in int8."""
    groups: dict[str, tuple[str, ...]]
    """Quantised groups by name, and their members."""
    ties: dict[str, str]
    """Group -> the group whose range it takes over: a maximum keeps its values as they are."""

    def roots(self, graph: OnnxGraph) -> dict[str, tuple[str, ...]]:
        """Tensors of each quantised group whose values must be gathered; groups in the order in
        which the graph makes them."""
        found = {
            name: tuple(member for member in members if graph.is_root(member))
            for name, members in self.groups.items()
        }
        order = {name: place for place, name in enumerate(graph.values)}
        return dict(sorted(found.items(), key=lambda each: min(map(order.__getitem__, each[1]))))


def make_plan(graph: OnnxGraph, kept: Collection[str] = ()) -> Plan:
    """The plan in which every layer multiplies in int8 but those whose names are in ``kept``."""
    members = graph.groups()
    allowed = {name for name in members if _allowed(graph, members[name])}
    layers = tuple(
        layer
        for layer in graph.layers
        if layer.name not in kept and graph.group(layer.source) in allowed
    )
    wanted = {graph.group(layer.source) for layer in layers}
    made = {graph.group(layer.result) for layer in layers}
    for name in made & allowed:
        if _users(graph, members[name]) & {*POOLS, *JOINS}:
            wanted.add(name)
    for name in allowed - wanted:
        if _users(graph, members[name]) & {"GlobalAveragePool", "ReduceMean"}:
            makers = (graph.values[member].producer() for member in members[name])
            if any(graph.group(each) in wanted for node in makers for each in _summands(node)):
                wanted.add(name)
    ties: dict[str, str] = {}
    for name in wanted:
        roots = [member for member in members[name] if graph.is_root(member)]
        node = graph.values[roots[0]].producer()
        if len(roots) == 1 and node is not None and node.op_type == "MaxPool":
            source = graph.group(node.inputs[0].name)
            ties |= {name: source} if source in wanted else {}
    return Plan(layers, {name: tuple(members[name]) for name in sorted(wanted)}, ties)


def _allowed(graph: OnnxGraph, members: list[str]) -> bool:
    if "logits" in members or not any(graph.is_root(member) for member in members):
        return False
    makers = (graph.values[member].producer() for member in members if not graph.is_root(member))
    return not any(
        value is not None and constant(value) is not None
        for node in makers
        if node is not None
        for value in (node.inputs if node.op_type == "Concat" else node.inputs[:1])
    )


def _users(graph: OnnxGraph, members: list[str]) -> set[str]:
    return {node.op_type for m in members for node, _ in uses(graph.values[m], copied=False)}


def _summands(node: Any) -> list[str]:
    """Inputs of an addition, or of the one before an activation."""
    if node is not None and node.op_type in ("Relu", "Clip"):
        node = node.inputs[0].producer()
    return [] if node is None or node.op_type != "Add" else [value.name for value in node.inputs]
