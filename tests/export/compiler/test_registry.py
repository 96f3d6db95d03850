"""What families make of a graph: which kernels, which buffers, where next states are kept."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.compiled import prepared
from kit.onnx_files import HEIGHT, SPEC, WIDTH, Builder, model, step_model

from shiftedge.export.compiler.backends.cpu import registry
from shiftedge.export.compiler.backends.cpu.families import keep, pointwise
from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step
from shiftedge.export.compiler.targets import find_variant

TARGET = find_variant("x86-64-v3")
STATE = (1, 2, HEIGHT, WIDTH)


def lowered(data: bytes, spec=SPEC) -> Step:
    return prepared(data, spec, TARGET)[0]


def families(step: Step) -> list[str]:
    return [call.family for call in step.calls]


def keepers(step: Step, state: int = 0) -> list[Call]:
    """Calls that write a next state."""
    wanted = Argument(Memory.NEXT_STATE, str(state))
    return [call for call in step.calls if wanted in call.arguments.values()]


def finish(b: Builder, x: str, channels: int) -> str:
    """Mean and dense."""
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.op("Gemm", x, b.random(4, channels), b.random(4), transB=1)


def test_every_value_is_made_before_it_is_read() -> None:
    step = lowered(model(lambda b, x: b.op("Relu", b.conv(x, 8, 8, 3, groups=8))))
    made: set[str] = set()
    for call in step.calls:
        for buffer in call.kernel.buffers:
            argument = call.arguments[buffer.name]
            if argument.memory is not Memory.WORKSPACE:
                continue
            if buffer.role == "output":
                made.add(argument.name)
            else:
                assert argument.name in made, (call.name, argument.name)
    assert Argument(Memory.LOGITS) in step.calls[-1].arguments.values()


def test_the_next_state_is_kept_by_a_kernel_that_reads_the_map() -> None:
    step = lowered(model())
    (call,) = keepers(step)
    assert call.family != "state"
    (name,) = (key for key, each in call.arguments.items() if each.memory is Memory.NEXT_STATE)
    assert call.kernel.buffers[-1].name == name
    assert call.kernel.buffers[-1].size == 2 * HEIGHT * WIDTH


def test_a_map_that_nobody_reads_is_kept_by_a_kernel_of_its_own() -> None:
    def body(b: Builder) -> str:
        x = b.conv(b.op("Concat", "state_0", "frame", axis=1), 6, 5, 3)
        b.op("Identity", b.conv("frame", 2, 3), out="next_state_0")
        return finish(b, x, 6)

    step = lowered(*step_model(body, STATE))
    assert [call.family for call in keepers(step)] == ["state"]


def test_a_state_of_the_frame() -> None:
    """The frame becomes a map of numbers, once."""

    def body(b: Builder) -> str:
        b.op("Identity", "frame", out="next_state_0")
        return finish(b, b.conv(b.op("Concat", "state_0", "frame", axis=1), 6, 6, 3), 6)

    step = lowered(*step_model(body, (1, 3, HEIGHT, WIDTH)))
    assert families(step).count("normalise") == 1
    assert families(step)[0] == "normalise"
    assert len(keepers(step)) == 1


def test_a_state_of_a_state() -> None:
    """A delay line: what was kept a frame ago is kept for one more."""

    def body(b: Builder) -> str:
        b.op("Identity", "state_0", out="next_state_1")
        x = b.conv("frame", 6, 3)
        b.op("Slice", x, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
        x = b.op("Relu", b.conv(b.op("Concat", "state_0", x, axis=1), 6, 8))
        return finish(b, b.conv(b.op("Concat", "state_1", x, axis=1), 6, 8), 6)

    step = lowered(*step_model(body, STATE, STATE))
    (call,) = keepers(step, 1)
    assert Argument(Memory.STATE, "0") in call.arguments.values()
    assert len(keepers(step, 0)) == 1


def test_no_kernel_takes_more_arguments_than_the_runtime_gives() -> None:
    """One map of twenty states: a kernel keeps as many as it has room for."""
    count = 20

    def body(b: Builder) -> str:
        x, y = b.conv("frame", 8, 3), ""
        for index in range(count):
            first = index % 6
            bounds = (b.ints(first), b.ints(first + 2), b.ints(1))
            b.op("Slice", x, *bounds, out=f"next_state_{index}")
            z = b.conv(b.op("Concat", f"state_{index}", x, axis=1), 4, 10)
            y = b.op("Add", y, z) if y else z
        return finish(b, y, 4)

    step = lowered(*step_model(body, *[STATE] * count))
    assert all(len(call.kernel.buffers) < keep._BUFFERS_MOST for call in step.calls)
    assert all(len(keepers(step, index)) == 1 for index in range(count))


def test_equal_blocks_share_a_kernel() -> None:
    def body(b: Builder, x: str) -> str:
        for _ in range(3):
            y = b.op("Relu", b.conv(x, 16, 8))
            y = b.op("Relu", b.conv(y, 16, 16, 3, groups=16))
            x = b.op("Add", b.conv(y, 8, 16), x)
        return x

    step = lowered(model(body))
    blocks = [call for call in step.calls if call.family == "inverted residual"]
    assert len({call.name for call in blocks}) == len(blocks) == 6, "two kernels a block"
    for one, same in zip(blocks[:2], blocks[2:4], strict=True):
        assert one.kernel is same.kernel
        assert one.arguments != same.arguments
    assert len(step.kernels) < len(step.calls)
    assert len({kernel.name for kernel in step.kernels}) == len(step.kernels)


def test_blocks_that_differ_in_anything_do_not() -> None:
    def body(b: Builder, x: str) -> str:
        x = b.op("Relu", b.conv(x, 8, 8))
        return b.op("HardSwish", b.conv(x, 8, 8))

    step = lowered(model(body))
    points = [call for call in step.calls if call.family == "pointwise"]
    assert points[0].kernel != points[1].kernel


@pytest.mark.parametrize(
    ("begin", "own_kernel"),
    [(2, False), (0, True), (5, True)],
    ids=["shift", "whole map", "drops more"],
)
def test_a_join_before_a_pointwise_convolution(begin: int, own_kernel: bool) -> None:
    """Only a shift, which brings as many channels as it drops, is read in place."""

    def body(b: Builder) -> str:
        x = b.op("Relu", b.conv("frame", 8, 3, 3))
        b.op("Slice", x, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
        rest = b.op("Slice", x, b.ints(begin), b.ints(1 << 40), b.ints(1)) if begin else x
        x = b.conv(b.op("Concat", "state_0", rest, axis=1), 6, 10 - begin)
        return finish(b, b.op("MaxPool", x, kernel_shape=[2, 2]), 6)

    step = lowered(*step_model(body, STATE))
    assert ("join" in families(step)) is own_kernel


def test_names_are_c_identifiers_in_the_order_of_the_step() -> None:
    step = lowered(model())
    assert all(call.name.isidentifier() and call.name.isascii() for call in step.calls)
    assert [call.name[:4] for call in step.calls] == sorted(call.name[:4] for call in step.calls)


def test_names_say_family_precision_tile_and_instructions() -> None:
    step = lowered(model(lambda b, x: b.conv(b.op("Relu", x), 8, 8)))
    by_family = {call.family: call.name for call in step.calls}
    assert re.fullmatch(r"k\d{3}_pointwise_fp32_\d+x\d+_avx2", by_family["pointwise"])
    assert re.fullmatch(r"k\d{3}_pool_mean_fp32_\d+x\d+_avx2", by_family["pool"])


def test_a_family_is_registered_by_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that matches takes a kernel."""
    taken = []

    class Mine:
        matches = staticmethod(pointwise.matches)

        @staticmethod
        def lower(kernel, context) -> None:
            taken.append(kernel.name)
            pointwise.lower(kernel, context)

    monkeypatch.setattr(registry, "FAMILIES", (Mine(), *registry.FAMILIES))
    step = lowered(model(lambda b, x: b.conv(x, 8, 8)))
    assert taken == [call.source for call in step.calls if call.family == "pointwise"] != []
