"""Quantised files -> graph -> kernels -> numpy's integers, against ONNX Runtime on the same file.

ONNX Runtime runs every node by itself and in float32, as ONNX defines it: what its own integer
kernels do differs from processor to processor.

Layer by layer, each kernel given the codes that ONNX Runtime has, it can be said what may differ.
Where the file has no rounding that the compiler skips (the frame's codes are its pixels; none
between convolution and sum), the codes agree but where a number lies within float32's error of the
middle between two. Otherwise they differ by what the skipped roundings may, and no more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")
onnx = pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.networks import KINDS  # noqa: E402
from kit.qdq import Stream, exact_frame, quantized, with_equal_std  # noqa: E402

from shiftedge.export.agreement import moving_images, normalised  # noqa: E402
from shiftedge.export.compiler.frontend.read import read_onnx  # noqa: E402
from shiftedge.export.compiler.graph.fusion import (  # noqa: E402
    ConvKernel,
    InvertedResidualKernel,
    Single,
    Tail,
    fuse,
)
from shiftedge.export.compiler.graph.graph import (  # noqa: E402
    Activate,
    Add,
    Conv,
    Dequantize,
    Join,
    KeepState,
    Mean,
    Pool,
    Quantize,
)
from shiftedge.export.compiler.numerics.precision import INT8  # noqa: E402
from shiftedge.export.compiler.verify.evaluate import Evaluator, dequantized  # noqa: E402

FRAMES = 3


def coded(float_file, name: str, *, exact: bool = False, **options):
    """The QDQ file, its spec, and the images and frames that its ranges come from."""
    model, spec = float_file(name)
    if exact:
        spec, options["frame_codes"] = exact_frame(spec)
        options["between"] = False
    elif len(set(spec.std)) > 1:
        spec = with_equal_std(spec)
    images = moving_images(spec, FRAMES)
    frames = normalised(images, spec)
    return *quantized(model, spec, frames, **options), images, frames


class Pinned(dict):
    """Values that kernels read but cannot change; ``made`` has what they made."""

    def __init__(self, values):
        super().__init__(values)
        self.made = {}

    def __setitem__(self, name, value):
        self.made[name] = value


def nhwc(value):
    return value[0].transpose(1, 2, 0) if value.ndim == 4 else value.reshape(-1)


def layer_by_layer(model, spec, images, frames):
    """Of each value that a kernel made in each frame: its name, ours, and ONNX Runtime's, of
    which all of the frame's follow."""
    graph = read_onnx(model, spec)
    kernels, _ = fuse(graph)
    stream = Stream(model, spec)
    for image, frame in zip(images, frames, strict=True):
        theirs = {name: nhwc(value) for name, value in stream.step(frame).items()}
        values = Pinned(theirs)
        for kernel in kernels:
            Evaluator(graph, spec, INT8).kernel(kernel, image, values)
        assert {kernel.out for kernel in kernels} <= set(values.made)
        for name, ours in values.made.items():
            assert (ours.dtype == np.uint8) == (name in graph.quantization), name
            yield name, ours.reshape(-1), theirs[name].reshape(-1), theirs


@pytest.mark.parametrize("name", KINDS)
def test_each_layer_has_the_codes_of_onnx_runtime(float_file, name):
    for value, ours, theirs, _ in layer_by_layer(*coded(float_file, name, exact=True)):
        if ours.dtype == np.uint8:
            assert theirs.dtype == np.uint8
            difference = np.abs(ours.astype(int) - theirs)
            assert difference.max() <= 1, value
            assert (difference > 0).mean() < 0.002, value
        else:
            # What comes after a mean is float32 here and codes there, so up to half a step in 255.
            assert np.abs(ours - theirs).max() <= 0.003 * np.abs(theirs).max(), value


@pytest.mark.parametrize("name", KINDS)
def test_roundings_that_are_skipped_explain_every_difference(float_file, name):
    model, spec, images, frames = coded(float_file, name)
    graph = read_onnx(model, spec)
    weights = onnx.load_model_from_string(model).graph.initializer
    scales = {
        entry.name: float(onnx.numpy_helper.to_array(entry))
        for entry in weights
        if entry.name.endswith("_scale") and not entry.dims
    }
    slack, skipped = {}, {}  # in steps of the result: half a step of each rounding skipped
    for kernel in fuse(graph)[0]:
        for conv in (each for each in kernel.operators if isinstance(each, Conv)):
            following = kernel.operators[kernel.operators.index(conv) + 1 :]
            if conv.inputs == (graph.frame,) and conv.quantized_weight is not None:
                gain = np.abs(conv.weight).sum((1, 2, 3)).max()
                out = graph.quantization[following[0].out].scale
                slack[following[0].out] = 0.5 * gain * scales["frame_scale"] / out
            if following and isinstance(following[0], Add) and kernel.out in graph.quantization:
                step = scales[f"{conv.out}_scale"]
                slack[kernel.out] = 0.5 * step / graph.quantization[kernel.out].scale
                skipped[kernel.out] = f"{conv.out}_q"
    assert slack
    for value, ours, theirs, every in layer_by_layer(model, spec, images, frames):
        if ours.dtype != np.uint8:
            continue
        difference = np.abs(ours.astype(int) - theirs)
        if value in skipped:  # codes that are at their end say little of the number
            between = nhwc(every[skipped[value]]).reshape(-1)
            difference = difference[(between > 0) & (between < 255)]
        # A number that moves by s steps moves its code by s + 1 at most.
        assert difference.max() <= int(slack.get(value, 0)) + 1, value
        if value not in slack:
            assert (difference > 0).mean() < 0.002, value


def test_a_stream_stays_with_onnx_runtime(float_file):
    model, spec, images, frames = coded(float_file, "own", exact=True)
    reference, stream = Evaluator(read_onnx(model, spec), spec, INT8), Stream(model, spec)
    for image, frame in zip(
        np.tile(images, (6, 1, 1, 1)), np.tile(frames, (6, 1, 1, 1)), strict=True
    ):
        ours, theirs = reference.step(image), stream.step(frame)
        for index, state in enumerate(ours.states):
            difference = np.abs(state.astype(int) - nhwc(theirs[f"next_state_{index}"]))
            assert state.dtype == np.uint8
            assert difference.max() <= 2
            assert (difference > 0).mean() < 0.02
        scale = np.abs(theirs["logits"]).max()
        np.testing.assert_allclose(ours.logits, theirs["logits"][0], rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_skipping_roundings_is_no_worse_than_making_them(float_file, name):
    model, spec, images, frames = coded(float_file, name)
    reference, stream = Evaluator(read_onnx(model, spec), spec, INT8), Stream(model, spec)
    exact = Stream(float_file(name)[0], replace(float_file(name)[1]))
    ours, theirs = [], []
    for image, frame in zip(
        np.tile(images, (4, 1, 1, 1)), np.tile(frames, (4, 1, 1, 1)), strict=True
    ):
        wanted = exact.step(frame)["logits"][0]
        ours.append(reference.step(image).logits - wanted)
        theirs.append(stream.step(frame)["logits"][0] - wanted)
    assert np.abs(ours).mean() <= 1.5 * np.abs(theirs).mean()


def test_reset_begins_the_stream_again(float_file):
    model, spec, images, _ = coded(float_file, "own")
    graph = read_onnx(model, spec)
    reference = Evaluator(graph, spec, INT8)
    for index, state in enumerate(reference.states):
        codes = graph.quantization[f"state_{index}"]
        assert codes.zero_point == spec.states[index].zero_point
        assert not dequantized(state, codes).any(), "a fresh state stands for zeros"
    first = [reference.step(image).logits for image in images]
    reference.reset()
    again = [reference.step(image).logits for image in images]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], Evaluator(graph, spec, INT8).step(images[1]).logits)


# The graph and its kernels


def shape_of(kernel):
    return type(kernel), [type(operator) for operator in kernel.operators]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_kernels_form_as_on_floats(float_file, name):
    model, spec, *_ = coded(float_file, name)
    graph = read_onnx(model, spec)
    kernels, kept = fuse(graph)
    plain, plain_kept = fuse(read_onnx(*float_file(name)))
    assert [shape_of(kernel) for kernel in kernels] == [shape_of(kernel) for kernel in plain]
    assert [one.state for one in kept] == [one.state for one in plain_kept]
    assert all(kernel.out in graph.quantization for kernel in kernels[:-3])
    for kernel in kernels:
        if isinstance(kernel, InvertedResidualKernel):
            parts = [part for part in (kernel.stem, kernel.expand) if part is not None]
            for part in (*parts, kernel.depthwise, kernel.project):
                assert part.conv.quantized_weight is not None
                assert part.quantization is not None
            assert kernel.project.quantization == graph.quantization[kernel.out]
        elif isinstance(kernel, ConvKernel):
            assert kernel.linear.quantization == graph.quantization[kernel.out]
        elif isinstance(kernel, Tail):
            assert kernel.pointwise.quantization is not None
            assert kernel.out not in graph.quantization


def test_a_shift_is_a_copy_of_codes(float_file):
    model, spec, *_ = coded(float_file, "mobilenet_v2")
    graph = read_onnx(model, spec)
    kernels, kept = fuse(graph)
    joins = {kernel.join.state: kernel.join for kernel in kernels if getattr(kernel, "join", None)}
    assert len(joins) == len(spec.states) == len(kept)
    for one in kept:
        state, junction = f"state_{one.state}", joins[one.state].out
        codes = graph.quantization[state]
        assert codes == graph.quantization[one.inputs[0]] == graph.quantization[junction]
        assert codes.scale == np.float32(spec.states[one.state].scale)


def test_convolutions_have_codes_and_what_they_stand_for(float_file):
    model, spec, *_ = coded(float_file, "mobilenet_v2")
    graph = read_onnx(model, spec)
    plain = read_onnx(*float_file("mobilenet_v2"))
    ours = [each for each in graph.operators if isinstance(each, Conv)]
    theirs = [each for each in plain.operators if isinstance(each, Conv)]
    for conv, original in zip(ours, theirs, strict=True):
        assert conv.quantized_weight.dtype == np.int8
        assert conv.weight_scale.shape == (len(conv.quantized_weight),)
        np.testing.assert_array_equal(
            conv.weight, conv.quantized_weight * conv.weight_scale[:, None, None, None]
        )
        assert (
            np.abs(conv.weight - original.weight).max((1, 2, 3)) <= 0.51 * conv.weight_scale
        ).all()
    assert graph.flops() == plain.flops()


def check_promises(graph):
    """Those of graph.py's docstring, and what schedules rely on in kernels."""
    kernels, kept = fuse(graph)
    made = {operator.out: operator for operator in graph.operators}
    within = {operator.out: kernel for kernel in kernels for operator in kernel.operators}
    for operator in graph.operators:
        coded = [name in graph.quantization for name in operator.inputs]
        if isinstance(operator, Conv):
            reads_bytes = operator.inputs == (graph.frame,)
            assert (operator.quantized_weight is not None) >= coded[0]
            assert (operator.quantized_weight is None) >= (not coded[0] and not reads_bytes)
        elif isinstance(operator, (Join, KeepState)):
            kept_or_joined = isinstance(operator, KeepState) or operator.out in graph.quantization
            assert not any(coded) or (all(coded) and kept_or_joined)
        elif isinstance(operator, Add) and any(coded) and not all(coded):
            assert isinstance(made[operator.inputs[coded.index(False)]], Conv)
            assert len(within[operator.out].operators) > 1
        elif not isinstance(operator, (Add, Mean, Dequantize, Pool)):
            assert not any(coded), operator
    for name, codes in graph.quantization.items():
        maker = made.get(name)
        if isinstance(maker, Activate):
            maker = made[maker.inputs[0]]
            assert within[name] is within[maker.out]
        if isinstance(maker, Conv):
            assert maker.quantized_weight is not None
        elif isinstance(maker, (Join, Pool)):
            assert graph.quantization[maker.inputs[-1]] == codes
        else:
            assert maker is None or isinstance(maker, (Add, Quantize))
    for kernel in kernels:
        convs = [operator for operator in kernel.operators if isinstance(operator, Conv)]
        assert len({conv.quantized_weight is None for conv in convs}) <= 1
        if getattr(kernel, "residual", None) is not None:
            assert (kernel.residual in graph.quantization) == (
                convs[-1].quantized_weight is not None
            )
    for one in kept:
        state = graph.quantization.get(f"state_{one.state}")
        assert state == graph.quantization.get(one.inputs[0])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_any_layers_may_be_kept(float_file, name, seed):
    generator = np.random.default_rng(seed)
    count = {"efficientnet_lite0": 49, "resnet50": 53, "own": 6}.get(name, 52)
    kept = np.flatnonzero(generator.random(count) < generator.choice([0.1, 0.3, 0.6])).tolist()
    model, spec, images, frames = coded(float_file, name, exact=True, kept=kept)
    check_promises(read_onnx(model, spec))
    for value, ours, theirs, _ in layer_by_layer(model, spec, images[:1], frames[:1]):
        if ours.dtype == np.uint8:
            assert np.abs(ours.astype(int) - theirs).max() <= 1, value
        else:
            assert np.abs(ours - theirs).max() <= 0.003 * np.abs(theirs).max(), value


def test_a_layer_kept_in_float_has_its_codes_changed_around_it(float_file):
    kept = 10  # the depthwise convolution of a block in the middle
    model, spec, images, frames = coded(float_file, "mobilenet_v2", kept=[kept])
    graph = read_onnx(model, spec)
    convs = [each for each in graph.operators if isinstance(each, Conv)]
    assert [conv.quantized_weight is None for conv in convs] == [
        place == kept for place in range(len(convs))
    ]
    storage = [each for each in graph.operators if isinstance(each, (Quantize, Dequantize))]
    assert [type(each) for each in storage] == [Quantize]
    kinds = [type(kernel) for kernel in fuse(graph)[0]]
    assert kinds.count(InvertedResidualKernel) == 16
    assert (kinds.count(ConvKernel), kinds.count(Single)) == (3, 1)
    for value, ours, theirs, _ in layer_by_layer(model, spec, images, frames):
        if ours.dtype == np.float32:
            assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max(), value


def test_a_state_of_a_kept_layer_stays_float(float_file):
    # The block's expansion and its sum: nothing reads its input as codes.
    name = "own"
    model, spec, images, frames = coded(float_file, name, kept=[2])
    assert [state.dtype for state in spec.states].count("float32") == 1
    graph = read_onnx(model, spec)
    index = [state.dtype for state in spec.states].index("float32")
    assert f"state_{index}" not in graph.quantization
    reference, stream = Evaluator(graph, spec, INT8), Stream(model, spec)
    for image, frame in zip(images, frames, strict=True):
        ours, theirs = reference.step(image), stream.step(frame)
        state, wanted = ours.states[index], nhwc(theirs[f"next_state_{index}"])
        assert state.dtype == np.float32
        assert np.abs(state - wanted).max() < 0.05 * np.abs(wanted).max()


def test_colours_of_different_std_leave_the_first_convolution_in_float(float_file):
    model, spec = float_file("mobilenet_v2")
    assert len(set(spec.std)) == 3
    images = moving_images(spec, FRAMES)
    frames = normalised(images, spec)
    model, spec = quantized(model, spec, frames)
    graph = read_onnx(model, spec)
    first, second = fuse(graph)[0][:2]
    assert isinstance(first, ConvKernel)
    assert first.conv.quantized_weight is None
    assert isinstance(second.operators[0], Quantize)
    for value, ours, theirs, _ in layer_by_layer(model, spec, images, frames):
        if value == first.out:
            gain = np.abs(first.conv.weight).sum((1, 2, 3)).max()
            step = (frames.max() - frames.min()) / 255
            assert np.abs(ours - theirs).max() <= 0.51 * gain * step
