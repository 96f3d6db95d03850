"""GPUs: what the compiler knows of each. One more is a row more; data only.

Sources of the numbers:

- What an architecture has (shared memory of a block and of a multiprocessor, registers, threads,
  lanes of multiply-adds a cycle): NVIDIA, CUDA C++ Programming Guide, tables "Technical
  Specifications per Compute Capability" and "Throughput of Native Arithmetic Instructions".
- Boards (multiprocessors, clock, bandwidth, L2): the data sheets of the Jetson modules, of their
  fastest power mode; and of T4, A100 40 GB PCIe, A10, L4 and H100 PCIe for the others. L2 of Tegra
  X1 and X2: what deviceQuery prints there.
- Versions of PTX: NVIDIA, PTX ISA, "Release History"; the drivers of JetPack 4.6 (CUDA 10.2) and
  5.0 (11.4), and elsewhere driver 450 (CUDA 11.0), of CUDA 11.1 for sm_86 and 11.8 for sm_89 and
  sm_90, the first that know them.
- Bytes a cycle of the first-level cache: NVIDIA's white papers of Volta, Turing and Ampere. Cycles
  of a product of matrices: the boards' peak of half precision in their data sheets.
- Instructions: the same manual, by instruction: f16x2 arithmetic from sm_53 on, mma of half
  precision from sm_70, of int8 from sm_75 (wmma from sm_72), of tf32 and asynchronous copies from
  sm_80.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftedge.export.compiler.backends.base import TargetVariant

_KB = 1024


@dataclass(frozen=True)
class Gpu:
    """A device, with the numbers of the board that it is named for."""

    arch: str
    """As NVIDIA writes it, "sm_53"."""
    board: str
    multiprocessors: int
    mhz: int
    """Highest clock."""
    gb_per_s: float
    """Of its memory."""
    l2_bytes: int
    fmas: int
    """Multiply-adds of float32 that a multiprocessor does a cycle."""
    shared_per_block: int
    """Bytes, without asking the driver for more."""
    shared_per_sm: int
    """Bytes, of all blocks of a multiprocessor."""
    registers: int
    """Of a multiprocessor, 32 bits each."""
    threads: int
    """That a multiprocessor holds."""
    ptx: tuple[int, int]
    """Newest version that the oldest supported driver of its boards loads."""
    driver: str
    """That driver."""
    instructions: tuple[str, ...] = ()
    """That its code may use: "f16x2", "wmma-s8", "mma-f16-4", "mma-f16-8", "mma-f16-16" (by depth),
    "mma-s8", "mma-tf32", "async-copy"."""
    ptx_attribute: str = ""
    """LLVM's, where its lowest version for the device lacks what kernels use."""
    l1_bytes_per_cycle: int = 128
    """Of global memory, that a multiprocessor takes through its first-level cache; of Maxwell and
    Pascal assumed."""
    launch_us: float = 1.5
    """Of a kernel of a captured graph behind the one before. Assumed: no board was asked."""
    cycles_per_mma: float = 0.0
    """That a multiprocessor's tensor cores take for a warp's product of matrices of the deepest
    shape that it has, of half precision with sums of float32: from the board's peak."""

    @property
    def name(self) -> str:
        """Names the folder of a library."""
        return f"cuda-{self.arch}"

    @property
    def features(self) -> tuple[str, ...]:
        """What a machine must have."""
        return (f"cuda_{self.arch}",)

    @property
    def peak_gflops(self) -> float:
        """Of float32, 2 a multiply-add."""
        return 2 * self.fmas * self.multiprocessors * self.mhz / 1000

    def facts(self) -> Mapping[str, Any]:
        """What ``compile --list-targets --json`` says of it."""
        return {
            "board": self.board,
            "multiprocessors": self.multiprocessors,
            "mhz": self.mhz,
            "gb_per_s": self.gb_per_s,
            "shared_per_block": self.shared_per_block,
            "ptx": ".".join(map(str, self.ptx)),
            "driver": self.driver,
        }


_JETPACK_4, _JETPACK_5 = "JetPack 4.6 (CUDA 10.2)", "JetPack 5.0 (CUDA 11.4)"
_PASCAL = ("f16x2",)
_VOLTA = (*_PASCAL, "mma-f16-4", "wmma-s8")
_TURING = (*_VOLTA, "mma-f16-8", "mma-s8")
_AMPERE = (*_TURING, "mma-f16-16", "mma-tf32", "async-copy")

# fmt: off
SM_53 = Gpu(
    "sm_53", "Jetson Nano", 1, 921, 25.6, 256 * _KB, 128, 48 * _KB, 64 * _KB, 65536, 2048,
    (6, 5), _JETPACK_4, _PASCAL, "+ptx63", l1_bytes_per_cycle=64, launch_us=2.5,
)
SM_62 = Gpu(
    "sm_62", "Jetson TX2", 2, 1300, 59.7, 512 * _KB, 128, 48 * _KB, 64 * _KB, 65536, 2048,
    (6, 5), _JETPACK_4, _PASCAL, "+ptx63", l1_bytes_per_cycle=64, launch_us=2.0,
)
SM_72 = Gpu(
    "sm_72", "Jetson Xavier NX", 6, 1100, 59.7, 512 * _KB, 64, 48 * _KB, 96 * _KB, 65536, 2048,
    (6, 5), _JETPACK_4, _VOLTA, "+ptx64", launch_us=2.0,
)
SM_75 = Gpu(
    "sm_75", "T4", 40, 1590, 320, 4096 * _KB, 64, 48 * _KB, 64 * _KB, 65536, 1024,
    (7, 0), "450 (CUDA 11.0)", _TURING, "+ptx65", l1_bytes_per_cycle=64, cycles_per_mma=2.0,
)
SM_80 = Gpu(
    "sm_80", "A100 40 GB PCIe", 108, 1410, 1555, 40 * _KB * _KB, 64, 48 * _KB, 164 * _KB, 65536,
    2048, (7, 0), "450 (CUDA 11.0)", _AMPERE, cycles_per_mma=2.0,
)
SM_86 = Gpu(
    "sm_86", "A10", 72, 1695, 600, 6 * _KB * _KB, 128, 48 * _KB, 100 * _KB, 65536, 1536,
    (7, 1), "455 (CUDA 11.1)", _AMPERE, cycles_per_mma=4.0,
)
SM_87 = Gpu(
    "sm_87", "Jetson Orin Nano 8GB", 8, 625, 68, 2 * _KB * _KB, 128, 48 * _KB, 164 * _KB, 65536,
    1536, (7, 4), _JETPACK_5, _AMPERE, cycles_per_mma=2.0,
)
SM_89 = Gpu(
    "sm_89", "L4", 58, 2040, 300, 48 * _KB * _KB, 128, 48 * _KB, 100 * _KB, 65536, 1536,
    (7, 8), "520 (CUDA 11.8)", _AMPERE, cycles_per_mma=4.0,
)
SM_90 = Gpu(
    "sm_90", "H100 PCIe", 114, 1755, 2039, 50 * _KB * _KB, 128, 48 * _KB, 228 * _KB, 65536, 2048,
    (7, 8), "520 (CUDA 11.8)", _AMPERE, cycles_per_mma=1.0,
)
# fmt: on
GPUS: Mapping[str, Gpu] = {
    each.arch: each for each in (SM_53, SM_62, SM_72, SM_75, SM_80, SM_86, SM_87, SM_89, SM_90)
}
"""By architecture."""


@dataclass(frozen=True)
class GpuVariant(TargetVariant):
    """A GPU of a board in a precision."""

    device: Gpu
