"""Ranges that a fine-tune held, on their way from its checkpoint to the quantised file.

A network that learned with its codes in certain ranges does best with those; ranges found again
fit its float values, which the fine-tune let grow past what the codes can hold. They travel in the
float ONNX file's metadata under the names of torch's modules: of a convolution (its output, after
the activation that follows) or of a block (the sum of its residual).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from shiftedge.export.quantize.graph import Graph
from shiftedge.export.quantize.ranges import LEVELS, Affine
from shiftedge.runtime.errors import ModelError

__all__ = ["KEY", "read_ranges", "write_ranges"]

KEY = "shiftedge.ranges"
"""Of the metadata: a JSON object of module name -> [scale, zero point]."""
PREFIX = "net."
"""Of the modules' names in an exported file."""


def write_ranges(document: Any, ranges: Mapping[str, Affine]) -> None:
    """Put ``ranges`` into the metadata of a ModelProto."""
    plain = {name: [affine.scale, affine.zero_point] for name, affine in ranges.items()}
    document.metadata_props.add(key=KEY, value=json.dumps(plain))


def read_ranges(graph: Graph) -> dict[str, Affine]:
    """Range of each group of tensors that the file carries one for; none in most files.

    Raises:
        ModelError: they are malformed, or of modules that the graph does not have.
    """
    text = next((entry.value for entry in graph.model.metadata_props if entry.key == KEY), None)
    if text is None:
        return {}
    try:
        named = {str(name): _affine(*pair) for name, pair in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The ranges in the file's metadata are malformed ({error}); export its checkpoint "
            "again."
        ) from error
    results = {layer.name.removeprefix(PREFIX): layer.result for layer in graph.layers}
    found = {}
    for name, affine in named.items():
        tensor = results.get(name) or _sum(graph, results, name)
        if tensor is None:
            raise ModelError(
                f"The file's metadata has a range for {name}, which is not among its layers; "
                "export its checkpoint again."
            )
        found[graph.group(tensor)] = affine
    return found


def _affine(scale: float, zero_point: int) -> Affine:
    if not (math.isfinite(scale) and scale > 0.0):
        raise ValueError(f"a scale of {scale!r}")
    if not (isinstance(zero_point, int) and 0 <= zero_point <= LEVELS):
        raise ValueError(f"a zero point of {zero_point!r}")
    return Affine(float(scale), zero_point)


def _sum(graph: Graph, results: Mapping[str, str], block: str) -> str | None:
    """What the addition gives that reads the last convolution of ``block``."""
    last = [result for name, result in results.items() if name.startswith(f"{block}.")]
    sums = [
        graph.nodes[index]
        for index in (graph.readers[last[-1]] if last else [])
        if graph.nodes[index].op_type == "Add"
    ]
    return sums[0].output[0] if len(sums) == 1 else None
