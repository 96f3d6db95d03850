"""What the tests of the schedules share: buffers between guard pages, and running in pieces.

A kernel that reads or writes outside a buffer ends the process here, rather than passing.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap

import numpy as np
import pytest

pytest.importorskip("tvm")

from shiftedge.export.compiler.backends.cpu.families.tiles import AVX2, AVX512, VectorUnit
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.backends.cpu.llvm import run as tir_run
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.targets import find_variant

X86_64_V3 = {"kind": "llvm", "mcpu": "x86-64-v3"}
_LIBC = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0


def host_unit() -> VectorUnit:
    """The vector unit of this machine."""
    return find_variant("host").unit


def every_unit() -> list[VectorUnit]:
    """All of this architecture, widest first: wider ones than this machine's are generated for its
    own instructions, two for one."""
    unit = host_unit()
    return [AVX512, AVX2] if unit in (AVX512, AVX2) else [unit]


class Guarded:
    """An array whose last byte is the last before memory that must not be touched.

    Before the array stands a pattern that must not change, and before that another guard.
    """

    def __init__(self, array: np.ndarray) -> None:
        page = mmap.PAGESIZE
        inner = -(-max(array.nbytes, 1) // page) * page
        self._memory = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for address in (start, start + page + inner):
            if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), _PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        body = np.frombuffer(self._memory, np.uint8)[page : page + inner]
        body[:] = 0xA5
        self._before = body[: inner - array.nbytes]
        self.array = body[inner - array.nbytes :].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    def intact(self) -> bool:
        return bool((self._before == 0xA5).all())


def compiled(kernel: Kernel, unit: VectorUnit) -> tir_run.Library:
    target = X86_64_V3 if unit is AVX2 else find_variant("host").llvm()
    return tir_run.Library(tir.compile_kernels([kernel], target, unit.lanes))


def run(kernel, arrays, library, cuts=()):
    """Outputs by name, all units in one call or cut into several, last piece first."""
    buffers = {}
    for buffer in kernel.buffers:
        if buffer.role == "output":
            array = np.full(buffer.size, np.nan, buffer.dtype)
        else:
            array = np.ascontiguousarray(arrays[buffer.name]).reshape(-1)
        buffers[buffer.name] = Guarded(array)
    views = {name: each.array for name, each in buffers.items()}
    edges = sorted({0, kernel.units, *(cut % (kernel.units + 1) for cut in cuts)})
    for begin, end in reversed(list(itertools.pairwise(edges))):
        scratch = Guarded(np.full(kernel.scratch_size, np.nan, np.float32))
        library.call(kernel, views, begin, end, scratch.array)
        assert scratch.intact(), "wrote before scratch"
    for name, each in buffers.items():
        assert each.intact(), f"wrote before {name}"
    for buffer in kernel.buffers:
        if buffer.role not in ("output", "scratch"):
            np.testing.assert_array_equal(
                views[buffer.name], np.asarray(arrays[buffer.name]).reshape(-1)
            )
    return {b.name: views[b.name].copy() for b in kernel.buffers if b.role == "output"}


def check(kernel, arrays, unit, expected, cuts=(), tolerance=2e-5):
    """The kernel against float64 results, and bit for bit in any split into calls."""
    library = compiled(kernel, unit)
    whole = run(kernel, arrays, library)
    for name, want in expected.items():
        want = np.asarray(want, np.float64).reshape(-1)
        scale = max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(whole[name], want, rtol=0, atol=tolerance * scale)
    for name, pieces in run(kernel, arrays, library, cuts).items():
        np.testing.assert_array_equal(whole[name], pieces, err_msg="depends on the split")


def activate(kind: Activation, x: np.ndarray) -> np.ndarray:
    """float64 reference of the activations; test_activations holds it against ONNX Runtime."""
    return kind.value.definition(np.asarray(x, np.float64))


def shifted(shift: int, channels: int) -> int:
    """``shift`` of at most all ``channels``; -1 for all but one."""
    return channels - 1 if shift < 0 else min(shift, channels)


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)
