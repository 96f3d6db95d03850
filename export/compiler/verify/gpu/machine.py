"""Runs decoded kernels on the emulated GPU, and says what they did and what they did wrong."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.link.zig import run_zig
from shiftedge.export.compiler.numerics.precision import NARROW
from shiftedge.export.compiler.verify.gpu import decode
from shiftedge.runtime.process.files import work_folder

_LIMIT = 1 << 34
"""Instructions of a warp, of all of a launch: some minutes."""
_SOURCE = Path(__file__).with_name("machine.c")
_U64, _U32, _S32 = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int32

FAULTS = (
    "out of bounds", "write to what is only read", "read of what has no value", "race",
    "barrier that only some reach", "misaligned", "endless",
    "exchange with a lane that is not there",
)  # fmt: skip
"""In the order of ``machine.c``."""
CLASSES = (
    ("tensor", "mma_.*"), ("shuffle", "shfl_.*"), ("move", r"(pack|low|high)_16"),
    ("multiply-add", r"fma.*"), ("conversion", "cvt_f.*_f(16|32)"),
    ("float", r".*_f(32|16|16x2)"), ("shared load", "load_shared"),
    ("shared store", "store_shared"), ("global load", "load_global"),
    ("global store", "store_global"), ("barrier", "barrier"), ("branch", "branch|ret"),
    ("compare", r"setp.*|selp.*|.*_pred"), ("integer", ".*"),
)  # fmt: skip
"""Of instructions, by the name of their operation; the first that fits. Moves take halves out of
registers and put them into others: ptxas makes them a part of what reads them."""


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("op", _U32), ("guard", _U32), ("negated", _U32), ("d", _U32 * 8), ("a", _U32),
        ("b", _U32), ("c", _U32), ("more", _U32 * 14), ("offset", ctypes.c_int64), ("target", _U32),
        ("meet", _U32), ("meets", _U32), ("bytes", _U32), ("count", _U32),
    )  # fmt: skip


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p), ("written", ctypes.c_void_p), ("writers", ctypes.c_void_p),
        ("readers", ctypes.c_void_p), ("size", _U64), ("grain", _U32), ("writable", _U32),
    )  # fmt: skip


_POINTERS = ("code", "constants", "values", "wide", "parameters", "shared")
_COUNTS = ("length", "registers", "n_constants", "n_parameters", "n_shared")
_SPECIAL = ("tid", "ctaid", "ntid", "nctaid", "laneid")


class _Program(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, _U32) for name in _COUNTS),
        *((name, _S32) for name in _SPECIAL),
    )


class _Fault(ctypes.Structure):
    _fields_ = (
        ("count", _U64), ("pc", _U32), ("block", _U32), ("thread", _U32), ("unused", _U32),
        ("address", _U64),
    )  # fmt: skip


class Global(ctypes.Structure):
    """Accesses of warps to global memory: 32-byte sectors and 128-byte lines touched, and bytes
    that were asked for, each once."""

    _fields_ = tuple((name, _U64) for name in ("requests", "sectors", "lines", "bytes"))

    @property
    def used(self) -> float:
        """The part of the sectors that was asked for."""
        return self.bytes / (32 * self.sectors) if self.sectors else 1.0


class Shared(ctypes.Structure):
    """Accesses of warps to shared memory: phases (128 bytes at most), and wavefronts that they
    took; more, where different words of a phase are in one bank."""

    _fields_ = tuple((name, _U64) for name in ("requests", "phases", "wavefronts"))

    @property
    def conflicts(self) -> float:
        """Wavefronts a phase; 1 without conflicts."""
        return self.wavefronts / self.phases if self.phases else 1.0


class _Report(ctypes.Structure):
    _fields_ = (
        ("loads", Global), ("stores", Global), ("shared_loads", Shared),
        ("shared_stores", Shared), ("branches", _U64), ("divergent", _U64),
        ("faults", _Fault * len(FAULTS)),
    )  # fmt: skip


@functools.cache
def _library() -> ctypes.CDLL:
    """``machine.c`` for this machine, compiled once a process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(work_folder())
    words = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-g0", "-fno-sanitize=all"]
    words += ["-fno-strict-aliasing", "-fno-math-errno", "-ffp-contract=off"]
    run_zig([*words, str(_SOURCE), "-lm", "-o", "machine.so"], folder)
    library = ctypes.CDLL(str(folder / "machine.so"))
    library.operations.restype = ctypes.c_char_p
    return library


@dataclass(frozen=True)
class Fault:
    """Something that a kernel did and must not."""

    kind: str
    """One of FAULTS."""
    count: int
    where: str
    """The first: instruction, block, thread and place."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.count} times, first at {self.where})"


@dataclass(frozen=True)
class Launch:
    """What a launch did."""

    instructions: Mapping[str, int]
    """Of warps, by class of CLASSES."""
    lanes: int
    """Instructions of threads."""
    loads: Global
    stores: Global
    shared_loads: Shared
    shared_stores: Shared
    branches: int
    """Conditional ones, of warps."""
    divergent: int
    """Of these, that parted the lanes."""
    faults: tuple[Fault, ...]

    @property
    def issued(self) -> int:
        """Instructions of warps, without moves."""
        return sum(self.instructions.values()) - self.instructions["move"]


class Module:
    """A text of PTX, decoded."""

    def __init__(self, text: str) -> None:
        """Raises CompileError: it holds a line that is not known."""
        self.kernels = decode.decode(text)
        names = _library().operations().decode().split()
        self._programs = {name: _encoded(each, names) for name, each in self.kernels.items()}
        self._classes = {name: _class_of(name) for name in names}

    def launch(
        self,
        name: str,
        blocks: int,
        threads: int,
        arrays: Sequence[DeviceArray],
        limit: int = _LIMIT,
    ) -> Launch:
        """Run a kernel; arrays that are writable are written in place.

        Raises:
            ValueError: there are other parameters.
            MemoryError
        """
        kernel, (program, _keep) = self.kernels[name], self._programs[name]
        if len(arrays) != len(kernel.parameters):
            raise ValueError(f"{name} takes {len(kernel.parameters)} buffers, not {len(arrays)}")
        buffers = (_Buffer * len(arrays))(*(each.buffer for each in arrays))
        report, length = _Report(), len(kernel.code)
        counts, lanes = (np.zeros(length, np.uint64) for _ in range(2))
        had = _library().launch(
            ctypes.byref(program), _U32(blocks), _U32(threads), buffers, _U32(len(arrays)),
            _U64(limit), ctypes.byref(report), ctypes.c_void_p(counts.ctypes.data),
            ctypes.c_void_p(lanes.ctypes.data),
        )  # fmt: skip
        if not had:
            raise MemoryError(f"{name} on the emulated GPU")
        found = dict.fromkeys((each for each, _ in CLASSES), 0)
        for instruction, count in zip(kernel.code, counts, strict=True):
            found[self._classes[instruction.op]] += int(count)
        faults = tuple(
            Fault(kind, each.count, _where(kernel, each, arrays))
            for kind, each in zip(FAULTS, report.faults, strict=True)
            if each.count
        )
        return Launch(
            found, int(lanes.sum()), report.loads, report.stores, report.shared_loads,
            report.shared_stores, report.branches, report.divergent, faults,
        )  # fmt: skip


class DeviceArray:
    """An array in the memory of the emulated GPU, and what is known of each of its bytes."""

    def __init__(self, name: str, array: NDArray[Any], *, writable: bool, known: Any) -> None:
        """``known`` says of each element whether it has a value."""
        self.name, self.array = name, array
        itemsize, size = array.itemsize, array.size if writable else 1
        self._known = np.ascontiguousarray(np.repeat(np.broadcast_to(known, array.size), itemsize))
        self._known = self._known.astype(np.uint8)
        self._threads = np.zeros((2, size), np.uint32)
        self.buffer = _Buffer(
            array.ctypes.data, self._known.ctypes.data, self._threads[0].ctypes.data,
            self._threads[1].ctypes.data, array.nbytes, itemsize, int(writable),
        )  # fmt: skip


def run(module: Module, kernel: Kernel, arrays: Mapping[str, NDArray[Any]]) -> Launch:
    """Run a kernel as ``interpret.run`` does: arrays by name of its buffers, flat, of narrow floats
    the numbers; what is NaN has no value. Outputs are written in place."""
    placed = []
    for buffer in kernel.buffers:
        given = arrays[buffer.name][: buffer.size]
        stored = given
        if buffer.dtype in NARROW and given.dtype != np.dtype(buffer.dtype):
            with np.errstate(over="ignore"):
                stored = given.astype(buffer.dtype)
        known = ~np.isnan(given) if given.dtype.kind == "f" else True
        stored = np.ascontiguousarray(stored)
        writable = buffer.role == "output"
        placed.append(DeviceArray(buffer.name, stored, writable=writable, known=known))
    done = module.launch(kernel.name, kernel.units, kernel.threads, placed)
    for buffer, each in zip(kernel.buffers, placed, strict=True):
        if buffer.role == "output":
            arrays[buffer.name][: buffer.size] = each.array
    return done


def _encoded(kernel: decode.PtxKernel, names: Sequence[str]) -> tuple[_Program, Any]:
    """As ``machine.c`` takes it, and what must be kept meanwhile."""
    numbers = {name: number for number, name in enumerate(names)}
    code = (_Instruction * len(kernel.code))()
    branches = [each.op == "branch" for each in kernel.code]
    meets = {meet for meet, branch in zip(kernel.meets, branches, strict=True) if branch}
    for place, (to, each) in enumerate(zip(code, kernel.code, strict=True)):
        to.op, to.guard, to.negated = numbers[each.op], each.guard, each.negated
        for number, register in enumerate(each.d):
            to.d[number] = register
        for number, register in enumerate(each.more):
            to.more[number] = register
        to.a, to.b, to.c, to.offset = each.a, each.b, each.c, each.offset
        to.bytes, to.count = each.bytes, each.count
        to.target, to.meet = kernel.labels.get(each.target, 0), kernel.meets[place]
        to.meets = place in meets
    registers, values, wide = zip(*kernel.constants, strict=True) if kernel.constants else ((),) * 3
    kept: list[Any] = [
        code, np.array(registers, np.uint32), np.array(values, np.uint64), np.array(wide, np.uint8),
        np.array(kernel.parameters, np.uint32), np.array([*kernel.shared.values()], np.uint32),
    ]  # fmt: skip
    places = (ctypes.addressof(each) if each is code else each.ctypes.data for each in kept)
    sizes = len(kernel.code), len(kernel.registers), len(registers), len(kernel.parameters)
    special = (kernel.special.get(name, -1) for name in _SPECIAL)
    return _Program(*places, *sizes, len(kernel.shared), *special), kept


def _class_of(name: str) -> str:
    return next(kind for kind, pattern in CLASSES if re.fullmatch(pattern, name))


def _where(kernel: decode.PtxKernel, fault: Any, arrays: Sequence[DeviceArray]) -> str:
    line = kernel.code[fault.pc].line
    text = f"{line!r}, block {fault.block}, thread {fault.thread}"
    number, offset = fault.address >> 40, fault.address & ((1 << 40) - 1)
    if 1 <= number <= len(arrays):
        return (
            f"{text}, byte {offset} of {arrays[number - 1].name}[{arrays[number - 1].array.nbytes}]"
        )
    number, offset = (
        fault.address >> decode.SHARED_SHIFT,
        fault.address % (1 << decode.SHARED_SHIFT),
    )
    names = list(kernel.shared.items())
    if 1 <= number <= len(names):
        return f"{text}, byte {offset} of {names[number - 1][0]}[{names[number - 1][1]}]"
    return text
