"""Each ONNX operator that is read, against ONNX Runtime over a stream; and what is folded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

import onnx
import onnxruntime
from kit.onnx_files import CLASSES, SPEC, Builder, kinds, model

from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import fuse
from shiftedge.export.compiler.graph.graph import Activate, Conv, Graph, Pool
from shiftedge.export.compiler.verify.evaluate import Evaluator

ENDING = ["Join", "Mean", "Dense", "KeepState"]


def agree(data: bytes, spec=SPEC) -> Graph:
    """The graph of a model, shown to compute what ONNX Runtime does.

    ONNX Runtime is asked not to optimise: 1.31 merges zeros around a map into the padding of a
    MaxPool, where padding never wins.
    """
    graph = read_onnx(data, spec)
    fuse(graph)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {f"state_{i}": np.zeros(state.shape, np.float32) for i, state in enumerate(spec.states)}
    evaluator, nothing = Evaluator(graph, spec), np.zeros((spec.height, spec.width, 3), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(4):
        frame = rng.normal(size=(1, 3, spec.height, spec.width)).astype(np.float32)
        outputs = session.run(names, {"frame": frame, **given})
        expected = dict(zip(names, outputs, strict=True))
        given = {name: expected[f"next_{name}"] for name in given}
        made = evaluator.step(nothing, {"frame": frame[0].transpose(1, 2, 0)})
        np.testing.assert_allclose(made.logits, expected["logits"][0], rtol=0, atol=1e-4)
        for index, state in enumerate(made.states):
            want = expected[f"next_state_{index}"][0].transpose(1, 2, 0)
            np.testing.assert_allclose(state, want, rtol=0, atol=1e-4)
    return graph


def squeeze_and_excite(b: Builder, x: str, *, dense: bool, hard: bool) -> str:
    if dense:
        gate = b.op("ReduceMean", x, b.ints(2, 3), keepdims=0)
        gate = b.op("Relu", b.op("Gemm", gate, b.random(8, 2), b.random(2)))
        gate = b.op("Gemm", gate, b.random(8, 2), b.random(8), transB=1)
    else:
        gate = b.op("GlobalAveragePool", x)
        gate = b.conv(b.op("Relu", b.conv(gate, 2, 8)), 8, 2)
    gate = b.op("HardSigmoid", gate, alpha=1 / 6) if hard else b.op("Sigmoid", gate)
    if dense:
        gate = b.op("Reshape", gate, b.ints(1, -1, 1, 1)) if hard else b.op(
            "Unsqueeze", gate, b.ints(2, 3)
        )  # fmt: skip
    return b.op("Mul", x, gate)


def norm(b: Builder, x: str, channels: int = 8) -> str:
    more = [b.const(b.rng.uniform(0.5, 2, channels)) for _ in range(4)]
    return b.op("BatchNormalization", x, *more, epsilon=1e-3)


def relu6(b: Builder, x: str) -> str:
    return b.op("Clip", x, b.const(0.0), b.const(6.0))


def plus_three(b: Builder, x: str) -> str:
    return relu6(b, b.op("Add", x, b.const(3.0)))


def one_more_than_erf(b: Builder, x: str) -> str:
    return b.op("Add", b.op("Erf", b.op("Div", x, b.const(np.sqrt(2)))), b.const(1.0))


def one_more_than_tanh(b: Builder, x: str) -> str:
    cubed = b.op("Mul", b.const(0.044715), b.op("Pow", x, b.const(3.0)))
    inner = b.op("Mul", b.const(np.sqrt(2 / np.pi)), b.op("Add", x, cubed))
    return b.op("Add", b.op("Tanh", inner), b.const(1.0))


ACTIVATIONS = {
    "relu6 as clip": (lambda b, x: relu6(b, x), Activation.RELU6),
    "relu as clip": (lambda b, x: b.op("Clip", x, b.const(0.0)), Activation.RELU),
    "hard sigmoid": (lambda b, x: b.op("HardSigmoid", x, alpha=1 / 6), Activation.HARD_SIGMOID),
    "hard sigmoid written out": (
        lambda b, x: b.op("Div", plus_three(b, x), b.const(6.0)), Activation.HARD_SIGMOID
    ),
    "hard swish": (lambda b, x: b.op("HardSwish", x), Activation.HARD_SWISH),
    "hard swish, divided last": (
        lambda b, x: b.op("Div", b.op("Mul", x, plus_three(b, x)), b.const([[[[6.0]]]])),
        Activation.HARD_SWISH,
    ),
    "hard swish, divided first": (
        lambda b, x: b.op("Mul", b.op("Div", plus_three(b, x), b.const(6.0)), x),
        Activation.HARD_SWISH,
    ),
    "hard swish, by a sixth": (
        lambda b, x: b.op("Mul", b.op("Mul", plus_three(b, x), x), b.const(1 / 6)),
        Activation.HARD_SWISH,
    ),
    "hard swish of a hard sigmoid": (
        lambda b, x: b.op("Mul", x, b.op("HardSigmoid", x, alpha=1 / 6)), Activation.HARD_SWISH
    ),
    "swish": (lambda b, x: b.op("Mul", b.op("Sigmoid", x), x), Activation.SWISH),
    "tanh": (lambda b, x: b.op("Tanh", x), Activation.TANH),
    "erf": (lambda b, x: b.op("Erf", x), Activation.ERF),
    "gelu": (lambda b, x: b.op("Gelu", x), Activation.GELU),
    "gelu by tanh": (lambda b, x: b.op("Gelu", x, approximate="tanh"), Activation.GELU_BY_TANH),
    "gelu, halved last": (
        lambda b, x: b.op("Mul", b.const(0.5), b.op("Mul", x, one_more_than_erf(b, x))),
        Activation.GELU,
    ),
    "gelu, halved first": (
        lambda b, x: b.op("Mul", b.op("Mul", x, b.const(0.5)), one_more_than_erf(b, x)),
        Activation.GELU,
    ),
    "gelu by tanh, written out": (
        lambda b, x: b.op("Mul", x, b.op("Mul", b.const(0.5), one_more_than_tanh(b, x))),
        Activation.GELU_BY_TANH,
    ),
    "mish": (lambda b, x: b.op("Mish", x), Activation.MISH),
}  # fmt: skip


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activations_are_named(case):
    make, kind = ACTIVATIONS[case]
    graph = agree(model(make, opset=20))  # the first with Gelu
    assert kinds(graph.operators) == ["Conv", "Activate", *ENDING]
    assert isinstance(graph.operators[1], Activate)
    assert graph.operators[1].kind is kind


FOLDED = {
    "batch norm": norm,
    "two batch norms": lambda b, x: norm(b, norm(b, x)),
    "add by channel": lambda b, x: b.op("Add", b.random(8, 1, 1), x),
    "add one number": lambda b, x: b.op("Add", x, b.const(0.5)),
    "sub": lambda b, x: b.op("Sub", x, b.random(1, 8, 1, 1)),
    "sub from": lambda b, x: b.op("Sub", b.random(1, 8, 1, 1), x),
    "mul": lambda b, x: b.op("Mul", x, b.random(8, 1, 1)),
    "div": lambda b, x: b.op("Div", x, b.const(0.3)),
    "identity and dropout": lambda b, x: b.op("Dropout", b.op("Identity", x)),
    "float16 weights, cast": lambda b, x: b.op(
        "Mul", x, b.op("Cast", b.const([1.3], np.float16), to=1)
    ),
    "constant node": lambda b, x: b.op(
        "Add", b.op("Constant", value_floats=[0.25]), b.op("Cast", x, to=1)
    ),
}


@pytest.mark.parametrize("case", FOLDED)
def test_constants_fold_into_the_convolution_before(case):
    graph = agree(model(FOLDED[case]))
    assert kinds(graph.operators) == ["Conv", *ENDING]


KEPT = {
    "batch norm after an activation": (lambda b, x: norm(b, b.op("Relu", x)), 2),
    "batch norm of what is read twice": (lambda b, x: b.op("Add", x, norm(b, x)), 2),
    "a sum that both sides need": (lambda b, x: b.op("Mul", plus_three(b, x), x), 2),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_cannot_be_folded_is_a_depthwise_convolution(case):
    body, count = KEPT[case]
    graph = agree(model(body))
    convs = [one for one in graph.operators if isinstance(one, Conv)]
    assert len(convs) == count
    assert convs[1].kernel == (1, 1)
    assert convs[1].depthwise


def test_a_constant_before_the_first_convolution_and_on_vectors():
    def features(b, x):
        x = b.op("Add", b.op("Flatten", b.op("GlobalAveragePool", x)), b.random(8))
        x = norm(b, b.op("Relu", b.op("MatMul", x, b.random(8, 6))), 6)
        x = b.op("Squeeze", b.conv(b.op("Unsqueeze", x, b.ints(-1, -2)), 6, 6), b.ints(2, 3))
        return b.op("Add", b.op("MatMul", x, b.random(6, CLASSES)), b.random(1, CLASSES))

    graph = agree(model(lambda b, x: norm(b, b.conv(norm(b, "frame", 3), 8, 3)), features=features))
    assert kinds(graph.operators) == [
        "Conv", "Conv", "Join", "Mean", "Conv", "Dense", "Activate", "Conv", "Conv", "Dense",
        "KeepState",
    ]  # fmt: skip


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_squeeze_and_excite(dense, hard):
    graph = agree(model(lambda b, x: squeeze_and_excite(b, x, dense=dense, hard=hard)))
    middle = ["Mean", *(["Dense", "Activate"] if dense else ["Conv", "Activate"]) * 2, "Mul"]
    assert kinds(graph.operators) == ["Conv", *middle, *ENDING]


def padded(b: Builder, x: str, *pads: int) -> str:
    return b.op("Pad", x, b.ints(0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]))


def test_zeros_around_a_map_join_the_padding_of_convolutions():
    def body(b, x):
        x = b.op("Relu", x)
        same = padded(b, x, 1, 0, 0, 2)
        left = b.op("Conv", same, b.random(8, 8, 2, 3))
        right = b.op("Conv", same, b.random(8, 1, 4, 3), group=8, pads=[1, 0, 1, 0])
        return b.op("Add", left, right)

    graph = agree(model(body))
    convs = [one for one in graph.operators if isinstance(one, Conv)]
    assert [conv.padding for conv in convs[1:]] == [(1, 0, 0, 2), (2, 0, 1, 2)]


def test_zeros_around_a_map_count_in_pools():
    """A largest of zeros and negative numbers is 0, and a mean counts the zeros."""

    def body(b, x):
        largest = b.op("MaxPool", padded(b, x, 1, 1, 1, 1), kernel_shape=[3, 3])
        mean = b.op("AveragePool", padded(b, x, 0, 1, 2, 1), kernel_shape=[3, 3])
        return b.op("Sub", b.op("Add", largest, mean), b.const(0.1))

    agree(model(body))


POOLS = {
    "largest": lambda b, x: b.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "mean": lambda b, x: b.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "uneven mean": lambda b, x: b.op("AveragePool", x, kernel_shape=[2, 3], pads=[0, 1, 1, 1]),
    "mean that counts padding": lambda b, x: b.op(
        "AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "square": lambda b, x: b.op("Pow", x, b.const([2.0])),
    "cube": lambda b, x: b.op("Pow", x, b.const(3, np.int64)),
    "global largest": lambda b, x: b.op("Add", x, b.op("Mul", x, b.op("GlobalMaxPool", x))),
}


@pytest.mark.parametrize("case", POOLS)
def test_pools(case):
    agree(model(POOLS[case]))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("stride", [[2, 2], [3, 4]])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 0, 1]])
def test_pools_that_round_up(kind, stride, pads):
    def features(b, x):
        x = b.op(kind, x, kernel_shape=[3, 4], strides=stride, ceil_mode=1, pads=pads)
        x = b.op("Flatten", b.op("GlobalAveragePool", x))
        return b.op("Gemm", x, b.random(8, CLASSES))

    # Opset 19 says what a window that starts in the padding does; none here does.
    graph = agree(model(features=features, opset=18))
    assert any(isinstance(operator, Pool) for operator in graph.operators)


def test_grouped_and_strided_convolutions():
    def features(b, x):
        x = b.conv(x, 16, 8, 3, groups=4, strides=[2, 1])
        x = b.conv(x, 32, 16, 1, groups=16)
        x = b.conv(x, 8, 32, 1, strides=[2, 2])
        return b.op("Gemm", b.op("Flatten", b.op("GlobalAveragePool", x)), b.random(8, CLASSES))

    agree(model(features=features))


def test_a_flattened_map_before_a_dense_layer():
    def features(b, x):
        x = b.op("AveragePool", x, kernel_shape=[3, 2], strides=[3, 2])
        x = b.op("Reshape", x, b.ints(0, -1))
        return b.op("Gemm", x, b.random(CLASSES, 8 * 2 * 2), b.random(CLASSES), transB=1)

    graph = agree(model(features=features))
    assert kinds(graph.operators) == ["Conv", "Join", "Pool", "Dense", "KeepState"]


def test_split_as_a_shift():
    """As torch.split exports it."""
    data = model()
    document = onnx.load_model_from_string(data)
    nodes = [node for node in document.graph.node if node.op_type != "Slice"]
    join = next(node for node in nodes if node.op_type == "Concat")
    split = onnx.helper.make_node("Split", [nodes[0].output[0], "sizes"], ["next_state_0", "r"])
    split.attribute.append(onnx.helper.make_attribute("axis", 1))
    join.input[1] = "r"
    del document.graph.node[:]
    document.graph.node.extend([nodes[0], split, *nodes[1:]])
    sizes = onnx.numpy_helper.from_array(np.array([2, 6], np.int64), "sizes")
    document.graph.initializer.append(sizes)
    assert kinds(agree(document.SerializeToString()).operators) == ["Conv", *ENDING]


def test_logits_that_depend_on_no_frame():
    def features(b, x):
        x = b.op("Flatten", b.op("GlobalAveragePool", "state_0"))
        return b.op("Gemm", x, b.random(2, CLASSES))

    graph = agree(model(features=features))
    assert kinds(graph.operators) == ["Conv", "Mean", "Dense", "KeepState"]


def test_logits_that_are_a_state():
    def change(document):
        graph = document.graph
        del graph.node[:]
        for name, op, inputs, out in (
            ("c", "GlobalAveragePool", ["frame"], "mean"),
            ("m", "Conv", ["mean", "m.w"], "next_state_0"),
            ("f", "Flatten", ["state_0"], "logits"),
        ):
            graph.node.append(onnx.helper.make_node(op, inputs, [out], name))
        weight = np.ones((CLASSES, 3, 1, 1), np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(weight, "m.w"))
        for entry in (graph.input[1], graph.output[1]):
            for dim, size in zip(entry.type.tensor_type.shape.dim, (1, 4, 1, 1), strict=True):
                dim.dim_value = size

    spec = dataclasses.replace(
        SPEC, states=(dataclasses.replace(SPEC.states[0], shape=(1, 4, 1, 1)),)
    )
    graph = agree(model(change=change), spec)
    assert kinds(graph.operators) == ["Mean", "Conv", "Activate", "KeepState"]
    assert graph.logits == "logits"


def test_two_states_from_one_map_and_a_state_passed_on():
    def change(document):
        graph = document.graph
        for number, source in ((1, "next_state_0"), (2, "state_1")):
            graph.node.append(onnx.helper.make_node("Identity", [source], [f"next_state_{number}"]))
            for entries, name in ((graph.input, "state"), (graph.output, "next_state")):
                entries.append(entries[1])
                entries[-1].name = f"{name}_{number}"

    states = tuple(dataclasses.replace(SPEC.states[0], name=f"state_{i}") for i in range(3))
    spec = dataclasses.replace(SPEC, states=states)
    agree(model(change=change), spec)


def test_names_that_the_graph_uses_itself_may_be_inner_ones():
    def body(b, x):
        x = b.op("Relu", b.conv(x, 8, 8), out="state_7")
        return b.op("Relu", b.conv(x, 8, 8), out="kept_0")

    graph = agree(model(body))
    assert not {"state_7", "kept_0"} & {operator.out for operator in graph.operators[:-1]}
