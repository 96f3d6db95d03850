"""Runs compiled kernels on this machine from numpy arrays: for tests and for measuring.

A bundle does not use this: its step function calls the kernels from C.
"""

from __future__ import annotations

import ctypes
import importlib.resources
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.llvm.lower import Code
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.runtime.engines.native import load_private
from shiftedge.runtime.process.files import work_folder

_ALIGNMENT = 64  # bytes: a cache line, an AVX-512 vector


class Library:
    """Kernels loaded into this process."""

    def __init__(self, code: Code) -> None:
        """Links with the linker that ziglang carries; raises CalledProcessError if it fails.

        By way of `python -m ziglang`, most of the time would be Python's start.
        """
        zig = str(importlib.resources.files("ziglang") / "zig")
        with work_folder() as folder:
            code.write(folder / "kernels.o")
            linker = [zig, "ld.lld", "-shared", "-o", "kernels.so", "kernels.o"]
            subprocess.run(linker, check=True, capture_output=True, cwd=folder)
            self._library, _ = load_private(folder / "kernels.so", None)

    def prepare(
        self,
        kernel: Kernel,
        arrays: Mapping[str, NDArray[Any]],
        scratch: NDArray[np.float32] | None = None,
    ) -> Any:
        """The call with its buffers bound, one contiguous array each, by name: a function that does
        work units ``begin`` to ``end`` - 1 and writes outputs in place."""
        pointers = []
        for buffer in kernel.buffers:
            array = arrays[buffer.name]
            if array.size != buffer.size or str(array.dtype) != buffer.dtype:
                raise ValueError(
                    f"{kernel.name}: buffer {buffer.name} takes {buffer.size} {buffer.dtype}, "
                    f"got {array.size} {array.dtype}"
                )
            if not array.flags.c_contiguous:
                raise ValueError(f"{kernel.name}: buffer {buffer.name} is not contiguous")
            pointers.append(ctypes.c_void_p(array.ctypes.data))
        block = aligned(kernel.scratch_size) if scratch is None else scratch
        pointers.append(ctypes.c_void_p(block.ctypes.data))
        function = getattr(self._library, kernel.name)
        function.restype = None

        def run(begin: int, end: int, _keep: tuple[Any, ...] = (arrays, block)) -> None:
            function(*pointers, ctypes.c_int32(begin), ctypes.c_int32(end))

        return run


def aligned(size: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Zeros at an address that is a multiple of a cache line."""
    raw = np.zeros(size * np.dtype(dtype).itemsize + _ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first : first + size * np.dtype(dtype).itemsize].view(dtype)
