"""Which tensors hold codes, for a choice of layers that multiply in int8.

A group of tensors (see ``graph``) is quantised where

1. a quantised layer reads it, directly or through a shift; or
2. a quantised layer makes it (after its activation) and an addition, a product or a pooling reads
   it: between a convolution and the addition that follows, other engines need codes; or
3. an addition makes it from a quantised group and the mean before the classifier reads it.

Nothing else is: a layer that is kept in float reads and writes float, as do the mean and the
classifier, and a state that only such layers read stays float32.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from shiftedge.export.quantize.graph import Graph, Layer

__all__ = ["Plan", "make_plan"]

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
    """Group -> the group whose range it takes over: a maximum keeps codes as they are."""

    def roots(self, graph: Graph) -> dict[str, tuple[str, ...]]:
        """Tensors of each quantised group whose values must be gathered; groups in the order in
        which the graph makes them."""
        found = {
            name: tuple(member for member in members if graph.is_root(member))
            for name, members in self.groups.items()
        }
        return dict(
            sorted(found.items(), key=lambda each: min(graph.maker.get(r, -1) for r in each[1]))
        )


def make_plan(graph: Graph, kept: Collection[str] = ()) -> Plan:
    """The plan in which every layer multiplies in int8 but those whose names are in ``kept``."""
    members = graph.groups()
    allowed = {name for name in members if _allowed(graph, members[name])}
    layers = tuple(
        layer
        for layer in graph.layers
        if layer.name not in kept and graph.group(graph.nodes[layer.node].input[0]) in allowed
    )
    wanted = {graph.group(graph.nodes[layer.node].input[0]) for layer in layers}
    made = {graph.group(layer.result) for layer in layers}
    for name in made & allowed:
        if _users(graph, members[name]) & {*POOLS, *JOINS}:
            wanted.add(name)
    for name in allowed - wanted:
        if _users(graph, members[name]) & {"GlobalAveragePool", "ReduceMean"}:
            sums = [graph.nodes[graph.maker[m]] for m in members[name] if m in graph.maker]
            inputs = [i for node in sums for i in _summands(graph, node)]
            if inputs and any(graph.group(each) in wanted for each in inputs):
                wanted.add(name)
    ties = {}
    for name in wanted:
        roots = [member for member in members[name] if graph.is_root(member)]
        if len(roots) == 1 and roots[0] in graph.maker:
            node = graph.nodes[graph.maker[roots[0]]]
            if node.op_type == "MaxPool" and graph.group(node.input[0]) in wanted:
                ties[name] = graph.group(node.input[0])
    return Plan(layers, {name: tuple(members[name]) for name in sorted(wanted)}, ties)


def _allowed(graph: Graph, members: list[str]) -> bool:
    if "logits" in members or not any(graph.is_root(member) for member in members):
        return False
    for member in members:
        made = graph.maker.get(member)
        if made is not None and graph.is_root(member):
            continue
        if made is not None and any(
            name in graph.constants for name in graph.copied(graph.nodes[made])
        ):
            return False
    return True


def _users(graph: Graph, members: list[str]) -> set[str]:
    return {graph.nodes[index].op_type for member in members for index in graph.users(member)}


def _summands(graph: Graph, node: object) -> list[str]:
    """Inputs of an addition, or of the one before an activation."""
    kind, inputs = node.op_type, list(node.input)  # type: ignore[attr-defined]
    if kind in ("Relu", "Clip") and inputs[0] in graph.maker:
        before = graph.nodes[graph.maker[inputs[0]]]
        kind, inputs = before.op_type, list(before.input)
    return inputs if kind == "Add" else []
