"""A model in torch against ONNX Runtime, operator by operator and in each form that a lowering of
quantised graphs takes; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.benchmarks.engines.base import NullContender
from shiftedge.runtime.errors import CompileError, ModelError
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from shiftedge.benchmarks.engines.to_torch import (  # noqa: E402
    FORMS,
    quantised_convolutions,
    signed,
    to_torch,
    unsigned,
)

BUNDLED = Path(__file__).parents[2] / "runtime" / "assets" / "gestures.onnx"
SPEC = ModelSpec("one", tuple("abcd"), 9, 8, resize_short_side=9, states=(), receptive_field=1)
SIZES = (1, 3, 9, 8)
make = onnx.helper.make_node


def floats(*sizes: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(0.0, 1.0, sizes).astype(np.float32)


def saved(
    path: Path,
    body: list[Any],
    constants: dict[str, Any],
    *,
    states: tuple[StateSpec, ...] = (),
) -> Path:
    """A file of the contract: ``body`` makes "x" of "frame", 6 channels of any size; then comes
    what makes logits of it."""
    constants = {**constants, "last": floats(4, 6, seed=9), "offset": floats(4, seed=8)}
    nodes = [
        *body,
        make("GlobalAveragePool", ["x"], ["mean"]),
        make("Flatten", ["mean"], ["flat"]),
        make("Gemm", ["flat", "last", "offset"], ["logits"], transB=1),
    ]
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    kinds = {"float32": kind, "uint8": onnx.TensorProto.UINT8}
    held = [(state.name, kinds[state.dtype], state.shape) for state in states]
    graph = onnx.helper.make_graph(
        nodes,
        "operators",
        [info("frame", kind, SIZES), *(info(*each) for each in held)],
        [info("logits", kind, (1, 4)), *(info(f"next_{name}", *rest) for name, *rest in held)],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check(path: Path, spec: ModelSpec = SPEC, form: str = "unsigned", frames: int = 1) -> None:
    """Frame after frame, logits and states."""
    run, module = session(path), to_torch(path, spec, form)
    expected = [state.fresh() for state in spec.states]
    found = [torch.from_numpy(state) for state in expected]
    for index in range(frames):
        frame = floats(1, 3, spec.height, spec.width, seed=index)
        feed = {f"state_{i}": state for i, state in enumerate(expected)}
        logits, *expected = run.run(None, {"frame": frame, **feed})
        with torch.inference_mode():
            given, *found = module(torch.from_numpy(frame), *found)
        for one, other in zip((given, *found), (logits, *expected), strict=True):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-4)


# Operators


CONV = {"w": floats(6, 3, 3, 3), "b": floats(6)}
WIDE = make("Conv", ["frame", "w", "b"], ["y"], pads=[1, 1, 1, 1])
CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "conv": ([make("Conv", ["frame", "w", "b"], ["x"])], CONV),
    "conv-stride": ([make("Conv", ["frame", "w"], ["x"], strides=[2, 3])], CONV),
    "conv-uneven": ([make("Conv", ["frame", "w"], ["x"], pads=[0, 1, 2, 0])], CONV),
    "conv-groups": ([make("Conv", ["frame", "w"], ["x"], group=3)], {"w": floats(6, 1, 3, 3)}),
    "batch-norm": (
        [make("Conv", ["frame", "w"], ["y"]),
         make("BatchNormalization", ["y", "s", "b", "m", "v"], ["x"])],
        {**CONV, "s": floats(6), "m": floats(6), "v": np.abs(floats(6))},
    ),
    "add": ([WIDE, make("Relu", ["y"], ["z"]), make("Add", ["y", "z"], ["x"])], CONV),
    "max-pool": ([WIDE, make("MaxPool", ["y"], ["x"], kernel_shape=[3, 2], strides=[2, 2],
                             pads=[1, 0, 1, 0])], CONV),
    "max-pool-uneven": ([WIDE, make("MaxPool", ["y"], ["x"], kernel_shape=[2, 2],
                                    pads=[0, 0, 1, 1])], CONV),
    "average-pool": ([WIDE, make("AveragePool", ["y"], ["x"], kernel_shape=[2, 2],
                                 pads=[1, 1, 1, 1])], CONV),
    "excitation": (
        [WIDE,
         make("GlobalAveragePool", ["y"], ["m"]),
         make("Conv", ["m", "w2"], ["n"]),
         make("HardSigmoid", ["n"], ["s"], alpha=1 / 6),
         make("Mul", ["y", "s"], ["x"])],
        {**CONV, "w2": floats(6, 6, 1, 1)},
    ),
    "clip": ([WIDE, make("Clip", ["y", "low", "high"], ["x"])],
             {**CONV, "low": np.float32(0), "high": np.float32(6)}),
    **{
        kind: ([WIDE, make(kind, ["y"], ["x"])], CONV)
        for kind in ("Relu", "HardSwish", "Sigmoid", "Tanh", "Erf")
    },
    "silu": ([WIDE, make("Sigmoid", ["y"], ["z"]), make("Mul", ["y", "z"], ["x"])], CONV),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operator(name, tmp_path):
    check(saved(tmp_path / "model.onnx", *CASES[name]))


def test_a_stream_of_the_bundled_model():
    check(BUNDLED, spec_of(BUNDLED), frames=4)


@pytest.mark.parametrize("form", FORMS)
def test_a_float_model_is_the_same_in_each_form(form, tiny_onnx):
    check(tiny_onnx, spec_of(tiny_onnx), form, frames=4)


def spec_of(model: Path) -> ModelSpec:
    entries = onnx.load(str(model)).metadata_props
    return ModelSpec.from_json(next(e.value for e in entries if e.key == METADATA_KEY))


def test_what_is_refused(tmp_path):
    with pytest.raises(CompileError, match="operator Sparkle"):
        to_torch(saved(tmp_path / "a.onnx", [WIDE, make("Sparkle", ["y"], ["x"])], CONV), SPEC)
    pool = make("AveragePool", ["y"], ["x"], kernel_shape=[2, 2], pads=[0, 0, 1, 1])
    with pytest.raises(ModelError, match="pads its sides unequally"):
        to_torch(saved(tmp_path / "b.onnx", [WIDE, pool], CONV), SPEC)


# Quantised files


def rounding(name: str, scale: float, zero_point: int) -> tuple[list[Any], dict[str, Any]]:
    """A tensor to uint8 and back, and its constants."""
    pair = [f"{name}_scale", f"{name}_zero_point"]
    nodes = [
        make("QuantizeLinear", [name, *pair], [f"{name}_quantised"]),
        make("DequantizeLinear", [f"{name}_quantised", *pair], [f"{name}_numbers"]),
    ]
    return nodes, dict(zip(pair, (np.float32(scale), np.uint8(zero_point)), strict=True))


def convolution(
    scale: float, zero_point: int, *, weight_zero: int = 0, seed: int = 0
) -> tuple[list[Any], dict[str, Any]]:
    """A quantised convolution with a bias of 32 bits, as `shiftedge quantize` writes it."""
    random = np.random.default_rng(seed)
    scales = random.uniform(0.002, 0.02, 6).astype(np.float32)
    before, constants = rounding("frame", scale, zero_point)
    after, more = rounding("y", 0.05, 30)
    constants |= more | {
        "w": random.integers(-127, 128, (6, 3, 3, 3)).astype(np.int8),
        "w_scale": scales,
        "w_zero_point": np.full(6, weight_zero, np.int8),
        "b": random.integers(-2000, 2000, 6).astype(np.int32),
        "b_scale": scales * np.float32(scale),
        "b_zero_point": np.zeros(6, np.int32),
    }
    weights = [
        make("DequantizeLinear", [n, f"{n}_scale", f"{n}_zero_point"], [f"{n}_numbers"], axis=0)
        for n in ("w", "b")
    ]
    product = make("Conv", ["frame_numbers", "w_numbers", "b_numbers"], ["y"], pads=[1, 1, 1, 1])
    last = make("Identity", ["y_numbers"], ["x"])
    return [*before, *weights, product, *after, last], constants


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 0.1), st.integers(0, 255), st.integers(0, 99))
def test_a_quantised_convolution(tmp_path_factory, scale, zero_point, seed):
    """Within a sum at the half between two steps, added in another order: of 72 numbers a channel
    each is a 72nd of the mean."""
    folder = tmp_path_factory.mktemp("quantised")
    path = saved(folder / "model.onnx", *convolution(scale, zero_point, seed=seed))
    frame = floats(*SIZES, seed=seed)
    (expected,) = session(path).run(None, {"frame": frame})
    for form in FORMS:
        module = to_torch(path, SPEC, form)
        assert quantised_convolutions(module) == 1
        with torch.inference_mode():
            (found,) = module(torch.from_numpy(frame))
        np.testing.assert_allclose(found.numpy(), expected, atol=0.05)


def check_forms(path: Path, spec: ModelSpec) -> None:
    """Each form of the model gives the same values, frame after frame."""
    assert {state.dtype for state in spec.states} == {"uint8"}
    fresh = [state.fresh() for state in spec.states]
    modules = [to_torch(path, spec, form) for form in FORMS]
    states = [
        [torch.from_numpy(state) for state in fresh],
        [torch.from_numpy(signed(state)) for state in fresh],
        [torch.zeros(state.shape) for state in spec.states],
    ]
    for index in range(4):
        frame = floats(1, 3, spec.height, spec.width, seed=index)
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


def test_all_forms_of_a_model_hold_the_same_values(int8):
    check_forms(int8, spec_of(int8))


def delays(path: Path, *, second_scale: float = 0.05) -> tuple[Path, ModelSpec]:
    """The frame of two steps ago beside this one: a state that is handed on as it came."""
    states = tuple(
        StateSpec(f"state_{index}", SIZES, "uint8", scale, 100)
        for index, scale in enumerate((0.05, second_scale))
    )
    spec = replace(SPEC, states=states, precision="int8", receptive_field=3)
    body, constants = rounding("frame", 0.05, 100)
    body += [
        make("Concat", ["state_1", "frame_quantised"], ["joined"], axis=1),
        make("DequantizeLinear", ["joined", "frame_scale", "frame_zero_point"], ["x"]),
        make("Identity", ["frame_quantised"], ["next_state_0"]),
        make("Identity", ["state_0"], ["next_state_1"]),
    ]
    return saved(path, body, constants, states=states), spec


def test_states_that_are_handed_on(tmp_path):
    check_forms(*delays(tmp_path / "model.onnx"))


def test_values_of_several_scales_are_not_joined(tmp_path):
    path, spec = delays(tmp_path / "model.onnx", second_scale=0.25)
    with pytest.raises((CompileError, ModelError)):
        to_torch(path, spec, "signed")


def test_signed_values_and_back():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(signed(values), np.arange(-128, 128))
    np.testing.assert_array_equal(unsigned(signed(values)), values)
    numbers = np.ones(3, np.float32)
    assert signed(numbers) is numbers
    assert unsigned(numbers) is numbers


def test_a_float_convolution_of_quantised_values_is_refused():
    class Some(NullContender):
        title = "Some engine"

    peer = Some.__new__(Some)
    peer.settings = {}
    peer.check_integers(Path("model.onnx"), 3, 3)
    with pytest.raises(
        ModelError, match=r"Some engine .it computes 1 of 3 quantised convolutions in float32"
    ):
        peer.check_integers(Path("model.onnx"), 2, 3)
