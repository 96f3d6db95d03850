"""Models that are refused: one sentence that names the node or tensor and says what to do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

import onnx
from kit.onnx_files import CLASSES, FLOAT, HEIGHT, SPEC, WIDTH, model

from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.runtime.errors import CompileError

MEANWHILE = "; engine='onnxruntime' runs the model meanwhile."
AGAIN = "; export the model again."


def refused(data: bytes, message: str, stage: str = MEANWHILE, spec=SPEC) -> None:
    with pytest.raises(CompileError) as caught:
        read_onnx(data, spec)
    text = str(caught.value)
    assert message in text
    assert text.endswith(stage)
    assert text.count(". ") == 0, "one sentence"


def node(graph, kind: str):
    return next(each for each in graph.node if each.op_type == kind)


def shape_of(entry):
    return entry.type.tensor_type.shape


# The file


@pytest.mark.parametrize("data", [b"", b"\x0a", b"no model", model()[:-100], model()[:100]])
def test_bytes_that_are_no_whole_model(data):
    with pytest.raises(CompileError, match="export the model again"):
        read_onnx(data, SPEC)


def test_an_empty_graph():
    refused(onnx.ModelProto().SerializeToString(), "holds no operators", AGAIN)


def dynamic(document):
    shape_of(document.graph.input[0]).dim[2].dim_param = "height"


def unshaped(document):
    document.graph.input[0].type.tensor_type.ClearField("shape")


def other_frame(document):
    shape_of(document.graph.input[0]).dim[1].dim_value = 1


def other_state(document):
    shape_of(document.graph.input[1]).dim[1].dim_value = 3


def half(document):
    document.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def double(document):
    document.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def more_inputs(document):
    document.graph.input.append(onnx.helper.make_tensor_value_info("sound", FLOAT, (1,)))


def more_classes(document):
    shape_of(document.graph.output[0]).dim[1].dim_value = CLASSES + 1


INTERFACE = {
    "dynamic": (dynamic, "The input 'frame' has shape (1, 3, height, 5); expected (1, 3, 6, 5)"),
    "no shape": (unshaped, "The input 'frame' has shape (); expected (1, 3, 6, 5)"),
    "grey frame": (other_frame, "The input 'frame' has shape (1, 1, 6, 5); expected (1, 3, 6, 5)"),
    "another state": (other_state, "'state_0' has shape (1, 3, 6, 5); expected (1, 2, 6, 5)"),
    "float16": (half, "The input 'frame' is float16; expected float"),
    "float64": (double, "The output 'next_state_0' is double; expected float"),
    "more inputs": (more_inputs, "has an input 'sound'; expected frame, state_0 alone"),
    "more classes": (more_classes, "The output 'logits' has shape (1, 5); expected (1, 4)"),
}


@pytest.mark.parametrize("case", INTERFACE)
def test_inputs_and_outputs_other_than_the_spec_says(case):
    change, message = INTERFACE[case]
    # ONNX Runtime takes another length of the logits for what the operators make; nothing else.
    refused(model(change=change), message, MEANWHILE if case == "more classes" else AGAIN)


def test_onnx_runtime_is_named_only_for_what_it_runs():
    """Of the same fault, in a file that it runs and in one that it does not."""
    refused(model(lambda b, x: b.op("Elu", x)), "The operator Elu")
    refused(model(lambda b, x: b.op("Elu", x), change=half), "'frame' is float16", AGAIN)
    refused(model(lambda b, x: b.op("Nothing", x)), "The operator Nothing", AGAIN)
    wide = lambda b, x: b.op("Expand", x, b.ints(8, 8, 6, 5))  # noqa: E731
    refused(model(wide), "The operator Expand", AGAIN)


def test_states_that_are_missing():
    def no_input(document):
        del document.graph.input[1]

    def no_output(document):
        del document.graph.output[1]

    refused(model(change=no_input), "has no input 'state_0'; expected frame, state_0", AGAIN)
    refused(model(change=no_output), "has no output 'next_state_0'; expected logits", AGAIN)
    flat = dataclasses.replace(SPEC.states[0], shape=(2, HEIGHT, WIDTH))
    spec = dataclasses.replace(SPEC, states=(flat,))
    refused(model(), "state_0 has shape (2, 6, 5) in the model's spec", AGAIN, spec=spec)
    spec = dataclasses.replace(
        SPEC, states=(*SPEC.states, dataclasses.replace(SPEC.states[0], name="more"))
    )
    refused(model(), "has no input 'state_1'", AGAIN, spec=spec)


def test_weights_that_are_elsewhere():
    def external(document):
        document.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    def sparse(document):
        values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")
        indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "w.indices")
        document.graph.sparse_initializer.append(
            onnx.helper.make_sparse_tensor(values, indices, [3])
        )

    stage = "save it with onnx.save(..., save_as_external_data=False)."
    refused(model(change=external), "'const_0' are kept in a file beside the model", stage)
    refused(model(change=sparse), "The weights 'w' are a sparse tensor; expected a dense one")


def test_weights_of_fewer_numbers_than_their_shape():
    def cut(document):
        weight = document.graph.initializer[0]
        weight.raw_data = weight.raw_data[:-4]

    refused(model(change=cut), "The weights 'const_0' cannot be read", AGAIN)


def test_order():
    def unsorted(document):
        nodes = list(document.graph.node)
        del document.graph.node[:]
        document.graph.node.extend(reversed(nodes))

    def cycle(document):
        node(document.graph, "Conv").input[0] = node(document.graph, "Concat").output[0]

    def orphan(document):
        node(document.graph, "Conv").input[0] = "nothing"

    def twice(document):
        document.graph.node.append(document.graph.node[0])

    def unmade(document):
        document.graph.node[-1].output[0] = "other"

    refused(model(change=unsorted), "before it is made; expected nodes in the order", AGAIN)
    refused(model(change=cycle), "Conv (node 'n_conv_0') reads 'concat_3' before it is", AGAIN)
    refused(model(change=orphan), "(node 'n_conv_0') reads 'nothing', which nothing makes", AGAIN)
    refused(model(change=twice), "makes 'conv_0' a second time", AGAIN)
    refused(model(change=unmade), "The output 'logits' is made by no node", AGAIN)


def test_nodes_that_no_output_needs_may_be_of_any_kind():
    def body(b, x):
        b.op("Softplus", x)
        return x

    read_onnx(model(body), SPEC)


def test_what_only_onnx_forbids():
    def change(document):
        attribute = onnx.helper.make_attribute("colour", 1)
        node(document.graph, "Identity").attribute.append(attribute)

    refused(model(change=change), "breaks a rule of ONNX (Unrecognized attribute: colour", AGAIN)


# Weights


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((8, 3, 3, 3), np.nan, np.float32), "that hold NaN; expected finite numbers"),
        (np.full((8, 3, 3, 3), -np.inf, np.float32), "that hold infinity; expected finite"),
        (np.ones((8, 3, 3, 3), np.float16), "has float16 weights 'const_0'; expected float32"),
        (np.ones((8, 3, 3, 3), np.float64), "has float64 weights 'const_0'; expected float32"),
        (np.ones((8, 0, 3, 3), np.float32), "(8, 0, 3, 3); expected at least 1 channel"),
        (np.ones((0, 3, 3, 3), np.float32), "(0, 3, 3, 3); expected at least 1 channel"),
        (np.ones((8, 3, 3), np.float32), "(8, 3, 3); expected two dimensions of space"),
        (np.ones((8, 4, 3, 3), np.float32), "(8, 4, 3, 3) in 1 groups for 3 channels"),
    ],
)
def test_weights(value, message):
    def change(document):
        document.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(value, "const_0"))

    with pytest.raises(CompileError) as caught:
        read_onnx(model(change=change), SPEC)
    assert str(caught.value).startswith("Conv (node 'n_conv_0') has ")
    assert message in str(caught.value)


# Nodes

BODIES = {
    "unknown": (lambda b, x: b.op("Softplus", x), "The operator Softplus (node 'n_softplus_1')"),
    "loop": (lambda b, x: b.op("Loop", "", "", x, body=onnx.GraphProto()), "The operator Loop"),
    "own domain": (
        lambda b, x: b.op("Relu", x, domain="my.ops"), "The operator my.ops.Relu (node"
    ),
    "dilated": (lambda b, x: b.conv(x, 8, 8, 3, dilations=[2, 2]), "is dilated"),
    "automatic": (
        lambda b, x: b.op("Conv", x, b.random(8, 8, 3, 3), auto_pad="SAME_UPPER"), "has auto_pad"
    ),
    "one stride": (
        lambda b, x: b.conv(x, 8, 8, strides=[1]), "has strides = [1]; expected 2 integers from 1"
    ),
    "no stride": (lambda b, x: b.conv(x, 8, 8, strides=[0, 1]), "expected 2 integers from 1"),
    "cropped": (lambda b, x: b.conv(x, 8, 8, pads=[-1, 0, 0, 0]), "4 integers from 0"),
    "leaves nothing": (lambda b, x: b.conv(x, 8, 8, 7, pads=[0] * 4), "leaves nothing of a map"),
    "huge": (lambda b, x: b.conv(x, 8, 8, 1, pads=[1 << 20] * 4), "less than 2^31 numbers"),
    "reflected": (
        lambda b, x: b.op("Pad", x, b.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"),
        "expected constant zeros",
    ),
    "padded by ones": (
        lambda b, x: b.op("Pad", x, b.ints(0, 0, 1, 1, 0, 0, 1, 1), b.const(1.0)),
        "expected constant zeros",
    ),
    "channels padded": (
        lambda b, x: b.op("Pad", x, b.ints(0, 1, 0, 0, 0, 0, 0, 0)), "expected rows and columns"
    ),
    "pads cut off": (
        lambda b, x: b.op("Pad", x, b.ints(0, 0, -1, 0, 0, 0, 0, 0)), "expected rows and columns"
    ),
    "indices": (
        lambda b, x: (
            b.op("MaxPool", x, kernel_shape=[1, 1]), b.nodes[-1].output.append("indices")
        )[0],
        "gives indices",
    ),
    "padding alone": (
        lambda b, x: b.op("MaxPool", x, kernel_shape=[2, 2], pads=[2, 0, 0, 0]),
        "windows of nothing but padding",
    ),
    "clip": (lambda b, x: b.op("Clip", x, b.const(1.0), b.const(2.0)), "clips to 1..2; known are"),
    "pow": (lambda b, x: b.op("Pow", x, b.const(0.5)), "raises to 0.5; known are 2 and 3"),
    "hard sigmoid": (lambda b, x: b.op("HardSigmoid", x), "slope 0.2 and offset 0.5; known are"),
    "sum of two shapes": (
        lambda b, x: b.op("Add", x, b.op("GlobalAveragePool", x)), "expected one shape"
    ),
    "map of constants": (
        lambda b, x: b.op("Add", x, b.random(1, 8, 6, 5)), "one for each of 8 channels"
    ),
    "division by zero": (lambda b, x: b.op("Div", x, b.const(0.0)), "what is not finite"),
    "division by a map": (lambda b, x: b.op("Div", b.const(1.0), x), "divides by a map"),
    "difference": (lambda b, x: b.op("Sub", x, x), "expected one side to be a constant"),
    "normalised in training": (
        lambda b, x: b.op(
            "BatchNormalization", x, *[b.random(8) for _ in range(4)], training_mode=1
        ),
        "is in training mode",
    ),
    "other channels": (
        lambda b, x: b.op("BatchNormalization", x, *[b.random(7) for _ in range(4)]),
        "other than 8 channels",
    ),
    "a slice by itself": (
        lambda b, x: b.op("Relu", b.op("Slice", x, b.ints(0), b.ints(4), b.ints(1))),
        "reads the channel slice",
    ),
    "rows sliced": (
        lambda b, x: b.op("Slice", x, b.ints(0), b.ints(4), b.ints(2)), "is no slice of channels"
    ),
    "features joined": (
        lambda b, x: b.op("Concat", x, x, axis=1), "does not join a state and features"
    ),
    "cast": (lambda b, x: b.op("Cast", x, to=10), "casts to type 10; expected float32"),
    "reshaped": (lambda b, x: b.op("Reshape", x, b.ints(1, 4, 12, 5)), "reorders a map"),
    "flat": (lambda b, x: b.op("Relu", b.op("Flatten", x)), "only Gemm and MatMul may"),
    "vector": (
        lambda b, x: b.conv(b.op("ReduceMean", x, b.ints(2, 3), keepdims=0), 8, 8),
        "reads a vector of 8; expected (1, channels, height, width)",
    ),
    "mean of rows": (lambda b, x: b.op("ReduceMean", x, b.ints(2)), "is over the axes [2]"),
    "scaled": (
        lambda b, x: b.op("Gemm", b.op("Flatten", x), b.random(240, 8), alpha=2.0), "is scaled"
    ),
    "transposed in": (
        lambda b, x: b.op("Gemm", b.op("Flatten", x), b.random(7, 8)), "for 240 numbers"
    ),
    "weights computed": (lambda b, x: b.op("Conv", x, x), "computes its input 1 (conv_0)"),
    "no weights": (lambda b, x: b.op("Conv", x), "lacks input 1"),
    "a constant convolved": (
        lambda b, x: b.op("Conv", b.random(1, 8, 6, 5), b.random(8, 8, 1, 1)), "reads the constant"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_nodes(case):
    body, message = BODIES[case]
    with pytest.raises(CompileError) as caught:
        read_onnx(model(body), SPEC)
    text = str(caught.value)
    assert message in text
    assert "(node 'n_" in text
    assert text.endswith((MEANWHILE, AGAIN))


def test_logits_and_next_states_that_nothing_computes():
    def constant(document):
        document.graph.node[-1].input[0] = "const_2"

    def flat(b, x):
        return b.op("Flatten", b.op("MaxPool", x, kernel_shape=[6, 3], strides=[6, 1]))

    def vector(document):
        kept = next(each for each in document.graph.node if each.output[0] == "next_state_0")
        kept.output[0] = "unused"
        flat = node(document.graph, "Flatten").output[0]
        document.graph.node.append(onnx.helper.make_node("Identity", [flat], ["next_state_0"]))

    refused(model(change=constant), "The logits are a constant", AGAIN)
    refused(model(features=flat), "The logits have shape (24,); expected 4 numbers", AGAIN)
    refused(
        model(change=vector), "next_state_0 is a vector of 8; expected channels of a map", AGAIN
    )


def test_logits_that_are_a_flattened_map():
    def features(b, x):
        x = b.op("MaxPool", b.conv(x, 2, 8), kernel_shape=[5, 5], strides=[1, 1])
        return b.op("Flatten", x)

    spec = dataclasses.replace(SPEC, labels=("a", "b", "c", "d"))
    refused(model(features=features), "The logits are a flattened map", spec=spec)


@settings(max_examples=150)
@given(st.data())
def test_damaged_bytes_are_read_or_refused(data):
    """Nothing but a CompileError, wherever the damage is."""
    good = model(lambda b, x: b.op("Mul", x, b.op("HardSigmoid", b.conv(x, 8, 8), alpha=1 / 6)))
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(good) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(good)), st.integers(0, len(good))))
    try:
        read_onnx(bytes(damaged[:cut]), SPEC)
    except CompileError as error:
        assert str(error).endswith((".", ")"))  # noqa: PT017 (either outcome is right)
