"""The native runtime as C programs: sanitizers, warnings, symbols, every compiler at hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kit.fake_library import (
    DRIVER,
    FAKE,
    HERE,
    LIBRARY,
    NATIVE,
    RUNTIME,
    Fake,
    build,
    compilers,
    run_program,
    wait_until,
)

TARGETS = ("x86_64-linux-gnu.2.27", "aarch64-linux-gnu.2.27", "arm-linux-gnueabihf.2.27")
PARTS = 9
"""Lines "ok ..." of driver.c."""


def run_driver(path: Path) -> None:
    # A sanitizer's findings end the program, and its own settings come from here alone.
    keep = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    own = {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=1"}
    run = run_program([path], environment={**keep, **own})
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    assert run.stdout.count("ok ") == PARTS


def test_a_child_that_hangs_dies_with_its_test(tmp_path: Path) -> None:
    told = tmp_path / "child"
    line = ["sh", "-c", f"sleep 1000 & echo $! > {told}; wait"]
    with pytest.raises(subprocess.TimeoutExpired):
        run_program(line, timeout_s=1)
    child = Path("/proc") / told.read_text().strip() / "stat"

    def gone() -> bool:
        try:
            return child.read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    wait_until(gone)


def test_driver(compiler: list[str], tmp_path: Path) -> None:
    run_driver(build(compiler, tmp_path / "driver", [*RUNTIME, *DRIVER]))


@pytest.mark.parametrize(
    "sanitizer", ["address,undefined", "thread"], ids=["asan and ubsan", "tsan"]
)
def test_driver_under_a_sanitizer(sanitizer: str, tmp_path: Path) -> None:
    """With gcc or clang: zig brings no AddressSanitizer."""
    path = shutil.which("gcc") or shutil.which("clang")
    if path is None:
        pytest.skip("sanitizers need gcc or clang, and neither is installed")
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g", "-O1"]
    probe = tmp_path / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    line = [path, *flags, str(probe), "-o", str(tmp_path / "probe")]
    if subprocess.run(line, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"this {Path(path).name} has no -fsanitize={sanitizer}")
    started = run_program([tmp_path / "probe"], timeout_s=30)
    if started.returncode != 0:
        pytest.skip(f"this system does not run programs with -fsanitize={sanitizer}")
    run_driver(build([path], tmp_path / "driver", [*RUNTIME, *DRIVER], *flags))


def test_a_sanitizer_would_speak_up(tmp_path: Path) -> None:
    """A fake kernel's race, let in by not waiting for the one before: the harness must see it."""
    path = shutil.which("gcc")
    if path is None:
        pytest.skip("needs gcc")
    source = tmp_path / "step.c"
    text = (NATIVE / "cpu" / "step.c").read_text()
    waiting = "return pool_wait(cpu->pool, item, run, count, index);"
    assert waiting in text
    source.write_text(text.replace(waiting, "return true;"))
    runtime = [source if file.name == "step.c" else file for file in RUNTIME]
    flags = ["-fsanitize=thread", "-g", f"-I{NATIVE / 'cpu'}"]
    driver = build([path], tmp_path / "driver", [*runtime, *DRIVER], *flags)
    assert run_program([driver]).returncode != 0


@pytest.mark.parametrize("threads", [1, 2])
def test_the_measuring_program(compiler: list[str], tmp_path: Path, threads: int) -> None:
    path = build(compiler, tmp_path / "latency", [*RUNTIME, HERE / "latency.c"])
    run = run_program([path, str(threads), "200", "1"], timeout_s=60)
    assert run.returncode == 0
    assert "step of 18 empty kernels" in run.stdout


def test_symbols(compiler: list[str], tmp_path: Path) -> None:
    """exports.map shows the interface and nothing else, and the library needs libc alone."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    library = build(
        compiler,
        tmp_path / "libmodel.so",
        [*RUNTIME, *FAKE],
        *LIBRARY,
        f"-Wl,--version-script={NATIVE / 'exports.map'}",
    )
    output = subprocess.run(
        [nm, "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1].partition("@")[0] for line in output.splitlines()}
    headers = "".join((NATIVE / name).read_text() for name in ("shiftedge.h", "live.h"))
    declared = re.findall(r"SHIFTEDGE_API [^;]*?\b(shiftedge_\w+)\(", headers)
    assert names - {"MODEL"} == set(declared)
    assert len(declared) == len(set(declared)) == 16


def test_the_header_is_c_plus_plus_too(tmp_path: Path) -> None:
    program = shutil.which("g++") or shutil.which("clang++")
    if program is None:
        pytest.skip("no C++ compiler")
    source = tmp_path / "user.cpp"
    source.write_text('#include "live.h"\nint main() { return shiftedge_abi_version() == 0; }\n')
    line = [program, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}", str(source)]
    subprocess.run(line, check=True)


HEADERS = sorted(str(path.relative_to(NATIVE)) for path in NATIVE.rglob("*.h"))


@pytest.mark.parametrize("header", HEADERS)
def test_each_header_stands_alone(compiler: list[str], tmp_path: Path, header: str) -> None:
    source = tmp_path / "user.c"
    source.write_text(f'#include "{header}"\nint user(void);\nint user(void) {{ return 0; }}\n')
    build(compiler, tmp_path / "user.o", [source], "-c")


@pytest.mark.parametrize("name", ["clang", "zig"])
def test_another_compiler(name: str, tmp_path: Path) -> None:
    command = compilers().get(name)
    if command is None:
        pytest.skip(f"{name} is not installed")
    run_driver(build(command, tmp_path / "driver", [*RUNTIME, *DRIVER]))


@pytest.mark.parametrize("target", TARGETS)
def test_boards(target: str, tmp_path: Path) -> None:
    """Linked against the glibc that boards have: a newer symbol would be an error."""
    command = compilers().get("zig")
    if command is None:
        pytest.skip("zig is not installed: pip install ziglang")
    flags = ["-target", target, *LIBRARY, "-Wl,-z,defs"]
    build(command, tmp_path / "libmodel.so", [*RUNTIME, *FAKE], *flags)


GLOBALLY = """
import ctypes, os, sys
for path in sys.argv[1:]:
    library = ctypes.CDLL(path, os.RTLD_NOW | os.RTLD_GLOBAL)
    library.shiftedge_spec_json.restype = ctypes.c_char_p
for path in sys.argv[1:]:
    sys.path.insert(0, os.environ["KITS"])
    from kit.live_library import LiveLibrary
    library = LiveLibrary(path)
    stream = library.stream()
    generator = __import__("numpy").random.default_rng(1)
    logits = [
        stream.feed(generator.integers(0, 256, stream.frame_bytes, "uint8").tobytes(), i / 12)
        for i in range(5)
    ]
    print(library.spec["name"], logits)
"""


def test_models_that_are_loaded_globally(build_fake: Callable[..., Path], small_path: Path) -> None:
    """Each calls itself, whichever came first; the same as in a process of its own."""
    paths = [build_fake(), small_path]
    environment = {**os.environ, "KITS": str(HERE.parents[1])}

    def said(*order: Path) -> list[str]:
        line = [sys.executable, "-c", GLOBALLY, *order]
        run = run_program(line, environment=environment)
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()

    alone = [said(path)[0] for path in paths]
    assert [line.split()[0] for line in alone] == ["fake", "calm"]
    assert said(*paths) == alone
    assert said(*reversed(paths)) == alone[::-1]


def test_many_models_in_one_process(build_fake: Callable[..., Path]) -> None:
    """Two libraries side by side keep apart: each has its own program, errors and threads."""
    one, two = Fake(build_fake()), Fake(build_fake("-DFAKE_FINGERPRINT=7"))
    models = [library.open(2) for library in (one, two) for _ in range(20)]
    assert len(set(models)) == 40
    one.library.shiftedge_open(None, None)
    assert two.error() == ""
    for library in (one, two):
        for model in library.opened:
            library.close(model)


def test_no_file_is_longer_than_a_person_reads() -> None:
    for folder in (NATIVE, Path(__file__).parent):
        for path in folder.rglob("*"):
            if path.suffix in (".c", ".h"):
                assert len(path.read_text().splitlines()) < 500, path


def test_nothing_of_this_is_needed_to_import_the_engine() -> None:
    program = (
        "import sys\nbefore = set(sys.modules)\nimport shiftedge.runtime.engines.native\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    loaded = {name for name in run.stdout.split() if "cython" not in name}
    assert loaded <= {*sys.stdlib_module_names, "numpy", "shiftedge"}
