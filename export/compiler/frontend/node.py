"""What the readers of ONNX operators share: tensors by name, checked weights and attributes.

An ONNX tensor (1, channels, height, width) is a map here, (height, width, channels), and
(1, channels) or (channels,) a vector. One value of the graph may go by several ONNX names and
forms: a 1 x 1 map flattened is the same numbers, and a slice of channels is a value and a range.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph import graph as ops
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec

ADVICE = "engine='onnxruntime' runs the model meanwhile"
"""Ends a message about what the compiler cannot do; ``read_onnx`` says it only of a file that ONNX
Runtime runs."""
AGAIN = "export the model again"
"""Ends a message about a file that nothing can run."""

_RESERVED = re.compile(r"frame|(state|kept)_\d+")
"""Names that the graph gives a meaning to; an inner ONNX tensor may have one by accident."""
_MOST_ELEMENTS = 2**31 - 1
"""Of a map: kernels count in int32."""


@dataclass(frozen=True)
class Value:
    """What an ONNX tensor is in the graph."""

    name: str
    """Of the value there."""
    shape: ops.Shape
    """A map's or a vector's, as ONNX sees it; for a slice, of the value that is sliced."""
    channels: tuple[int, int] | None = None
    """Begin and end, where the tensor is only a range of the value's channels."""


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """What a constant stands for, where it was read from int8."""

    values: ops.Int8Array
    """Of the constant's shape, zero point 0."""
    scale: ops.Array
    """(1,), or one for each index along ``axis``."""
    axis: int | None
    """None where there is one scale for all."""


class Tensors:
    """What is known while the nodes are read in turn."""

    def __init__(self, onnx: Any, constants: dict[str, NDArray[Any]], spec: ModelSpec) -> None:
        self.onnx = onnx
        self.constants = dict(constants)
        """By ONNX name."""
        self.operators: list[ops.Operator] = []
        self.shapes: dict[str, ops.Shape] = {"frame": (spec.height, spec.width, 3)}
        """Of the graph's values."""
        for index, state in enumerate(spec.states):
            self.shapes[f"state_{index}"] = (state.shape[2], state.shape[3], state.shape[1])
        self.values = {name: Value(name, shape) for name, shape in self.shapes.items()}
        """By ONNX name."""
        self.quantization = {
            f"state_{index}": ops.Quantization(float(np.float32(state.scale)), state.zero_point)
            for index, state in enumerate(spec.states)
            if state.dtype == "uint8"
        }
        """Of the graph's values that are stored as uint8."""
        self.signed: set[str] = set()
        """Those that ONNX has as int8, 128 lower."""
        self.quantized_weights: dict[str, QuantizedWeights] = {}
        """Constants that were read from int8, by ONNX name."""


class Node:
    """One node, and what its inputs are."""

    def __init__(self, proto: Any, tensors: Tensors) -> None:
        self._proto, self.tensors = proto, tensors
        self.name: str = proto.name
        self.kind: str = proto.op_type
        self.inputs: Sequence[str] = proto.input
        self.outputs: Sequence[str] = proto.output

    @property
    def out(self) -> str:
        """Of the graph's value that the node makes."""
        name = self.outputs[0]
        return f"{name} (inner)" if _RESERVED.fullmatch(name) else name

    def refuse(self, what: str, advice: str = ADVICE) -> CompileError:
        """The error for the node; ``what`` goes on from its name."""
        return CompileError(f"{self.kind} (node {self.name!r}) {what}; {advice}.")

    def need(self, right: object, what: str, advice: str = ADVICE) -> None:
        """Refuse the node unless something is right."""
        if not right:
            raise self.refuse(what, advice)

    # Inputs

    def has(self, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def is_constant(self, index: int) -> bool:
        """Whether an input is known before the model runs."""
        return index < len(self.inputs) and self.inputs[index] in self.tensors.constants

    def value(self, index: int) -> Value:
        """An input that is computed, whole or a slice."""
        self.need(self.has(index), f"lacks input {index}", AGAIN)
        name, values = self.inputs[index], self.tensors.values
        self.need(
            name not in self.tensors.constants,
            f"reads the constant {name!r} where it should read features",
        )
        self.need(name in values, f"reads {name!r}, which no known operator makes")
        return values[name]

    def tensor(self, index: int = 0, *, flat: bool = False, quantized: bool = False) -> Value:
        """An input that is computed, whole.

        ``flat``: it may be a larger map, flattened. ``quantized``: it may be stored as uint8.
        """
        value, name = self.value(index), self.inputs[index]
        self.need(
            quantized or value.name not in self.tensors.quantization,
            f"computes with the quantised {name!r}; expected a DequantizeLinear between",
        )
        self.need(
            value.channels is None,
            f"reads the channel slice {name}, which is no part of a temporal shift",
        )
        shape = self.tensors.shapes[value.name]
        # In ONNX's order of a map, which is not the graph's.
        flattened = len(value.shape) == 1 and len(shape) == 3 and shape[:2] != (1, 1)
        self.need(
            flat or not flattened,
            f"reads {name!r}, a flattened map of {shape}; only Gemm and MatMul may",
        )
        return value

    def map(self, index: int = 0, *, quantized: bool = False) -> Value:
        """An input that is computed, with height and width; it may be uint8 if ``quantized``."""
        value = self.tensor(index, quantized=quantized)
        self.need(
            len(value.shape) == 3,
            f"reads a vector of {value.shape[0]}; expected (1, channels, height, width)",
        )
        return value

    def constant(self, index: int, default: Any = None) -> NDArray[Any]:
        """An input that is a constant of any type; ``default`` where there is no such input."""
        if not self.has(index):
            self.need(default is not None, f"lacks input {index}", AGAIN)
            return np.asarray(default)
        name = self.inputs[index]
        self.need(
            name in self.tensors.constants,
            f"computes its input {index} ({name}) while it runs; expected a constant",
        )
        return self.tensors.constants[name]

    def whole_numbers(self, index: int, default: Any = None) -> list[int]:
        """A constant input of integers: axes, sizes, places."""
        values = self.constant(index, default)
        self.need(
            values.dtype.kind in "iu", f"has {values.dtype} as input {index}; expected integers"
        )
        return [int(each) for each in values.reshape(-1)]

    def weights(self, index: int, default: Any = None) -> ops.Array:
        """A constant input of finite float32 numbers, at least one."""
        values = self.constant(index, default)
        name = self.inputs[index] if index < len(self.inputs) else "default"
        self.need(
            values.dtype == np.float32, f"has {values.dtype} weights {name!r}; expected float32"
        )
        self.need(
            values.size > 0,
            f"has weights {name!r} of shape {values.shape}; expected at least 1 channel",
        )
        kind = "NaN" if np.isnan(values).any() else "infinity"
        self.need(
            np.isfinite(values).all(),
            f"has weights {name!r} that hold {kind}; expected finite numbers",
            AGAIN,
        )
        return values

    # Attributes

    @functools.cached_property
    def attributes(self) -> dict[str, Any]:
        """All of them, by name."""
        try:
            get = self.tensors.onnx.helper.get_attribute_value
            return {attribute.name: get(attribute) for attribute in self._proto.attribute}
        except Exception as error:  # whatever a damaged attribute leads to
            raise self.refuse(f"has an attribute that cannot be read ({error})", AGAIN) from error

    def integer(self, name: str, default: int | None = None) -> int:
        """An attribute that is one number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.refuse(f"has {name} = {value!r}; expected an integer", AGAIN)
        return value

    def number(self, name: str, default: float) -> float:
        """An attribute that is one real number."""
        value = self.attributes.get(name, default)
        right = isinstance(value, (int, float)) and np.isfinite(value)
        self.need(right, f"has {name} = {value!r}; expected a number", AGAIN)
        return float(value)

    def given(self, name: str, default: float | str) -> float | str:
        """An attribute of the default's type: a real number, or text."""
        if isinstance(default, float):
            return self.number(name, default)
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Sequence[int] | None, least: int) -> tuple[int, ...]:
        """An attribute that is as many numbers as ``default`` (2 by default), from ``least`` on."""
        value: Any = self.attributes.get(name, default)
        count = 2 if default is None else len(default)
        right = isinstance(value, (list, tuple)) and len(value) == count
        right = right and all(isinstance(each, int) and each >= least for each in value)
        self.need(right, f"has {name} = {value!r}; expected {count} integers from {least} on")
        return tuple(value)

    # Results

    def set_constant(self, value: NDArray[Any]) -> None:
        """The node's output is known before the model runs."""
        self.tensors.constants[self.outputs[0]] = value

    def set_value(self, value: Value) -> None:
        """The node's output is a value that there is already."""
        self.tensors.values[self.outputs[0]] = value

    def make(
        self,
        operator: type[ops.Operator],
        inputs: Sequence[Value],
        shape: ops.Shape,
        form: ops.Shape | None = None,
        /,
        inner: str = "",
        **fields: Any,
    ) -> str:
        """An operator makes the node's output, of ``shape``; ``form`` where ONNX's differs.

        ``inner`` is added to the name of a value on the way there, before the last operator.
        """
        self.need(
            int(np.prod(shape, dtype=np.float64)) <= _MOST_ELEMENTS,
            f"makes a map of {shape}; expected less than 2^31 numbers",
        )
        names, out = tuple(each.name for each in inputs), self.out + inner
        self.tensors.operators.append(operator(self.name, names, out, **fields))
        self.tensors.shapes[out] = shape
        self.set_value(Value(out, shape if form is None else form))
        return out

    def scale(self, value: Value, scale: Any, shift: Any) -> None:
        """value * scale + shift, each one number or one a channel: a 1 x 1 depthwise convolution.

        The rewrites fold it into the convolution before, where that is possible.
        """
        channels = value.shape[-1]
        with np.errstate(over="ignore"):
            weight, bias = (
                np.broadcast_to(np.asarray(each, np.float64), channels).astype(np.float32)
                for each in (scale, shift)
            )
        finite = np.isfinite(weight).all() and np.isfinite(bias).all()
        self.need(finite, "scales by what is not finite in float32", AGAIN)
        height, width = value.shape[:2] if len(value.shape) == 3 else (1, 1)
        weight = weight.reshape(channels, 1, 1, 1)
        self.depthwise(value, (height, width, channels), weight, bias, form=value.shape)

    def depthwise(
        self,
        value: Value,
        shape: ops.Shape,
        weight: ops.Array,
        bias: ops.Array | None = None,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        form: ops.Shape | None = None,
    ) -> None:
        """A convolution of each channel by itself; ``weight`` as a ``Conv`` has it."""
        channels = len(weight)
        bias = np.zeros(channels, np.float32) if bias is None else bias
        fields: dict[str, Any] = {
            "weight": weight,
            "bias": bias,
            "stride": stride,
            "padding": padding,
        }
        self.make(ops.Conv, (value,), shape, form, groups=channels, **fields)

    def window(
        self, value: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
    ) -> tuple[int, int]:
        """Rows and columns that a window leaves of a map."""
        height, width, _ = value.shape
        rows = (height + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
        columns = (width + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
        self.need(rows >= 1 and columns >= 1, f"leaves nothing of a map of {height}x{width}")
        return rows, columns
