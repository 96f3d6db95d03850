"""libmodel.so as a file, and a compiled model in C under sanitizers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.compiled import ROOT, environment, library_of, prepared
from kit.elf import Elf

from shiftedge.export.compiler.backends.cpu.llvm.lower import compile_kernels
from shiftedge.export.compiler.compile import table_of
from shiftedge.export.compiler.kernel_ir.layout import weights
from shiftedge.export.compiler.link.program import WEIGHTS_FILE
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.targets import find_variant
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.engines.native import NativeEngine

Get = Callable[[str], Path]
NATIVE = ROOT / "runtime" / "native"
HERE = Path(__file__).parent
FRAMES = 20


# As a file.


@pytest.fixture
def elf(bundles: Get) -> Elf:
    return Elf(library_of(Bundle.open(bundles("gestures"))))


def test_it_needs_the_c_library_alone(elf: Elf) -> None:
    allowed = re.compile(r"lib(c|m|pthread)\.so\.6|libpthread\.so\.0|ld-linux[\w.-]*\.so\.\d")
    assert elf.needed()
    assert all(allowed.fullmatch(name) for name in elf.needed()), elf.needed()
    tags = {tag for tag, *_ in elf.dynamic()}
    assert not tags & {elf.RPATH, elf.RUNPATH}
    assert not elf.writes_to_its_code()
    assert not [name for name, _ in elf.symbols() if re.match("TVM|_?tvm|__asan|__ubsan", name)]


def test_it_shows_its_interface_alone(elf: Elf) -> None:
    shown = {name for name, defined in elf.symbols() if defined}
    headers = "".join((NATIVE / name).read_text() for name in ("shiftedge.h", "live.h"))
    declared = set(re.findall(r"SHIFTEDGE_API [^;]*?\b(shiftedge_\w+)\(", headers))
    assert shown == declared
    name = re.fullmatch(r"libmodel-([0-9a-f]{8})\.so", elf.soname() or "")
    assert name
    assert f"\0MODEL_{name[1]}\0".encode() in elf.data, "the version of its symbols"


def test_nothing_of_it_is_writable_and_executable(elf: Elf) -> None:
    flags = dict(elf.segments)
    assert flags[elf.GNU_STACK] & 1 == 0, "an executable stack"
    assert elf.GNU_RELRO in flags
    for kind, flag in elf.segments:
        assert kind != elf.LOAD or flag & 3 != 3, "a segment to write to and to run"


def test_it_tells_nothing_of_the_machine_that_made_it(elf: Elf) -> None:
    for path in (str(ROOT), "/tmp/", "weights.bin", "kernels.o"):
        assert path.encode() not in elf.data, path
    assert all(section[1] != elf.SYMTAB for section in elf.sections), (
        "a table of symbols for debuggers"
    )


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_no_address_is_made_in_a_vector(target: str, exported: Get) -> None:
    """LLVM computes the addresses of a tile's rows as one vector if it may, and takes them apart in
    the innermost loop: the bundled model's first convolution ran at a quarter of its speed."""
    chosen = find_variant(target)
    data, spec = read_model(exported("gestures"))
    step, _ = prepared(data, spec, chosen)
    assembly = compile_kernels(step.kernels, chosen.llvm(), chosen.unit.lanes).text("asm")
    assert assembly.count("vfmadd") > 1000
    assert not re.search(r"vpextr[dq]", assembly)


# In C.


@pytest.fixture(scope="module")
def sources(exported: Get, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that gives a folder with a model's kernels, table and weights."""
    folder = tmp_path_factory.mktemp("sources")

    def get(name: str) -> Path:
        made = folder / name
        if not made.exists():
            made.mkdir()
            target = find_variant("host")
            data, spec = read_model(exported(name))
            step, places = prepared(data, spec, target)
            code = compile_kernels(step.kernels, target.llvm(), target.unit.lanes)
            code.write(made / "kernels.o")
            (made / WEIGHTS_FILE).write_bytes(weights(step, places))
            (made / "table.c").write_text(table_of(step, places, spec, target))
        return made

    return get


def built(folder: Path, output: Path, *flags: str) -> Path:
    gcc = shutil.which("gcc") or shutil.which("clang")
    if gcc is None:
        pytest.skip("sanitizers need gcc or clang, and neither is installed")
    runtime = [path for part in (".", "cpu", "live") for path in (NATIVE / part).glob("*.c")]
    line = [gcc, "-std=c11", "-O1", "-g", "-pthread", *flags, f"-I{NATIVE}", f"-I{folder}"]
    line += [f"-Wa,-I{folder}", *map(str, runtime), str(HERE / "stream.c"), str(folder / "table.c")]
    line += [str(folder / "kernels.o"), "-lm", "-o", str(output)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode != 0 and re.search(r"cannot find .*(asan|tsan|ubsan)", done.stderr):
        pytest.skip(f"this {Path(gcc).name} has no {' '.join(flags)}")
    assert done.returncode == 0, done.stderr
    return output


def run(path: Path, threads: int, *shape: int) -> list[str]:
    own = environment(
        TSAN_OPTIONS="halt_on_error=1", ASAN_OPTIONS="detect_leaks=1", UBSAN_OPTIONS=""
    )
    words = [str(path), *map(str, (threads, FRAMES, *shape))]
    done = subprocess.run(words, capture_output=True, text=True, env=own, timeout=120, check=False)
    if "unexpected memory mapping" in done.stderr or "LeakSanitizer has encountered" in done.stderr:
        pytest.skip("this system does not run programs with this sanitizer")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["gestures", "own@64x48"])
@pytest.mark.parametrize(
    "sanitizer", ["address,undefined", "thread"], ids=["asan and ubsan", "tsan"]
)
def test_a_stream_under_a_sanitizer(
    name: str, sanitizer: str, sources: Get, bundles: Get, tmp_path: Path
) -> None:
    """The runtime is instrumented; kernels stand between the guard pages of the schedules' tests.

    And what it computes is what the bundle computes, bit for bit.
    """
    flags = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    path = built(sources(name), tmp_path / "stream", *flags)
    engine = NativeEngine(library_of(Bundle.open(bundles(name))), threads=1)
    spec = engine.spec
    lines = run(path, 1, spec.height, spec.width, spec.classes)
    assert len(lines) == FRAMES
    assert run(path, 3, spec.height, spec.width, spec.classes) == lines
    session = engine.open_session()
    for frame, line in zip(noise(spec.height, spec.width), lines, strict=True):
        logits = session.step(frame).view(np.uint32)
        assert [f"{bits:08x}" for bits in logits] == line.split()


def noise(height: int, width: int) -> Iterator[np.ndarray]:
    """The frames of stream.c: the upper bytes of a linear congruential sequence."""
    value, count = 1, height * width * 3
    factors = np.empty((2, count), np.uint64)  # value after i steps: a * value + c
    a, c = 1, 0
    for index in range(count):
        a, c = a * 1664525 % 2**32, (c * 1664525 + 1013904223) % 2**32
        factors[:, index] = a, c
    for _ in range(FRAMES):
        values = (factors[0] * np.uint64(value) + factors[1]) % np.uint64(2**32)
        value = int(values[-1])
        yield (values >> np.uint64(24)).astype(np.uint8).reshape(height, width, 3)
