"""An x86-64 processor in software, for instructions that this machine's own lacks.

Bochs' processor, by way of ``bochscpu``, over the memory of this very process: a library is loaded
as always, and its functions are called on the emulated processor instead of the real one. It sees
each page at its own address, so pointers need no translation, and what it writes is there
afterwards. System calls are passed on to the kernel, except for memory: emulated code that waits in
``malloc`` would keep this interpreter from allocating, so the heap is made large enough before.

The C library is this process's too, and chose its routines for the real processor when the process
began: a ``memcpy`` in AVX-512, which the emulated one may lack. So the process is to be started
with :func:`environment`.

One processor a process, with one thread and some ten million instructions a second.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftedge.runtime.process.cpu import WITHOUT

__all__ = ["PROCESSORS", "Cpu", "environment", "missing"]

VERSION = "0.4.0"
"""Of bochscpu-python: another one may number its processors differently."""

PROCESSORS: Mapping[str, int] = {
    "icelake": 28,
    "sapphire-rapids": 30,
    "arrow-lake": 31,
}
"""Number in Bochs' cpudb.h: Ice Lake with AVX-512 and VNNI, Sapphire Rapids with AVX512_BF16 too,
Arrow Lake with AVX2 and AVX-VNNI and without AVX-512."""

PAGE = mmap.PAGESIZE
TRAP = b"\x0f\x0b"
"""ud2: an exception at a known place, which is where the emulation is left. After a halt it could
not be taken up again."""
TABLES = 0x1000_0000
"""Physical address of the page tables' root."""
MEMORY = 0x2000_0000
"""Physical address of the first page that is shared; they follow in the order of sharing."""
STACK = 1 << 20
HEAP = 256 << 20
"""Bytes that the emulated code may allocate."""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
SYS_ARCH_PRCTL, ARCH_GET_FS = 158, 0x1003
REFUSED = {9: "mmap", 12: "brk", 25: "mremap", 56: "clone", 435: "clone3", 60: "exit"}
"""System calls that would end this process, or let it wait for ever."""
CR4 = 1 << 9 | 1 << 10 | 1 << 18
"""SSE, its exceptions, XSAVE: what an operating system switches on before AVX can be used."""
XCR0 = 0b1110_0111
"""x87, SSE, AVX and the three parts of AVX-512."""
HWCAPS = (
    *("AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD", "AVX10", "AVX10_1", "APX_F"),
    *("AVX2", "AVX", "AVX_Fast_Unaligned_Load", "AVX2_Usable", "AVX512F_Usable", "FMA", "FMA4"),
    *("BMI1", "BMI2", "LZCNT", "MOVBE", "RTM", "ERMS", "FSRM", "SSSE3", "SSE4_1", "SSE4_2"),
    *("Prefer_ERMS", "Prefer_FSRM", "Fast_Copy_Backward", "Fast_Unaligned_Copy"),
)
"""All by which glibc chooses a routine, so that what remains is its choice for the first x86-64
processor (SSE2), which every emulated one runs. To name only what one of them lacks would need a
new name with each kind of host; of these an older or newer glibc passes over those it has not.
After sysdeps/x86/cpu-tunables.c, sysdeps/x86_64/multiarch/ifunc-*.h."""
INTEGERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
"""Registers of a function's whole arguments, in order (System V ABI)."""
FOR_KERNEL = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
"""The same of a system call."""

OLDER_LIBC = """
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
unsigned long long __isoc23_strtoull(const char *text, char **end, int base) {
    return strtoull(text, end, base);
}
int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int found = vsscanf(text, format, values);
    va_end(values);
    return found;
}
"""
"""What the wheel takes from glibc 2.38 under names of its own; an older glibc has it under others.
The names are reserved, and the C23 forms differ in binary numbers only."""


def environment() -> dict[str, str]:
    """For a process that emulates: a C library that keeps to what each processor has, and nothing
    taken away from the emulated one, which is not this machine's."""
    tunables = os.environ.get("GLIBC_TUNABLES", "").split(":")
    kept = [each for each in tunables if each and not each.startswith("glibc.cpu.hwcaps=")]
    kept.append("glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in HWCAPS))
    return {"GLIBC_TUNABLES": ":".join(kept), WITHOUT: ""}


def missing() -> str:
    """Why there is no emulated x86-64 processor here, or nothing."""
    from importlib.metadata import PackageNotFoundError, version

    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the emulated x86-64 processor shares this process's memory: x86-64 Linux only"
    try:
        found = version("bochscpu-python")
    except PackageNotFoundError:
        return f"bochscpu-python {VERSION} is not installed"
    return "" if found == VERSION else f"bochscpu-python is {found}; expected {VERSION}"


def _imported(folder: Path) -> Any:
    """The package; ``folder`` takes a small library where glibc is older than the wheel's."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "__isoc23_strtoull"):
        source, library = folder / "older_libc.c", folder / "older_libc.so"
        source.write_text(OLDER_LIBC)
        compiler = [sys.executable, "-m", "ziglang", "cc", "-fno-builtin", "-std=c99"]
        options = ["-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run([*compiler, *options], check=True)
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    import bochscpu
    import bochscpu.cpu
    import bochscpu.memory

    return bochscpu


def _choose(processor: int) -> None:
    """Which processor the next session has: a setting of Bochs' that the package leaves fixed."""
    import bochscpu._bochscpu

    library = ctypes.CDLL(bochscpu._bochscpu.__file__)
    # Of C++: bx_real_sim_c::get_param_enum, bx_param_num_c::set_range and ::set.
    find = library._ZN13bx_real_sim_c14get_param_enumEPKcP10bx_param_c
    find.restype = ctypes.c_void_p
    find.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    widen = library._ZN14bx_param_num_c9set_rangeEmm
    widen.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
    choose = library._ZN14bx_param_num_c3setEl
    choose.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    parameter = find(None, b"cpu.model", None)
    widen(parameter, 0, max(PROCESSORS.values()))
    choose(parameter, processor)


class Cpu:
    """An emulated processor.

    Args:
        processor: one of :data:`PROCESSORS`.
        folder: for a small library that an older glibc needs.
    """

    def __init__(self, processor: str, folder: Path) -> None:
        self._bochs = _imported(folder)
        _choose(PROCESSORS[processor])
        self._session = self._bochs.Session()
        self._session.missing_page_handler = self._lost
        self._tables = self._bochs.memory.PageMapLevel4Table()
        self._shared: set[int] = set()
        self._stack = mmap.mmap(-1, STACK)
        self._trap = mmap.mmap(-1, PAGE)
        self._trap.write(TRAP * 8)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        self._libc.syscall.argtypes = (ctypes.c_long,) * 7
        self._grow_heap()
        self._returned = _address(self._trap)
        self._called = self._returned + 8
        self._fault = ""

    def call(self, function: Any, *arguments: int) -> int:
        """Call a C function that takes and returns whole numbers or pointers.

        Args:
            function: of a library that ctypes has loaded.
            arguments: at most six; pointers as addresses.

        Raises:
            RuntimeError: the code faulted, or began a thread.
        """
        self._share()
        self._session.cpu.state = self._begin(function, arguments)
        hook = self._bochs.Hook()
        hook.exception = self._stop
        while True:
            self._session.run([hook])
            cpu = self._session.cpu
            at = cpu.rip - len(TRAP)
            if at == self._returned:
                return int(cpu.rax)
            if at != self._called:
                raise RuntimeError(self._fault)
            self._pass_on(cpu)

    def _grow_heap(self) -> None:
        """So that malloc asks the kernel for nothing while it is emulated."""
        self._libc.malloc.restype = ctypes.c_void_p
        self._libc.free.argtypes = (ctypes.c_void_p,)
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2 * HEAP - 1), (M_TOP_PAD, HEAP)):
            self._libc.mallopt(option, value)
        self._libc.free(self._libc.malloc(HEAP))

    def _begin(self, function: Any, arguments: tuple[int, ...]) -> Any:
        """The processor as an operating system hands it to a function, in 64 bits, unprotected."""
        state = self._bochs.State()
        self._bochs.cpu.set_long_mode(state)
        state.cr3, state.cr4 = TABLES, state.cr4 | CR4
        state.xcr0, state.mxcsr, state.mxcsr_mask = XCR0, 0x1F80, 0xFFFF
        code, data = self._segment(0x10, 0x209B), self._segment(0x18, 0xC93)
        state.cs, state.ss, state.ds, state.es, state.gs = code, data, data, data, data
        state.fs = self._segment(0x18, 0xC93, self._thread_base())
        # A system call goes to a trap of its own, and takes the segments that are there already.
        state.star, state.lstar = 0x10 << 32, self._called
        state.sfmask, state.rflags = 0, 2
        top = _address(self._stack) + STACK - 4096
        ctypes.c_uint64.from_address(top - 8).value = self._returned
        state.rsp, state.rip = top - 8, ctypes.cast(function, ctypes.c_void_p).value
        for register, value in zip(INTEGERS, arguments, strict=False):
            setattr(state, register, value)
        return state

    def _segment(self, selector: int, attributes: int, base: int = 0) -> Any:
        segment = self._bochs.Segment()
        segment.present, segment.selector, segment.base = True, selector, base
        segment.limit, segment.attr = 0xFFFF_FFFF, attributes
        return segment

    def _thread_base(self) -> int:
        """Where this thread's own variables are: libc reads them through fs."""
        base = ctypes.c_uint64()
        self._libc.syscall(SYS_ARCH_PRCTL, ARCH_GET_FS, ctypes.addressof(base), 0, 0, 0, 0)
        return base.value

    def _share(self) -> None:
        """Let the processor see every page of this process that can be read."""
        new = False
        for begin, end in _readable():
            for page in range(begin, end, PAGE):
                if page not in self._shared:
                    physical = MEMORY + len(self._shared) * PAGE
                    self._shared.add(page)
                    self._tables.insert(page, physical, 1)
                    self._bochs.memory.page_insert(physical, page)
                    new = True
        if new:
            for host, physical in self._tables.commit(TABLES):
                self._bochs.memory.page_insert(physical, host)

    def _pass_on(self, cpu: Any) -> None:
        """A system call, as the kernel would answer it."""
        number = int(cpu.rax)
        if number in REFUSED:
            raise RuntimeError(f"{REFUSED[number]} cannot be passed on from emulated code")
        values = [_signed(getattr(cpu, register)) for register in FOR_KERNEL]
        found = self._libc.syscall(number, *values)
        cpu.rax = (found if found != -1 else -ctypes.get_errno()) & (1 << 64) - 1
        cpu.rip = cpu.rcx

    def _stop(self, session: Any, _: int, vector: int, code: int) -> None:
        self._fault = f"exception {int(vector)} ({code:#x}) at {session.cpu.rip:#x}"
        session.stop()

    def _lost(self, address: int) -> None:
        raise RuntimeError(f"no page at the physical address {address:#x}")


def _readable() -> list[tuple[int, int]]:
    """Begin and end of this process's memory that can be read."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if rights[0] == "r" and not line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
            begin, end = (int(each, 16) for each in span.split("-"))
            found.append((begin, end))
    return found


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
