"""A bundle from folder to gestures: loading, snapshots, the command line, and what it costs."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.fake_bundle import HERE_RUNS, write_bundle
from kit.fake_library import Reference
from numpy.typing import NDArray

from shiftedge.__main__ import main
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import BundleError, ModelError, SnapshotError
from shiftedge.runtime.loading import load

Frames = list[NDArray[np.uint8]]
ROOT = Path(__file__).parents[3]

# A thread that waits in C for ever hears no signal: the whole process must go.
pytestmark = pytest.mark.timeout(120, method="thread")

MACHINE = platform.machine()
IMPOSSIBLE = ("not_a_feature",)


@pytest.fixture
def folder(fake_path: Path, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "fake-plain", fake_path)


@pytest.mark.parametrize("engine", [None, "native"])
def test_load_and_step(
    folder: Path, native_frames: Frames, reference: Reference, engine: str | None
) -> None:
    model = load(str(folder), engine=engine, threads=1)
    assert (model.engine.name, model.spec.name, model.spec.classes) == ("native", "fake", 4)
    assert isinstance(model.engine, NativeEngine)
    assert model.engine.threads == 1
    stream = model.stream()
    for frame in native_frames:
        logits = stream.step(frame)
        assert logits.tobytes() == reference.step(frame).tobytes()
    assert load(folder).stream().step(native_frames[0]).shape == (4,)


def test_snapshots(folder: Path, native_frames: Frames) -> None:
    model = load(folder)
    stream = model.stream()
    for frame in native_frames[:5]:
        stream.step(frame)
    saved = stream.snapshot()
    ahead = [stream.step(frame).tobytes() for frame in native_frames[5:]]
    other = load(folder).stream()
    other.step(native_frames[0])
    other.restore(saved)
    assert other.frames == 5
    assert other.snapshot() == saved
    assert [other.step(frame).tobytes() for frame in native_frames[5:]] == ahead
    stream.reset()
    assert stream.step(native_frames[0]).tobytes() == (
        model.stream().step(native_frames[0]).tobytes()
    )
    for at in (0, 20, 60, 100, len(saved) - 1):
        damaged = bytearray(saved)
        damaged[at] ^= 1
        with pytest.raises(SnapshotError):
            other.restore(bytes(damaged))


def test_a_snapshot_of_another_library(
    folder: Path, build_fake: Callable[..., Path], tmp_path: Path, native_frames: Frames
) -> None:
    stream = load(folder).stream()
    stream.step(native_frames[0])
    other = write_bundle(tmp_path / "other", build_fake("-DFAKE_FINGERPRINT=7"))
    with pytest.raises(SnapshotError, match="of another model"):
        load(other).stream().restore(stream.snapshot())


def test_the_variant_that_this_cpu_can_run(
    fake_path: Path, build_fake: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_bundle(
        tmp_path / "b",
        fake_path,
        variants=[
            ("future", MACHINE, IMPOSSIBLE),
            ("elsewhere", "vax", ()),
            HERE_RUNS,
            ("later", MACHINE, ()),
        ],
    )
    model = load(folder)
    assert isinstance(model.engine, NativeEngine)
    assert model.engine.path == folder / "lib" / "plain" / "libmodel.so"
    for name, features in (("future", IMPOSSIBLE), ("elsewhere", ())):
        machine = "vax" if name == "elsewhere" else MACHINE
        other = write_bundle(tmp_path / name, fake_path, variants=[(name, machine, features)])
        with pytest.raises(BundleError, match=r"is for vax|needs a CPU with not_a_feature"):
            load(other)


def test_a_changed_library_is_not_loaded(folder: Path) -> None:
    library = folder / "lib" / "plain" / "libmodel.so"
    data = bytearray(library.read_bytes())
    data[len(data) // 2] ^= 0xFF
    library.write_bytes(data)
    with pytest.raises(BundleError, match="has the SHA-256"):
        load(folder)


def test_a_library_that_changes_after_the_check(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check of the folder and the load, somebody writes."""
    choose = Bundle.variant

    def change(bundle: Bundle, **chosen: str | None) -> object:
        with open(folder / "lib" / "plain" / "libmodel.so", "ab") as file:
            file.write(b"x")
        return choose(bundle)

    monkeypatch.setattr(Bundle, "variant", change)
    with pytest.raises(ModelError, match="so it was changed just now"):
        load(folder)


def test_a_spec_that_is_not_the_librarys(fake_path: Path, tmp_path: Path) -> None:
    spec = NativeEngine(fake_path, threads=1).spec
    other = dataclasses.replace(spec, labels=("No gesture", "Right", "Left", "Stop"))
    folder = write_bundle(tmp_path / "b", fake_path, spec=other)
    with pytest.raises(BundleError, match="one spec in its manifest and another in lib/plain"):
        load(folder)


def test_providers_and_other_engines(folder: Path) -> None:
    with pytest.raises(ModelError, match="providers belong to ONNX Runtime"):
        load(folder, providers=["cpu"])
    with pytest.raises(ModelError, match=r"engine onnxruntime runs an \.onnx file"):
        load(folder, engine="onnxruntime")
    with pytest.raises(ModelError, match="threads is 0"):
        load(folder, threads=0)


# The command line.


def test_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    for line in (
        "name             fake",
        "target           plain",
        "on this machine  runs plain",
        "state      3,264 bytes",
        "comparisons  1 tensors; worst is logits, off by 1e-06 where the largest value is 2.5",
        "tvm        0.27.0",
        "normalise",
    ):
        assert line in text
    assert main(["inspect", "--json", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "manifest.json").read_text(encoding="utf-8")


def test_inspect_a_bundle_of_another_machine(
    fake_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_bundle(
        tmp_path / "b",
        fake_path,
        variants=[("board", "vax", ("neon", "asimd"))],
        numerics={"text": "\x1b[31m", "rows": [1, 2], "inner": {"worst": 0.5}, "huge": 10**400},
        tools={},
        kernels=({"name": "a", "ms": 1.5}, {"name": "\x07b", "tile": [1, 2], "odd": None}),
    )
    assert main(["inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "on this machine  cannot run" in text
    assert "needs neon asimd" in text
    assert "inner.worst" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_inspect_a_damaged_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "LICENSE").write_text("Mine.\n")
    assert main(["inspect", str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("shiftedge: ")
    assert "LICENSE has 6 bytes; the manifest says 7" in error
    assert len(error.splitlines()) == 1


def test_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "synthetic:moving?seconds=2&fps=24&size=64x48"
    assert main(["run", str(folder), "--source", source, "--steps", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    steps = [json.loads(line) for line in captured.out.splitlines()]
    assert sum(1 for line in steps if line.get("step")) == 24
    assert "48 frames, 24 steps" in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "onnxruntime"], "runs an .onnx file"),
        (["--provider", "cuda"], "providers belong to ONNX Runtime"),
    ],
)
def test_run_refuses_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["run", str(folder), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_demo(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    film = tmp_path / "film.mp4"
    line = ["demo", str(folder), "--source", "synthetic:moving?seconds=1&size=64x48", "--json"]
    assert main([*line, "--film", str(film)]) == 0
    assert json.loads(capsys.readouterr().out)
    assert film.stat().st_size > 0


# What it costs.


def test_a_plain_process_stays_small(folder: Path) -> None:
    """numpy and the standard library, and less than 60 MB of memory.

    OpenCV, where it is installed, scales frames of another size and takes some 30 MB for it; on a
    board without it numpy does that.
    """
    program = (
        "import sys\nbefore = set(sys.modules)\n"
        "import numpy as np, shiftedge\n"
        "stream = shiftedge.load(sys.argv[1], threads=2).stream()\n"
        "sys.modules['cv2'] = None  # as if it were not installed\n"
        "for _ in range(20): stream.step(np.zeros((24, 32, 3), np.uint8))\n"
        "for _ in range(20): stream.step(np.zeros((480, 640, 3), np.uint8))\n"
        "stream.restore(stream.snapshot())\n"
        "rss = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]\n"
        "print(rss, *{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    peak_kb, *loaded = run.stdout.split()
    assert int(peak_kb) < 60_000
    names = {name for name in loaded if "cython" not in name} - {"cv2"}
    assert names <= {*sys.stdlib_module_names, "numpy", "shiftedge"}


def test_only_what_a_trusted_key_signed(folder: Path, tmp_path: Path) -> None:
    serialization = pytest.importorskip(
        "cryptography.hazmat.primitives.serialization", reason="the signing extra is not installed"
    )
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    public = tmp_path / "key.pub"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(BundleError, match="is not signed"):
        load(folder, trusted_keys=[public])
    manifest = folder / "manifest.json"
    signature = folder / "manifest.json.sig"
    signature.write_bytes(key.sign(manifest.read_bytes()))
    assert load(folder, trusted_keys=[public]).spec.name == "fake"
    with pytest.raises(BundleError, match="by none of the 0 trusted keys"):
        load(folder, trusted_keys=[])
    with pytest.raises(ModelError, match="trusted_keys is for compiled bundles"):
        load(trusted_keys=[public])
    library = next(folder.glob("lib/*/libmodel.so"))
    whole = library.read_bytes()
    library.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match="SHA-256"):
        load(folder, trusted_keys=[public])
    library.write_bytes(whole)
    manifest.write_text(manifest.read_text().replace("A fake", "a fake") + " ")
    with pytest.raises(BundleError, match="or its manifest was changed"):
        load(folder, trusted_keys=[public])
    signature.unlink()
    signature.symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="leads out of the bundle"):
        load(folder, trusted_keys=[public])
