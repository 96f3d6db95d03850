"""The native runtime with a fake model: built, called as in C, and repeated in numpy."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parents[1] / "runtime" / "native"
NATIVE = Path(__file__).parents[2] / "runtime" / "native"
RUNTIME = sorted(path for part in (".", "cpu", "live") for path in (NATIVE / part).glob("*.c"))
FAKE = [HERE / "fake_model.c"]
DRIVER = [*FAKE, HERE / "driver.c"]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
# No contraction: a * b + c in one rounding is not what numpy does.
FLAGS = ["-std=c11", "-O2", "-ffp-contract=off", "-fvisibility=hidden", *WARNINGS, "-pthread"]
FLAGS += [f"-I{folder}" for folder in (NATIVE, HERE)]
LIBRARY = ["-shared", "-fPIC", "-Wl,-Bsymbolic"]
HEIGHT, WIDTH, CLASSES = 24, 32, 4


def compilers() -> dict[str, list[str]]:
    """Command line of each C compiler at hand."""
    found = {}
    for name in ("gcc", "clang"):
        if path := shutil.which(name):
            found[name] = [path]
    if importlib.util.find_spec("ziglang") is not None:
        found["zig"] = [sys.executable, "-m", "ziglang", "cc"]
    return found


def build(command: list[str], output: Path, sources: list[Path], *flags: str) -> Path:
    libraries = [] if "-c" in flags else ["-ldl", "-lm"]
    line = [*command, *FLAGS, *flags, *map(str, sources), *libraries, "-o", str(output)]
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return output


def run_program(
    line: Sequence[str | Path],
    *,
    timeout_s: int = 120,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is; nothing that it started outlives this call.

    A program that hangs may have a child that spins (a sanitizer after a fork does), which would
    go on for ever once its parent is killed. So both get a process group of their own, which is
    killed as one, and a limit of processor time that holds even if this process dies first.
    """

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (4 * timeout_s, 4 * timeout_s))

    process = subprocess.Popen(
        [str(word) for word in line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=limit,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        with contextlib.suppress(ProcessLookupError):  # nobody of the group is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def tasks() -> set[str]:
    """Threads of this process."""
    return set(os.listdir("/proc/self/task"))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("device", ctypes.c_int32),
        ("later", ctypes.c_uint32),  # a header to come
    )


OVERSUBSCRIBE = 1


@dataclass
class Fake:
    """shiftedge.h of one library through ctypes, as close to C as Python gets."""

    path: Path
    opened: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        library = self.library = ctypes.CDLL(str(self.path))
        library.shiftedge_state_size.restype = ctypes.c_size_t
        library.shiftedge_spec_json.restype = ctypes.c_char_p
        library.shiftedge_last_error.restype = ctypes.c_char_p
        pointer = ctypes.c_void_p
        library.shiftedge_step.argtypes = [pointer, pointer, pointer, ctypes.c_int32, pointer]
        library.shiftedge_close.argtypes = [pointer]
        self.state_size: int = library.shiftedge_state_size()
        self.switch()

    def switch(self, *, fail: int = -1, unit: int = 0, gate: bool = False) -> None:
        """Set the fake kernels' switches, see fake_model.h."""
        self.set("fake_fail_unit", unit)
        self.set("fake_fail_kernel", fail)
        self.set("fake_gate", int(gate))

    def set(self, name: str, value: int) -> None:
        ctypes.c_int32.in_dll(self.library, name).value = value

    def get(self, name: str) -> int:
        return ctypes.c_int32.in_dll(self.library, name).value

    def try_open(
        self, size: int = 16, threads: int = 0, flags: int = 0, device: int = 0, later: int = 0
    ) -> Any:
        """(status, handle)."""
        handle = ctypes.c_void_p(1)
        options = Options(size, threads, flags, device, later)
        status = self.library.shiftedge_open(ctypes.byref(options), ctypes.byref(handle))
        return status, handle.value

    def open(self, threads: int = 1) -> int:
        status, handle = self.try_open(threads=threads, flags=OVERSUBSCRIBE)
        assert status == 0, self.error()
        self.opened.append(handle)
        return int(handle)

    def close(self, model: int | None) -> None:
        self.library.shiftedge_close(model)

    def error(self) -> str:
        return str(self.library.shiftedge_last_error().decode())

    def state(self) -> NDArray[np.uint8]:
        memory = np.zeros(self.state_size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        return memory[start : start + self.state_size]

    def step(
        self,
        model: int | None,
        state: NDArray[np.uint8],
        frame: NDArray[np.uint8],
        stride: int = 3 * WIDTH,
    ) -> tuple[int, NDArray[np.float32]]:
        """(status, logits); logits that were not written are NaN."""
        logits = np.full(CLASSES, np.nan, np.float32)
        status = self.library.shiftedge_step(
            model, state.ctypes.data, frame.ctypes.data, stride, logits.ctypes.data
        )
        return int(status), logits


class Reference:
    """The fake model in numpy, rounding where the C code rounds."""

    def __init__(self) -> None:
        self.first = np.zeros((HEIGHT, WIDTH), np.float32)
        self.trace = np.zeros(WIDTH, np.float32)
        k, x = np.ogrid[:CLASSES, :WIDTH]
        self.matrix = (np.fmod(k * 37 + x * 11, 23) - 11).astype(np.float32) / np.float32(8)

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        mean = np.array([101, 107, 113], np.float32)
        scale = np.array([0.017, 0.019, 0.023], np.float32)
        feature = (frame[:, :, ::-1].astype(np.float32) - mean) * scale
        shifted = feature.copy()
        shifted[:, :, 0] = self.first
        self.first = feature[:, :, 0]
        column = np.zeros(WIDTH, np.float32)
        for y in range(HEIGHT):
            for c in range(3):
                column += np.float32(c + 1) * shifted[y, :, c]
        logits = np.zeros(CLASSES, np.float32)
        for x in range(WIDTH):
            logits += self.matrix[:, x] * (column[x] + self.trace[x])
        self.trace = np.float32(0.5) * self.trace + column
        return logits

    def states(self) -> bytes:
        """The block without its header: the two states and what lies between."""
        return self.first.tobytes() + bytes(64) + self.trace.tobytes()
