"""Quantised files compiled for real: alone, beside their float32 file, and refused.

A small MobileNetV2 and its QDQ form of tests/export/qdq_kit.py, whose ranges are a few frames'.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import hosts

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

import onnx
from kit.qdq import quantized, with_equal_std

from shiftedge.__main__ import main
from shiftedge.export.agreement import moving_images, normalised
from shiftedge.export.compiler import compile as compiling
from shiftedge.export.compiler.backends.cpu import devices
from shiftedge.export.compiler.compile import compile_model, prepare
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.numerics.precision import INT8
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.targets import (
    TARGETS,
    find_target,
    find_variant,
    precisions_of,
    runs_here,
    variants_of,
)
from shiftedge.export.compiler.verify import agreement as check
from shiftedge.export.compiler.verify import proof
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.runtime import bundle as bundle_module
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import CompileError, ShiftedgeError, SnapshotError, VerificationError
from shiftedge.runtime.loading import load
from shiftedge.runtime.selftest import self_test_clip
from shiftedge.runtime.spec import METADATA_KEY

NAME = "mobilenet-0.5@112x112"

pytestmark = hosts.only_where(
    "int8" in precisions_of(find_target("host")),
    "on Carmel and 32-bit ARM no integer code is quicker than float32",
)


@pytest.fixture(scope="module")
def files(
    exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The float32 file and the int8 one."""
    source = exported(NAME)
    data, spec = read_model(source)
    spec = with_equal_std(spec)
    images = moving_images(spec, 3)
    model, changed = quantized(data, spec, normalised(images, spec))
    document = onnx.load_model_from_string(model)
    (entry,) = (each for each in document.metadata_props if each.key == METADATA_KEY)
    entry.value = changed.to_json()
    path = tmp_path_factory.mktemp("int8") / "m-int8.onnx"
    onnx.save(document, path)
    return source, path


@pytest.fixture(scope="module")
def mixed(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("mixed") / "b"
    return compile_model(list(files), folder, use_cache=False).bundle


def test_the_manifest(mixed: Bundle, files: tuple[Path, Path]) -> None:
    manifest = mixed.manifest
    assert [variant.precision for variant in manifest.variants] == ["int8", "fp32"]
    assert list(manifest.builds) == ["int8", "fp32"]
    integers, floats = manifest.builds["int8"], manifest.builds["fp32"]
    assert integers.spec == read_model(files[1])[1]
    assert floats.spec == read_model(files[0])[1]
    assert integers.numerics["states"] == "bit for bit"
    states = [row for row in integers.numerics["comparisons"] if row["tensor"] != "logits"]
    assert len(states) == len(integers.spec.states)
    assert all(row["worst"] == 0 and row["scale"] > 20 for row in states), "codes, all alike"
    assert 0 < integers.numerics["onnxruntime"]["relative_error"] < proof.ABSURD
    assert "states" not in floats.numerics
    assert floats.numerics["verified"]
    assert integers.memory["weights_bytes"] < floats.memory["weights_bytes"]
    assert integers.source_sha256 != floats.source_sha256


def test_the_self_test_is_of_the_integers(mixed: Bundle, files: tuple[Path, Path]) -> None:
    data, spec = read_model(files[1])
    reference = Evaluator(read_onnx(data, spec), spec, INT8)
    test = mixed.manifest.builds["int8"].selftest
    assert test is not None
    clip = self_test_clip(spec.height, spec.width)
    expected = np.stack([reference.step(image).logits for image in clip])
    assert np.array_equal(np.array(test.logits, np.float32), expected)
    assert test.tolerance == 1e-4
    floats = mixed.manifest.builds["fp32"].selftest
    assert floats is not None
    assert not np.allclose(np.array(floats.logits, np.float32), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_boards_program(mixed: Bundle, precision: str) -> None:
    """Its self-test passes, and over a film its logits are Python's to the bit."""
    variant = mixed.variant(precision=precision)
    program = mixed.folder / "bin" / variant.name / "shiftedge-run"
    done = subprocess.run(
        [program, "--self-test", "--frames", "2"], capture_output=True, check=True
    )
    line = json.loads(done.stdout)
    assert (line["self_test"], line["variant"]) == ("passed", variant.name)
    assert line["worst_relative_error"] <= 1e-5
    model = load(mixed.folder, precision=precision)
    spec = model.spec
    images = moving_images(spec, 30)
    out = mixed.folder.parent / f"logits-{precision}"
    size = f"{spec.width}x{spec.height}"
    rate = str(spec.frame_rate_hz)
    words = [program, "--size", size, "--fps", rate, "--logits", out]
    subprocess.run([*map(str, words)], input=images.tobytes(), capture_output=True, check=True)
    stream = model.stream()
    expected = np.stack([stream.step(image) for image in images])
    found = np.fromfile(out, np.float32).reshape(-1, spec.classes)
    assert np.array_equal(found, expected)


def test_a_cpu_without_the_instructions(mixed: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = mixed.manifest.variants
    few = frozenset(variants[1].features) - {variants[0].features[-1]}
    changed = replace(
        mixed.manifest,
        variants=(variants[0], replace(variants[1], features=tuple(sorted(few)))),
    )
    monkeypatch.setattr(bundle_module, "cpu_features", lambda: few)
    bundle = Bundle(mixed.folder, changed)
    assert bundle.variant().precision == "fp32"
    with pytest.raises(ShiftedgeError, match="needs a CPU with"):
        bundle.variant(precision="int8")


def test_snapshots_between_precisions(mixed: Bundle) -> None:
    streams = [load(mixed.folder, precision=name).stream() for name in ("int8", "fp32")]
    for one, other in (streams, streams[::-1]):
        with pytest.raises(SnapshotError, match="of another model"):
            other.restore(one.snapshot())


def test_a_fresh_stream_and_a_reset_are_alike(mixed: Bundle) -> None:
    """States of codes are kept less their zero point, so a block of zeros is a fresh stream."""
    model = load(mixed.folder, precision="int8")
    images = moving_images(model.spec, 4)
    stream = model.stream()
    first = [stream.step(image) for image in images]
    stream.reset()
    assert np.array_equal([stream.step(image) for image in images], first)


def test_a_wrong_code_is_found(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some weights of one kernel a step off, of 127: less than ONNX Runtime's roundings."""

    def wrong(*arguments: object) -> object:
        step, places = prepare(*arguments)  # type: ignore[arg-type]
        name = next(n for n, each in step.constants.items() if each.dtype == np.int32)
        changed = step.constants[name].copy()
        changed.flat[::5] += 1
        return replace(step, constants={**step.constants, name: changed}), places

    monkeypatch.setattr(compiling, "prepare", wrong)
    with pytest.raises(VerificationError, match="differs between integers in numpy / compiled"):
        compile_model(files[1], tmp_path / "b", use_cache=False)
    assert not (tmp_path / "b").exists()


def test_a_misread_file_is_found(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own run of the file has the last word on what it means."""
    outputs = proof.onnx_outputs

    def another(*arguments: object) -> object:
        for each in outputs(*arguments):  # type: ignore[arg-type]
            yield {**each, "logits": -each["logits"]}

    monkeypatch.setattr(proof, "onnx_outputs", another)
    with pytest.raises(VerificationError, match="differ from ONNX Runtime's run of the same file"):
        compile_model(files[1], tmp_path / "b", use_cache=False)
    assert not (tmp_path / "b").exists()


def test_layers_kept_in_float(exported: Callable[[str], Path]) -> None:
    """A sum of float32 that is rounded to a code may fall on either side: told in the manifest."""
    data, spec = read_model(exported(NAME))
    spec = with_equal_std(spec)
    frames = normalised(moving_images(spec, 3), spec)
    model, changed = quantized(data, spec, frames, kept=(0,))
    graph = read_onnx(model, changed)
    assert check.quantized_tolerance(graph) == check.FLIPPED
    whole, same = quantized(data, spec, frames)
    assert check.quantized_tolerance(read_onnx(whole, same)) == 0


# What is refused.


@pytest.mark.parametrize(
    ("which", "words", "message"),
    [
        ((0,), ("--precision", "int8"), "make an int8 file with `shiftedge quantize"),
        ((1,), ("--precision", "fp32"), "is quantised to int8, and fp32 is asked for"),
        ((1,), ("--precision", "bf16"), "is quantised to int8, and bf16 is asked for"),
        ((0,), ("--precision", "int4"), "There is no precision 'int4'; expected one of auto"),
        ((0, 1), ("--precision", "int8"), "is fp32, and nothing that is asked for (int8) is made"),
        ((1, 1), (), "are both int8; a bundle has one model of each precision"),
        ((1,), ("--target", "rpi3-armv7"), "for rpi3-armv7 (cortex-a15) there is no int8 code"),
        ((0, 1), ("--target", "rpi3-armv7"), "compile the float32 model for it"),
    ],
)
def test_refusals(
    files: tuple[Path, Path], which: tuple[int, ...], words: tuple[str, ...], message: str,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    line = ["compile", *(str(files[index]) for index in which), *words]
    assert main([*line, "--no-cache", "--output", str(tmp_path / "b")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert message in said
    assert said.endswith(".")
    assert list(tmp_path.iterdir()) == []


def test_files_of_two_models(
    files: tuple[Path, Path], exported: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(
        CompileError, match=r"differ in .*height.*, so they are not one model in two"
    ):
        compile_model([exported("own@64x48"), files[1]], tmp_path / "b")


# Which variants there are.


def test_variants_of_targets() -> None:
    def of(name: str) -> list[tuple[str, str | None]]:
        found = []
        for each in variants_of(TARGETS[name], "int8"):
            assert each.precision == "int8"
            found.append((each.name, each.unit.dot.kind if each.unit.dot else None))
        return found

    assert of("x86-64-v3") == [
        ("x86-64-v3-avxvnni-int8", "vpdpbusd"),
        ("x86-64-v3-int8", "pmaddwd"),
    ]
    assert of("x86-64-v4") == [
        ("x86-64-v4-avx512vnni-int8", "vpdpbusd"),
        ("x86-64-v4-int8", "pmaddwd"),
    ]
    better, plain = variants_of(TARGETS["x86-64-v4"], "int8")
    assert set(better.features) - set(plain.features) == {"avx512_vnni", "avx512_vbmi2"}
    assert better.llvm()["mattr"] == ["+avx512vnni", "+avx512vbmi2"]
    for name in ("rpi5", "jetson-orin-nano"):
        ((variant, kind),) = of(name)
        assert (variant.endswith("-int8"), kind) == (True, "sdot")
        assert "asimddp" in variants_of(TARGETS[name], "int8")[0].features
    assert of("rpi3") == [("cortex-a53-int8", "smlal")]
    assert of("rpi4") == [("cortex-a72-int8", "smlal")]
    assert of("jetson-nano") == of("jetson-tx2") == [("cortex-a57-int8", "smlal")]
    assert of("aarch64") == [("cortex-a76-int8", "sdot"), ("cortex-a72-int8", "smlal")]
    for name in ("rpi3", "rpi4", "jetson-nano"):
        assert variants_of(TARGETS[name], "int8")[0].features == ("asimd",)
    halves = {"rpi3-armv7": (), "jetson-xavier-nx": ("fp16",)}  # of its GPU
    for name, more in halves.items():
        assert precisions_of(TARGETS[name]) == (*more, "fp32")
        with pytest.raises(CompileError, match="compile the float32 model for it"):
            variants_of(TARGETS[name], "int8")
    for target in TARGETS.values():
        variants = variants_of(target, "fp32")
        assert tuple(each.device for each in variants) == target.devices


@pytest.mark.hosts
def test_the_hosts_variant_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    (variant,) = variants_of(find_target("host"), "int8")
    assert runs_here(variant)
    host = replace(TARGETS["x86-64-v4"], name="host")
    monkeypatch.setattr(devices, "machine_name", lambda: "x86_64")
    for more, expected in (
        (("avx512_vnni", "avx512_vbmi2"), "x86-64-v4-avx512vnni-int8"),
        (("avx512_vnni",), "x86-64-v4-int8"),
        ((), "x86-64-v4-int8"),
    ):
        features = frozenset((*host.devices[0].features, *more))
        monkeypatch.setattr(devices, "cpu_features", lambda features=features: features)
        (variant,) = variants_of(host, "int8")
        assert variant.name == expected


def test_wide_vectors_of_a_stand_in() -> None:
    """16 lanes of pmaddwd are no instruction of AVX2."""
    narrow, wide = find_variant("x86-64-v3"), find_variant("x86-64-v4")
    assert narrow.dots == wide.dots == ("pmaddwd",)
    assert narrow.using(unit=wide.unit).dots == ()


def test_list_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--list-targets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["rpi3-armv7"]["precisions"] == ["fp32"]
    assert rows["rpi4"]["precisions"] == ["int8", "fp32"]
    assert rows["x86-64-v4"]["precisions"] == ["int8", "bf16", "fp32"]
    names = [variant["name"] for variant in rows["x86-64-v4"]["variants"]]
    assert names == [
        "x86-64-v4-avx512vnni-int8",
        "x86-64-v4-int8",
        "x86-64-v4-avx512bf16-bf16",
        "x86-64-v4",
    ]
