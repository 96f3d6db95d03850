"""A libcuda.so.1 that computes: built for a test, given what it is to run, asked what it did."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit.fake_library import build
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.verify.gpu import machine

SOURCE = Path(__file__).with_name("fake_cuda.c")
MACHINE = Path(machine.__file__).parent
NOTHING = dict.fromkeys(
    ("memory", "host", "contexts", "pushed", "modules", "streams", "events", "graphs", "execs"), 0
)
"""What is held when all is closed."""
_SPECIAL = ("tid", "ctaid", "ntid", "nctaid", "laneid")


@dataclass
class FakeCuda:
    """One build of it, in a folder for LD_LIBRARY_PATH."""

    folder: Path

    @classmethod
    def built(cls, command: list[str], folder: Path, *flags: str) -> FakeCuda:
        """With -DWITHOUT_GRAPHS and the like, see its source."""
        folder.mkdir(parents=True)
        words = [f"-I{MACHINE}", "-std=gnu11", "-fno-strict-aliasing", "-fno-math-errno", "-w"]
        words += ["-march=native", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", *flags]
        build(command, folder / "libcuda.so.1", [SOURCE], *words)
        return cls(folder)

    def knows(self, text: str, kernels: Sequence[Kernel]) -> None:
        """Let a text of PTX be loaded, whose kernels' buffers are as the kernel IR has them."""
        sizes = {
            each.name: [
                (each.size * np.dtype(each.dtype).itemsize, each.dtype, each.role == "output")
                for each in each.buffers
            ]
            for each in kernels
        }
        self.takes(
            text,
            {
                name: [(n, np.dtype(t).itemsize, w) for n, t, w in found]
                for name, found in sizes.items()
            },
        )

    def takes(self, text: str, sizes: Mapping[str, Sequence[tuple[int, int, bool]]]) -> None:
        """The same, with the buffers of each kernel: bytes, bytes of an element, writable."""
        module = machine.Module(text)
        data = struct.pack("<I", len(module.kernels))
        for name, kernel in module.kernels.items():
            program, kept = module._programs[name]
            data += struct.pack(f"<I{len(name)}s", len(name), name.encode())
            data += struct.pack(
                "<5I", program.length, program.registers, program.n_constants,
                program.n_parameters, program.n_shared,
            )  # fmt: skip
            data += struct.pack("<5i", *(kernel.special.get(each, -1) for each in _SPECIAL))
            data += b"".join(map(bytes, kept))
            assert len(sizes[name]) == program.n_parameters
            for bytes_, grain, writable in sizes[name]:
                data += struct.pack("<QII", bytes_, grain, int(writable))
        digest = 14695981039346656037
        for byte in text.encode():
            digest = (digest ^ byte) * 1099511628211 % (1 << 64)
        (self.folder / f"{digest:016x}").write_bytes(data)

    def environment(self, report: Path | None = None, **settings: object) -> dict[str, str]:
        """Of a process that finds it; settings as in ``fail="cuInit:1:100"``, ``version=9000``."""
        mine = {f"FAKE_CUDA_{key.upper()}": str(value) for key, value in settings.items()}
        if report is not None:
            mine["FAKE_CUDA_REPORT"] = str(report)
        path = f"{self.folder}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FAKE_CUDA")}
        return {
            **kept, "LD_LIBRARY_PATH": path, "FAKE_CUDA_PROGRAMS": str(self.folder), **mine,
        }  # fmt: skip


def read_report(path: Path) -> dict[str, Any]:
    """What a process did and still held when it ended."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found
