"""Every operator by itself, every place of a state, compiled and compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.compiled import prepared, with_onnxruntime
from kit.onnx_files import CLASSES, HEIGHT, WIDTH, Builder, step_model

from shiftedge.export.compiler.compile import build_library
from shiftedge.export.compiler.kernel_ir.calls import Memory, Step
from shiftedge.export.compiler.targets import find_variant
from shiftedge.runtime.engines.native import NativeEngine

STATE = (1, 2, HEIGHT, WIDTH)
ODD = ('say "hi"', "back\\slash ??/", "naïve 手势 👍", "tab\there")


def compiled(folder: Path, body: Callable[[Builder], str], *states: tuple[int, ...]) -> Step:
    """The step, once it was built and agrees with ONNX Runtime for every number of threads."""
    data, spec = step_model(body, *states, labels=ODD)
    target = find_variant("host")
    step, places = prepared(data, spec, target)
    library = folder / "libmodel.so"
    build_library(step, places, spec, target, library)
    report = with_onnxruntime(library, data, spec, step, places, frames=6)
    assert report.passed, report.table()
    assert NativeEngine(library).spec == spec
    return step


def finish(b: Builder, x: str, channels: int) -> str:
    """Mean and dense."""
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    return b.op("Gemm", x, b.random(CLASSES, channels), b.random(CLASSES), transB=1)


def shifted(b: Builder, x: str, begin: int = 2) -> str:
    """The first two of 8 channels are kept, and the state takes the place of ``begin``."""
    b.op("Slice", x, b.ints(0), b.ints(2), b.ints(1), out="next_state_0")
    if begin:
        x = b.op("Slice", x, b.ints(begin), b.ints(1 << 40), b.ints(1))
    return b.op("Concat", "state_0", x, axis=1)


def swish(b: Builder, x: str) -> str:
    return b.op("Mul", x, b.op("Sigmoid", x))


def gate(b: Builder, x: str) -> str:
    return b.op("Mul", x, b.conv(b.op("GlobalAveragePool", x), 8, 8))


ALONE: dict[str, Callable[[Builder, str], str]] = {
    "relu": lambda b, x: b.op("Relu", x),
    "relu6": lambda b, x: b.op("Clip", x, b.const(0.0), b.const(6.0)),
    "hard swish": lambda b, x: b.op("HardSwish", x),
    "hard sigmoid": lambda b, x: b.op("HardSigmoid", x, alpha=1 / 6),
    "sigmoid": lambda b, x: b.op("Sigmoid", x),
    "swish": swish,
    "add": lambda b, x: b.op("Add", x, b.op("Relu", x)),
    "add to itself": lambda b, x: b.op("Add", x, x),
    "mul": lambda b, x: b.op("Mul", x, b.op("Relu", x)),
    "mul by itself": lambda b, x: b.op("Mul", x, x),
    "gate": gate,
    "largest pool": lambda b, x: b.op("MaxPool", x, kernel_shape=[3, 2], strides=[2, 1]),
    "mean pool": lambda b, x: b.op("AveragePool", x, kernel_shape=[2, 3], pads=[1, 1, 0, 1]),
}
"""Over a map of 8 channels; nothing that they could be part of stands before or behind."""


@pytest.mark.parametrize("name", ALONE)
def test_an_operator_alone(name: str, tmp_path: Path) -> None:
    def body(b: Builder) -> str:
        # A pool before it: no convolution takes the operator in. Two readers: nor does any later.
        x = b.op("AveragePool", b.conv("frame", 8, 3, 3), kernel_shape=[1, 1])
        x = b.op("MaxPool", ALONE[name](b, b.op("Add", x, b.op("Relu", x))), kernel_shape=[1, 1])
        b.op("Identity", b.conv("frame", 2, 3), out="next_state_0")
        y = b.conv(b.op("Concat", "state_0", "frame", axis=1), 8, 5)
        return b.op("Add", finish(b, x, 8), finish(b, y, 8))

    families = [call.family for call in compiled(tmp_path, body, STATE).calls]
    assert families.count("elementwise") + families.count("pool") >= 4


AFTER_A_JOIN: dict[str, Callable[[Builder, str, int], str]] = {
    "pointwise": lambda b, x, n: b.op("Relu", b.conv(x, 8, n)),
    "window": lambda b, x, n: b.conv(x, 8, n, 3),
    "strided": lambda b, x, n: b.conv(x, 8, n, 3, strides=[2, 1]),
    "depthwise": lambda b, x, n: b.conv(b.conv(x, n, n, 3, groups=n), 8, n),
    "grouped": lambda b, x, n: b.conv(x, 2 * n, n, 3, groups=2),
    "block": lambda b, x, n: b.conv(
        b.op("Relu", b.conv(b.op("Relu", b.conv(x, 12, n)), 12, 12, 5, groups=12)), 8, 12
    ),
    "activation": lambda b, x, n: b.conv(b.op("HardSwish", x), 8, n),
    "pool": lambda b, x, n: b.conv(b.op("MaxPool", x, kernel_shape=[2, 2]), 8, n),
    "nothing": lambda b, x, n: x,
}
WIDTHS = {"grouped": 2, "nothing": 1}
"""Channels that come out, for each that went in; 8 of the others."""


@pytest.mark.parametrize("begin", [0, 2, 4], ids=["whole", "shift", "drops more"])
@pytest.mark.parametrize("name", AFTER_A_JOIN)
def test_a_join_before(name: str, begin: int, tmp_path: Path) -> None:
    channels = 10 - begin

    def body(b: Builder) -> str:
        x = shifted(b, b.op("Relu", b.conv("frame", 8, 3, 3)), begin)
        return finish(b, AFTER_A_JOIN[name](b, x, channels), WIDTHS.get(name, 0) * channels or 8)

    compiled(tmp_path, body, STATE)


def test_a_tail_behind_a_join(tmp_path: Path) -> None:
    def body(b: Builder) -> str:
        x = shifted(b, b.op("Relu", b.conv("frame", 8, 3, 3)))
        return finish(b, b.op("Relu", b.conv(x, 40, 8)), 40)

    assert compiled(tmp_path, body, STATE).calls[-2].family == "tail"


def test_dense_over_a_whole_map(tmp_path: Path) -> None:
    def body(b: Builder) -> str:
        x = b.op("Flatten", shifted(b, b.conv("frame", 8, 3, 3)))
        x = b.op("Relu", b.op("Gemm", x, b.random(9, 240), b.random(9), transB=1))
        return b.op("Gemm", x, b.random(CLASSES, 9), b.random(CLASSES), transB=1)

    assert [call.family for call in compiled(tmp_path, body, STATE).calls].count("dense") == 2


# States.


def test_a_state_of_the_frame(tmp_path: Path) -> None:
    def body(b: Builder) -> str:
        b.op("Identity", "frame", out="next_state_0")
        return finish(b, b.conv(b.op("Concat", "state_0", "frame", axis=1), 8, 6, 3), 8)

    compiled(tmp_path, body, (1, 3, HEIGHT, WIDTH))


def test_a_delay_line(tmp_path: Path) -> None:
    """A state becomes another: what was seen two frames ago."""

    def body(b: Builder) -> str:
        x = shifted(b, b.op("Relu", b.conv("frame", 8, 3)))
        b.op("Identity", "state_0", out="next_state_1")
        x = b.op("Relu", b.conv(x, 6, 8))
        return finish(b, b.conv(b.op("Concat", "state_1", x, axis=1), 8, 8), 8)

    compiled(tmp_path, body, STATE, STATE)


def test_a_state_that_stays(tmp_path: Path) -> None:
    """Read and written back as it is: all zero for ever."""

    def body(b: Builder) -> str:
        b.op("Identity", "state_0", out="next_state_0")
        return finish(b, b.conv(b.op("Concat", "state_0", "frame", axis=1), 8, 5, 3), 8)

    compiled(tmp_path, body, STATE)


def test_a_state_of_the_last_map(tmp_path: Path) -> None:
    """What the mean reads, and what nothing reads, as states."""

    def body(b: Builder) -> str:
        x = b.op("Relu", b.conv(b.op("Concat", "state_0", "frame", axis=1), 8, 5, 3))
        b.op("Identity", b.conv(b.op("Concat", "state_1", x, axis=1), 3, 11), out="next_state_1")
        b.op("Slice", x, b.ints(6), b.ints(8), b.ints(1), out="next_state_0")
        return finish(b, x, 8)

    compiled(tmp_path, body, STATE, (1, 3, HEIGHT, WIDTH))


def test_one_map_of_many_states(tmp_path: Path) -> None:
    """More than a kernel's arguments have room for."""
    count = 14

    def body(b: Builder) -> str:
        x, y = b.conv("frame", 8, 3), ""
        for index in range(count):
            bounds = (b.ints(index % 6), b.ints(index % 6 + 2), b.ints(1))
            b.op("Slice", x, *bounds, out=f"next_state_{index}")
            z = b.conv(b.op("Concat", f"state_{index}", x, axis=1), 4, 10)
            y = b.op("Add", y, z) if y else z
        return finish(b, y, 4)

    step = compiled(tmp_path, body, *[STATE] * count)
    kept = [a for call in step.calls for a in call.arguments.values()]
    assert sum(argument.memory is Memory.NEXT_STATE for argument in kept) == count


def test_a_model_without_states(tmp_path: Path) -> None:
    compiled(tmp_path, lambda b: finish(b, b.conv("frame", 8, 3, 3), 8))
