"""Quantised graphs in torch: what the file says, in each form that a lowering takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.benchmarks.engines.null import NullContender
from shiftedge.benchmarks.engines.peer import Peer
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from shiftedge.benchmarks.engines.onnx_to_torch import to_torch  # noqa: E402
from shiftedge.benchmarks.engines.onnx_to_torch_codes import (  # noqa: E402
    float_ends,
    quantised_convolutions,
    sign_codes,
    signed,
    unsigned,
)

SPEC = ModelSpec("one", ("a", "b"), 7, 6, resize_short_side=7, states=(), receptive_field=1)
SIZES = (1, 3, 7, 6)


def rounding(name: str, scale: float, zero_point: int) -> tuple[list[Any], dict[str, Any]]:
    """A tensor to codes and back, and its constants."""
    pair = [f"{name}_scale", f"{name}_zero_point"]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", [name, *pair], [f"{name}_codes"]),
        onnx.helper.make_node("DequantizeLinear", [f"{name}_codes", *pair], [f"{name}_numbers"]),
    ]
    return nodes, dict(zip(pair, (np.float32(scale), np.uint8(zero_point)), strict=True))


def convolution(
    scale: float, zero_point: int, *, weight_zero: int = 0, seed: int = 0
) -> tuple[list[Any], dict[str, Any]]:
    """A convolution of codes with a bias of 32 bits, as `shiftedge quantize` writes it."""
    random = np.random.default_rng(seed)
    scales = random.uniform(0.002, 0.02, 4).astype(np.float32)
    before, constants = rounding("frame", scale, zero_point)
    after, more = rounding("y", 0.05, 30)
    constants |= more | {
        "w": random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "w_scale": scales,
        "w_zero_point": np.full(4, weight_zero, np.int8),
        "b": random.integers(-2000, 2000, 4).astype(np.int32),
        "b_scale": scales * np.float32(scale),
        "b_zero_point": np.zeros(4, np.int32),
    }
    make = onnx.helper.make_node
    weights = [
        make("DequantizeLinear", [n, f"{n}_scale", f"{n}_zero_point"], [f"{n}_numbers"], axis=0)
        for n in ("w", "b")
    ]
    product = make("Conv", ["frame_numbers", "w_numbers", "b_numbers"], ["y"], pads=[1, 1, 1, 1])
    last = make("Identity", ["y_numbers"], ["logits"])
    return [*before, *weights, product, *after, last], constants


def saved(path: Path, nodes: list[Any], constants: dict[str, Any]) -> Path:
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "codes",
        [onnx.helper.make_tensor_value_info("frame", kind, SIZES)],
        [onnx.helper.make_tensor_value_info("logits", kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 0.1), st.integers(0, 255), st.integers(0, 99))
def test_a_convolution_of_codes(tmp_path_factory, scale, zero_point, seed):
    folder = tmp_path_factory.mktemp("codes")
    path = saved(folder / "model.onnx", *convolution(scale, zero_point, seed=seed))
    frame = np.random.default_rng(seed).normal(0.0, 2.0, SIZES).astype(np.float32)
    (expected,) = session(path).run(None, {"frame": frame})
    module = to_torch(path, SPEC)
    assert quantised_convolutions(module) == 1
    for form in (module, sign_codes(to_torch(path, SPEC), SPEC)):
        with torch.inference_mode():
            (found,) = form(torch.from_numpy(frame))
        steps = np.rint(np.abs(found.numpy() - expected) / 0.05)
        assert steps.max() <= 1  # a sum at the half between two codes, added in another order
        assert (steps > 0).mean() < 0.02


def check_forms(path: Path, spec: ModelSpec) -> None:
    """Each form of the model gives the same codes, frame after frame."""
    assert {state.dtype for state in spec.states} == {"uint8"}
    fresh = [state.fresh() for state in spec.states]
    modules = (
        to_torch(path, spec),
        sign_codes(to_torch(path, spec), spec),
        float_ends(sign_codes(to_torch(path, spec), spec), spec),
    )
    states = [
        [torch.from_numpy(state) for state in fresh],
        [torch.from_numpy(signed(state)) for state in fresh],
        [torch.zeros(state.shape) for state in spec.states],
    ]
    random = np.random.default_rng(0)
    for _ in range(4):
        frame = random.normal(0.0, 1.0, (1, 3, spec.height, spec.width)).astype(np.float32)
        with torch.inference_mode():
            (expected, *states[0]), (first, *states[1]), (second, *states[2]) = (
                module(torch.from_numpy(frame), *given)
                for module, given in zip(modules, states, strict=True)
            )
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)
        for state, one, two, three in zip(spec.states, *states, strict=True):
            assert two.dtype == torch.int8
            assert three.dtype == torch.float32
            np.testing.assert_array_equal(unsigned(two.numpy()), one.numpy())
            np.testing.assert_array_equal(three.numpy(), state.numbers(one.numpy()))
    moved = [
        (unsigned(two.numpy()) != old).any() for two, old in zip(states[1], fresh, strict=True)
    ]
    assert all(moved)


def test_all_forms_of_a_model_hold_the_same_codes(int8):
    text = next(e.value for e in onnx.load(str(int8)).metadata_props if e.key == METADATA_KEY)
    check_forms(int8, ModelSpec.from_json(text))


def delays(path: Path, *, second_scale: float = 0.05) -> tuple[Path, ModelSpec]:
    """The frame of two steps ago beside this one: a state that is handed on as it came."""
    scales = (0.05, second_scale)
    states = tuple(
        StateSpec(f"state_{index}", SIZES, "uint8", scale, 100)
        for index, scale in enumerate(scales)
    )
    spec = replace(SPEC, states=states, precision="int8", receptive_field=3)
    nodes, constants = rounding("frame", 0.05, 100)
    make, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    pair = ["frame_scale", "frame_zero_point"]
    nodes += [
        make("Concat", ["state_1", "frame_codes"], ["joined"], axis=1),
        make("DequantizeLinear", ["joined", *pair], ["logits"]),
        make("Identity", ["frame_codes"], ["next_state_0"]),
        make("Identity", ["state_0"], ["next_state_1"]),
    ]
    saved(path, nodes, constants)
    model = onnx.load(str(path))
    for index in range(2):
        model.graph.input.append(tensor(f"state_{index}", onnx.TensorProto.UINT8, SIZES))
        model.graph.output.append(tensor(f"next_state_{index}", onnx.TensorProto.UINT8, SIZES))
    onnx.save(model, str(path))
    return path, spec


def test_states_that_are_handed_on(tmp_path):
    check_forms(*delays(tmp_path / "model.onnx"))


def test_codes_of_several_scales_are_not_joined(tmp_path):
    path, spec = delays(tmp_path / "model.onnx", second_scale=0.25)
    with pytest.raises(ModelError, match="several scales"):
        sign_codes(to_torch(path, spec), spec)


def test_signed_codes_and_back():
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(signed(codes), np.arange(-128, 128))
    np.testing.assert_array_equal(unsigned(signed(codes)), codes)
    numbers = np.ones(3, np.float32)
    assert signed(numbers) is numbers
    assert unsigned(numbers) is numbers


def signed_activation() -> tuple[list[Any], dict[str, Any]]:
    nodes, constants = convolution(0.1, 3)
    return nodes, constants | {"frame_zero_point": np.int8(3)}


def one_scale() -> tuple[list[Any], dict[str, Any]]:
    nodes, constants = convolution(0.1, 3)
    return nodes, constants | {"w_scale": np.float32(0.1), "w_zero_point": np.int8(0)}


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (signed_activation, "activation that is not uint8"),
        (one_scale, "one scale for all"),
        (lambda: convolution(0.1, 3, weight_zero=1), "zero point is not 0"),
    ],
)
def test_what_is_refused(model, text, tmp_path):
    path = saved(tmp_path / "model.onnx", *model())
    with pytest.raises(ModelError, match=text) as caught:
        to_torch(path, SPEC)
    assert "as `shiftedge quantize` writes them" in str(caught.value)


def test_a_float_convolution_of_codes_is_refused():
    class Some(Peer, NullContender):
        title = "Some engine"

    peer = Some.__new__(Some)
    peer.check_integers(Path("model.onnx"), 3, 3)
    with pytest.raises(
        ModelError, match=r"Some engine .it computes 1 of 3 quantised convolutions in float32"
    ):
        peer.check_integers(Path("model.onnx"), 2, 3)
