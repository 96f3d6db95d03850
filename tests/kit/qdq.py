"""QDQ files in the form that the compiler reads, from float steps: ranges are those of a stream.

The form, node by node, is in docs/quantize.md; here it is written by hand and small, so that
the compiler's tests depend on no choice of ranges.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from shiftedge.export.compiler.graph.graph import Quantization
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

__all__ = ["Stream", "exact_frame", "quantized", "with_equal_std"]

_ROUNDED = ("Conv", "Add", "ReduceMean", "GlobalAveragePool", "MaxPool")
"""Operators whose inputs are codes."""


def with_equal_std(spec: ModelSpec) -> ModelSpec:
    return replace(spec, std=(0.226, 0.226, 0.226))


def exact_frame(spec: ModelSpec) -> tuple[ModelSpec, Quantization]:
    """A normalisation that codes express without error, and those codes: each is its pixel."""
    std = 0.25
    changed = replace(spec, mean=(128 / 255,) * 3, std=(std,) * 3)
    return changed, Quantization(float(np.float32(1 / (255 * std))), 128)


class Stream:
    """A model in plain ONNX Runtime, frame by frame; every tensor is an output."""

    def __init__(self, model: bytes, spec: ModelSpec, *, optimised: bool = False) -> None:
        document = onnx.load_model_from_string(model)
        known = {entry.name for entry in document.graph.output}
        for node in document.graph.node:
            for name in node.output:
                if name and name not in known:
                    document.graph.output.append(onnx.ValueInfoProto(name=name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        if not optimised:  # every node as ONNX defines it, in float32
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = onnxruntime.InferenceSession(
            document.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]
        self._states = [
            np.full(state.shape, state.zero_point, state.dtype) for state in spec.states
        ]  # fmt: skip

    def step(self, frame: Any) -> dict[str, Any]:
        """Every tensor after one frame, float32 (3, H, W); the states that it read included."""
        feed = {f"state_{index}": state for index, state in enumerate(self._states)}
        feed["frame"] = frame[None]
        values = dict(zip(self._names, self._session.run(None, feed), strict=True))
        self._states = [values[f"next_state_{index}"] for index in range(len(self._states))]
        return feed | values


def quantized(
    model: bytes,
    spec: ModelSpec,
    frames: Iterable[Any],
    *,
    kept: Collection[int] = (),
    frame_codes: Quantization | None = None,
    between: bool = True,
) -> tuple[bytes, ModelSpec]:
    """The model as QDQ, and its spec.

    Args:
        model: float32, of the contract.
        spec: of it, with equal ``std``.
        frames: that ranges are taken from, float32 (3, H, W).
        kept: convolutions that stay in float32, by their place among convolutions.
        frame_codes: of the frame; from its range by default.
        between: whether there are codes between a convolution and a sum, as other engines need.
    """
    writer = _Writer(model, spec, frames, kept, frame_codes, between)
    return writer.write()


class _Writer:
    def __init__(
        self,
        model: bytes,
        spec: ModelSpec,
        frames: Iterable[Any],
        kept: Collection[int],
        frame_codes: Quantization | None,
        between: bool,
    ) -> None:
        self.document = onnx.load_model_from_string(model)
        self.graph = self.document.graph
        self.spec = spec
        self.between = between
        self.weights = {
            entry.name: onnx.numpy_helper.to_array(entry) for entry in self.graph.initializer
        }
        convs = [node for node in self.graph.node if node.op_type == "Conv"]
        self.kept = {convs[place].output[0] for place in kept}
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.place = {node.output[0]: place for place, node in enumerate(self.graph.node)}
        self.codes = self._ranges(model, frames)
        if frame_codes is not None:
            self.codes["frame"] = frame_codes
        self.new: list[Any] = []
        self.dequantised: dict[str, str] = {}
        self.joined: dict[str, Quantization] = {}

    def _ranges(self, model: bytes, frames: Iterable[Any]) -> dict[str, Quantization]:
        stream = Stream(model, self.spec)
        low: dict[str, float] = {}
        high: dict[str, float] = {}
        for frame in frames:
            for name, values in stream.step(frame).items():
                if values.dtype == np.float32 and values.size:
                    low[name] = min(low.get(name, 0.0), float(values.min()))
                    high[name] = max(high.get(name, 0.0), float(values.max()))
        codes = {}
        for name in low:
            # To four digits, so that a file is the same on every machine: sums of float32 are not.
            scale = float(np.float32(f"{max(high[name] - low[name], 1e-6) / 255:.3e}"))
            codes[name] = Quantization(scale, int(np.clip(round(-low[name] / scale), 0, 255)))
        for node in self.graph.node:
            if node.op_type == "MaxPool":  # moves codes as they are
                codes[node.output[0]] = codes[node.input[0]]
        return codes

    def wanted(self) -> set[str]:
        """Tensors that are stored as codes: some reader computes with them, and is not kept."""
        wanted = set()
        for node in self.graph.node:
            if node.op_type not in _ROUNDED or node.output[0] in self.kept:
                continue
            features = [name for name in node.input if name in self.codes]
            for name in features if node.op_type == "Add" else features[:1]:
                source = self.maker.get(name)
                if source is not None and source.op_type == "Concat":
                    name = self.shifted(source)
                    source = self.maker.get(name)
                last = max(features, key=lambda each: self.place.get(each, -1))
                skipped = node.op_type == "Add" and not self.between and name == last
                if not (skipped and source is not None and source.op_type == "Conv"):
                    wanted.add(name)
        return wanted

    def shifted(self, concat: Any) -> str:
        """The map whose channels, or some of them, a concat has behind a state."""
        rest: str = concat.input[1]
        maker = self.maker.get(rest)
        return maker.input[0] if maker is not None and maker.op_type == "Slice" else rest

    def write(self) -> tuple[bytes, ModelSpec]:
        wanted = self.wanted()
        self._quantise("frame", wanted)
        for original in list(self.graph.node):
            node = copy.deepcopy(original)
            keeps = node.output[0].startswith("next_state_")
            if (node.op_type == "Slice" or keeps) and node.input[0] in wanted:
                node.input[0] += "_q"
            elif node.op_type == "Concat" and self.shifted(node) in wanted:
                self.joined[node.output[0]] = self.codes[self.shifted(node)]
                if node.input[1] in wanted:
                    node.input[1] += "_q"
            else:
                for place, name in enumerate(node.input):
                    if name in self.joined:
                        node.input[place] = self._numbers(name, name, self.joined[name])
                    elif name in wanted:
                        node.input[place] = self._numbers(f"{name}_q", name, self.codes[name])
                if node.op_type == "Conv" and node.output[0] not in self.kept:
                    self._weights(node, original.input[0])
            self.new.append(node)
            for name in original.output:
                self._quantise(name, wanted)
        return self._document(wanted)

    def _document(self, wanted: Collection[str]) -> tuple[bytes, ModelSpec]:
        states = []
        for index, state in enumerate(self.spec.states):
            node = self.maker[f"next_state_{index}"]
            if node.input[0] in wanted:
                codes = self.codes[node.input[0]]
                state = replace(
                    state, dtype="uint8", scale=codes.scale, zero_point=codes.zero_point
                )
                for entry in (*self.graph.input, *self.graph.output):
                    if entry.name in (f"state_{index}", f"next_state_{index}"):
                        entry.type.tensor_type.elem_type = onnx.TensorProto.UINT8
            states.append(state)
        spec = replace(self.spec, states=tuple(states), precision="int8")
        del self.graph.node[:]
        self.graph.node.extend(self.new)
        read = {name for node in self.new for name in node.input}
        for entry in list(self.graph.initializer):
            if entry.name not in read:
                self.graph.initializer.remove(entry)
        del self.graph.value_info[:]
        onnx.helper.set_model_props(self.document, {METADATA_KEY: spec.to_json()})
        serialised: bytes = self.document.SerializeToString()
        return serialised, spec

    def _add(self, name: str, value: Any) -> str:
        if name not in self.weights:
            self.weights[name] = value
            self.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        return name

    def _parameters(self, name: str, codes: Quantization) -> tuple[str, str]:
        scale = self._add(f"{name}_scale", np.float32(codes.scale))
        return scale, self._add(f"{name}_zero", np.uint8(codes.zero_point))

    def _quantise(self, name: str, wanted: Collection[str]) -> None:
        if name in wanted:
            inputs = (name, *self._parameters(name, self.codes[name]))
            title = f"Q({name})"
            self.new.append(
                onnx.helper.make_node("QuantizeLinear", inputs, [f"{name}_q"], name=title)
            )

    def _numbers(self, stored: str, name: str, codes: Quantization) -> str:
        if stored not in self.dequantised:
            inputs = (stored, *self._parameters(name, codes))
            out = self.dequantised[stored] = f"{name}_dq"
            node = onnx.helper.make_node("DequantizeLinear", inputs, [out], name=f"DQ({stored})")
            self.new.append(node)
        return self.dequantised[stored]

    def _weights(self, conv: Any, source: str) -> None:
        codes = self.joined[source] if source in self.joined else self.codes[source]
        name = conv.input[1]
        weight = self.weights[name]
        steps = np.maximum(np.abs(weight).max((1, 2, 3)), 1e-6).astype(np.float32) / np.float32(127)
        rounded = np.rint(weight / steps[:, None, None, None]).clip(-127, 127).astype(np.int8)
        scale = (np.float32(codes.scale) * steps).astype(np.float32)
        conv.input[1] = self._coded(name, rounded, steps)
        if len(conv.input) > 2:
            bias = np.rint(self.weights[conv.input[2]].astype(np.float64) / scale)
            conv.input[2] = self._coded(conv.input[2], bias.astype(np.int32), scale)

    def _coded(self, name: str, codes: Any, steps: Any) -> str:
        inputs = (
            self._add(f"{name}_q", codes),
            self._add(f"{name}_scale", steps),
            self._add(f"{name}_zero", np.zeros(len(steps), codes.dtype)),
        )
        out = f"{name}_dq"
        self.new.append(
            onnx.helper.make_node("DequantizeLinear", inputs, [out], name=f"DQ({name})", axis=0)
        )
        return out
