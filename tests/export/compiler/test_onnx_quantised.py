"""QuantizeLinear and DequantizeLinear: what is read, of whom it may come, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

import onnx
from kit.onnx_files import CLASSES, FLOAT, HEIGHT, SPEC, WIDTH, Builder
from kit.qdq import Stream, with_equal_std

from shiftedge.export.agreement import moving_images, normalised
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.fusion import ConvKernel, Single, fuse
from shiftedge.export.compiler.graph.graph import (
    Add,
    Conv,
    Dequantize,
    Mean,
    Pool,
    Quantization,
    Quantize,
)
from shiftedge.export.compiler.numerics.precision import INT8
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec, StateSpec

STATE = Quantization(float(np.float32(0.03)), 100)
CODED = replace(
    with_equal_std(SPEC),
    precision="int8",
    states=(StateSpec("state_0", (1, 2, HEIGHT, WIDTH), "uint8", STATE.scale, STATE.zero_point),),
)
STATELESS = replace(with_equal_std(SPEC), states=(), precision="int8")


class Coder(Builder):
    """With roundings."""

    def codes(self, x: str, scale=0.03, zero=100, dtype=np.uint8, **more) -> str:
        pair = self.const(scale), self.const(zero, dtype)
        return self.op("QuantizeLinear", x, *pair, **more)

    def numbers(self, x: str, scale=0.03, zero=100, dtype=np.uint8, **more) -> str:
        pair = self.const(scale), self.const(zero, dtype)
        return self.op("DequantizeLinear", x, *pair, **more)

    def rounded(self, x: str, *pair, **more) -> str:
        return self.numbers(self.codes(x, *pair, **more), *pair, **more)

    def int8(self, shape, scales=None, zeros=None, dtype=np.int8, axis=0, codes=None) -> str:
        info = np.iinfo(dtype)
        if codes is None:
            codes = self.rng.integers(max(info.min, -127), min(info.max, 127), shape)
        scales = self.rng.uniform(0.002, 0.01, shape[axis]) if scales is None else scales
        zeros = np.zeros(np.shape(scales)) if zeros is None else zeros
        inputs = self.const(codes, dtype), self.const(scales), self.const(zeros, dtype)
        return self.op("DequantizeLinear", *inputs, axis=axis)

    def bias(self, size, scale) -> str:
        codes = self.const(self.rng.integers(-900, 900, size), np.int32)
        return self.op("DequantizeLinear", codes, self.const(np.full(size, scale)), axis=0)

    def coded_conv(self, x: str, out=8, into=8, size=3, weight=None, **more) -> str:
        weight = weight or self.int8((out, into // more.get("group", 1), size, size))
        return self.op("Conv", x, weight, self.bias(out, 1e-3), pads=[size // 2] * 4, **more)


def document(b: Coder, logits: str, spec: ModelSpec, opset: int = 21) -> bytes:
    b.op("Identity", logits, out="logits")
    info, uint8 = onnx.helper.make_tensor_value_info, onnx.TensorProto.UINT8
    kinds = [uint8 if state.dtype == "uint8" else FLOAT for state in spec.states]
    states = [
        (f"state_{i}", kind, state.shape)
        for i, (kind, state) in enumerate(zip(kinds, spec.states, strict=True))
    ]
    graph = onnx.helper.make_graph(
        b.nodes,
        "g",
        [info("frame", FLOAT, (1, 3, HEIGHT, WIDTH)), *(info(*state) for state in states)],
        [
            info("logits", FLOAT, (1, CLASSES)),
            *(info(f"next_{name}", kind, shape) for name, kind, shape in states),
        ],
        b.weights,
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    made = onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets)
    serialised: bytes = made.SerializeToString()
    return serialised


def head(b: Coder, x: str) -> str:
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.op("Gemm", x, b.random(CLASSES, 8), b.random(CLASSES), transB=1)


def stateless(body, opset: int = 21) -> bytes:
    """Frame, convolution to 8 channels, codes and numbers, ``body``, mean and dense."""
    b = Coder()
    x = b.coded_conv("frame", 8, 3)
    return document(b, head(b, body(b, b.rounded(x))), STATELESS, opset)


def shifting(state=(0.03, 100), joined=(0.03, 100), dtype=np.uint8, spec=CODED) -> bytes:
    b = Coder()
    q = b.codes(b.coded_conv("frame", 8, 3), *state, dtype)
    b.op("Slice", q, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
    rest = b.op("Slice", q, b.ints(2), b.ints(8), b.ints(1))
    x = b.numbers(b.op("Concat", "state_0", rest, axis=1), *joined)
    return document(b, head(b, b.rounded(b.coded_conv(x))), spec)


def agree(model: bytes, spec: ModelSpec, most: float = 0.01, unequal: float = 0.3) -> None:
    """A stream through the graph stays with ONNX Runtime's."""
    images = moving_images(spec, 4)
    reference, stream = Evaluator(read_onnx(model, spec), spec, INT8), Stream(model, spec)
    for image, frame in zip(images, normalised(images, spec), strict=True):
        ours, theirs = reference.step(image), stream.step(frame)
        scale = np.abs(theirs["logits"]).max()
        np.testing.assert_allclose(ours.logits, theirs["logits"][0], rtol=0, atol=most * scale)
        for name, value in ours.values.items():
            if value.dtype == np.uint8 and name in theirs:
                difference = np.abs(value.astype(int) - theirs[name][0].transpose(1, 2, 0))
                assert difference.max() <= 1, name
                assert (difference > 0).mean() <= unequal


def kinds(graph) -> list[type]:
    return [type(operator) for operator in graph.operators]


# What is read


def test_a_shift_of_codes():
    model = shifting()
    graph = read_onnx(model, CODED)
    assert graph.quantization["state_0"] == STATE
    assert not {Quantize, Dequantize} & set(kinds(graph))
    assert [type(kernel) for kernel in fuse(graph)[0]] == [ConvKernel, ConvKernel, Single, Single]
    agree(model, CODED, unequal=0.01)


def test_codes_that_are_pooled_and_summed_stay_codes():
    def body(b, x):
        pooled = b.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
        return b.rounded(b.op("Add", x, b.rounded(pooled)), 0.071, 90)

    model = stateless(body)
    graph = read_onnx(model, STATELESS)
    assert kinds(graph) == [Conv, Pool, Add, Mean, type(graph.operators[-1])]
    assert all(operator.out in graph.quantization for operator in graph.operators[:3])
    agree(model, STATELESS, unequal=0.01)


def test_codes_may_be_pooled_without_numbers_between():
    def body(b, x):
        q = b.codes(x, 0.05, 90)
        return b.numbers(b.op("MaxPool", q, kernel_shape=[2, 2]), 0.05, 90)

    model = stateless(body)
    assert Pool in kinds(read_onnx(model, STATELESS))
    agree(model, STATELESS)


def test_int8_features_are_uint8_ones_128_steps_higher():
    def body(b, x):
        x = b.op("Relu", b.coded_conv(x))
        return b.rounded(x, 0.05, -128, dtype=np.int8)

    model = stateless(body)
    graph = read_onnx(model, STATELESS)
    made = next(each for each in graph.operators if isinstance(each, Mean)).inputs[0]
    assert graph.quantization[made] == Quantization(float(np.float32(0.05)), 0)
    stream, reference = Stream(model, STATELESS), Evaluator(graph, STATELESS, INT8)
    images = moving_images(STATELESS, 2)
    for image, frame in zip(images, normalised(images, STATELESS), strict=True):
        ours, theirs = reference.step(image), stream.step(frame)
        np.testing.assert_allclose(ours.logits, theirs["logits"][0], rtol=0, atol=1e-2)
        codes = theirs[made][0].transpose(1, 2, 0).astype(int) + 128
        assert np.abs(ours.values[made] - codes).max() <= 1


@pytest.mark.parametrize(
    "weight",
    [
        {"scales": 0.005},
        {"scales": 0.005, "dtype": np.uint8, "zeros": 128},
        {"codes": np.full((8, 8, 3, 3), -128)},
    ],
    ids=["one scale", "uint8", "-128"],
)
def test_weights_of_other_tools(weight):
    if weight.get("dtype") is np.uint8:
        weight["codes"] = np.random.default_rng(0).integers(0, 256, (8, 8, 3, 3))

    def body(b, x):
        x = b.coded_conv(x, weight=b.int8((8, 8, 3, 3), **weight))
        return b.rounded(x, 0.1, 120)

    model = stateless(body)
    conv = [each for each in read_onnx(model, STATELESS).operators if isinstance(each, Conv)][1]
    assert conv.quantized_weight.dtype == np.int8
    assert conv.weight_scale.shape == (8,)
    agree(model, STATELESS)


def test_weights_that_are_rounded_in_the_file():
    """Trained with rounding: float weights, QuantizeLinear and DequantizeLinear."""

    def body(b, x):
        scales, zeros = b.const(np.linspace(0.002, 0.004, 8)), b.const(np.zeros(8), np.int8)
        q = b.op("QuantizeLinear", b.random(8, 8, 3, 3), scales, zeros, axis=0)
        weight = b.op("DequantizeLinear", q, scales, zeros, axis=0)
        return b.rounded(b.coded_conv(x, weight=weight), 0.05, 128)

    model = stateless(body)
    assert all(
        each.quantized_weight is not None for each in read_onnx(model, STATELESS).operators[:2]
    )
    agree(model, STATELESS)


def test_weights_alone_in_int8_are_float_weights():
    b = Coder()
    model = document(b, head(b, b.coded_conv(b.coded_conv("frame", 8, 3), 8, 8)), STATELESS)
    graph = read_onnx(model, STATELESS)
    first, second = (each for each in graph.operators if isinstance(each, Conv))
    assert first.quantized_weight is not None, "the frame's bytes are codes"
    assert second.quantized_weight is second.weight_scale is None
    assert not graph.quantization
    agree(model, STATELESS, most=1e-5)


def test_roundings_after_the_mean_are_skipped():
    def body(b, x):
        return b.rounded(b.coded_conv(x), 0.1, 120)

    def tail(b, x):
        x = b.rounded(b.op("GlobalAveragePool", x), 0.1, 120)
        weight = b.int8((CLASSES, 8), scales=np.full(CLASSES, 0.01), axis=0)
        x = b.op("Gemm", b.op("Flatten", x), weight, b.random(CLASSES), transB=1)
        return b.rounded(x, 0.2, 128)

    b = Coder()
    model = document(b, tail(b, body(b, b.rounded(b.coded_conv("frame", 8, 3)))), STATELESS)
    graph = read_onnx(model, STATELESS)
    assert [each.__name__ for each in kinds(graph)] == ["Conv", "Conv", "Mean", "Dense"]
    agree(model, STATELESS, most=0.1)


@pytest.mark.parametrize("kind", ["HardSwish", "Sigmoid", "Relu"])
def test_an_activation_is_applied_to_the_numbers(kind):
    def body(b, x):
        x = b.rounded(b.coded_conv(x), 0.2, 120)  # which the kernel skips
        return b.rounded(b.op(kind, x), 0.02, 10)

    model = stateless(body)
    graph = read_onnx(model, STATELESS)
    assert len(fuse(graph)[0]) == 4
    assert not {Quantize, Dequantize} & set(kinds(graph))
    images = moving_images(STATELESS, 2)
    for image, frame in zip(images, normalised(images, STATELESS), strict=True):
        theirs = Stream(model, STATELESS).step(frame)
        values = {
            name: each[0].transpose(1, 2, 0) for name, each in theirs.items() if each.ndim == 4
        }
        kernel = fuse(graph)[0][1]
        wanted = values[kernel.out].astype(int)
        Evaluator(graph, STATELESS, INT8).kernel(kernel, image, values)
        # Half of a step of 0.2, in steps of 0.02, through slopes of 1.5 at most.
        assert np.abs(values[kernel.out] - wanted).max() <= 9
        assert wanted.std() > 1


def test_a_rounding_for_each_reader_is_one():
    def body(b, x):
        y = b.op("Relu", b.coded_conv(x))
        z = b.coded_conv(b.rounded(y, 0.04, 0))
        return b.rounded(b.op("Add", b.rounded(y, 0.04, 0), b.rounded(z, 0.6, 128)), 0.61, 120)

    model = stateless(body)
    graph = read_onnx(model, STATELESS)
    assert not {Quantize, Dequantize} & set(kinds(graph))
    _, _, last, *_ = fuse(graph)[0]
    assert isinstance(last, ConvKernel)
    assert last.residual in graph.quantization
    images = moving_images(STATELESS, 2)
    for image, frame in zip(images, normalised(images, STATELESS), strict=True):
        ours = Evaluator(graph, STATELESS, INT8).step(image).values[last.out].astype(int)
        theirs = Stream(model, STATELESS).step(frame)[last.out][0].transpose(1, 2, 0)
        assert np.abs(ours - theirs).max() <= 1  # half of 0.6, in steps of 0.61, and a rounding
        assert theirs.std() > 1


def test_other_operators_change_codes_to_numbers_and_back():
    def body(b, x):
        return b.rounded(b.op("AveragePool", x, kernel_shape=[2, 2]), 0.03, 100)

    model = stateless(body)
    graph = read_onnx(model, STATELESS)
    assert [each.__name__ for each in kinds(graph)] == [
        "Conv", "Dequantize", "Pool", "Quantize", "Mean", "Dense",
    ]  # fmt: skip
    agree(model, STATELESS)


def test_a_sum_with_a_float_map_is_made_in_float():
    def body(b, x):
        kept = b.op("Relu", b.conv(x, 8, 8, 3))
        return b.rounded(b.op("Add", x, kept), 0.06, 90)

    model = stateless(body)
    names = [each.__name__ for each in kinds(read_onnx(model, STATELESS))]
    assert names == ["Conv", "Dequantize", "Conv", "Activate", "Add", "Quantize", "Mean", "Dense"]
    agree(model, STATELESS)


def test_files_of_onnx_runtimes_own_quantiser(tmp_path):
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    b = Coder()
    x = b.op("Relu", b.conv("frame", 8, 3, 3))
    y = b.op("Clip", b.conv(x, 8, 8, 3, groups=8), b.const(0.0), b.const(6.0))
    x = b.op("Add", x, b.conv(y, 8, 8))
    x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    float_model = document(b, head(b, b.op("Relu", b.conv(x, 8, 8, 3))), STATELESS, 18)
    frames = normalised(moving_images(STATELESS, 4), STATELESS)

    class Frames(CalibrationDataReader):
        def __init__(self):
            self.left = list(frames)

        def get_next(self):
            return {"frame": self.left.pop()[None]} if self.left else None

    before, after = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    before.write_bytes(float_model)
    quantize_static(
        before, after, Frames(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    model = after.read_bytes()
    graph = read_onnx(model, STATELESS)
    convs = [each for each in graph.operators if isinstance(each, Conv)]
    assert len(convs) == 4
    assert all(each.quantized_weight is not None for each in convs)
    assert not {Quantize, Dequantize} & set(kinds(graph))
    reference, stream = Evaluator(graph, STATELESS, INT8), Stream(model, STATELESS)
    exact = Stream(float_model, STATELESS)
    for image, frame in zip(moving_images(STATELESS, 4), frames, strict=True):
        ours, theirs = reference.step(image).logits, stream.step(frame)["logits"][0]
        wanted = exact.step(frame)["logits"][0]
        scale = np.abs(wanted).max()
        assert np.abs(ours - wanted).max() < 0.05 * scale
        assert np.abs(ours - theirs).max() < 0.05 * scale


# What is refused


def refused(model: bytes, *parts: str, spec: ModelSpec = STATELESS) -> None:
    with pytest.raises(CompileError) as caught:
        read_onnx(model, spec)
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert text.endswith(("runs the model meanwhile.", "export the model again."))
    assert text.count(". ") == 0, "one sentence"


BODIES = {
    "codes": (lambda b, x: b.op("Relu", b.codes(x)), "computes with the quantised"),
    "uint16": (
        lambda b, x: b.rounded(x, 0.01, 100, dtype=np.uint16),
        "has a zero point uint16; expected uint8 or int8",
    ),
    "by channel": (
        lambda b, x: b.rounded(x, np.full(8, 0.1), np.full(8, 3), axis=1),
        "has 8 scales for features; expected one a tensor",
    ),
    "zero scale": (lambda b, x: b.rounded(x, 0.0), "expected one above 0"),
    "another scale": (
        lambda b, x: b.numbers(b.codes(x, 0.5, 3), 0.25, 3),
        "has scale 0.25 and zero point 3 for values of scale 0.5 and zero point 3",
    ),
    "numbers": (lambda b, x: b.numbers(x), "which is float; expected uint8"),
    "int16 weights": (
        lambda b, x: b.coded_conv(x, weight=b.int8((8, 8, 3, 3), dtype=np.int16)),
        "has int16 weights",
    ),
    "asymmetric": (
        lambda b, x: b.coded_conv(x, size=1, weight=b.int8((8, 8, 1, 1), zeros=[-128] * 8)),
        "reach further from their zero point than int8",
    ),
    "by input": (
        lambda b, x: b.coded_conv(x, weight=b.int8((8, 8, 3, 3), axis=1)),
        "quantised along axis 1; expected one scale an output channel",
    ),
    "scales": (
        lambda b, x: b.coded_conv(x, weight=b.int8((8, 8, 3, 3), scales=np.full(7, 0.1))),
        "has 7 scales for 8 channels",
    ),
    "bias": (
        lambda b, x: b.op(
            "Conv", x, b.int8((8, 8, 1, 1)),
            b.op("DequantizeLinear", b.const(np.ones(8), np.int32), b.const(0.1),
                 b.const(3, np.int32)),
        ),
        "has int32 numbers with a zero point",
    ),
    "type": (
        lambda b, x: b.numbers(
            b.op("QuantizeLinear", x, b.const(0.1), output_dtype=onnx.TensorProto.UINT16)
        ),
        "makes values of type 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_refusals_name_the_node(case):
    body, message = BODIES[case]
    refused(stateless(body), "(node 'n_", message)


@settings(max_examples=400)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(data):
    """Nothing but a CompileError, wherever the damage is."""
    good = shifting()
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(good) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        fuse(read_onnx(bytes(damaged), CODED))
    except CompileError as error:
        assert str(error).endswith((".", ")"))  # noqa: PT017 (either outcome is right)


def test_a_shift_of_different_scales():
    refused(shifting(state=(0.05, 100)), "(node 'n_concat", "joins a state and", spec=CODED)
    refused(shifting(joined=(0.05, 100)), "has scale 0.05", spec=CODED)


def test_states_of_another_type_than_the_spec_says():
    refused(shifting(spec=CODED), "The input 'state_0' is uint8; expected float", spec=SPEC)
    b = Coder()
    x = b.conv("frame", 8, 3, 3)
    b.op("Slice", x, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
    rest = b.op("Slice", x, b.ints(2), b.ints(8), b.ints(1))
    x = b.op("Concat", "state_0", rest, axis=1)
    model = document(b, head(b, x), with_equal_std(SPEC))
    refused(model, "The input 'state_0' is float; expected uint8", spec=CODED)


def test_a_next_state_of_other_codes_than_the_state():
    b = Coder()
    q = b.codes(b.coded_conv("frame", 8, 3))
    other = b.codes(b.numbers(q), 0.04, 100)
    b.op("Slice", other, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
    rest = b.op("Slice", q, b.ints(2), b.ints(8), b.ints(1))
    x = b.numbers(b.op("Concat", "state_0", rest, axis=1))
    model = document(b, head(b, b.rounded(b.coded_conv(x))), CODED)
    refused(model, "next_state_0 and state_0 stand for different numbers", spec=CODED)


def test_a_shift_between_roundings_as_generic_quantisers_write_it():
    b = Coder()
    x = b.rounded(b.coded_conv("frame", 8, 3))
    b.op("Slice", x, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
    rest = b.rounded(b.op("Slice", x, b.ints(2), b.ints(8), b.ints(1)))
    x = b.rounded(b.op("Concat", b.rounded("state_0"), rest, axis=1))
    model = document(b, head(b, b.coded_conv(x)), with_equal_std(SPEC))
    refused(model, "(node 'n_quantizelinear", "channel slice", spec=with_equal_std(SPEC))
