"""A machine like this one with a GPU that a fake driver computes, a bundle for it, and what runs
there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kit.compiled import environment
from kit.fake_cuda import FakeCuda
from kit.fake_library import compilers
from shiftedge.export.compiler.backends.base import Target
from shiftedge.export.compiler.backends.cuda.devices import GPUS
from shiftedge.export.compiler.compile import compile_model, prepare
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.sources import read_sources
from shiftedge.export.compiler.targets import backend_of, find_target, variants_of

WIDTH, HEIGHT, RATE_HZ, FRAMES = 160, 120, 12, 300
TOLERANCE = 1e-4
"""Of logits on the GPU and the processor, relative to the largest."""


@dataclass
class Board:
    """A machine like this one with a GPU, a bundle for it, and its driver."""

    folder: Path
    cuda: FakeCuda
    processor: str
    """The variant for it."""

    def program(self, variant: str = "cuda-sm_75") -> Path:
        return self.folder / "bin" / variant / "shiftedge-run"

    def environment(self, **settings: Any) -> dict[str, str]:
        here = environment()
        found = self.cuda.environment(**settings)
        return {**found, "PYTHONPATH": here["PYTHONPATH"]}

    def run(
        self, line: list[object], *, driver: bool = True, **settings: Any
    ) -> subprocess.CompletedProcess[str]:
        where = self.environment(**settings) if driver else environment()
        words = list(map(str, line))
        return subprocess.run(
            words, env=where, capture_output=True, text=True, timeout=900, check=False
        )


def board_of(gpu: str) -> Target:
    """This machine with a GPU."""
    host = find_target("host")
    return replace(host, name="board", devices=(GPUS[gpu], *host.devices))


def board_with(model: Path, folder: Path, precision: str = "fp32") -> Board:
    found = compilers()
    command = found.get("gcc") or found["zig"]
    target = board_of("sm_75")
    compile_model(model, folder / "bundle", target=target, precision=precision)
    cuda = FakeCuda.built(command, folder / "cuda")
    for source in read_sources([model], precision):
        variant, *_ = variants_of(target, source.precision)
        step, _ = prepare(read_onnx(source.data, source.spec), source.spec, variant)
        (text,) = backend_of(variant.device).text(step.kernels, variant).values()
        cuda.knows(text, step.kernels)
    return Board(folder / "bundle", cuda, variants_of(target, "fp32")[-1].name)


def streamed(
    board: Board, film: Path, device: str, logits: Path, **settings: Any
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Events and logits of the runner."""
    line = [board.program(), "--size", f"{WIDTH}x{HEIGHT}", "--fps", RATE_HZ, "--device", device]
    done = board.run([*line, "--input", film, "--logits", logits], **settings)
    assert done.returncode == 0, done.stderr
    numbers = np.fromfile(logits, np.float32).reshape(FRAMES, -1)
    return [json.loads(row) for row in done.stdout.splitlines()], numbers


IN_PYTHON = """
import json, sys
import numpy as np
from shiftedge.export.agreement import moving_images
from shiftedge.runtime.errors import DeviceError, ModelError
from shiftedge.runtime.loading import load
folder, device, frames, precision = *sys.argv[1:3], int(sys.argv[3]), sys.argv[4] or None
try:
    model = load(folder, device=device, precision=precision)
except DeviceError as error:
    sys.exit(f"DeviceError: {error}")
stream, kept, said, rows = model.stream(), b"", [], []
images = moving_images(model.spec, frames)
for number, image in enumerate(images):
    before = stream.snapshot()
    try:
        rows.append(stream.step(image).tolist())
    except DeviceError as error:
        said.append(str(error))
        assert stream.snapshot() == before
    kept = stream.snapshot() if number == 2 else kept
again = model.stream()
if not said and frames > 3:
    again.restore(kept)
    assert [again.step(image).tolist() for image in images[3:]] == rows[3:]
    assert again.snapshot() == stream.snapshot()
if not said and frames > 3:
    group = model.stream_group(2)
    for number in range(2):
        made = group.step([images[number], images[number]])
        assert [row.tolist() for row in made] == [rows[number]] * 2
    assert group.streams[0].snapshot() == group.streams[1].snapshot()
if not said and frames > 3 and model.spec.precision == "fp32":
    # A state of one device is none of the other's.
    other = load(folder, device="cpu").engine.open_session()
    try:
        other.load(model.engine.open_session().save())  # an empty one is anybody's
        other.step(images[0])
        other.load(stream._session.save())
        other.step(images[0])
        assert model.device == "cpu"
    except ModelError as error:
        assert model.device == "cuda" and "is of another model" in str(error), error
found = {"device": model.device, "precision": model.spec.precision}
print(json.dumps({**found, "logits": rows, "said": said}))
"""


def in_python(
    board: Board, device: str, frames: int = 5, precision: str = "", **settings: Any
) -> tuple[dict[str, Any], str]:
    """What a program saw, and what it said for people."""
    line = [sys.executable, "-c", IN_PYTHON, board.folder, device, frames, precision]
    done = board.run(line, **settings)
    return (json.loads(done.stdout) if done.returncode == 0 else {}), done.stderr
