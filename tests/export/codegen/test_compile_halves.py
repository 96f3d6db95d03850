"""Float32 files compiled in bf16: alone, beside float32, read back, and refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

import onnx
from kit import onnx_files as onnx_kit
from kit.compiled import prepared

from shiftedge.__main__ import main
from shiftedge.export.agreement import moving_images
from shiftedge.export.compiler import compile as compiling
from shiftedge.export.compiler.backends.cpu import devices
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.compile import build_library, compile_model, prepare
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.graph import Conv
from shiftedge.export.compiler.sources import read_model, read_sources
from shiftedge.export.compiler.targets import (
    TARGETS,
    find_target,
    find_variant,
    precisions_of,
    runs_here,
    variants_of,
)
from shiftedge.export.compiler.verify import proof
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import BundleError, CompileError, VerificationError
from shiftedge.runtime.manifest import SelfTest
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

(HALF,) = variants_of(TARGETS["x86-64-v4"], "bf16")
V4 = find_variant("x86-64-v4")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution over the frame, an inverted residual, a shift, and a tail."""

    def block(b: onnx_kit.Builder, x: str) -> str:
        y = b.op("Relu", b.conv(x, 32, 8))
        y = b.op("Relu", b.conv(y, 32, 32, 3, groups=32))
        return b.op("Add", x, b.conv(y, 8, 32))

    def tail(b: onnx_kit.Builder, x: str) -> str:
        y = b.op("GlobalAveragePool", b.op("Relu", b.conv(x, 48, 8)))
        return b.op("Gemm", b.op("Flatten", y), b.random(4, 48), b.random(4), transB=1)

    def described(document: Any) -> None:
        onnx.helper.set_model_props(document, {METADATA_KEY: onnx_kit.SPEC.to_json()})

    path = tmp_path_factory.mktemp("float32") / "my.onnx"
    path.write_bytes(onnx_kit.model(block, features=tail, change=described))
    return path


@pytest.fixture(scope="module")
def both(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("both") / "b"
    return compile_model(
        file, folder, target="x86-64-v4", precision="fp32,bf16", use_cache=False
    ).bundle


def test_the_manifest(both: Bundle, file: Path) -> None:
    manifest = both.manifest
    assert [each.precision for each in manifest.variants] == ["bf16", "fp32"]
    half, full = manifest.builds["bf16"], manifest.builds["fp32"]
    assert half.source_sha256 == full.source_sha256
    assert full.spec == read_model(file)[1]
    assert half.spec.precision == "bf16"
    assert {state.dtype for state in half.spec.states} == {"bfloat16"}
    assert 2 * half.spec.state_bytes == full.spec.state_bytes
    assert half.memory["weights_bytes"] < full.memory["weights_bytes"]
    assert half.numerics["states"] == "bit for bit"
    states = [row for row in half.numerics["comparisons"] if row["tensor"] != "logits"]
    assert len(states) == len(half.spec.states)
    assert all(row["worst"] == 0 and row["scale"] > 0 for row in states)
    assert 0 < half.numerics["onnxruntime"]["relative_error"] < 0.1, "what rounding loses"
    # The processor's own instructions too, within a bound, where there are such.
    assert half.numerics["code"].startswith("the same kernels generated for ")
    assert ("instructions" in half.numerics) is runs_here(HALF)
    own = half.numerics.get("instructions", {"states": "within roundings of bf16", "passed": True})
    assert own["states"] == "within roundings of bf16"
    assert own["passed"] is True
    assert half.selftest is not None
    assert 1e-4 < half.selftest.tolerance < 0.2


def test_a_cpu_without_the_instruction_runs_float32(both: Bundle) -> None:
    without = both.variant("x86_64", V4.features)
    assert without.precision == "fp32"
    assert both.variant("x86_64", HALF.features).precision == "bf16"
    with pytest.raises(BundleError, match="needs a CPU with avx512_bf16, which this one has not"):
        both.variant("x86_64", V4.features, precision="bf16")


@pytest.fixture(scope="module")
def library(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bf16 kernels, generated for this machine."""
    (source,) = read_sources([file], "bf16")
    step, places = prepared(source.data, source.spec, HALF)
    here = replace(find_variant("host").using(unit=HALF.unit), precision="bf16")
    path = tmp_path_factory.mktemp("half") / "libmodel.so"
    build_library(step, places, source.compiled_spec, here, path)
    return path


def test_snapshots(library: Path) -> None:
    """A block that was saved goes on as the stream did, and a block of zeros is a fresh one."""
    engine = NativeEngine(library, threads=1)
    assert engine.spec.precision == "bf16"
    images = moving_images(engine.spec, 6)
    session, other = engine.open_session(), engine.open_session()
    first = [session.step(image) for image in images[:3]]
    other.load(session.save())
    for image in images[3:]:
        assert np.array_equal(session.step(image), other.step(image))
    session.reset()
    assert np.array_equal([session.step(image) for image in images[:3]], first)


def test_the_specs_states_are_those_of_the_block(library: Path) -> None:
    """What the spec says of the elements reads them: the first state is a map's first channels."""
    engine = NativeEngine(library, threads=1)
    session = engine.open_session()
    for image in moving_images(engine.spec, 2):
        session.step(image)
    block = np.frombuffer(session.save(), np.uint8)[64:]
    state = engine.spec.states[0]
    numbers = state.numbers(block[: state.bytes].view(np.uint16))
    assert numbers.dtype == np.float32
    assert np.isfinite(numbers).all()
    assert 0 < np.abs(numbers).max() < 100
    assert ModelSpec.from_json(engine.spec.to_json()) == engine.spec


class Told:
    """A proof that only says what it was asked."""

    def __init__(self, needs_plain: bool) -> None:
        self.needs_plain = needs_plain

    def self_test(self) -> SelfTest:
        return SelfTest("clip", 0.1, ())

    def of(self, step: object, places: object, library: Path, *, plain: bool) -> dict[str, Any]:
        return {"library": library.parent.name == "target", "plain": plain}


@pytest.mark.parametrize("here", [True, False], ids=["runs here", "does not run here"])
@pytest.mark.parametrize("needs_plain", [True, False])
def test_what_is_proven_where(
    needs_plain: bool, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain lowering on every machine, the instructions too where there are such."""
    built, tested = [], []
    monkeypatch.setattr(proof, "runs_here", lambda target: here)
    monkeypatch.setattr(proof, "check_self_test", lambda library, *_: tested.append(library))
    told, library = Told(needs_plain), Path("target/libmodel.so")
    nothing: Any = None
    document = proof.verified(
        told, told.self_test(), nothing, HALF, nothing, nothing, library,
        lambda *arguments: built.append(arguments[3]),
    )  # fmt: skip
    own = {"library": True, "plain": False, "code": "the target's"}
    assert document["verified"] is True
    if here and not needs_plain:
        assert {**document, "verified": True} == {**own, "verified": True}
        assert (built, tested) == ([], [library])
        return
    assert not document["library"]
    assert document["plain"]
    assert document["code"] == f"the same kernels generated for {find_variant('host').device.name}"
    assert document.get("instructions") == (own if here else None)
    assert len(built) == 1
    assert "vdpbf16ps" not in built[0].dots
    assert len(tested) == 1 + here


@pytest.mark.hosts
def test_a_wrong_weight_is_found(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit of the lowest of some weights, of eight that bfloat16 has: less than it loses."""

    def wrong(*arguments: object) -> object:
        step, places = prepare(*arguments)  # type: ignore[arg-type]
        name = next(n for n, each in step.constants.items() if each.dtype == np.int32)
        changed = step.constants[name].copy()
        changed.flat[::7] ^= 1
        return replace(step, constants={**step.constants, name: changed}), places

    monkeypatch.setattr(compiling, "prepare", wrong)
    with pytest.raises(VerificationError, match="differs between the graph / its kernels"):
        compile_model(file, tmp_path / "b", target="x86-64-v4", precision="bf16", use_cache=False)
    assert list(tmp_path.iterdir()) == []


def test_the_processors_own_instructions(file: Path) -> None:
    """What is made for AVX512_BF16: products by its instruction, nothing converted between."""
    data, spec = read_model(file)
    step, _ = prepared(data, spec, HALF)
    code = tir.compile_kernels(step.kernels, HALF.llvm(), HALF.unit.lanes, HALF.dots)
    loops = _innermost_loops(code.text("asm"))
    found = [loop for loop in loops if loop["vdpbf16ps"]]
    assert found
    for loop in found:
        assert not [name for name in loop if name.startswith(("vcvt", "vpmovzx", "vpslld"))]
    assert "vcvtneps2bf16" in code.text("asm")


def _innermost_loops(assembly: str) -> list[Counter[str]]:
    """How often each instruction stands in each loop that holds no other: from a label to the jump
    back to it."""
    lines = [line.strip() for line in assembly.splitlines()]
    places = {line[:-1]: number for number, line in enumerate(lines) if line.endswith(":")}
    spans = []
    for number, line in enumerate(lines):
        words = line.split()
        if len(words) == 2 and words[0].startswith("j") and places.get(words[1], number) < number:
            spans.append((places[words[1]], number))
    inner = [
        span
        for span in spans
        if not any(other != span and span[0] <= other[0] <= other[1] <= span[1] for other in spans)
    ]
    return [
        Counter(line.split()[0] for line in lines[first:last] if line and not line.endswith(":"))
        for first, last in inner
    ]


# What is refused.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precision", "bf16", "--target", "x86-64-v3"), "x86-64-v3 (x86-64-v3) has no instruc"),
        (("--precision", "bf16", "--target", "rpi5"), "has no instruction that multiplies bf16"),
        (("--precision", "bf16,auto"), "There is no precision 'bf16,auto'; expected one of auto"),
        (("--precision", "bf16,int8"), "make an int8 file with `shiftedge quantize"),
    ],
)
def test_refusals(
    words: tuple[str, ...],
    message: str,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["compile", str(file), *words, "--output", str(tmp_path / "b")]
    assert main([*line, "--no-cache"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert message in said
    assert list(tmp_path.iterdir()) == []


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    host = replace(TARGETS["x86-64-v4"], name="host")
    monkeypatch.setattr(devices, "machine_name", lambda: "x86_64")
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset(V4.features))
    assert precisions_of(host) == ("int8", "fp32")
    with pytest.raises(CompileError, match=r"^This machine has no instruction that multiplies"):
        variants_of(host, "bf16")
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset(HALF.features))
    assert precisions_of(host) == ("int8", "bf16", "fp32")
    assert variants_of(host, "bf16")[0].features == HALF.features


def test_targets() -> None:
    assert HALF.name == "x86-64-v4-avx512bf16-bf16"
    assert HALF.llvm()["mattr"] == ["+avx512bf16"]
    assert set(HALF.features) - set(V4.features) == {"avx512_bf16"}
    with_it = [name for name, each in TARGETS.items() if "bf16" in precisions_of(each)]
    assert with_it == ["x86-64-v4", "x86-64"]
    assert "bf16" in precisions_of(find_target("host")) or not runs_here(HALF)


def test_nodes_without_names(tiny_onnx: Path) -> None:
    """Which weights were rounded is told by the values that convolutions make: ONNX asks for no
    names of nodes, and a file may have none."""
    (source,) = read_sources([tiny_onnx], "bf16")
    graph = read_onnx(source.data, source.spec)
    convs = [each for each in graph.operators if isinstance(each, Conv)]
    assert {each.name for each in convs} == {""}
    step, _ = prepare(graph, source.spec, HALF)
    proof.proof_of(source, graph, step)
