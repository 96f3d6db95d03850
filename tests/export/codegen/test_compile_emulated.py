"""Code for instructions that this machine's processor may lack, on an emulated one: AVX-512, its
VNNI and its bfloat16, against numpy's step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit import bochs_cpu
from numpy.typing import NDArray

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.compiled import environment, prepared
from kit.onnx_files import SPEC, model
from kit.qdq import quantized, with_equal_std
from kit.random_networks import random_network

from shiftedge.export.agreement import (
    Outputs,
    compare,
    moving_images,
    named_outputs,
    normalised,
    onnx_outputs,
)
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.compile import build_library
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.sources import read_sources
from shiftedge.export.compiler.targets import find_target, variants_of
from shiftedge.export.compiler.verify.agreement import (
    HEADER_BYTES,
    evaluated_outputs,
    interpreted_outputs,
    states_of,
)
from shiftedge.runtime.spec import ModelSpec

HERE = Path(__file__).parent
FRAMES = 4
LOGITS = 2e-5
"""Of a difference, relative to the largest: what float32 kernels behind exact maps may do."""
V4 = find_target("x86-64-v4")
(FULL,) = variants_of(V4, "fp32")
VNNI, PAIRS = variants_of(V4, "int8")
NARROW, _ = variants_of(find_target("x86-64-v3"), "int8")
(HALF,) = variants_of(V4, "bf16")

if why := bochs_cpu.missing():
    pytest.skip(why, allow_module_level=True)


def emulated(processor: str, library: Path, images: NDArray[np.uint8]) -> bytes:
    """Logits and state block of each frame; the library's sentence as a RuntimeError."""
    frames, output = library.parent / "images.npy", library.parent / "output"
    np.save(frames, images)
    program = [sys.executable, str(HERE.parents[1] / "kit" / "bochs_step.py"), processor]
    done = subprocess.run(
        [*program, str(library), str(frames), str(output)],
        capture_output=True,
        text=True,
        env=environment(**bochs_cpu.environment()),
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return output.read_bytes()


def outputs(
    processor: str, model: bytes, spec: ModelSpec, target: CpuVariant, folder: Path
) -> tuple[list[Outputs], list[Outputs]]:
    """What the compiled step gave on the emulated processor, and what numpy gives."""
    library, images = folder / "libmodel.so", moving_images(spec, FRAMES)
    step, places = prepared(model, spec, target)
    build_library(step, places, spec, target, library)
    raw = np.frombuffer(emulated(processor, library, images), np.uint8)
    graph = read_onnx(model, spec)
    expected = {
        "fp32": lambda: onnx_outputs(model, spec, normalised(images, spec)),
        "int8": lambda: evaluated_outputs(graph, spec, images),
        "bf16": lambda: interpreted_outputs(step, images),
    }[target.precision]
    ours = []
    for row in raw.reshape(FRAMES, -1):
        logits, block = row[: 4 * step.classes].view(np.float32), row[4 * step.classes :]
        ours.append(named_outputs(logits[None], states_of(block[HEADER_BYTES:], step, places)))
    return ours, list(expected())


@pytest.mark.parametrize(
    ("target", "processor", "network"),
    [
        (FULL, "sapphire-rapids", "gestures"),
        (VNNI, "icelake", "gestures"),
        (VNNI, "sapphire-rapids", "resnet@64x64"),
        (PAIRS, "sapphire-rapids", "gestures"),
        (NARROW, "arrow-lake", "gestures"),
        (HALF, "sapphire-rapids", "gestures"),
    ],
    ids=lambda value: value.name if isinstance(value, CpuVariant) else value,
)
def test_a_stream(
    target: CpuVariant,
    processor: str,
    network: str,
    exported: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Every code and every bfloat16 of the states bit for bit; float32 as ONNX Runtime has it."""
    [source] = read_sources([exported(network)], "bf16" if target.precision == "bf16" else "fp32")
    data, spec = source.data, source.spec
    if target.precision == "int8":
        spec = with_equal_std(spec)
        data, spec = quantized(data, spec, normalised(moving_images(spec, FRAMES), spec))
    ours, expected = outputs(processor, data, spec, target, tmp_path)
    if target.precision != "fp32":
        for name in sorted(set(ours[0]) - {"logits"}):
            for frame, (mine, theirs) in enumerate(zip(ours, expected, strict=True)):
                np.testing.assert_array_equal(mine[name], theirs[name], f"{name}, frame {frame}")
    tolerance = 1e-4 if target.precision == "fp32" else LOGITS
    rows = compare("numpy / emulated", expected, ours, tolerance=tolerance)
    assert len(rows) == 1 + len(spec.states)
    assert not [row for row in rows if not row.passed]
    still = [name for name in ours[0] if (ours[0][name] == ours[-1][name]).all()]
    assert not still, "what never changes shows nothing"


@pytest.mark.parametrize(
    ("target", "processor", "seed"),
    [(VNNI, "icelake", 0), (NARROW, "arrow-lake", 3)],
    ids=lambda value: value.name if isinstance(value, CpuVariant) else value,
)
def test_a_random_network(target: CpuVariant, processor: str, seed: int, tmp_path: Path) -> None:
    """Of odd channels, windows and strides."""
    ours, expected = outputs(processor, *random_network(seed), target, tmp_path)
    for mine, theirs in zip(ours, expected, strict=True):
        for name, codes in theirs.items():
            bound = 0.02 * max(1.0, np.abs(codes).max()) if name == "logits" else 1
            np.testing.assert_allclose(mine[name], codes, rtol=0, atol=bound, err_msg=name)


@pytest.mark.parametrize(
    ("target", "processor", "sentence"),
    [
        (FULL, "arrow-lake", "This libmodel.so needs a CPU with avx512f, which this one has not"),
        (HALF, "icelake", "This libmodel.so needs a CPU with avx512_bf16, which this one has not"),
    ],
    ids=["AVX-512", "bfloat16"],
)
def test_a_processor_without_the_instructions(
    target: CpuVariant, processor: str, sentence: str, tmp_path: Path
) -> None:
    """Refused when it is opened, in C, by what the processor says of itself."""
    library, document = tmp_path / "libmodel.so", model()
    step, places = prepared(document, SPEC, target)
    build_library(step, places, SPEC, target, library)
    with pytest.raises(RuntimeError, match=sentence):
        emulated(processor, library, moving_images(SPEC, 1))
