"""The runner, ``runtime/native/runner``, and its parts, built by whatever C compiler there is."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
from fake_library import HERE, NATIVE, build
from numpy.typing import NDArray

from shiftedge.runtime.capture.rawvideo import RawVideo

RUNNER = NATIVE / "runner"
SOURCES = sorted(RUNNER.glob("*.c"))
PARTS = [path for path in SOURCES if path.name != "main.c"]
SYSTEM = ("-Wl,--no-as-needed", "-ldl", "-lm")  # they stand before the sources that need them
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
RESETS = [None, "gap", "clock", "cut"]


def build_runner(command: list[str], output: Path, *flags: str) -> Path:
    """Build shiftedge-run."""
    return build(command, output, SOURCES, f"-I{RUNNER}", '-DSHIFTEDGE_VERSION="1.2.3"', *flags)


def build_probe(command: list[str], output: Path, *flags: str) -> Path:
    """Build the runner's parts behind runner_probe.c, as a library."""
    return build(command, output, [*PARTS, HERE / "runner_probe.c"], f"-I{RUNNER}", *flags)


def run_frames(
    line: list[str | Path], frames: bytes, *, timeout_s: int = 60
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with ``frames`` on its standard input."""
    words = [str(word) for word in line]
    return subprocess.run(words, input=frames, capture_output=True, timeout=timeout_s, check=False)


class Probe:
    """runner_probe.c through ctypes, in Python's types."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.probe_line.restype = ctypes.c_size_t

    def crop(self, *sizes: int) -> tuple[int, ...]:
        out = (ctypes.c_int * 4)()
        self.library.probe_crop(*sizes, out)
        return tuple(out)

    def fit(
        self,
        data: bytes,
        form: str,
        image: tuple[int, int],
        model: tuple[int, int],
        short: int,
        *,
        full_range: bool = False,
        stride: int = 0,
    ) -> NDArray[np.uint8]:
        """``image`` and ``model`` are (height, width)."""
        out = np.zeros((*model, 3), np.uint8)
        pointer = ctypes.c_void_p(out.ctypes.data)
        sizes = (*image, *model, short)
        name = form.encode()
        assert self.library.probe_fit(data, name, int(full_range), stride, *sizes, pointer)
        return out

    def fitting(self, video: RawVideo, total: int) -> str:
        out = ctypes.create_string_buffer(512)
        name, number = video.format.encode(), ctypes.c_uint64(total)
        self.library.probe_fitting(name, video.stride, video.height, video.width, number, out)
        return out.value.decode()

    def clock(
        self, rate_hz: float, max_gap_s: float, times: list[float]
    ) -> list[tuple[int, str | None]]:
        count = len(times)
        steps, resets = (ctypes.c_int64 * count)(), (ctypes.c_int * count)()
        self.library.probe_clock(
            ctypes.c_double(rate_hz),
            ctypes.c_double(max_gap_s),
            (ctypes.c_double * count)(*times),
            count,
            steps,
            resets,
        )
        return [(step, RESETS[reset]) for step, reset in zip(steps, resets, strict=True)]

    def cuts(self, frames: list[NDArray[np.uint8]]) -> list[bool]:
        height, width = frames[0].shape[:2]
        out = (ctypes.c_int * len(frames))()
        self.library.probe_cuts(np.stack(frames).tobytes(), len(frames), height, width, out)
        return [bool(value) for value in out]

    def decode(
        self, json: str, logits: NDArray[np.float32], times: list[float], resets: list[bool]
    ) -> list[tuple[float, int, float]]:
        """(time, label, confidence) of each event."""
        count = len(times)
        events = (ctypes.c_double * (3 * count))()
        found = self.library.probe_decode(
            json.encode(),
            np.ascontiguousarray(logits, np.float32).tobytes(),
            (ctypes.c_double * count)(*times),
            count,
            (ctypes.c_int * count)(*resets),
            events,
        )
        assert found >= 0
        return [(events[3 * i], int(events[3 * i + 1]), events[3 * i + 2]) for i in range(found)]

    def spec(self, json: bytes) -> str | None:
        """Why the spec is refused, or None."""
        sentence = ctypes.create_string_buffer(2048)
        good = self.library.probe_spec(json, ctypes.c_size_t(len(json)), sentence, 2048)
        return None if good else sentence.value.decode("utf-8", "replace")

    def clip(self, frames: int, height: int, width: int) -> NDArray[np.uint8]:
        """uint8 (frames, height, width, 3)."""
        out = np.zeros((frames, height, width, 3), np.uint8)
        for index, frame in enumerate(out):
            self.library.probe_clip(ctypes.c_void_p(frame.ctypes.data), height, width, index)
        return out

    def line(self, time_s: float, label: str, confidence: float, step: bool) -> str:
        out = ctypes.create_string_buffer(4096)
        length = self.library.probe_line(
            ctypes.c_double(time_s), label.encode(), ctypes.c_double(confidence), step, out
        )
        return out.raw[:length].decode()

    def sha256(self, data: bytes, piece: int, *, portable: bool) -> bytes:
        """Portable, or with the CPU's instructions for it if it has any."""
        out = ctypes.create_string_buffer(32)
        sizes = ctypes.c_size_t(len(data)), ctypes.c_size_t(piece)
        self.library.probe_sha256(data, *sizes, portable, out)
        return out.raw
