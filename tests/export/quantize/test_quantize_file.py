"""The QDQ file: what it says, and what plain ONNX Runtime makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import onnx
import onnxruntime as ort
from kit.quantized_files import HEIGHT, MAP, WIDTH, clips, images, small, spec, write

import shiftedge
from shiftedge.export.agreement import normalised, onnx_outputs
from shiftedge.export.quantize.calibration import gather
from shiftedge.export.quantize.fold import equal_std
from shiftedge.export.quantize.graph import parse
from shiftedge.export.quantize.plan import make_plan
from shiftedge.export.quantize.rewrite import quantized_weights, rewrite
from shiftedge.export.stepper import Stepper
from shiftedge.runtime.errors import NumericsError
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec


def prepared(path: Path) -> tuple[Any, ModelSpec]:
    graph = parse(path.read_bytes(), str(path))
    return equal_std(graph, ModelSpec.from_json(graph.model.metadata_props[METADATA_KEY]))


def quantized(path: Path, kept: tuple[str, ...] = ()) -> tuple[Path, ModelSpec]:
    graph, description = prepared(path)
    found = gather(graph, make_plan(graph), description, clips())
    affine = {group: choice.affine for group, choice in found.items()}
    plan = make_plan(graph, kept)
    out = path.with_name(f"{path.stem}-int8.onnx")
    content, stored = rewrite(graph, plan, affine, description)
    out.write_bytes(content)
    return out, stored


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ModelSpec]:
    """The float file, the int8 file and its spec."""
    path = write(tmp_path_factory.mktemp("q") / "small.onnx", small, spec())
    return (path, *quantized(path))


def test_the_script_of_the_manual_steps_it(pair: Any) -> None:
    _, path, description = pair
    manual = (Path(__file__).parents[3] / "docs" / "quantize.md").read_text(encoding="utf-8")
    script = manual.split("```python\n")[1].split("```")[0].replace("my-int8.onnx", str(path))
    names: dict[str, Any] = {}
    exec(script, names)  # noqa: S102 - our own manual
    stream = shiftedge.load(path).stream()
    for image in images(20):
        theirs, ours = names["step"](image[..., ::-1]), stream.step(image)
        assert np.abs(theirs - ours).max() < 0.05 * np.abs(ours).max()
    assert [state.dtype for state in names["states"]] == [s.dtype for s in description.states]


class File:
    """A QDQ file by tensor."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(str(path))
        self.constants = {
            t.name: onnx.numpy_helper.to_array(t) for t in self.model.graph.initializer
        }
        self.maker = {name: node for node in self.model.graph.node for name in node.output}

    def readers(self, tensor: str) -> list[Any]:
        return [node for node in self.model.graph.node if tensor in node.input]

    def linear(self, tensor: str) -> tuple[float, int]:
        """Scale and zero point that every node uses that turns ``tensor`` into numbers."""
        (pair,) = {
            (float(self.constants[n.input[1]]), int(self.constants[n.input[2]]))
            for n in self.readers(tensor)
            if n.op_type == "DequantizeLinear"
        }
        return pair


def test_a_script_of_plain_onnxruntime_steps_it_as_the_runtime_does(pair: Any) -> None:
    _, path, _ = pair
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # see docs/quantize.md
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    description = ModelSpec.from_json(session.get_modelmeta().custom_metadata_map["shiftedge.spec"])
    states = [np.full(s.shape, s.zero_point, s.dtype) for s in description.states]
    stream = shiftedge.load(path).stream()
    exact = Stepper(path.read_bytes(), description)
    for image in images(40):
        feed = {f"state_{i}": state for i, state in enumerate(states)}
        feed["frame"] = normalised(image[None], description)
        logits, *states = session.run(None, feed)
        ours = stream.step(image)
        exact.step(image)
        assert np.abs(logits[0] - ours).max() < 0.05 * np.abs(logits).max()
        for spec_, state, held in zip(description.states, states, exact.states(), strict=True):
            assert state.dtype == np.uint8
            assert np.abs(spec_.numbers(state) - held).max() <= 6 * spec_.scale
    assert len(np.unique(states[0])) > 10  # the states hold something


def test_it_stays_near_the_float_model(pair: Any) -> None:
    path, int8, description = pair
    graph, same = prepared(path)
    expected = onnx_outputs(graph.serialised(), same, normalised(images(40), same))
    got = onnx_outputs(int8.read_bytes(), description, normalised(images(40), description))
    for one, two in zip(expected, got, strict=True):
        for name in one:
            scale = np.abs(one[name]).max()
            assert np.sqrt(np.mean((one[name] - two[name]) ** 2)) < 0.05 * scale, name


def test_one_scale_ties_block_input_states_and_junction(pair: Any) -> None:
    _, path, description = pair
    file = File(path)
    inputs = {entry.name: entry for entry in file.model.graph.input}
    for index, state in enumerate(description.states):
        (junction,) = [n for n in file.readers(f"state_{index}") if n.op_type == "Concat"]
        slices = [file.maker[f"next_state_{index}"], file.maker[junction.input[1]]]
        assert [node.op_type for node in slices] == ["Slice", "Slice"]
        (codes,) = {node.input[0] for node in slices}
        quantise = file.maker[codes]
        assert quantise.op_type == "QuantizeLinear"
        pairs = {
            file.linear(junction.output[0]),
            file.linear(codes),  # the residual
            (float(file.constants[quantise.input[1]]), int(file.constants[quantise.input[2]])),
            (float(np.float32(state.scale)), state.zero_point),
        }
        assert len(pairs) == 1
        (consumer,) = file.readers(f"{junction.output[0].removesuffix('_quantized')}_dequantized")
        assert consumer.op_type == "Conv"
        assert inputs[f"state_{index}"].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        residual = {
            n.op_type for n in file.readers(f"{codes.removesuffix('_quantized')}_dequantized")
        }
        assert residual == {"Add"}


def test_no_pixel_saturates(pair: Any) -> None:
    """Though the clips hold neither the darkest nor the brightest."""
    _, path, description = pair
    file = File(path)
    scale, zero = file.linear("frame_quantized")
    extremes = np.array([[[[0] * 3, [255] * 3]]], np.uint8)
    frame = normalised(extremes, description)
    codes = np.rint(frame / scale) + zero
    assert codes.min() >= -0.5
    assert codes.max() <= 255.5


def test_weights_and_biases_are_of_the_convention(pair: Any) -> None:
    _, path, _ = pair
    file = File(path)
    convolutions = [n for n in file.model.graph.node if n.op_type == "Conv"]
    assert len(convolutions) == 9
    for conv in convolutions:
        source, weight, bias = (file.maker[name] for name in conv.input)
        codes, scale, zero = (file.constants[name] for name in weight.input)
        assert codes.dtype == np.int8
        assert scale.shape == (len(codes),)
        assert not zero.any()
        assert next(a.i for a in weight.attribute if a.name == "axis") == 0
        assert np.abs(codes.reshape(len(codes), -1)).max(axis=1).min() == 127
        steps, bias_scale, bias_zero = (file.constants[name] for name in bias.input)
        assert steps.dtype == bias_zero.dtype == np.int32
        assert not bias_zero.any()
        input_scale = file.constants[source.input[1]]
        assert np.array_equal(bias_scale, input_scale * scale)
        assert next(a.i for a in bias.attribute if a.name == "axis") == 0


def test_after_relu6_the_zero_point_is_0_and_the_tail_is_float(pair: Any) -> None:
    file = File(pair[1])
    clips_ = [n for n in file.model.graph.node if n.op_type == "Clip"]
    assert len(clips_) == 6
    for clip in clips_:
        (quantise,) = file.readers(clip.output[0])
        assert quantise.op_type == "QuantizeLinear"
        assert int(file.constants[quantise.input[2]]) == 0
    (mean,) = [n for n in file.model.graph.node if n.op_type == "ReduceMean"]
    assert file.maker[mean.input[0]].op_type == "DequantizeLinear"
    assert [n.op_type for n in file.readers(mean.output[0])] == ["Gemm"]


def test_onnxruntime_fuses_every_layer_and_addition(pair: Any, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(pair[1]), options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]
    assert kinds.count("QLinearConv") == 9
    assert kinds.count("QLinearAdd") == 2
    assert "Conv" not in kinds


def test_a_fresh_state_is_the_zero_point_and_snapshots_hold(pair: Any) -> None:
    _, path, description = pair
    assert any(state.zero_point for state in description.states)
    stream = shiftedge.load(path).stream()
    fresh = b"".join(bytes([state.zero_point]) * state.size for state in description.states)
    assert stream._session.save() == fresh
    frames = list(images(12))
    first = [stream.step(frame) for frame in frames[:6]]
    saved = stream.snapshot()
    rest = [stream.step(frame) for frame in frames[6:]]
    stream.restore(saved)
    assert stream.frames == 6
    assert np.array_equal(rest, [stream.step(frame) for frame in frames[6:]])
    stream.reset()
    assert stream._session.save() == fresh
    assert np.array_equal(first, [stream.step(frame) for frame in frames[:6]])


def test_the_spec_says_what_the_states_hold(pair: Any) -> None:
    path, int8, description = pair
    loaded = shiftedge.load(int8).spec
    assert loaded == description
    assert loaded.precision == "int8"
    assert loaded.state_bytes == loaded.state_size
    assert len(set(loaded.std)) == 1
    assert shiftedge.load(path).spec.precision == "fp32"


def test_layers_kept_in_float_have_no_codes_about_them(pair: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "small.onnx", small, spec())
    int8, description = quantized(path, ("block0.expand", "block1.expand", "narrow"))
    # block 1's input is the sum that only the shift and the addition read: float all through
    assert [state.dtype for state in description.states] == ["uint8", "float32"] or (
        [state.dtype for state in description.states] == ["float32", "float32"]
    )
    file = File(int8)
    float_layers = [n for n in file.model.graph.node if n.op_type == "Conv"]
    float_layers = [n for n in float_layers if n.input[1] in file.constants]
    assert [n.input[1] for n in float_layers] == [
        "narrow.weight", "block0.expand.weight", "block1.expand.weight",
    ]  # fmt: skip
    for conv in float_layers:
        if conv.input[1] != "narrow.weight":
            assert file.maker[conv.input[0]].op_type == "Concat"
            (after,) = file.readers(conv.output[0])
            assert after.op_type == "Clip"
    logits = shiftedge.load(int8).stream().step(images(1)[0])
    assert np.isfinite(logits).all()


def test_the_colours_get_one_std_and_the_function_stays(pair: Any) -> None:
    path, _, _ = pair
    graph, description = prepared(path)
    original = shiftedge.load(path).spec
    assert len(set(original.std)) == 3
    assert len(set(description.std)) == 1
    one = Stepper(path.read_bytes(), original).logits(images(8))
    two = Stepper(graph.serialised(), description).logits(images(8))
    assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()


def test_a_state_that_holds_the_frame_before(tmp_path: Path) -> None:
    """As in the bundled model: the frame itself is the next state, and both enter one layer."""

    def body(net: Any) -> str:
        net.op("Identity", "frame", out="next_state_0")
        x = net.op("Concat", "state_0", "frame", axis=1)
        x = net.relu6(net.layer(x, "stem", 8, 6, 3, strides=[2, 2]))
        return str(net.head(net.block(x, 1)))

    states = (StateSpec("before", (1, 3, HEIGHT, WIDTH)), StateSpec("shift", MAP))
    path = write(tmp_path / "before.onnx", body, spec(states=states))
    graph, description = prepared(path)
    one = Stepper(path.read_bytes(), spec(states=states)).logits(images(8))
    two = Stepper(graph.serialised(), description).logits(images(8))
    assert len(set(description.std)) == 1
    assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()
    int8, quantised_ = quantized(path)
    assert [state.dtype for state in quantised_.states] == ["uint8", "uint8"]
    file = File(int8)
    assert file.maker["next_state_0"].op_type == "Identity"
    assert file.maker["frame_quantized"].op_type == "QuantizeLinear"
    stepper = Stepper(int8.read_bytes(), quantised_)
    three = stepper.logits(images(8))
    assert np.abs(three - one).max() < 0.1 * np.abs(one).max()
    frame = normalised(images(8)[-1:], quantised_)
    assert np.abs(stepper.states()[0] - frame).max() < 0.51 * quantised_.states[0].scale + 0.1


def test_a_state_of_a_whole_map(tmp_path: Path) -> None:
    """The next state is what a layer makes, not a part of it: its name goes to the codes."""

    def body(net: Any) -> str:
        x = net.layer("frame", "stem", 2, 3, 3, strides=[2, 2])
        x = net.op("Relu", x, out="next_state_0")
        x = net.op("Concat", "state_0", x, axis=1)
        return str(net.head(net.relu6(net.layer(x, "wide", 8, 4))))

    path = write(tmp_path / "whole.onnx", body, spec(1))
    int8, description = quantized(path)
    file = File(int8)
    assert file.maker["next_state_0"].op_type == "QuantizeLinear"
    assert description.states[0].dtype == "uint8"
    graph, same = prepared(path)
    expected = onnx_outputs(graph.serialised(), same, normalised(images(20), same))
    got = onnx_outputs(int8.read_bytes(), description, normalised(images(20), description))
    for one, two in zip(expected, got, strict=True):
        for name in one:
            assert np.abs(one[name] - two[name]).max() < 0.1 * np.abs(one[name]).max() + 1e-6


def test_a_state_that_nothing_quantised_reads_stays_float(tmp_path: Path) -> None:
    def body(net: Any) -> str:
        x = net.relu6(net.layer("frame", "stem", 2, 3, 3, strides=[2, 2]))
        moved = net.op("Sub", x, "state_0")
        net.op("Identity", x, out="next_state_0")
        x = net.op("Abs", moved)
        return str(net.head(net.relu6(net.layer(x, "wide", 8, 2))))

    int8, description = quantized(write(tmp_path / "difference.onnx", body, spec(1)))
    assert description.states[0].dtype == "float32"
    assert description.precision == "int8"
    assert np.isfinite(shiftedge.load(int8).stream().step(images(1)[0])).all()


def test_a_frame_that_is_not_only_convolved_keeps_its_std(tmp_path: Path) -> None:
    def body(net: Any) -> str:
        x = net.op("Mul", "frame", net.const(2.0))
        x = net.relu6(net.layer(x, "stem", 8, 3, 3, strides=[2, 2]))
        return str(net.head(net.block(x, 0)))

    path = write(tmp_path / "scaled.onnx", body, spec(1))
    _, description = prepared(path)
    assert description.std == spec(1).std
    assert quantized(path)[1].states[0].dtype == "uint8"


def test_a_pool_of_maxima_takes_over_the_scale(tmp_path: Path) -> None:
    def body(net: Any) -> str:
        x = net.op("Relu", net.layer("frame", "stem", 8, 3, 3))
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        return str(net.head(net.block(x, 0)))

    int8, description = quantized(write(tmp_path / "pool.onnx", body, spec(1)))
    file = File(int8)
    (pool,) = [n for n in file.model.graph.node if n.op_type == "MaxPool"]
    before = file.maker[pool.input[0]]
    assert float(file.constants[before.input[1]]) == np.float32(description.states[0].scale)


def test_dead_and_tiny_channels_are_handled() -> None:
    weight = np.zeros((3, 2, 1, 1), np.float32)
    weight[0] = 1.0
    weight[2] = 1e-30
    codes, scale, bias = quantized_weights(weight, np.array([1.0, 5.0, -7.0], np.float32), 1e-3)
    assert bias is not None
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    assert codes[0].min() == 127
    assert not codes[1].any()
    numbers = bias * (np.float32(1e-3) * scale).astype(np.float64)
    assert numbers == pytest.approx([1.0, 5.0, -7.0], rel=1e-6)


def test_a_tensor_of_range_0_is_handled(tmp_path: Path) -> None:
    def body(net: Any) -> str:
        x = net.layer("frame", "stem", 8, 3, 3, strides=[2, 2], bias=np.full(8, -100.0))
        x = net.op("Relu", x)  # nothing gets through
        x = net.layer(x, "narrow", 8, 8)
        return str(net.head(net.block(x, 0)))

    int8, description = quantized(write(tmp_path / "dead.onnx", body, spec(1)))
    logits = Stepper(int8.read_bytes(), description).logits(images(4))
    expected = Stepper((tmp_path / "dead.onnx").read_bytes(), spec(1)).logits(images(4))
    assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()


def test_nan_activations_are_named(tmp_path: Path) -> None:
    def body(net: Any) -> str:
        x = net.layer("frame", "stem", 8, 3, 3, strides=[2, 2])
        x = net.op("Log", x, out="logarithm")
        return str(net.head(net.block(x, 0)))

    path = write(tmp_path / "nan.onnx", body, spec(1))
    with pytest.raises(NumericsError, match="logarithm holds NaN or infinity at frame 0 of clip 0"):
        quantized(path)
