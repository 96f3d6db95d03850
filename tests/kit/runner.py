"""The runner, ``runtime/native/runner``, and its parts, built by whatever C compiler there is."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.fake_library import HERE, NATIVE, build
from shiftedge.export.compiler.link.library import runner_table
from shiftedge.runtime.capture.rawvideo import RawVideo
from shiftedge.runtime.manifest import Manifest
from shiftedge.runtime.spec import ModelSpec

RUNNER = NATIVE / "runner"
SOURCES = [*sorted(RUNNER.glob("*.c")), NATIVE / "live" / "video.c"]
PARTS = [path for path in SOURCES if path.name in ("clip.c", "fitting.c", "sha256.c", "output.c")]
LIVE = [path for path in sorted((NATIVE / "live").glob("*.c")) if path.name != "live.c"]
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
RESETS = [None, "gap", "clock", "cut"]


class Runners:
    """shiftedge-run for one bundle or another: compiled once, linked with each one's table."""

    def __init__(self, command: list[str], folder: Path, *flags: str) -> None:
        self._command, self._folder, self._flags = command, folder, flags
        own = [*flags, f"-I{RUNNER}", '-DSHIFTEDGE_VERSION="1.2.3"', "-c"]
        self._objects = [
            build(command, folder / f"{path.stem}.o", [path], *own) for path in SOURCES
        ]
        self._built: dict[str, Path] = {}

    def build(self, table: str) -> Path:
        """By the table of a bundle."""
        if table not in self._built:
            source = self._folder / f"table_{len(self._built)}.c"
            source.write_text(table)
            output = source.with_suffix("")
            flags = [*self._flags, f"-I{RUNNER}"]
            self._built[table] = build(self._command, output, [*self._objects, source], *flags)
        return self._built[table]

    @property
    def bare(self) -> Path:
        """Of no bundle."""
        return self.build(runner_table([], {}, {}))

    def of(self, bundle: Path) -> Path:
        """Of a bundle, as its manifest is now."""
        manifest = Manifest.from_json((bundle / "manifest.json").read_text("utf-8"))
        tests = {key: each.selftest for key, each in manifest.builds.items() if each.selftest}
        return self.build(runner_table(manifest.variants, manifest.files, tests))


def build_probe(command: list[str], output: Path, *flags: str) -> Path:
    """Build the parts of runner and live stream behind runner_probe.c, as a library."""
    more = [RUNNER / "stop.c", RUNNER / "failure.c", HERE / "runner_probe.c"]
    return build(command, output, [*PARTS, *LIVE, *more], *flags)


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
        self, spec: ModelSpec, logits: NDArray[np.float32], times: list[float], resets: list[bool]
    ) -> list[tuple[float, float, float, int]]:
        """(time, start, confidence, label) of each event."""
        count = len(times)
        events = (ctypes.c_double * (4 * count))()
        found = self.library.probe_decode(
            spec.classes,
            bytes(label in spec.silent_labels for label in spec.labels),
            ctypes.c_double(spec.frame_rate_hz),
            (ctypes.c_double * 5)(*vars(spec.decoder).values()),
            np.ascontiguousarray(logits, np.float32).tobytes(),
            (ctypes.c_double * count)(*times),
            count,
            (ctypes.c_int * count)(*resets),
            events,
        )
        assert found >= 0
        rows = (events[4 * i : 4 * i + 4] for i in range(found))
        return [(time, start, confidence, int(label)) for time, start, confidence, label in rows]

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
