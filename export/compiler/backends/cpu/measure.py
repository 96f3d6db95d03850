"""What this machine does: each kernel's time inside real steps, and the peak it is held against.

For ``shiftedge compile --explain``. A benchmark of engines is another thing: it times whole steps
of finished bundles, interleaved, in processes of their own.
"""

from __future__ import annotations

import timeit
from dataclasses import replace
from pathlib import Path

import numpy as np

from shiftedge.export.agreement import moving_images
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise, schedule, tiles_for
from shiftedge.export.compiler.backends.cpu.llvm.lower import compile_kernels
from shiftedge.export.compiler.backends.cpu.llvm.run import Library, aligned
from shiftedge.export.compiler.kernel_ir.index import Const, Var
from shiftedge.export.compiler.kernel_ir.kernel import Loop
from shiftedge.runtime.engines.native import NativeEngine

_STEPS, _ROUNDS, _PEAK_TURNS = 100, 30, 500


def kernel_seconds(library: Path, *, threads: int = 1) -> list[float]:
    """The median time of each kernel of a libmodel.so over the later half of :data:`_STEPS` frames
    of a moving scene."""
    engine = NativeEngine(library, threads=threads)
    session = engine.open_session()
    images = moving_images(engine.spec, 32)
    found = []
    with engine.profiled() as seconds:
        for number in range(_STEPS):
            session.step(images[number % len(images)])
            found.append(seconds.copy())
    medians: list[float] = np.median(found[_STEPS // 2 :], axis=0).tolist()
    return medians


def peak_flops(target: CpuVariant) -> float:
    """Operations a second of one core in multiply-adds, the most over :data:`_ROUNDS`.

    A product whose features and weights lie in the first-level cache, over and over: what a
    kernel's share of the peak refers to.
    """
    shape = Pointwise(14, 128, 2 * target.unit.lanes)
    tiles = tiles_for(shape, target.unit)
    (once,) = schedule("peak", shape, tiles, target.unit)
    loop = Loop(Var("again"), Const(0), Const(_PEAK_TURNS), once.body)
    kernel = replace(once, body=(loop,))
    library = Library(compile_kernels([kernel], target.llvm(), target.unit.lanes))
    arrays = {buffer.name: aligned(buffer.size) for buffer in kernel.buffers}
    run = library.prepare(kernel, arrays)
    seconds = min(timeit.repeat(lambda: run(0, kernel.units), repeat=_ROUNDS, number=1))
    return shape.pixels * shape.inputs * shape.outputs * 2 * _PEAK_TURNS / seconds
