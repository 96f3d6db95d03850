"""The C text of a step for ``runtime/native/cpu``: a wrapper a kernel, its arguments, the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shiftedge.export.compiler.c_text import quoted, struct
from shiftedge.export.compiler.kernel_ir.calls import Call, Step
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout

PIECES = 2
"""Chunks of a thread's share, where a call repeats nothing of its neighbour's: each costs two
atomic operations, and is what the others wait for when a thread loses its core."""


def lines(step: Step, places: MemoryLayout, features: Sequence[str]) -> Iterator[str]:
    """What defines ``plan``, a ``shiftedge_cpu_plan``; ``features`` are those of the processor, as
    /proc/cpuinfo names them, without which the kernels crash."""
    yield '#include "cpu/kernels.h"'
    yield ""
    for kernel in step.kernels:
        yield from _function(kernel)
    for number, call in enumerate(step.calls):
        yield from _buffers(number, call, places)
    yield "static const shiftedge_kernel kernels[] = {"
    for number, call in enumerate(step.calls):
        kernel = call.kernel
        pieces = 1 if kernel.neighbours or kernel.prologue else PIECES
        arguments = f"buffers_{number}, {len(kernel.buffers) + 1}"
        yield f"    {{run_{kernel.name}, {arguments}, {kernel.units}, {pieces}}},"
    yield "};"
    yield from struct("static const shiftedge_cpu_plan plan", {
        "kernels": "kernels",
        "workspace_bytes": places.workspace.size_bytes,
        "scratch_bytes": places.scratch_bytes,
        "weights_bytes": places.weights_bytes,
        "weights": "shiftedge_weights",
        "frame_alignment": 1,
        "cpu_features": quoted(" ".join(features)),
    })  # fmt: skip


def _function(kernel: Kernel) -> Iterator[str]:
    """Prototype and wrapper of a kernel; scratch is its last argument."""
    yield kernel.prototype()
    arguments = ", ".join(f"b[{index}]" for index in range(len(kernel.buffers) + 1))
    yield f"static int32_t run_{kernel.name}(void *const *b, int32_t begin, int32_t end) {{"
    yield f"    {kernel.name}({arguments}, begin, end);"
    yield "    return 0;"
    yield "}"
    yield ""


def _buffers(number: int, call: Call, places: MemoryLayout) -> Iterator[str]:
    """The arguments of a call."""
    kernel = call.kernel
    yield f"static const shiftedge_buffer buffers_{number}[] = {{"
    for buffer in kernel.buffers:
        argument = call.arguments[buffer.name]
        place = f"SHIFTEDGE_{argument.memory.value}, 0, {places.offset(argument)}"
        yield f"    {{{place}}}, /* {buffer.name} */"
    # A kernel without scratch is given the workspace's beginning, and does not look at it.
    scratch = "SCRATCH" if kernel.scratch_size else "LOGITS"
    yield f"    {{SHIFTEDGE_{scratch}, 0, 0}},"
    yield "};"
    yield ""
