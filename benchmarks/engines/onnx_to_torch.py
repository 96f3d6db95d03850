"""An .onnx file as a torch module, for the engines that start from one.

Written here because the one library for it, onnx2torch, was last released in August 2024 and asks
for torchvision, which pins another torch than the one at hand. What comes out is a
``torch.fx.GraphModule``: generated Python with one call for each node and static sizes, which is
what eager mode, ``torch.compile`` and ``torch.export`` all take best.

The operators are in ``onnx_to_torch_operators``; a value whose inputs are all constants is computed
here, once, by ONNX's own reference implementation, but for quantised weights, which stay codes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.onnx_to_torch_codes import QUANTISED_OPERATORS
from shiftedge.benchmarks.engines.onnx_to_torch_operators import OPERATORS, Builder
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["to_torch"]

DOMAINS = ("", "ai.onnx")
"""ONNX's own operators; others of the same name may do something else."""
KNOWN = {**OPERATORS, **QUANTISED_OPERATORS}


def to_torch(path: Path, spec: ModelSpec) -> Any:
    """The model as a module in evaluation mode.

    Args:
        path: of the .onnx file.
        spec: of the model, which says how many states there are.

    Returns:
        A ``torch.fx.GraphModule``: (frame, state_0, ...) -> (logits, next_state_0, ...).

    Raises:
        ModelError: the file cannot be read, or holds an operator or an attribute that has no
            translation here; the sentence names it.
        MissingExtraError: onnx or torch is not installed.
    """
    onnx, torch = require("onnx"), require("torch")
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    except Exception as error:  # onnx's errors have no common base
        raise ModelError(f"{path} cannot be read as ONNX ({error}).") from error
    graph = model.graph
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    builder = Builder(torch, constants, _shapes(graph))
    states = range(len(spec.states))
    for name in ("frame", *(f"state_{index}" for index in states)):
        builder.values[name] = builder.graph.placeholder(name)
    for node in graph.node:
        _add(onnx, builder, node, model.opset_import)
    names = ("logits", *(f"next_state_{index}" for index in states))
    missing = [name for name in names if not builder.knows(name)]
    if missing:
        raise ModelError(f"{path} has no output {missing[0]}; `shiftedge export` makes files with.")
    builder.graph.output(tuple(builder.value(name) for name in names))
    return torch.fx.GraphModule(builder.root, builder.graph, "OnnxModel").eval()


def _add(onnx: Any, builder: Builder, node: Any, opsets: Any) -> None:
    operator = KNOWN.get(node.op_type) if node.domain in DOMAINS else None
    if operator is None:
        title = ".".join(filter(None, (node.domain, node.op_type)))
        raise ModelError(
            f"The operator {title} (node {node.name!r}) has no translation to torch here; known "
            f"are {', '.join(sorted(KNOWN))}."
        )
    constant = all(name in builder.constants for name in node.input if name)
    if constant and node.op_type not in QUANTISED_OPERATORS:
        builder.constants.update(_computed(onnx, builder, node, opsets))
        return
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    made = operator(builder, node, attributes)
    if len(node.output) == 1:
        builder.values[node.output[0]] = made
    else:
        builder.values.update(zip(filter(None, node.output), made, strict=False))


def _computed(onnx: Any, builder: Builder, node: Any, opsets: Any) -> dict[str, NDArray[Any]]:
    """The outputs of a node whose inputs are all constants."""
    import onnx.reference

    wanted = list(dict.fromkeys(filter(None, node.input)))
    graph = onnx.helper.make_graph(
        [node],
        "constants",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in wanted],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=list(opsets))
    run = onnx.reference.ReferenceEvaluator(model).run
    results = run(None, {name: builder.constants[name] for name in wanted})
    names = filter(None, node.output)
    return {name: np.asarray(value) for name, value in zip(names, results, strict=True)}


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Of each tensor whose every size is known."""
    found = {}
    for entry in (*graph.input, *graph.value_info, *graph.output):
        sizes = entry.type.tensor_type.shape.dim
        if entry.type.tensor_type.HasField("shape") and all(
            size.HasField("dim_value") for size in sizes
        ):
            found[entry.name] = tuple(size.dim_value for size in sizes)
    return found
