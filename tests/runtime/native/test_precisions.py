"""Bundles of several precisions: which variant runs, in Python and in C, and what is refused.

The fake model stands for both precisions; its libraries differ in weights, spec and fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.fake_bundle import write_bundle, write_mixed
from kit.runner import Runners, run_frames
from numpy.typing import NDArray

from shiftedge.__main__ import main
from shiftedge.runtime.errors import BundleError, SettingError, ShiftedgeError, SnapshotError
from shiftedge.runtime.loading import load
from shiftedge.runtime.process.cpu import WITHOUT, machine_name

pytestmark = pytest.mark.timeout(120, method="thread")

IMPOSSIBLE = {"int8": ("not_a_feature",)}


@pytest.fixture(scope="module")
def libraries(build_fake: Callable[..., Path], fake_path: Path) -> dict[str, Path]:
    """By precision, the quicker first."""
    return {"int8": build_fake("-DFAKE_INT8", "-DFAKE_FINGERPRINT=77"), "fp32": fake_path}


@pytest.fixture(scope="module")
def unable(build_fake: Callable[..., Path], fake_path: Path) -> dict[str, Path]:
    """The same for a CPU without the integers' instructions, which the library itself finds out."""
    flags = ("-DFAKE_INT8", "-DFAKE_FINGERPRINT=77", '-DFAKE_CPU_FEATURES="not_a_feature"')
    return {"int8": build_fake(*flags), "fp32": fake_path}


@pytest.fixture
def mixed(libraries: dict[str, Path], runners: Runners, tmp_path: Path) -> Path:
    return write_mixed(tmp_path / "mixed", libraries, runners=runners)


def self_test(*line: str | Path) -> dict[str, object]:
    run = run_frames([*line, "--frames", "1"], b"")
    assert run.returncode == 0, run.stderr
    said: dict[str, object] = json.loads(run.stdout)
    return said


def test_the_first_that_this_cpu_can_run_is_loaded(mixed: Path) -> None:
    model = load(mixed)
    assert model.spec.precision == "int8"
    assert [state.dtype for state in model.spec.states] == ["uint8", "float32"]
    assert load(mixed, precision="int8").spec == model.spec
    assert load(mixed, precision="fp32").spec.precision == "fp32"


def test_a_cpu_without_the_instructions_falls_to_the_next(
    libraries: dict[str, Path], tmp_path: Path
) -> None:
    folder = write_mixed(tmp_path / "b", libraries, IMPOSSIBLE)
    assert load(folder).spec.precision == "fp32"
    with pytest.raises(BundleError, match="needs a CPU with not_a_feature, which this one has not"):
        load(folder, precision="int8")
    with pytest.raises(BundleError, match="is compiled in int8 and fp32, and bf16 is asked for"):
        load(folder, precision="bf16")


COMMON = {"x86_64": "sse2", "aarch64": "asimd", "armv7l": "neon"}
"""What every CPU of an architecture that we run on has."""


def test_the_environment_leads_all_to_the_same_variant(
    build_fake: Callable[..., Path], libraries: dict[str, Path], runners: Runners, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Python by the manifest, the runner by what the library says, and no other in silence."""
    needed = COMMON[machine_name()]
    flags = ("-DFAKE_INT8", "-DFAKE_FINGERPRINT=77", f'-DFAKE_CPU_FEATURES="{needed}"')
    mixed = {"int8": build_fake(*flags), "fp32": libraries["fp32"]}
    folder = write_mixed(tmp_path / "b", mixed, {"int8": (needed,)})
    runner = runners.of(folder)
    for without, chosen in (("", "int8"), (needed, "fp32")):
        monkeypatch.setenv(WITHOUT, without)
        assert load(folder).spec.precision == chosen
        said = self_test(runner, "--self-test", "--model", folder)
        assert said["variant"] == f"any-{chosen}"
    with pytest.raises(BundleError, match=f"needs a CPU with {needed}, which this one has not"):
        load(folder, precision="int8")
    monkeypatch.setenv(WITHOUT, "quantum")
    with pytest.raises(SettingError, match="names 'quantum', which is no CPU feature"):
        load(folder)
    run = run_frames([runner, "--self-test", "--model", folder], b"")
    assert run.returncode == 1
    assert f"{WITHOUT} names quantum, which is no CPU feature" in run.stderr.decode()
    assert run.stderr.count(b"\n") == 1


def test_a_cpu_that_can_run_none_is_told_so(libraries: dict[str, Path], tmp_path: Path) -> None:
    variants = [("only", platform.machine(), IMPOSSIBLE["int8"])]
    folder = write_bundle(tmp_path / "b", libraries["int8"], variants=variants)
    with pytest.raises(BundleError, match="needs a CPU with not_a_feature"):
        load(folder)


def test_the_runner_takes_the_same_variant(
    mixed: Path, unable: dict[str, Path], runners: Runners, tmp_path: Path
) -> None:
    """The library says what it needs, whatever a manifest leaves out."""
    said = self_test(runners.of(mixed), "--self-test", "--model", mixed)
    assert said["variant"] == "any-int8"
    other = with_a_library_that_refuses(tmp_path, mixed, unable)
    said = self_test(runners.of(other), "--self-test", "--model", other)
    assert said["variant"] == "any-fp32"


def with_a_library_that_refuses(tmp_path: Path, mixed: Path, unable: dict[str, Path]) -> Path:
    """The mixed bundle with an integer library that refuses this CPU."""
    folder = tmp_path / "unable"
    shutil.copytree(mixed, folder)
    name = "lib/any-int8/libmodel.so"
    data = unable["int8"].read_bytes()
    (folder / name).write_bytes(data)
    document = json.loads((folder / "manifest.json").read_text())
    document["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_each_variants_own_program(mixed: Path, precision: str) -> None:
    """It runs its own library, and finds that precision's self-test."""
    program = mixed / "bin" / f"any-{precision}" / "shiftedge-run"
    assert self_test(program, "--self-test")["variant"] == f"any-{precision}"


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_self_test_is_of_one_precision(mixed: Path, runners: Runners, precision: str) -> None:
    """The other precision's logits are not looked at, wherever they stand."""
    document = json.loads((mixed / "manifest.json").read_text())
    own = document if precision == "int8" else document["others"]["fp32"]
    other = document["others"]["fp32"] if precision == "int8" else document
    other["selftest"]["logits"][0][0] += 1e3
    model = mixed / "lib" / f"any-{precision}" / "libmodel.so"

    def run() -> subprocess.CompletedProcess[bytes]:
        (mixed / "manifest.json").write_text(json.dumps(document))
        return run_frames([runners.of(mixed), "--self-test", "--model", model], b"")

    assert run().returncode == 0
    own["selftest"]["logits"][0][0] += 1e3
    assert run().returncode == 1
    del own["selftest"]
    assert b"has no recorded self-test" in run().stderr


@pytest.mark.parametrize("damage", ["twice", "deep", "no object", "precision"])
def test_damaged_builds(mixed: Path, damage: str) -> None:
    document = json.loads((mixed / "manifest.json").read_text())
    text = json.dumps(document)
    if damage == "twice":
        both = {**document["others"], "more": document["others"]["fp32"]}
        text = json.dumps({**document, "others": both})
    elif damage == "deep":
        text = text.replace('"others": {', '"others": {' + '"a": {"others": ' * 5000 + "{", 1)
        text += "}}" * 5000
    elif damage == "no object":
        text = json.dumps({**document, "others": [1]})
    else:
        document["others"]["fp32"]["spec"]["precision"] = "x" * 99
        text = json.dumps(document)
    (mixed / "manifest.json").write_text(text)
    with pytest.raises(ShiftedgeError):
        load(mixed)


def test_snapshots_between_precisions(mixed: Path, native_frames: list[NDArray[np.uint8]]) -> None:
    """Codes read as numbers would be another stream: told apart by the libraries' digests."""
    streams = {name: load(mixed, precision=name).stream() for name in ("int8", "fp32")}
    for stream in streams.values():
        stream.step(native_frames[0])
    for one, other in (("int8", "fp32"), ("fp32", "int8")):
        with pytest.raises(SnapshotError, match="of another model"):
            streams[other].restore(streams[one].snapshot())
    streams["int8"].restore(streams["int8"].snapshot())


def test_libraries_of_the_other_precision(libraries: dict[str, Path], tmp_path: Path) -> None:
    """Swapped after the manifest was written, with sums that fit: the specs tell."""
    folder = write_mixed(tmp_path / "b", libraries)
    document = json.loads((folder / "manifest.json").read_text())
    names = [f"lib/any-{precision}/libmodel.so" for precision in ("int8", "fp32")]
    a, b = (folder / name for name in names)
    a_data, b_data = a.read_bytes(), b.read_bytes()
    a.write_bytes(b_data)
    b.write_bytes(a_data)
    files = document["files"]
    files[names[0]], files[names[1]] = files[names[1]], files[names[0]]
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="one spec in its manifest and another in lib/any-int8"):
        load(folder)


def test_inspect(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(mixed)]) == 0
    text = capsys.readouterr().out
    for line in (
        "precisions       int8, fp32",
        "on this machine  runs any-int8 in int8",
        "any-fp32  fp32, ",
        "memory of int8",
        "numerics of fp32 the compiled step against the ONNX file",
        "uint8, 0.5 * (q - 3)",
    ):
        assert line in text


def test_run_takes_a_precision(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(mixed), "--source", "synthetic:moving?seconds=0.2", "--precision"]
    assert main([*words, "fp32"]) == 0
    assert main([*words, "bf16"]) == 1
    assert "compiled in int8 and fp32, and bf16 is asked for" in capsys.readouterr().err
    assert main([*words, "int4"]) == 1
    said = capsys.readouterr().err
    assert "There is no precision 'int4'; known are fp32, bf16, fp16, int8." in said
