"""Quantising and what is quantised, as the calls that torch's own lowerings look for.

``quantized_decomposed`` is torch's dialect for it: a call that rounds numbers to codes or gives the
numbers back, with scale and zero point in its arguments. In eager mode it computes what ONNX says;
ExecuTorch's partitioner and inductor read *numbers of codes -> convolution -> codes* as one integer
convolution. So scales are the file's own, and nothing is calibrated a second time. Biases alone
become float32: engines round them as the file did.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.onnx_to_torch_operators import Builder
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import ModelSpec

__all__ = [
    "QUANTISED_OPERATORS",
    "float_ends",
    "quantised_convolutions",
    "sign_codes",
    "signed",
    "unsigned",
]

UINT8 = (0, 255)
INT8 = (-128, 127)
BETWEEN = 128
"""An unsigned code less this is the signed code of the same number."""


def _operators(torch: Any) -> Any:
    importlib.import_module("torch.ao.quantization.fx._decomposed")  # which registers them
    return torch.ops.quantized_decomposed


def _quantise(builder: Builder, node: Any, attributes: Mapping[str, Any]) -> Any:
    function = _operators(builder.torch).quantize_per_tensor.default
    return builder.call(function, builder.value(node.input[0]), *_unsigned(builder, node))


def _dequantise(builder: Builder, node: Any, attributes: Mapping[str, Any]) -> Any:
    codes = builder.constants.get(node.input[0])
    if codes is None:
        function = _operators(builder.torch).dequantize_per_tensor.default
        return builder.call(function, builder.value(node.input[0]), *_unsigned(builder, node))
    scales, zero_points = builder.constant(node, 1), builder.constant(node, 2)
    if scales is None or scales.ndim != 1 or codes.dtype not in (np.int8, np.int32):
        raise _refused(node, f"a constant of type {codes.dtype} with one scale for all")
    if zero_points is not None and zero_points.any():
        raise _refused(node, "a constant whose zero point is not 0")
    if codes.dtype == np.int32:
        builder.constants[node.output[0]] = codes.astype(np.float32) * scales
        return builder.value(node.output[0])
    return _weight(builder, node, int(attributes.get("axis", 1)), len(scales))


def _weight(builder: Builder, node: Any, axis: int, channels: int) -> Any:
    torch = builder.torch
    name = f"zero_points_{len(builder.values)}"
    builder.root.register_buffer(name, torch.zeros(channels, dtype=torch.int64))
    return builder.call(
        _operators(torch).dequantize_per_channel.default,
        *(builder.value(node.input[0]), builder.value(node.input[1])),
        *(builder.graph.get_attr(name), axis, *INT8, torch.int8),
    )


def _unsigned(builder: Builder, node: Any) -> tuple[Any, ...]:
    """Scale, zero point, least and largest code and dtype of an activation."""
    scale, zero_point = builder.constant(node, 1), builder.constant(node, 2)
    if scale is None or scale.size != 1 or zero_point is None or zero_point.dtype != np.uint8:
        raise _refused(node, "an activation that is not uint8 with one scale")
    return (float(scale.item()), int(zero_point.item()), *UINT8, builder.torch.uint8)


def _refused(node: Any, found: str) -> ModelError:
    return ModelError(
        f"The {node.op_type} {node.name or node.output[0]!r} has {found}; expected uint8 "
        "activations of one scale and int8 weights of a scale for each channel, as `shiftedge "
        "quantize` writes them."
    )


QUANTISED_OPERATORS = {"QuantizeLinear": _quantise, "DequantizeLinear": _dequantise}
"""Operator of ONNX -> what it becomes."""


def quantised_convolutions(module: Any) -> int:
    """How many convolutions of a module have weights of codes; a matrix product counts as one."""
    return sum("dequantize_per_channel" in str(node.target) for node in module.graph.nodes)


def signed(state: NDArray[Any]) -> NDArray[Any]:
    """uint8 codes as the int8 codes of the same numbers; anything else as it is."""
    return (state ^ np.uint8(BETWEEN)).view(np.int8) if state.dtype == np.uint8 else state


def unsigned(state: NDArray[Any]) -> NDArray[Any]:
    """The reverse of :func:`signed`."""
    return state.view(np.uint8) ^ np.uint8(BETWEEN) if state.dtype == np.int8 else state


def sign_codes(module: Any, spec: ModelSpec) -> Any:
    """The form of a module's quantised graph that XNNPACK takes.

    - Codes are int8: each is 128 less, and so is each zero point, which is the same number.
    - XNNPACK reads *numbers -> function -> codes* also of what only moves codes, so slices and
      concatenations of codes get their numbers and give codes of the same scale again. XNNPACK
      makes a copy of bytes of it, and rounding gives the same codes elsewhere.
    - Each user of numbers has a call of its own, as XNNPACK's partitioner drops a call for all its
      users or for none.

    Args:
        module: what ``to_torch`` gave; its graph is changed. Quantised states become int8.
        spec: of the model.

    Returns:
        The module.

    Raises:
        ModelError: codes of several scales are joined.
    """
    torch = importlib.import_module("torch")
    operators = _operators(torch)
    quantise = operators.quantize_per_tensor.default
    numbers_of = operators.dequantize_per_tensor.default
    moves = (torch.narrow, torch.cat)
    graph = module.graph
    known = {  # codes -> the arguments that say what they stand for
        f"state_{index}": _signed(torch, state.scale, state.zero_point)
        for index, state in enumerate(spec.states)
        if state.dtype == "uint8"
    }
    for node in list(graph.nodes):
        if node.target in (quantise, numbers_of):
            meaning = _signed(torch, *node.args[1:3])
            node.args = (node.args[0], *meaning)
            if node.target is quantise:
                known[node.name] = meaning
        elif node.target in moves and (sources := _codes(node, known)):
            meaning, *others = {known[source.name] for source in sources}
            if others:
                raise ModelError(
                    f"{node.name} joins codes of several scales; expected one for all."
                )
            with graph.inserting_before(node):
                numbers = {
                    source: graph.call_function(numbers_of, (source, *meaning))
                    for source in sources
                }
            for source, made in numbers.items():
                node.replace_input_with(source, made)
            with graph.inserting_after(node):
                codes = graph.call_function(quantise, (node, *meaning))
            node.replace_all_uses_with(codes, delete_user_cb=lambda user, c=codes: user is not c)
            known[codes.name] = meaning
    for node in list(graph.nodes):
        if node.target is numbers_of:
            for user in list(node.users)[1:]:
                with graph.inserting_before(user):
                    user.replace_input_with(node, graph.call_function(numbers_of, node.args))
    module.recompile()
    return module


def float_ends(module: Any, spec: ModelSpec) -> Any:
    """The form of a quantised graph with no codes but those that a call gives: LiteRT's converter
    takes no others.

    States and new states become the float32 numbers of their codes, and weights numbers that are
    rounded to their codes: numbers of codes round to the same codes, so nothing else changes.

    Args:
        module: what :func:`sign_codes` gave; its graph is changed.
        spec: of the model.

    Returns:
        The module.
    """
    torch = importlib.import_module("torch")
    operators = _operators(torch)
    graph = module.graph
    (end,) = (node for node in graph.nodes if node.op == "output")
    states = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    meanings = {
        index: _signed(torch, state.scale, state.zero_point)
        for index, state in enumerate(spec.states)
        if state.dtype == "uint8"
    }
    for index, meaning in meanings.items():
        old = states[f"state_{index}"]
        with graph.inserting_after(old):
            codes = graph.call_function(operators.quantize_per_tensor.default, (old, *meaning))
        old.replace_all_uses_with(codes, delete_user_cb=lambda user, c=codes: user is not c)
    given = list(end.args[0])
    for index, meaning in meanings.items():
        with graph.inserting_before(end):
            given[1 + index] = graph.call_function(
                operators.dequantize_per_tensor.default, (given[1 + index], *meaning)
            )
    end.args = (tuple(given),)
    for node in list(graph.nodes):
        if node.target is operators.dequantize_per_channel.default:
            codes, scales, zero_points, *others = node.args
            numbers = node.target(
                *(getattr(module, each.target) for each in (codes, scales, zero_points)), *others
            )
            module.register_buffer(codes.target, numbers)
            with graph.inserting_before(node):
                made = graph.call_function(
                    operators.quantize_per_channel.default, (codes, *node.args[1:])
                )
            node.replace_input_with(codes, made)
    module.recompile()
    return module


def _signed(torch: Any, scale: float, zero_point: int) -> tuple[Any, ...]:
    """The arguments of a call for int8 codes; the scale as the float32 that it is in the file."""
    return (float(np.float32(scale)), zero_point - BETWEEN, *INT8, torch.int8)


def _codes(node: Any, known: Mapping[str, Any]) -> list[Any]:
    """The inputs of ``node`` that are codes."""
    return [source for source in node.all_input_nodes if source.name in known]
