"""Grouped convolutions of codes by a board's own instructions, against the integer reference: the
kernels alone, called by a small C program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")

from kit.layers import SPEC, Layers

from shiftedge.benchmarks.emulation import qemu
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.backends.cpu.registry import lower
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import Quantization
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory, Step
from shiftedge.export.compiler.numerics.precision import INT8
from shiftedge.export.compiler.targets import TARGETS, variants_of
from shiftedge.export.compiler.verify.evaluate import Evaluator

EVEN = (1, 1, 1, 1)
# Inputs, outputs, groups, kernel, stride, padding, zero point, channels shifted, lowest weight.
GROUPED = (
    (20, 40, 20, (3, 3), (1, 1), EVEN, 255, 0, -127),
    (14, 14, 7, (3, 3), (1, 1), EVEN, 9, 5, -127),
    (15, 25, 5, (3, 3), (2, 1), (0, 1, 1, 0), 131, 0, -128),
    (32, 32, 8, (3, 3), (1, 1), EVEN, 3, 9, -127),
    (24, 24, 3, (3, 2), (1, 2), (2, 1, 0, 1), 77, 0, -127),
    (120, 70, 2, (3, 3), (2, 2), EVEN, 200, 61, -127),
    (40, 20, 4, (1, 1), (1, 1), (0, 0, 0, 0), 60, 0, -127),
)
MAP = (9, 10)


def layers_of_all() -> tuple[Layers, list[str]]:
    """One step of all of them, and the names of what they make."""
    layers, made = Layers(), []
    for inputs, outputs, groups, kernel, stride, padding, zero, shift, least in GROUPED:
        x = layers.map((*MAP, inputs), zero)
        x = layers.shift(x, shift) if shift else x
        y = layers.conv(x, outputs, kernel, stride=stride, padding=padding, groups=groups)
        layers.operators[-1].quantized_weight.reshape(-1)[0] = least
        other = layers.map(layers.shapes[y], 140)
        made.append(layers.ended(y, Activation.RELU, Quantization(0.03, 0), other))
    return layers, made


def program(step: Step, given: Mapping[Argument, bytes], made: Sequence[str]) -> str:
    """C that reads what is given from its input, in that order, and writes what is made."""
    buffers = {
        call.arguments[buffer.name]: buffer for call in step.calls for buffer in call.kernel.buffers
    }
    names = {argument: f"b{number}" for number, argument in enumerate(buffers)}
    lines = ["#include <stdint.h>", "#include <stdio.h>", "#include <stdlib.h>"]
    lines += [kernel.prototype() for kernel in step.kernels]
    lines += ["int main(void) {", "    float *scratch = calloc(1, 1 << 20);"]
    for argument, buffer in buffers.items():
        lines.append(f"    void *{names[argument]} = malloc({buffer.bytes});")
    for argument, content in given.items():
        read = f"fread({names[argument]}, {len(content)}, 1, stdin)"
        lines.append(f"    if ({read} != 1) return 1;")
    for call in step.calls:
        words = [names[call.arguments[buffer.name]] for buffer in call.kernel.buffers]
        lines.append(f"    {call.name}({', '.join(words)}, scratch, 0, {call.kernel.units});")
    for name in made:
        argument = Argument(Memory.WORKSPACE, name)
        size = buffers[argument].size * np.dtype(buffers[argument].dtype).itemsize
        lines.append(f"    if (fwrite({names[argument]}, {size}, 1, stdout) != 1) return 1;")
    return "\n".join([*lines, "    return 0;", "}"])


@pytest.mark.parametrize("board", ["rpi5", "rpi4"])
def test_every_code_is_the_reference(board: str, tmp_path: Path) -> None:
    [target] = variants_of(TARGETS[board], "int8")
    if why := qemu.missing(target.architecture):
        pytest.skip(why)
    layers, made = layers_of_all()
    graph, dot = layers.graph(), target.unit.dot
    assert dot is not None
    step = lower(graph, SPEC, target)
    assert sum(call.kernel.note.startswith("grouped") for call in step.calls) == len(GROUPED)

    def stored(codes: np.ndarray, less: int) -> bytes:
        return (codes.astype(np.int64) - less).astype(dot.dtype).tobytes()

    given = {
        Argument(Memory.WEIGHTS, name): constant.tobytes()
        for name, constant in step.constants.items()
    }
    for name, codes in layers.given.items():
        given[Argument(Memory.WORKSPACE, name)] = stored(codes, dot.storage_offset)
    for number, state in enumerate(layers.states):
        lacking = graph.quantization[f"state_{number}"].zero_point
        given[Argument(Memory.STATE, str(number))] = stored(state, lacking)
    code = tir.compile_kernels(step.kernels, target.llvm(), target.unit.lanes, target.dots)
    code.write(tmp_path / "kernels.o")
    (tmp_path / "main.c").write_text(program(step, given, made))
    machine = qemu.machine_of(target.architecture)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", machine.zig, "-O1"]
    files = [tmp_path / "main.c", tmp_path / "kernels.o", "-o", tmp_path / "main"]
    subprocess.run([*compiler, *files], check=True)
    cpu = qemu.emulated_cpu(machine.emulator, target.device.cpu)
    line = [machine.emulator, "-cpu", cpu, "-L", machine.root, tmp_path / "main"]
    ran = subprocess.run(line, input=b"".join(given.values()), capture_output=True, check=True)
    ours = np.frombuffer(ran.stdout, dot.dtype).astype(np.int64) + dot.storage_offset
    evaluator = Evaluator(graph, SPEC, INT8)
    evaluator.states = layers.states
    want = evaluator.step(np.zeros((SPEC.height, SPEC.width, 3), np.uint8), layers.given)
    theirs = np.concatenate([want.values[name].reshape(-1) for name in made])
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 200
