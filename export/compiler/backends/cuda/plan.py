"""The C text of a step for ``runtime/native/cuda``: the PTX, each launch's arguments, the plan."""

from __future__ import annotations

from collections.abc import Iterator

from shiftedge.export.compiler.backends.cuda.devices import Gpu
from shiftedge.export.compiler.c_text import quoted, struct
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout

TEXT_FILE = "kernels.ptx"
"""What the C file includes; found through the compiler's include path, as the weights are."""


def lines(step: Step, places: MemoryLayout, gpu: Gpu) -> Iterator[str]:
    """What defines ``plan``, a ``shiftedge_cuda_plan``."""
    yield '#include "cuda/launches.h"'
    yield ""
    yield '__asm__(".pushsection .rodata\\n"'
    yield '        ".globl shiftedge_ptx\\n"'
    yield '        ".hidden shiftedge_ptx\\n"'
    yield f'        "shiftedge_ptx: .incbin \\"{TEXT_FILE}\\"\\n"'
    yield '        ".byte 0\\n"'
    yield '        ".popsection\\n");'
    yield "extern const char shiftedge_ptx[];"
    yield ""
    for number, call in enumerate(step.calls):
        yield f"static const shiftedge_buffer buffers_{number}[] = {{"
        for buffer in call.kernel.buffers:
            argument = call.arguments[buffer.name]
            place = f"SHIFTEDGE_{argument.memory.value}, 0, {places.offset(argument)}"
            yield f"    {{{place}}}, /* {buffer.name} */"
        yield "};"
    yield "static const shiftedge_cuda_launch launches[] = {"
    for number, call in enumerate(step.calls):
        kernel = call.kernel
        shape = f"{kernel.units}, {kernel.threads}"
        arguments = f"buffers_{number}, {len(kernel.buffers)}"
        yield f"    {{{quoted(kernel.name)}, {shape}, {arguments}}},"
    yield "};"
    yield from struct("static const shiftedge_cuda_plan plan", {
        "launches": "launches",
        "text": "shiftedge_ptx",
        "workspace_bytes": places.workspace.size_bytes,
        "weights_bytes": places.weights_bytes,
        "weights": "shiftedge_weights",
        "capability": int(gpu.arch.removeprefix("sm_")),
        "driver": driver_of(gpu.ptx),
    })  # fmt: skip


def driver_of(ptx: tuple[int, int]) -> int:
    """The driver that a version of PTX came with, as cuDriverGetVersion counts: 10020 is CUDA 10.2.

    NVIDIA, PTX ISA, "Release History".
    """
    major, minor = ptx
    if major == 6:
        cuda = (9, minor) if minor < 3 else (10, minor - 3)
    else:
        cuda = {5: 8, 7: 11, 8: 12}[major], minor
    return 1000 * cuda[0] + 10 * cuda[1]
