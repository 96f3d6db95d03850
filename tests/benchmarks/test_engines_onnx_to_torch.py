"""The converter against ONNX Runtime, operator by operator, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import ModelSpec

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from shiftedge.benchmarks.engines.onnx_to_torch import to_torch  # noqa: E402

SPEC = ModelSpec("one", ("a", "b"), 9, 8, resize_short_side=9, states=(), receptive_field=1)
SIZES = (1, 6, 9, 8)
"""Of the frame here; the converter takes any."""


def model_of(nodes: list[Any], constants: dict[str, Any], sizes=SIZES, opset=18):
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "operators",
        [onnx.helper.make_tensor_value_info("frame", kind, sizes)],
        [onnx.helper.make_tensor_value_info("logits", kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("com.example", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


def check(path: Path, model: Any, sizes=SIZES) -> None:
    onnx.save(model, str(path))
    frame = np.random.default_rng(0).normal(0.0, 2.0, sizes).astype(np.float32)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    try:
        (expected,) = session.run(["logits"], {"frame": frame})
    except Exception:  # noqa: BLE001 - a kernel narrower than its stride, with SAME padding
        reject()
    with torch.inference_mode():
        (found,) = to_torch(path, SPEC)(torch.from_numpy(frame))
    assert tuple(found.shape) == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def node(kind: str, *inputs: str, outputs=("logits",), **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, ["frame", *inputs], list(outputs), **attributes)


def floats(*sizes: int) -> Any:
    return np.random.default_rng(1).normal(0.0, 1.0, sizes).astype(np.float32)


def whole(*values: int) -> Any:
    return np.array(values, np.int64)


C = SIZES[1]
CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "add": ([node("Add", "c")], {"c": floats(C, 1, 1)}),
    "sub": ([node("Sub", "c")], {"c": floats(C, 1, 1)}),
    "mul": ([node("Mul", "c")], {"c": floats(1)}),
    "div": ([node("Div", "c")], {"c": np.float32(3.0)}),
    "relu": ([node("Relu")], {}),
    "clip": ([node("Clip", "a", "b")], {"a": np.float32(0), "b": np.float32(6)}),
    "clip-one-side": ([node("Clip", "", "b")], {"b": np.float32(0.5)}),
    "hard-swish": ([node("HardSwish")], {}),
    "hard-sigmoid": ([node("HardSigmoid", alpha=0.3, beta=0.4)], {}),
    "leaky-relu": ([node("LeakyRelu", alpha=0.2)], {}),
    "sigmoid": ([node("Sigmoid")], {}),
    "tanh": ([node("Tanh")], {}),
    "softmax": ([node("Softmax", axis=1)], {}),
    "identity": ([node("Identity")], {}),
    "dropout": ([node("Dropout")], {}),
    "cast": ([node("Cast", to=1)], {}),
    "batch-norm": (
        [node("BatchNormalization", "s", "b", "m", "v", epsilon=1e-3)],
        {"s": floats(C), "b": floats(C), "m": floats(C), "v": np.abs(floats(C))},
    ),
    "global-average": ([node("GlobalAveragePool")], {}),
    "global-max": ([node("GlobalMaxPool")], {}),
    "mean": ([node("ReduceMean", "a", keepdims=0)], {"a": whole(2, 3)}),
    "mean-negative": ([node("ReduceMean", "a", keepdims=1)], {"a": whole(-1, -2)}),
    "mean-all": ([node("ReduceMean", keepdims=0)], {}),
    "reshape": ([node("Reshape", "a")], {"a": whole(0, 2, -1)}),
    "flatten": ([node("Flatten", axis=2)], {}),
    "squeeze": ([node("Squeeze")], {}),
    "squeeze-axis": ([node("Squeeze", "a")], {"a": whole(0)}),
    "unsqueeze": ([node("Unsqueeze", "a")], {"a": whole(1, -1)}),
    "transpose": ([node("Transpose", perm=[0, 2, 3, 1])], {}),
    "transpose-all": ([node("Transpose")], {}),
    "slice": ([node("Slice", "b", "e", "a")], {"b": whole(-4), "e": whole(99), "a": whole(1)}),
    "slice-steps": (
        [node("Slice", "b", "e", "a", "s")],
        {"b": whole(0, 1), "e": whole(5, -1), "a": whole(1, 2), "s": whole(2, 3)},
    ),
    "split": (
        [
            node("Split", "p", outputs=("x", "y"), axis=1),
            onnx.helper.make_node("Concat", ["y", "x"], ["logits"], axis=1),
        ],
        {"p": whole(2, C - 2)},
    ),
    "split-even": (
        [
            node("Split", outputs=("x", "y"), axis=1, num_outputs=2),
            onnx.helper.make_node("Sub", ["y", "x"], ["logits"]),
        ],
        {},
    ),
    "pad": ([node("Pad", "p", "v")], {"p": whole(0, 0, 1, 2, 0, 0, 3, 0), "v": np.float32(0.5)}),
    "pad-axes": ([node("Pad", "p", "", "a")], {"p": whole(1, 2), "a": whole(-1)}),
    "matmul": ([node("MatMul", "w")], {"w": floats(8, 5)}),
    "gemm": (
        [
            onnx.helper.make_node("Flatten", ["frame"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "w", "c"], ["logits"], transB=1),
        ],
        {"w": floats(5, 432), "c": floats(5)},
    ),
    "gemm-scaled": (
        [
            onnx.helper.make_node("Flatten", ["frame"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "w", "c"], ["logits"], alpha=0.5, beta=2.0),
        ],
        {"w": floats(432, 5), "c": floats(1, 5)},
    ),
    "constants-are-folded": (
        [
            onnx.helper.make_node(
                "Constant", [], ["c"], value=onnx.numpy_helper.from_array(floats(C, 1, 1))
            ),
            onnx.helper.make_node("Mul", ["c", "c"], ["square"]),
            node("Add", "square"),
        ],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator(name, tmp_path):
    check(tmp_path / "model.onnx", model_of(*CASES[name]))


WINDOWS = st.fixed_dictionaries(
    {
        "kernel_shape": st.tuples(st.integers(1, 4), st.integers(1, 4)).map(list),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)).map(list),
    }
)
PADS = st.lists(st.integers(0, 2), min_size=4, max_size=4)
AUTO = st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])


@settings(max_examples=60, deadline=None)
@given(WINDOWS, PADS, AUTO, st.sampled_from([1, 2, 6]), st.integers(1, 2), st.booleans())
def test_convolutions(tmp_path_factory, window, pads, auto, group, dilation, bias):
    extra = {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}
    dilations = [dilation] * 2
    names = ["w", "b"] if bias else ["w"]
    weights = {"w": floats(12, C // group, *window["kernel_shape"]), "b": floats(12)}
    made = node("Conv", *names, group=group, dilations=dilations, **window, **extra)
    model = model_of([made], {name: weights[name] for name in names})
    check(tmp_path_factory.mktemp("conv") / "model.onnx", model)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["MaxPool", "AveragePool"]), WINDOWS, PADS, AUTO, st.booleans())
def test_pools(tmp_path_factory, kind, window, pads, auto, include):
    # Wider padding than the window is refused by ONNX Runtime.
    pads = [min(pad, side - 1) for pad, side in zip(pads, window["kernel_shape"] * 2, strict=True)]
    extra: dict[str, Any] = {"pads": pads} if auto == "NOTSET" else {"auto_pad": auto}
    if kind == "AveragePool":
        extra["count_include_pad"] = int(include)
    model = model_of([node(kind, **window, **extra)], {})
    try:
        check(tmp_path_factory.mktemp("pool") / "model.onnx", model)
    except ModelError as error:
        assert kind == "AveragePool"
        assert "unequally" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([node("Sparkle")], "operator Sparkle"),
        ([node("Relu", domain="com.example")], "com.example.Relu"),
        ([node("Slice", "b", "e", "a", "s")], "goes backwards"),
        ([node("Pad", "p", mode="reflect")], "reflect"),
        ([node("Reshape", "nothing")], "expected a constant"),
        ([node("Add", "nothing")], "before any node gives it"),
        ([node("Relu", outputs=("other",))], "no output logits"),
    ],
)
def test_what_is_refused(nodes, text, tmp_path):
    constants = {"b": whole(5), "e": whole(0), "a": whole(1), "s": whole(-1), "p": whole(*[0] * 8)}
    onnx.save(model_of(nodes, constants), str(tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match=text):
        to_torch(tmp_path / "model.onnx", SPEC)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no protobuf at all, nor anything like it")
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        to_torch(tmp_path / "model.onnx", SPEC)
