"""ONNX -> graph -> numpy, against ONNX Runtime frame by frame; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")
onnx = pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.networks import KINDS  # noqa: E402

from shiftedge.export.agreement import moving_images, normalised, onnx_outputs  # noqa: E402
from shiftedge.export.compiler.frontend.read import read_onnx  # noqa: E402
from shiftedge.export.compiler.graph.activations import Activation  # noqa: E402
from shiftedge.export.compiler.graph.fusion import (  # noqa: E402
    ConvKernel,
    InvertedResidualKernel,
    Single,
    Tail,
    fuse,
)
from shiftedge.export.compiler.graph.graph import Conv  # noqa: E402
from shiftedge.export.compiler.verify.evaluate import Evaluator, run_operator  # noqa: E402
from shiftedge.export.models import MobileNetV2  # noqa: E402
from shiftedge.export.to_onnx import describe, to_onnx  # noqa: E402
from shiftedge.runtime.errors import CompileError  # noqa: E402


@pytest.fixture(params=KINDS)
def exported(request, float_file):
    """(kind, serialised ONNX, spec) of each kind of network."""
    return request.param, *float_file(request.param)


def nhwc(array):
    return np.ascontiguousarray(array[0].transpose(1, 2, 0))


def test_the_graph_is_the_model(exported):
    _, model, spec = exported
    graph = read_onnx(model, spec)
    images, evaluator = moving_images(spec, 5), Evaluator(graph, spec)
    frames = normalised(images, spec)
    for image, expected in zip(images, onnx_outputs(model, spec, frames), strict=True):
        made = evaluator.step(image)
        scale = np.abs(expected["logits"]).max()
        assert np.abs(made.logits - expected["logits"][0]).max() < 1e-4 * scale
        for index, state in enumerate(made.states):
            wanted = nhwc(expected[f"next_state_{index}"])
            assert state.shape == wanted.shape
            assert np.abs(state - wanted).max() <= 1e-4 * max(np.abs(wanted).max(), 1e-6)


def test_kernels_hold_every_operator_once_and_can_run_in_order(exported):
    _, model, spec = exported
    graph = read_onnx(model, spec)
    kernels, kept = fuse(graph)
    inside = [operator for kernel in kernels for operator in kernel.operators]
    assert len(inside) + len(kept) == len(graph.operators)
    assert {id(operator) for operator in (*inside, *kept)} == set(map(id, graph.operators))
    assert [one.state for one in kept] == list(range(len(graph.states)))
    generator = np.random.default_rng(0)
    values = {"frame": generator.normal(size=graph.shapes["frame"])}
    for index, shape in enumerate(graph.states):
        values[f"state_{index}"] = generator.normal(size=shape)
    expected = (
        Evaluator(graph, spec).step(np.zeros((spec.height, spec.width, 3), np.uint8), values).logits
    )
    for kernel in kernels:
        # A kernel sees what it says it reads and nothing else.
        local = {name: values[name] for name in kernel.reads}
        for operator in kernel.operators:
            local[operator.out] = run_operator(operator, local)
        values[kernel.out] = local[kernel.out]
    np.testing.assert_allclose(values[graph.logits].reshape(-1), expected, rtol=1e-9)


def test_mobilenet_is_seventeen_blocks_and_a_tail(trained):
    net = trained(MobileNetV2(27))
    spec = describe(net, name="n", labels=[str(i) for i in range(27)], height=224, width=224)
    graph = read_onnx(to_onnx(net, spec), spec)
    assert round(graph.flops() / 1e6) == 599  # the paper's 300 M multiply-adds
    kernels, kept = fuse(graph)
    assert len(kept) == 10
    assert [type(kernel) for kernel in kernels] == [*[InvertedResidualKernel] * 17, Tail]
    blocks = [kernel for kernel in kernels if isinstance(kernel, InvertedResidualKernel)]
    shifted = [index for index, block in enumerate(blocks) if block.join is not None]
    assert shifted == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    for index, block in enumerate(blocks):
        assert (block.residual is not None) == (index in shifted)
        assert (block.expand is None) == (block.stem is not None) == (index == 0)
        assert block.depthwise.activation is Activation.RELU6
        if block.join is not None:
            assert block.residual == block.join.inputs[1]
            assert block.join.begin == graph.states[block.join.state][2]


def test_resnet_blocks(float_file):
    kernels, _ = fuse(read_onnx(*float_file("resnet50")))
    convs = [kernel for kernel in kernels if isinstance(kernel, ConvKernel)]
    assert len(convs) == 53
    assert sum(kernel.residual is not None for kernel in convs) == 16
    assert sum(kernel.join is not None for kernel in convs) == 16
    singles = [type(kernel.operators[0]).__name__ for kernel in kernels if type(kernel) is Single]
    assert singles == ["Pool", "Mean", "Dense"]


def small_onnx(spec, change=None, **replace):
    """A model of one pointwise convolution and one shift, with nodes replaced."""
    helper = onnx.helper
    weight = onnx.numpy_helper.from_array(np.ones((8, 3, 1, 1), np.float32), "weight")
    matrix = onnx.numpy_helper.from_array(np.ones((2, 8), np.float32), "matrix")
    ints = [
        onnx.numpy_helper.from_array(np.array([v], np.int64), n)
        for n, v in (("zero", 0), ("one", 1), ("end", 1 << 40))
    ]
    nodes = {
        "conv": helper.make_node("Conv", ["frame", "weight"], ["x"], name="conv"),
        "act": helper.make_node("Relu", ["x"], ["y"], name="act"),
        "first": helper.make_node("Slice", ["y", "zero", "one", "one"], ["next_state_0"], "first"),
        "rest": helper.make_node("Slice", ["y", "one", "end", "one"], ["rest"], "rest"),
        "join": helper.make_node("Concat", ["state_0", "rest"], ["z"], "join", axis=1),
        "mean": helper.make_node("GlobalAveragePool", ["z"], ["m"], "mean"),
        "flat": helper.make_node("Flatten", ["m"], ["f"], "flat"),
        "dense": helper.make_node("Gemm", ["f", "matrix"], ["logits"], "dense", transB=1),
    }
    nodes.update(replace)
    info = helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node for node in nodes.values() if node is not None],
        "g",
        [info("frame", kind, (1, 3, 4, 4)), info("state_0", kind, (1, 1, 4, 4))],
        [info("logits", kind, (1, 2)), info("next_state_0", kind, (1, 1, 4, 4))],
        [weight, matrix, *ints],
    )
    if change is not None:
        change(graph)
    return helper.make_model(graph, ir_version=8).SerializeToString()


@pytest.fixture
def tiny_spec():
    from shiftedge.runtime.spec import ModelSpec, StateSpec

    return ModelSpec("t", ("a", "b"), 4, 4, 4, (StateSpec("state_0", (1, 1, 4, 4)),), 2)


def test_the_small_model_is_read(tiny_spec):
    graph = read_onnx(small_onnx(tiny_spec), tiny_spec)
    assert [type(operator).__name__ for operator in graph.operators] == [
        "Conv", "Activate", "Join", "Mean", "Dense", "KeepState",
    ]  # fmt: skip
    assert isinstance(graph.operators[0], Conv)
    assert graph.operators[0].pointwise


def node(*arguments, **attributes):
    return onnx.helper.make_node(*arguments, **attributes)


REFUSED = {
    "unknown operator": (
        {"act": lambda: node("Softplus", ["x"], ["y"], name="act")},
        r"operator Softplus \(node 'act'\) cannot be compiled.*engine='onnxruntime'",
    ),
    "clip": (
        {"act": lambda: node("Clip", ["x", "one_f", "two_f"], ["y"], name="act")},
        r"Clip \(node 'act'\) clips to 1..2; known are",
    ),
    "slice that is no shift": (
        {"mean": lambda: node("GlobalAveragePool", ["rest"], ["m"], name="mean")},
        "channel slice rest, which is no part of a temporal shift",
    ),
    "concat of features": (
        {"join": lambda: node("Concat", ["y", "y"], ["z"], name="join", axis=1)},
        r"Concat \(node 'join'\) does not join a state and features",
    ),
    "rows joined": (
        {"join": lambda: node("Concat", ["state_0", "rest"], ["z"], name="join", axis=2)},
        "does not join a state and features",
    ),
    "rows sliced": (
        {"rest": lambda: node("Slice", ["y", "one", "end", "two_i"], ["rest"], name="rest")},
        "is no slice of channels",
    ),
    "dilated": (
        {"conv": lambda: node("Conv", ["frame", "weight"], ["x"], name="conv", dilations=[2, 2])},
        "is dilated",
    ),
    "groups": (
        {"conv": lambda: node("Conv", ["frame", "weight"], ["x"], name="conv", group=2)},
        "in 2 groups for 3 channels",
    ),
    "weights computed": (
        {"conv": lambda: node("Conv", ["frame", "frame"], ["x"], name="conv")},
        "computes its input 1",
    ),
    "map flattened": (
        {"flat": lambda: node("Flatten", ["z"], ["f"], name="flat")},
        r"has weights \(2, 8\) for 128 numbers",
    ),
    "state of another shape": (
        {"first": lambda: node("Slice", ["y", "zero", "two_i", "one"], ["next_state_0"], "first")},
        "next_state_0 has shape .*expected",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case, tiny_spec):
    changes, message = REFUSED[case]

    def extras(graph):
        for name, value in (
            ("one_f", np.float32(1)), ("two_f", np.float32(2)), ("two_i", np.array([2])),
        ):  # fmt: skip
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))

    replaced = {name: make() for name, make in changes.items()}
    with pytest.raises(CompileError, match=message):
        read_onnx(small_onnx(tiny_spec, extras, **replaced), tiny_spec)


def test_nan_weights_are_refused(tiny_spec):
    def poison(graph):
        weight = np.full((8, 3, 1, 1), np.nan, np.float32)
        graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))

    with pytest.raises(CompileError, match="has weights 'weight' that hold NaN"):
        read_onnx(small_onnx(tiny_spec, poison), tiny_spec)
