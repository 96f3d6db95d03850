"""shiftedge-run and its bundle: a library is loaded if it is the one that was compiled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit.damage import LIBRARY_NAME, MACHINE, PAGE, flipped, is_sentence, shortened
from kit.fake_bundle import write_bundle
from kit.fake_library import HERE, LIBRARY, NATIVE, build, compilers
from kit.runner import RUNNER, SANITIZERS, Runners, run_frames

from shiftedge.export.compiler.link.library import runner_table
from shiftedge.runtime.manifest import Manifest

pytestmark = pytest.mark.timeout(120, method="thread")

FRAMES = bytes(3 * 8 * 8 * 3)
"""Three frames."""


@pytest.fixture
def folder(runners: Runners, small_path: Path, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small-plain", small_path, runners=runners)


@pytest.fixture
def program(folder: Path) -> Path:
    """The runner where it lies in its bundle."""
    return folder / "bin" / "plain" / "shiftedge-run"


def run(program: Path, model: Path | None = None, **variables: str) -> tuple[int, str]:
    """(exit status, what it said): that of a run over three frames."""
    line = [program, "--size", "8x8", "--fps", "12", *(["--model", model] if model else [])]
    done = subprocess.run(
        [str(word) for word in line],
        input=FRAMES,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )
    said = done.stderr.decode()
    assert done.returncode in (0, 1), said
    if done.returncode == 1:
        assert done.stdout == b""
        assert said.startswith("shiftedge-run: ")
        assert is_sentence(said.rstrip("\n")), said
    return done.returncode, said


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_whole_bundle(program: Path, folder: Path, tmp_path: Path) -> None:
    """Through the folder, beside the program, and by the library's own path, and from elsewhere."""
    elsewhere = shutil.copy(program, tmp_path / "run")
    for model in (folder, None, folder / LIBRARY_NAME):
        assert run(program, model)[0] == 0
    assert run(elsewhere, folder)[0] == 0


@pytest.mark.parametrize("how", ["folder", "beside", "library"])
def test_a_changed_library(program: Path, folder: Path, how: str) -> None:
    library = folder / LIBRARY_NAME
    model = {"folder": folder, "beside": None, "library": library}[how]
    whole = library.read_bytes()
    library.write_bytes(whole + b"\0")
    said = run(program, model)[1]
    assert f"{len(whole) + 1} bytes; this runner was made with one of {len(whole)}, " in said
    library.write_bytes(whole)
    for _ in flipped(library, range(0, len(whole), 797), 0x10):
        status, said = run(program, model)
        assert (status, "has the SHA-256" in said) == (1, True)
    library.unlink()
    assert run(program, model)[0] == 1


def test_half_of_an_update(
    program: Path, folder: Path, runners: Runners, fake_path: Path, tmp_path: Path
) -> None:
    """A new library under an old runner, and the other way round; also another bundle's runner."""
    other = write_bundle(tmp_path / "other", fake_path, runners=runners)
    for ours, theirs in ((folder, other), (other, folder)):
        status, said = run(ours / "bin" / "plain" / "shiftedge-run", theirs)
        assert (status, "is of another bundle" in said) == (1, True)
    shutil.copy(other / LIBRARY_NAME, folder / LIBRARY_NAME)
    assert run(program)[0] == 1
    shutil.copy(other / "bin" / "plain" / "shiftedge-run", program)
    assert run(program)[0] == 0


def test_a_library_that_the_runner_does_not_know(program: Path, folder: Path) -> None:
    (folder / "lib" / "more").mkdir()
    shutil.copy(folder / LIBRARY_NAME, folder / "lib" / "more" / "libmodel.so")
    (folder / "bin" / "more").mkdir()
    beside = shutil.copy(program, folder / "bin" / "more" / "shiftedge-run")
    for each, model in ((beside, None), (program, folder / "lib" / "more" / "libmodel.so")):
        status, said = run(each, model)
        assert (status, "more/libmodel.so is not of the bundle that this" in said) == (1, True)


def test_without_a_manifest(program: Path, folder: Path) -> None:
    """No whole bundle; a library by its own path lies in none then."""
    (folder / "manifest.json").unlink()
    for model in (folder, None):
        status, said = run(program, model)
        assert (status, "holds no manifest.json" in said) == (1, True)
    assert run(program, folder / LIBRARY_NAME)[0] == 0


def test_what_the_manifest_says_is_pythons_to_check(program: Path, folder: Path) -> None:
    """The runner was made with the libraries, and does not read it."""
    for text in ("", "{", '{"schema": 99, "files": {}, "variants": [{"library": "../x"}]}'):
        (folder / "manifest.json").write_text(text)
        assert run(program)[0] == 0


def test_a_bare_library(runner: Path, small_path: Path, folder: Path) -> None:
    assert run(runner, small_path)[0] == 0
    status, said = run(runner, folder / LIBRARY_NAME)
    assert (status, "is not of the bundle that this runner was made with" in said) == (1, True)
    status, said = run(runner, folder)
    assert (status, "was made without a bundle" in said) == (1, True)


def test_a_label_without_end(compiler: list[str], runner: Path, tmp_path: Path) -> None:
    text = (HERE / "calm_model.c").read_text().replace('{"No gesture",', f'{{"{"x" * 513}",', 1)
    (tmp_path / "long.c").write_text(text)
    runtime = [path for part in (".", "cpu", "live") for path in (NATIVE / part).glob("*.c")]
    library = build(compiler, tmp_path / "m.so", [*runtime, tmp_path / "long.c"], *LIBRARY)
    status, said = run(runner, library)
    assert (status, "has more than 512 bytes" in said) == (1, True)


def test_a_library_that_is_replaced_while_it_is_loaded(
    program: Path, compiler: list[str], folder: Path, tmp_path: Path
) -> None:
    """Between the check and the load: what was checked is loaded."""
    swap = tmp_path / "swap.so"
    build(compiler, swap, [HERE / "swap_at_load.c"], *LIBRARY)
    (tmp_path / "new").write_bytes(b"no library")
    names = {"SWAP_NEW": str(tmp_path / "new"), "SWAP_OLD": str(folder / LIBRARY_NAME)}
    status, said = run(program, folder, LD_PRELOAD=str(swap), **names)
    assert (folder / LIBRARY_NAME).read_bytes() == b"no library"
    assert "swapped" in said
    assert status == 0
    assert run(program, folder)[0] == 1


def two(folder: Path, first: Path, second: Path) -> Path:
    """A bundle of the variants "first" and "second"."""
    variants: list[tuple[str, str, tuple[str, ...]]] = [
        ("first", MACHINE, ()),
        ("second", MACHINE, ()),
    ]
    write_bundle(folder, second, variants=variants)
    library = folder / "lib" / "first" / "libmodel.so"
    shutil.copy(first, library)
    data = library.read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    path = folder / "manifest.json"
    document: dict[str, Any] = json.loads(path.read_text())
    document["files"]["lib/first/libmodel.so"] = entry
    path.write_text(json.dumps(document))
    return folder


def test_the_next_variant_where_the_cpu_lacks_a_feature(
    runners: Runners, build_fake: Callable[..., Path], small_path: Path, tmp_path: Path
) -> None:
    """Even where the first stays loaded, as those do that the compiler links."""
    flags = ('-DFAKE_CPU_FEATURES="nosuchfeature"', "-Wl,-z,nodelete")
    folder = two(tmp_path / "two", build_fake(*flags), small_path)
    runner = runners.of(folder)
    assert run(runner, folder)[0] == 0
    assert "nosuchfeature" in run(runner, folder / "lib" / "first" / "libmodel.so")[1]


def test_the_next_variant_where_the_system_loads_none(
    runners: Runners, small_path: Path, tmp_path: Path
) -> None:
    """Such as one for another architecture."""
    (tmp_path / "other").write_bytes(b"\x7fELF" + bytes(60))
    folder = two(tmp_path / "two", tmp_path / "other", small_path)
    assert run(runners.of(folder), folder)[0] == 0


def test_no_variant_after_a_damaged_one(runners: Runners, small_path: Path, tmp_path: Path) -> None:
    folder = two(tmp_path / "two", small_path, small_path)
    runner = runners.of(folder)
    (folder / "lib" / "first" / "libmodel.so").write_bytes(small_path.read_bytes()[:-1])
    status, said = run(runner, folder)
    assert (status, "was changed or cut short" in said) == (1, True)


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_outside(path: Path) -> None:
    """The same bytes: only the place is wrong."""
    target = next(each for each in path.parents if each.name == "small-plain").parent / "moved"
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (to_pipe, "no ordinary file"),
        (to_folder, "no ordinary file"),
        (to_outside, "a link that leads out of the bundle"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "leads out of the bundle"),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), "cannot be read (Too many"),
    ],
)
def test_what_is_no_file_of_the_bundle(
    program: Path, folder: Path, change: Callable[[Path], object], message: str
) -> None:
    change(folder / LIBRARY_NAME)
    status, said = run(program, folder)
    assert status == 1
    assert message in said


def test_links_that_stay_inside(program: Path, folder: Path, tmp_path: Path) -> None:
    (folder / LIBRARY_NAME).rename(folder / "here.so")
    (folder / LIBRARY_NAME).symlink_to("../../here.so")
    (tmp_path / "link").symlink_to(folder)
    assert run(program, tmp_path / "link")[0] == 0


def test_bytes_and_lengths_of_the_library(program: Path, folder: Path) -> None:
    """The program itself over a sample; every byte, inside one process, is below."""
    library = folder / LIBRARY_NAME
    for place in flipped(library, range(0, library.stat().st_size, 97), 0x01):
        assert run(program, folder)[0] == 1, place
    for length in shortened(library):
        assert run(program, folder)[0] == 1, length
    assert run(program, folder)[0] == 0


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_every_byte(folder: Path, tmp_path: Path, mask: int) -> None:
    command = compilers().get("gcc") or compilers().get("clang")
    if command is None:
        pytest.skip("no compiler with sanitizers: install gcc or clang")
    manifest = Manifest.from_json((folder / "manifest.json").read_text())
    (tmp_path / "table.c").write_text(runner_table(manifest.variants, manifest.files, {}))
    parts = [RUNNER / f"{name}.c" for name in ("bundle", "copy", "sha256", "failure")]
    sources = [HERE / "bundle_fuzz.c", tmp_path / "table.c", *parts]
    try:
        fuzz = build(command, tmp_path / "fuzz", sources, f"-I{RUNNER}", *SANITIZERS)
    except AssertionError as error:
        pytest.skip(f"the compiler has no sanitizers: {str(error)[:200]}")
    whole = (folder / LIBRARY_NAME).read_bytes()
    line = [fuzz, folder, LIBRARY_NAME, str(mask), str(PAGE)]
    done = run_frames(line, b"", timeout_s=110)
    assert done.returncode == 0, done.stderr.decode()
    flips, lengths = done.stdout.decode().split()
    assert len(flips) == len(whole)
    assert set(flips + lengths) == {"0"}
