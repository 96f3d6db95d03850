"""What the readers of ONNX operators share: tensors by name, checked weights and attributes.

An ONNX tensor (1, channels, height, width) is a map here, (height, width, channels), and
(1, channels) or (channels,) a vector. One value of the graph may go by several ONNX names and
forms: a 1 x 1 map flattened is the same numbers, and a slice of channels is a value and a range.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.frontend.onnx_file import ADVICE, AGAIN, OnnxFile
from shiftedge.export.compiler.graph.graph import Conv, Int8Array, Operator, Quantization, Shape
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["QuantizedWeights", "Reader", "Value"]

Array = NDArray[np.float32]
_RESERVED = re.compile(r"frame|(state|kept)_\d+")
"""Names that the graph gives a meaning to; an inner ONNX tensor may have one by accident."""
_MOST_ELEMENTS = 2**31 - 1
"""Of a map: kernels count in int32."""


@dataclass(frozen=True)
class Value:
    """What an ONNX tensor is in the graph."""

    name: str
    """Of the value there."""
    shape: Shape
    """A map's or a vector's, as ONNX sees it; for a slice, of the value that is sliced."""
    channels: tuple[int, int] | None = None
    """Begin and end, where the tensor is only a range of the value's channels."""


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """What a constant stands for, where it was read from int8."""

    values: Int8Array
    """Of the constant's shape, zero point 0."""
    scale: Array
    """(1,), or one for each index along ``axis``."""
    axis: int | None
    """None where there is one scale for all."""


class Reader:
    """Collects operators and their shapes while the nodes are read in turn."""

    def __init__(self, onnx: Any, file: OnnxFile, spec: ModelSpec) -> None:
        self._onnx = onnx
        self.constants = dict(file.constants)
        self.operators: list[Operator] = []
        self.shapes: dict[str, Shape] = {"frame": (spec.height, spec.width, 3)}
        """Of the graph's values."""
        for index, state in enumerate(spec.states):
            self.shapes[f"state_{index}"] = (state.shape[2], state.shape[3], state.shape[1])
        self.values = {name: Value(name, shape) for name, shape in self.shapes.items()}
        """By ONNX name."""
        self.quantization = {
            f"state_{index}": Quantization(float(np.float32(state.scale)), state.zero_point)
            for index, state in enumerate(spec.states)
            if state.dtype == "uint8"
        }
        """Values of the graph that are uint8 codes."""
        self.signed: set[str] = set()
        """Those that ONNX has as int8, 128 steps lower."""
        self.quantized_weights: dict[str, QuantizedWeights] = {}
        """Constants that were read from int8, by ONNX name."""

    def refuse(self, node: Any, what: str, advice: str = ADVICE) -> CompileError:
        """The error for a node; ``what`` goes on from its name."""
        return CompileError(f"{node.op_type} (node {node.name!r}) {what}; {advice}.")

    # Tensors

    def is_constant(self, node: Any, index: int) -> bool:
        """Whether an input is known before the model runs."""
        return index < len(node.input) and node.input[index] in self.constants

    def value(self, node: Any, index: int) -> Value:
        """An input that is computed, whole or a slice."""
        if index >= len(node.input) or not node.input[index]:
            raise self.refuse(node, f"lacks input {index}", AGAIN)
        name = node.input[index]
        if name in self.constants:
            raise self.refuse(node, f"reads the constant {name!r} where it should read features")
        if name not in self.values:
            raise self.refuse(node, f"reads {name!r}, which no known operator makes")
        return self.values[name]

    def tensor(
        self, node: Any, index: int = 0, *, flat: bool = False, quantized: bool = False
    ) -> Value:
        """An input that is computed, whole.

        ``flat``: it may be a larger map, flattened. ``coded``: it may be uint8 codes.
        """
        value = self.value(node, index)
        if not quantized and value.name in self.quantization:
            raise self.refuse(
                node,
                f"computes with the codes {node.input[index]!r}; expected a DequantizeLinear "
                "between",
            )
        if value.channels is not None:
            raise self.refuse(
                node,
                f"reads the channel slice {node.input[index]}, "
                "which is no part of a temporal shift",
            )
        if not flat and self._flattened(value):
            raise self.refuse(
                node,
                f"reads {node.input[index]!r}, a flattened map of {self.shapes[value.name]}; only "
                "Gemm and MatMul may",
            )
        return value

    def map(self, node: Any, index: int = 0, *, quantized: bool = False) -> Value:
        """An input that is computed, with height and width. ``coded``: it may be uint8 codes."""
        value = self.tensor(node, index, quantized=quantized)
        if len(value.shape) != 3:
            raise self.refuse(
                node, f"reads a vector of {value.shape[0]}; expected (1, channels, height, width)"
            )
        return value

    def _flattened(self, value: Value) -> bool:
        """Whether the numbers stand in ONNX's order of a map, which is not the graph's."""
        shape = self.shapes[value.name]
        return len(value.shape) == 1 and len(shape) == 3 and shape[:2] != (1, 1)

    def constant(self, node: Any, index: int, default: Any = None) -> NDArray[Any]:
        """An input that is a constant of any type; ``default`` where there is no such input."""
        if index >= len(node.input) or not node.input[index]:
            if default is None:
                raise self.refuse(node, f"lacks input {index}", AGAIN)
            return np.asarray(default)
        name = node.input[index]
        if name not in self.constants:
            raise self.refuse(
                node, f"computes its input {index} ({name}) while it runs; expected a constant"
            )
        return self.constants[name]

    def whole_numbers(self, node: Any, index: int, default: Any = None) -> list[int]:
        """A constant input of integers: axes, sizes, places."""
        values = self.constant(node, index, default)
        if values.dtype.kind not in "iu":
            raise self.refuse(node, f"has {values.dtype} as input {index}; expected integers")
        return [int(each) for each in values.reshape(-1)]

    def weights(self, node: Any, index: int, default: Any = None) -> Array:
        """A constant input of finite float32 numbers, at least one."""
        values = self.constant(node, index, default)
        name = node.input[index] if index < len(node.input) else "default"
        if values.dtype != np.float32:
            raise self.refuse(node, f"has {values.dtype} weights {name!r}; expected float32")
        if values.size == 0:
            raise self.refuse(
                node, f"has weights {name!r} of shape {values.shape}; expected at least 1 channel"
            )
        if not np.isfinite(values).all():
            kind = "NaN" if np.isnan(values).any() else "infinity"
            raise self.refuse(
                node, f"has weights {name!r} that hold {kind}; expected finite numbers", AGAIN
            )
        weights: Array = values
        return weights

    # Attributes

    def attributes(self, node: Any) -> dict[str, Any]:
        """All of a node's, by name."""
        try:
            get = self._onnx.helper.get_attribute_value
            return {attribute.name: get(attribute) for attribute in node.attribute}
        except Exception as error:  # whatever a damaged attribute leads to
            raise self.refuse(node, f"has an attribute that cannot be read ({error})", AGAIN) from (
                error
            )

    def integer(self, node: Any, name: str, default: int | None = None) -> int:
        """An attribute that is one number."""
        value = self.attributes(node).get(name, default)
        if not isinstance(value, int):
            raise self.refuse(node, f"has {name} = {value!r}; expected an integer", AGAIN)
        return value

    def number(self, node: Any, name: str, default: float) -> float:
        """An attribute that is one real number."""
        value = self.attributes(node).get(name, default)
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise self.refuse(node, f"has {name} = {value!r}; expected a number", AGAIN)
        return float(value)

    def given(self, node: Any, name: str, default: float | str) -> float | str:
        """An attribute of the default's type."""
        if isinstance(default, float):
            return self.number(node, name, default)
        value = self.attributes(node).get(name, default.encode())
        if not isinstance(value, bytes):
            raise self.refuse(node, f"has {name} = {value!r}; expected text", AGAIN)
        return value.decode(errors="replace")

    def integers(
        self, node: Any, name: str, default: Sequence[int] | None, least: int
    ) -> tuple[int, ...]:
        """An attribute that is as many numbers as ``default`` (2 by default), from ``least`` on."""
        value: Any = self.attributes(node).get(name, default)
        count = 2 if default is None else len(default)
        right = isinstance(value, (list, tuple)) and len(value) == count
        if not right or not all(isinstance(each, int) and each >= least for each in value):
            raise self.refuse(
                node, f"has {name} = {value!r}; expected {count} integers from {least} on"
            )
        return tuple(value)

    def tensor_attribute(self, node: Any, name: str) -> NDArray[Any]:
        """An attribute that is a tensor."""
        value = self.attributes(node).get(name)
        try:
            result: NDArray[Any] = self._onnx.numpy_helper.to_array(value)
        except Exception as error:  # absent, another kind of attribute, or damaged
            raise self.refuse(node, f"is not of a tensor ({error})") from error
        return result

    # Results

    def name_of(self, node: Any) -> str:
        """Of the graph's value that a node makes."""
        name: str = node.output[0]
        return f"{name} (inner)" if _RESERVED.fullmatch(name) else name

    def add(self, node: Any, operator: Operator, shape: Shape, form: Shape | None = None) -> None:
        """``operator`` makes the node's output, of ``shape``; ``form`` where ONNX's differs."""
        if int(np.prod(shape, dtype=np.float64)) > _MOST_ELEMENTS:
            raise self.refuse(node, f"makes a map of {shape}; expected less than 2^31 numbers")
        self.operators.append(operator)
        self.shapes[operator.out] = shape
        self.values[node.output[0]] = Value(operator.out, shape if form is None else form)

    def by_channel(self, node: Any, value: Value, scale: Any, shift: Any) -> None:
        """value * scale + shift, each one number or one a channel: a 1 x 1 depthwise convolution.

        The rewrites fold it into the convolution before, where that is possible.
        """
        channels = value.shape[-1]
        with np.errstate(over="ignore"):
            weight = np.broadcast_to(np.asarray(scale, np.float64), channels).astype(np.float32)
            bias = np.broadcast_to(np.asarray(shift, np.float64), channels).astype(np.float32)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise self.refuse(node, "scales by what is not finite in float32", AGAIN)
        height, width = value.shape[:2] if len(value.shape) == 3 else (1, 1)
        conv = Conv(
            node.name,
            (value.name,),
            self.name_of(node),
            weight.reshape(channels, 1, 1, 1),
            bias,
            stride=(1, 1),
            padding=(0, 0, 0, 0),
            groups=channels,
        )
        self.add(node, conv, (height, width, channels), value.shape)

    def window(
        self,
        node: Any,
        value: Value,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> tuple[int, int]:
        """Rows and columns that a window leaves of a map."""
        height, width, _ = value.shape
        rows = (height + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
        columns = (width + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
        if rows < 1 or columns < 1:
            raise self.refuse(node, f"leaves nothing of a map of {height}x{width}")
        return rows, columns
