"""Whole networks through the pipeline, and through the public API, against ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import hosts

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.compiled import (
    NETWORKS,
    ROOT,
    TOLERANCE,
    environment,
    library_of,
    near,
    prepared,
    with_onnxruntime,
)

import shiftedge
from shiftedge.export.compiler.compile import compile_model
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.targets import find_variant, runs_here
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.capture.synthetic.moving import moving_scene
from shiftedge.runtime.errors import SnapshotError

Get = Callable[[str], Path]
ALL = ("gestures", *NETWORKS)
SMALL = ("gestures", "own@64x48")


@pytest.mark.parametrize("name", ALL)
def test_the_step_is_the_models(name: str, bundles: Get, exported: Get) -> None:
    """What compiling itself proves: 32 frames, every state, 1, 2 and 3 threads."""
    manifest = Bundle.open(bundles(name)).manifest
    _, spec = read_model(exported(name))
    numerics = manifest.numerics
    assert manifest.spec == spec
    assert (numerics["verified"], numerics["passed"], numerics["frames"]) == (True, True, 32)
    rows = {row["tensor"]: row for row in numerics["comparisons"]}
    assert set(rows) == {"logits", *(f"next_state_{i}" for i in range(len(spec.states)))}
    assert all(row["worst"] <= TOLERANCE * row["scale"] for row in rows.values())
    assert all(row["scale"] > 1e-3 for row in rows.values()), "nothing moved"


@pytest.mark.parametrize("name", ALL)
def test_the_manifest_says_what_was_laid_out(name: str, bundles: Get, exported: Get) -> None:
    manifest = Bundle.open(bundles(name)).manifest
    step, places = prepared(*read_model(exported(name)), find_variant("host"))
    assert manifest.memory == {
        "weights_bytes": places.weights_bytes,
        "state_bytes": places.state_bytes,
        "workspace_bytes": places.workspace.size_bytes,
        "scratch_bytes": places.scratch_bytes,
    }
    assert places.workspace.least_bytes <= places.workspace.size_bytes
    if name.startswith("mobilenet"):
        assert places.workspace.size_bytes == places.workspace.least_bytes
    assert places.workspace.size_bytes <= 1.25 * places.workspace.least_bytes
    assert places.state_bytes >= 4 * manifest.spec.state_size
    assert [row["name"] for row in manifest.kernels] == [call.name for call in step.calls]


@pytest.mark.parametrize("name", ALL)
def test_the_public_api(name: str, bundles: Get, exported: Get) -> None:
    """A camera of another size, reset, snapshot and restore, beside the .onnx file."""
    compiled, plain = shiftedge.load(bundles(name), threads=1), shiftedge.load(exported(name))
    assert (compiled.engine.name, plain.engine.name) == ("native", "onnxruntime")
    assert compiled.spec.labels == plain.spec.labels
    camera = list(moving_scene(3, frames=8, height=150, width=210))
    own = list(moving_scene(4, frames=4, height=plain.spec.height, width=plain.spec.width))
    stream, reference = compiled.stream(), plain.stream()
    first = []
    for frame in (*camera, *own):
        first.append(stream.step(frame))
        assert first[-1].shape == (plain.spec.classes,)
        assert near(first[-1], reference.step(frame))
        assert stream.warm == reference.warm
    again = shiftedge.load(bundles(name), threads=2).stream()
    for frame in camera[:5]:
        again.step(frame)
    saved = again.snapshot()
    for frame in (*camera[5:], *own):
        again.step(frame)
    assert again.snapshot() == stream.snapshot()
    stream.reset()
    assert stream.frames == 0
    assert stream.step(camera[0]).tobytes() == first[0].tobytes()
    stream.restore(saved)
    rest = [stream.step(frame).tobytes() for frame in (*camera[5:], *own)]
    assert rest == [logits.tobytes() for logits in first[5:]]
    with pytest.raises(SnapshotError, match="of another model"):
        stream.restore(reference.snapshot())


def test_a_long_stream(bundles: Get, exported: Get) -> None:
    """300 frames, which is 25 seconds: nothing grows."""
    name = "mobilenet-0.5@112x112"
    data, spec = read_model(exported(name))
    step, places = prepared(data, spec, find_variant("host"))
    report = with_onnxruntime(
        library_of(Bundle.open(bundles(name))), data, spec, step, places, frames=300
    )
    assert report.passed, report.table()
    assert len(report.comparisons) == 1 + len(spec.states)


@hosts.only_where(runs_here(find_variant("x86-64-v3")), "this is no x86-64 machine")
@pytest.mark.parametrize("name", [*SMALL, "mobilenet-0.5@112x112"])
def test_avx2(name: str, exported: Get, tmp_path: Path) -> None:
    target = find_variant("x86-64-v3")
    compiled = compile_model(exported(name), tmp_path / "b", target=target.name, use_cache=False)
    manifest = compiled.bundle.manifest
    assert manifest.numerics["passed"] is True
    assert manifest.target == "x86-64-v3"
    assert manifest.variants[0].features == target.features
    stream = shiftedge.load(tmp_path / "b").stream()
    reference = shiftedge.load(exported(name)).stream()
    for frame in moving_scene(0, frames=3, height=64, width=64):
        assert near(stream.step(frame), reference.step(frame))


@pytest.mark.parametrize("name", SMALL)
def test_the_same_model_gives_the_same_bytes(
    name: str, bundles: Get, exported: Get, tmp_path: Path
) -> None:
    """In another process, with other hashes of strings, in another folder."""
    line = [sys.executable, "-m", "shiftedge", "compile", str(exported(name))]
    line += ["--no-cache", "--json", "--output", str(tmp_path / "b")]
    own = environment(PYTHONHASHSEED="77", TMPDIR=str(tmp_path))
    run = subprocess.run(line, capture_output=True, text=True, check=True, env=own)
    assert json.loads(run.stdout)["cached"] is False
    assert run.stderr == ""
    ours, theirs = bundles(name), tmp_path / "b"
    files = [path.relative_to(ours) for path in sorted(ours.rglob("*")) if path.is_file()]
    assert [path.relative_to(theirs) for path in sorted(theirs.rglob("*")) if path.is_file()] == (
        files
    )
    for file in files:
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file
    stayed = [path.name for path in tmp_path.iterdir() if path.name.startswith(("shiftedge", ".b"))]
    assert stayed == []


def test_a_bundle_is_small(bundles: Get) -> None:
    bundle = Bundle.open(bundles("mobilenet-1.0@224x224"))
    assert library_of(bundle).stat().st_size <= 1.3 * bundle.manifest.memory["weights_bytes"]


def test_a_process_stays_small(bundles: Get) -> None:
    """MobileNetV2 at full width and 224 pixels, numpy alone: 60 MB with everything."""
    program = (
        "import sys\nimport numpy as np, shiftedge\n"
        "stream = shiftedge.load(sys.argv[1]).stream()\n"
        "noise = np.random.default_rng(0)\n"
        "for _ in range(20): stream.step(noise.integers(0, 256, (224, 224, 3), np.uint8))\n"
        "rss = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]\n"
        "heavy = {'tvm', 'torch', 'onnx', 'onnxruntime', 'cv2'} & set(sys.modules)\n"
        "print(rss, *sorted(heavy))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(bundles("mobilenet-1.0@224x224"))],
        capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    peak_kb, *heavy = run.stdout.split()
    assert heavy == []
    assert int(peak_kb) <= 60_000
