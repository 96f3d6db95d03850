"""GPU code on the emulated GPU: equal to the interpreter's numbers bit for bit, with no fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")

from hypothesis import given
from hypothesis import strategies as some
from kit.conformance import CASES, ENDS, NOT, Case, convolution
from kit.layers import UNITS, Layers, interpreted

from shiftedge.export.agreement import moving_images, normalised, onnx_outputs
from shiftedge.export.compiler.backends.cuda import cost, ptx
from shiftedge.export.compiler.backends.cuda.devices import GPUS, GpuVariant
from shiftedge.export.compiler.backends.cuda.registry import lower
from shiftedge.export.compiler.backends.cuda.vectors import multiple_of, runs
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.fusion import apart, fuse
from shiftedge.export.compiler.graph.graph import is_vector
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var
from shiftedge.export.compiler.kernel_ir.interpret import Interpreter
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.numerics.precision import FP16, FP32, Precision
from shiftedge.export.compiler.sources import read_sources
from shiftedge.export.compiler.targets import find_target
from shiftedge.export.compiler.verify.evaluate import run_operator
from shiftedge.export.compiler.verify.gpu import machine
from shiftedge.export.compiler.verify.proof import stored_weights
from shiftedge.runtime.errors import CompileError

AVX2 = UNITS["avx2"]
FLOATS = [name for name, case in CASES.items() if "avx2" in case.units]
SHIFTED = {  # inputs, outputs, channels shifted, number of what it ends with
    "shift of 3": (24, 40, 3, 2),
    "shift of 8": (64, 24, 8, 0),
    "shift of 20, one block of outputs": (160, 16, 20, 2),
}
EIGHTS = (
    "pointwise, whole words, HARD_SWISH", "pointwise, whole words, RELU", "dense, 3 x 3, RELU",
    "block, phased, 5 x 5", "block, large", *SHIFTED,
)  # fmt: skip
"""Cases some of whose channels come in eights."""
A, B = Var("a"), Var("b")


def variant(arch: str, precision: str = "fp32") -> GpuVariant:
    return GpuVariant(find_target("jetson-nano"), GPUS[arch], precision)


class Emulated:
    """Runs the kernels of a step; ``launches`` are what they did, by kernel."""

    def __init__(self, step: Step, arch: str) -> None:
        self.text = ptx.generate(step.kernels, GPUS[arch])
        self._module = machine.Module(self.text)
        self.launches: dict[str, machine.Launch] = {}

    def __call__(self, kernel: Kernel, arrays: dict[str, np.ndarray]) -> None:
        done = machine.run(self._module, kernel, arrays)
        assert not done.faults, f"{kernel.name}: {[*map(str, done.faults)]}"
        self.launches[kernel.name] = done


@pytest.mark.parametrize("name", FLOATS[::2])
def test_every_family(name: str) -> None:
    run_everywhere(name, "sm_53", FP32)


@pytest.mark.parametrize("name", FLOATS[1::5])
def test_every_family_of_half_precision(name: str) -> None:
    """Bit for bit, sums of half precision too."""
    run_everywhere(name, "sm_53", FP16)


@pytest.mark.long
@pytest.mark.parametrize("name", FLOATS[1::2])
def test_every_other_family(name: str) -> None:
    run_everywhere(name, "sm_53", FP32)


@pytest.mark.long
@pytest.mark.parametrize("name", [each for each in FLOATS if each not in FLOATS[1::5]])
def test_every_other_family_of_half_precision(name: str) -> None:
    run_everywhere(name, "sm_53", FP16)


@pytest.mark.parametrize("arch", ["sm_75", "sm_87"])
@pytest.mark.parametrize("name", EIGHTS)
def test_tensor_cores(name: str, arch: str) -> None:
    kernels = run_everywhere(name, arch, FP16)
    assert any("_tensor_" in each.name for each in kernels)


def run_everywhere(name: str, arch: str, precision: Precision) -> Sequence[Kernel]:
    """A case's step on the emulated GPU, interpreted, and interpreted without rounding; its
    kernels."""
    if name in SHIFTED:
        inputs, outputs, shift, end = SHIFTED[name]
        plain = (1, 1), (1, 1), NOT, 0, shift, 1, ENDS[end], (5, 7)
        case = Case(partial(convolution, inputs, outputs, *plain))
    else:
        case = CASES[name]
    layers = Layers(case.seed, precision)
    case.build(layers)
    graph, target = layers.graph(), variant(arch, precision.name)
    if name.startswith("grouped"):
        with pytest.raises(CompileError, match="has no code for GPUs"):
            lower(graph, case.spec, target)
        return ()
    step = lower(graph, case.spec, target)
    given_to = graph, AVX2, step, layers.given, layers.states, layers.image
    want = interpreted(*given_to)
    made = interpreted(*given_to, execute=Emulated(step, arch))
    exact = interpreted(*given_to, exact=True)
    assert exact.values.keys() == made.values.keys()
    for other, atol in ((want, 2e-6), (exact, 40 * precision.step or 1e-4)):
        pairs = [(value, other.values[key], key) for key, value in made.values.items()]
        pairs += [(state, other.states[key], f"state {key}") for key, state in made.states.items()]
        pairs += [(made.logits, other.logits, "logits")]
        for ours, theirs, key in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=key)
    return step.kernels


def with_onnxruntime(
    path: Path, arch: str, frames: int, precision: str = "fp32"
) -> tuple[Emulated, Step]:
    """A file's step on the emulated GPU against ONNX Runtime, logits and states."""
    (source,) = read_sources([path])
    step = lower(read_onnx(source.data, source.spec), source.spec, variant(arch, precision))
    device = Emulated(step, arch)
    stream, images = Interpreter(step, execute=device), moving_images(source.spec, frames)
    expected = onnx_outputs(source.data, source.spec, normalised(images, source.spec))
    accepted = {"fp32": 1e-4, "fp16": 1e-2}[precision]
    for image, want in zip(images, expected, strict=True):
        made = {"logits": stream.step(image).logits}
        assert made["logits"].argmax() == want["logits"].argmax()
        for number, (state, shape) in enumerate(zip(stream.states, step.states, strict=True)):
            size = step.state_buffer(number).size
            made[f"next_state_{number}"] = state[:size].reshape(shape).transpose(2, 0, 1)
        for name, ours in made.items():
            theirs = want[name][0]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=accepted * np.abs(theirs).max())
    return device, step


@pytest.mark.parametrize(("arch", "frames"), [("sm_53", 32), ("sm_90", 2)])
def test_the_bundled_model(exported: Callable[[str], Path], arch: str, frames: int) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    device, step = with_onnxruntime(exported("gestures"), arch, frames)
    assert len(step.calls) <= 56
    as_it_should_be(device, step, arch, eights=False)


@pytest.mark.long
@pytest.mark.parametrize(
    ("arch", "precision"),
    [("sm_72", "fp32"), ("sm_87", "fp32"), ("sm_90", "fp32"), ("sm_53", "fp16"), ("sm_87", "fp16")],
)
def test_the_bundled_model_for_long(
    exported: Callable[[str], Path], arch: str, precision: str
) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    with_onnxruntime(exported("gestures"), arch, 32, precision)


@pytest.mark.long
def test_what_half_precision_loses(exported: Callable[[str], Path]) -> None:
    """Of a network that is hard on it: about what storing its maps and weights in half precision
    does to exact sums, so that the kernels' own sums are not what matters."""
    (source,) = read_sources([exported("mobilenet-1.0@224x224")])
    graph, images = read_onnx(source.data, source.spec), moving_images(source.spec, 2)
    step = lower(graph, source.spec, variant("sm_53", "fp16"))

    def exact(*, rounded: bool) -> list[np.ndarray]:
        weight = stored_weights(graph, step) if rounded else (lambda conv: conv.weight)
        states, logits = [np.zeros(shape) for shape in graph.states], []
        kernels, kept = fuse(graph)
        for image in images:
            numbers = (image[..., ::-1] / 255 - source.spec.mean) / source.spec.std
            values = {graph.frame: numbers}
            values |= {f"state_{number}": state for number, state in enumerate(states)}
            for part in (each for kernel in kernels for each in apart(kernel)):
                for operator in part.operators:
                    values[operator.out] = run_operator(operator, values, weight)
                if rounded and not is_vector(graph.shapes[part.out]):
                    values[part.out] = FP16.round(values[part.out])
            for each in kept:
                states[each.state] = values[each.inputs[0]][..., each.begin : each.end]
            logits.append(values[graph.logits].reshape(-1))
        return logits

    floats, stored = exact(rounded=False), exact(rounded=True)
    stream = Interpreter(step, execute=Emulated(step, "sm_53"))
    ours = [stream.step(image).logits for image in images]
    assert [each.argmax() for each in ours] == [each.argmax() for each in floats]
    lost = [np.abs(np.subtract(each, floats)).max() for each in (stored, ours)]
    assert 0 < lost[1] <= 2 * lost[0]


def as_it_should_be(device: Emulated, step: Step, arch: str, *, eights: bool = True) -> None:
    """What each launch did, against limits and against what the cost model says; ``eights``: all
    channels come so, and fill sectors."""
    for kernel in step.kernels:
        done, name = device.launches[kernel.name], kernel.name
        assert done.shared_loads.conflicts <= 1.2, name
        assert done.shared_stores.conflicts <= 1.2, name
        if "product" in name and eights:
            sectors = done.loads.sectors + done.stores.sectors
            assert done.loads.bytes + done.stores.bytes >= 0.9 * 32 * sectors, name
            narrow = int(name.rpartition("x")[2]) < 16
            if arch == "sm_53" and not narrow:
                loads = done.instructions["shared load"]
                assert done.instructions["multiply-add"] >= 14 * loads, name
        counted(kernel, done)


def counted(kernel: Kernel, done: machine.Launch) -> None:
    """The cost model's counts are the emulated GPU's."""
    said, name = cost.count(kernel), kernel.name
    assert said.issued == pytest.approx(done.issued, rel=0.12, abs=1500), name
    for kind in ("multiply-add", "shared load", "shared store", "barrier"):
        assert said.instructions.get(kind, 0) == pytest.approx(
            done.instructions[kind], rel=0.08, abs=200
        ), f"{kind} of {name}"
    waves = done.shared_loads.wavefronts + done.shared_stores.wavefronts
    assert said.wavefronts == pytest.approx(waves, rel=0.05, abs=100), name
    sectors = done.loads.sectors + done.stores.sectors
    assert said.sectors == pytest.approx(sectors, rel=0.15, abs=100), name


@pytest.mark.long
@pytest.mark.parametrize("arch", ["sm_53", "sm_87"])
def test_a_mobilenet(exported: Callable[[str], Path], arch: str) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    device, step = with_onnxruntime(exported("mobilenet-1.0@224x224"), arch, 2)
    assert len(step.calls) <= 54
    as_it_should_be(device, step, arch)
    took = sum(cost.predict(call.kernel, GPUS[arch]).microseconds for call in step.calls)
    assert took <= {"sm_53": 5000, "sm_87": 2000}[arch]


@pytest.mark.long
def test_a_resnet(exported: Callable[[str], Path]) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    with_onnxruntime(exported("resnet@64x64"), "sm_72", 2)


@pytest.mark.long
def test_squeeze_and_excite_and_5_x_5(exported: Callable[[str], Path]) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    with_onnxruntime(exported("lite0@64x48"), "sm_75", 2)


def test_the_text_for_every_device() -> None:
    """From one step: what is refused is not made, and no device is asked for what it lacks."""
    case = CASES[FLOATS[0]]
    graph = case.layers("avx2").graph()
    for arch, gpu in GPUS.items():
        text = ptx.generate(lower(graph, case.spec, variant(arch)).kernels, gpu)
        assert f".target {arch}\n" in text
        assert "ld.global.nc.v4.b32" in text


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("arch", ["sm_53", "sm_62", "sm_72", "sm_75", "sm_87", "sm_90"])
def test_the_assembler_takes_it(exported: Callable[[str], Path], arch: str, precision: str) -> None:
    """No kernel is refused, none spills; and registers are about what the cost model says."""
    gpu = GPUS[arch]
    found = ptx.find_ptxas(gpu)
    if found is None:
        pytest.skip(f"no ptxas that knows {arch} is installed")
    (source,) = read_sources([exported("gestures")])
    step = lower(read_onnx(source.data, source.spec), source.spec, variant(arch, precision))
    made = ptx.assemble(ptx.generate(step.kernels, gpu), gpu, found)
    assert made.keys() == {each.name for each in step.kernels}
    for kernel in step.kernels:
        if "product" in kernel.name or "tensor" in kernel.name:
            said = cost.count(kernel)
            assert made[kernel.name].registers <= 1.8 * said.registers, kernel.name
            assert made[kernel.name].shared_bytes == said.shared, kernel.name


GOOD = """.version 6.3
.target sm_53
.address_size 64
.visible .entry k()
{
\tret;
}
"""
BAD = {
    "a function": (".visible .entry", ".visible .func"),
    "a call": ("\tret;", "\tcall.uni f, ();"),
    "of elsewhere": (".visible", ".extern .shared .align 4 .b8 x[];\n.visible"),
    "of a thread's own": ("\tret;", "\t.local .align 4 .b8 own[16];"),
    "registers should be": ("\tret;", "\tld.local.b32 %r1, [%rd1];"),
    "without a memory space": ("\tret;", "\tld.v4.b32 {%r1}, [%rd1];"),
    "is not for sm_53": ("sm_53", "sm_90"),
    "loads 6.5": ("6.3", "6.6"),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_text_is_refused(words: str) -> None:
    ptx.refuse_bad(GOOD, GPUS["sm_53"])
    with pytest.raises(CompileError, match=words):
        ptx.refuse_bad(GOOD.replace(*BAD[words]), GPUS["sm_53"])


def test_two_kernels_of_one_name() -> None:
    case = CASES[FLOATS[0]]
    (kernel, *_) = lower(case.layers("avx2").graph(), case.spec, variant("sm_53")).kernels
    with pytest.raises(ValueError, match="one name"):
        ptx.generate([kernel, kernel], GPUS["sm_53"])
    with pytest.raises(ValueError, match="no prologue"):
        ptx.generate([replace(kernel, prologue=kernel.body)], GPUS["sm_53"])


LEAVES = some.sampled_from([A, B, *map(Const, range(1, 33))])
POSITIONS = some.recursive(
    LEAVES,
    lambda inner: (
        some.builds(
            lambda left, right, op: getattr(left, op)(right),
            inner,
            inner,
            some.sampled_from(["__add__", "__mul__"]),
        )
        | some.builds(
            lambda left, by, op: getattr(left, op)(by),
            inner,
            some.integers(1, 16),
            some.sampled_from(["__floordiv__", "__mod__"]),
        )
    ),
    max_leaves=8,
)


@given(POSITIONS, some.integers(0, 40), some.integers(0, 40), some.integers(1, 20))
def test_vectors_are_aligned(position: Index, a: int, b: int, count: int) -> None:
    place = position.evaluate({A: a, B: b})
    divisor = multiple_of(position)
    assert place == 0 if divisor == 0 else place % divisor == 0
    end = 0
    for first, length in runs(position, count, 4):
        assert first == end
        assert (place + first) % length == 0
        end += length
    assert end == count
