"""One standard deviation for the three colours, so that raw pixels have one scale.

A frame is (pixel / 255 - mean_c) / std_c. With std_c the same for all colours c, integer weights
can multiply the camera's bytes as they come. Each colour's share goes into the weights of the
convolutions that read the frame, before they are quantised.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from shiftedge.export.quantize.graph import COPIES, OnnxGraph, constant, uses
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec


def one_std(std: tuple[float, float, float]) -> float:
    """The standard deviation that takes the place of the colours' own."""
    return std[0] if len(set(std)) == 1 else round(float(np.mean(std)), 6)


def equal_std(graph: OnnxGraph, spec: ModelSpec) -> tuple[OnnxGraph, ModelSpec]:
    """The same function of the camera's pixels, with one std where that can be done.

    It cannot where anything but a convolution without groups, or a copy, reads the frame or a
    state that holds it; then both come back as they were.

    A state that holds the frame holds it in the new unit.
    """
    if len(set(spec.std)) == 1:
        return graph, spec
    folded = OnnxGraph(graph.model.clone())
    colours = _colours(folded)
    readers = _readers(folded, colours)
    if not readers:
        return graph, spec
    std = one_std(spec.std)
    factor = np.array([std / each for each in spec.std], np.float64)
    ir = require("onnx_ir")
    for node, source in readers:
        value = node.inputs[1]
        weight = constant(value)
        assert weight is not None
        share = np.array([1.0 if c < 0 else factor[c] for c in colours[source]])
        scaled = weight.astype(np.float64) * share.reshape(1, -1, *[1] * (weight.ndim - 2))
        name = value.name
        if not value.is_initializer() or len(value.uses()) > 1:
            name = f"{node.outputs[0].name}_folded.weight"
            value = ir.Value(name=name)
            node.replace_input_with(1, value)
        value.const_value = ir.tensor(scaled.astype(np.float32), name=name)
        folded.model.graph.initializers[name] = value
    changed = dataclasses.replace(spec, std=(std, std, std))
    folded.model.metadata_props[METADATA_KEY] = changed.to_json()
    return OnnxGraph(folded.model), changed


def _colours(graph: OnnxGraph) -> dict[str, list[int]]:
    """Colour (0..2) of each channel of every tensor that holds the frame; -1 for other channels."""
    known: dict[str, list[int]] = {"frame": [0, 1, 2]}
    for _ in range(len(graph.inputs) + 1):  # a state may hold what another state held before
        before = dict(known)
        for node in graph.model.graph:
            if node.op_type in COPIES:
                channels = _copied(node, known)
                if channels:
                    known[node.outputs[0].name] = channels
        for name in graph.inputs:
            if f"next_{name}" in known:
                known[name] = known[f"next_{name}"]
        if known == before:
            break
    return known


def _copied(node: Any, known: dict[str, list[int]]) -> list[int]:
    """Channels of the result of a copying node, where it holds the frame and it is known which."""
    first = known.get(node.inputs[0].name, [])
    if node.op_type == "Identity":
        return first
    if node.op_type == "Concat" and node.attributes["axis"].as_int() == 1:
        channels: list[int] = []
        for value in node.inputs:
            if value.name not in known and value.shape is None:
                return []
            channels += known.get(value.name) or [-1] * int(value.shape[1])
        return channels if any(value.name in known for value in node.inputs) else []
    if node.op_type == "Slice":
        bounds = [constant(value) for value in node.inputs[1:]]
        if len(bounds) >= 3 and all(bound is not None and bound.size == 1 for bound in bounds):
            start, end, axis, *step = (int(bound.item()) for bound in bounds if bound is not None)
            if axis == 1 and step in ([], [1]):
                return first[start:end]
    return []


def _readers(graph: OnnxGraph, colours: dict[str, list[int]]) -> list[tuple[Any, str]]:
    """Convolutions that read the frame, and what they read; none where something else does."""
    readers = []
    for member in graph.groups().get(graph.group("frame"), []):
        for node, at in uses(graph.values[member], copied=False):
            weight = constant(node.inputs[1]) if node.op_type == "Conv" and at == 0 else None
            groups = node.attributes.get("group")
            if weight is None or (groups is not None and groups.as_int() != 1):
                return []
            if len(colours.get(member, ())) != weight.shape[1]:
                return []
            readers.append((node, member))
    return readers
