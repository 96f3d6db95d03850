"""One standard deviation for the three colours, so that raw pixels have one scale.

A frame is (pixel / 255 - mean_c) / std_c. With std_c the same for all colours c, integer weights
can multiply the camera's bytes as they come. Each colour's share goes into the weights of the
convolutions that read the frame, before they are quantised.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from shiftedge.export.quantize.graph import COPIES, Graph
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

__all__ = ["equal_std", "one_std"]


def one_std(std: tuple[float, float, float]) -> float:
    """The standard deviation that takes the place of the colours' own."""
    return std[0] if len(set(std)) == 1 else round(float(np.mean(std)), 6)


def equal_std(graph: Graph, spec: ModelSpec) -> tuple[Graph, ModelSpec]:
    """The same function of the camera's pixels, with one std where that can be done.

    It cannot where anything but a convolution without groups, or a copy, reads the frame or a
    state that holds it; then both come back as they were.

    A state that holds the frame holds it in the new unit.
    """
    if len(set(spec.std)) == 1:
        return graph, spec
    colours = _colours(graph)
    readers = _readers(graph, colours)
    if readers is None:
        return graph, spec
    std = one_std(spec.std)
    factor = np.array([std / each for each in spec.std], np.float64)
    onnx = require("onnx")
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for index, source in readers.items():
        node = model.graph.node[index]
        weight = graph.constants[node.input[1]].astype(np.float64)
        share = np.array([1.0 if c < 0 else factor[c] for c in colours[source]])
        scaled = (weight * share.reshape(1, -1, *[1] * (weight.ndim - 2))).astype(np.float32)
        name = f"{node.input[1]}" if len(graph.readers[node.input[1]]) == 1 else None
        if name is None or name not in {tensor.name for tensor in model.graph.initializer}:
            name = f"{node.output[0]}_folded.weight"
        else:
            old = next(tensor for tensor in model.graph.initializer if tensor.name == name)
            model.graph.initializer.remove(old)
        model.graph.initializer.append(onnx.numpy_helper.from_array(scaled, name))
        node.input[1] = name
    changed = dataclasses.replace(spec, std=(std, std, std))
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = changed.to_json()
    return Graph(model), changed


def _colours(graph: Graph) -> dict[str, list[int]]:
    """Colour (0..2) of each channel of every tensor that holds the frame; -1 for other channels."""
    known: dict[str, list[int]] = {"frame": [0, 1, 2]}
    for _ in range(len(graph.inputs) + 1):  # a state may hold what another state held before
        before = dict(known)
        for node in graph.nodes:
            if node.op_type in COPIES:
                known.update(_through(graph, node, known))
        for name in graph.inputs:
            if f"next_{name}" in known:
                known[name] = known[f"next_{name}"]
        if known == before:
            break
    return known


def _through(graph: Graph, node: Any, known: dict[str, list[int]]) -> dict[str, list[int]]:
    """Channels of the results of one copying node, where they hold the frame."""
    sources = graph.copied(node)
    if not any(source in known for source in sources):
        return {}
    if node.op_type == "Identity":
        return {node.output[0]: known[sources[0]]}
    if node.op_type == "Concat" and node.attribute[0].i == 1:
        channels: list[int] = []
        for source in sources:
            shape = graph.shape(source)
            if source not in known and shape is None:
                return {}
            channels += known[source] if source in known else [-1] * (shape or (0, 0))[1]
        return {node.output[0]: channels}
    if node.op_type == "Slice" and len(node.input) >= 4:
        bounds = [graph.constants.get(name) for name in node.input[1:4]]
        if all(bound is not None and bound.size == 1 for bound in bounds):
            start, end, axis = (int(bound.item()) for bound in bounds if bound is not None)
            step = graph.constants.get(node.input[4]) if len(node.input) > 4 else None
            if axis == 1 and (step is None or int(step.item()) == 1):
                return {node.output[0]: known[sources[0]][start:end]}
    return {}


def _readers(graph: Graph, colours: dict[str, list[int]]) -> dict[int, str] | None:
    """Convolutions that read the frame -> what they read; None where something else does."""
    readers = {}
    group = graph.group("frame")
    for member in graph.groups().get(group, []):
        for index in graph.users(member):
            node = graph.nodes[index]
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            if node.op_type != "Conv" or groups != 1 or node.input[1] not in graph.constants:
                return None
            if (
                node.input[0] != member
                or len(colours.get(member, ())) != (graph.constants[node.input[1]].shape[1])
            ):
                return None
            readers[index] = member
    return readers or None
