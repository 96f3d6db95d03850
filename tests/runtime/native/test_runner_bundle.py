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
from damage_kit import (
    LIBRARY_NAME,
    MACHINE,
    PAGE,
    flipped,
    is_sentence,
    manifests,
    outside,
    passes,
    shortened,
)
from fake_bundle import write_bundle
from fake_library import HERE, LIBRARY, build, compilers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runner_kit import RUNNER, SANITIZERS, SYSTEM, build_runner, run_frames

pytestmark = pytest.mark.timeout(120, method="thread")

FRAMES = bytes(3 * 8 * 8 * 3)
"""Three frames."""


@pytest.fixture(scope="module")
def runner(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_runner(compiler, tmp_path_factory.mktemp("runner") / "shiftedge-run", *SYSTEM)


@pytest.fixture
def folder(small_path: Path, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small-plain", small_path)


@pytest.fixture
def program(runner: Path, folder: Path) -> Path:
    """The runner where it lies in a bundle."""
    path = folder / "bin" / "plain" / "shiftedge-run"
    path.parent.mkdir(parents=True)
    shutil.copy(runner, path)
    return path


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


def test_a_whole_bundle(program: Path, folder: Path) -> None:
    """Through the folder, beside the program, and by the library's own path."""
    for model in (folder, None, folder / LIBRARY_NAME):
        assert run(program, model)[0] == 0


@pytest.mark.parametrize("how", ["folder", "beside", "library"])
def test_a_changed_library(program: Path, folder: Path, how: str) -> None:
    library = folder / LIBRARY_NAME
    model = {"folder": folder, "beside": None, "library": library}[how]
    whole = library.read_bytes()
    library.write_bytes(whole + b"\0")
    assert f"{len(whole) + 1} bytes; the manifest says {len(whole)}, " in run(program, model)[1]
    library.write_bytes(whole)
    for _ in flipped(library, range(0, len(whole), 797), 0x10):
        status, said = run(program, model)
        assert (status, "has the SHA-256" in said) == (1, True)
    library.unlink()
    assert run(program, model)[0] == 1


def test_a_library_that_is_not_listed(program: Path, folder: Path) -> None:
    edit(folder, lambda document: document["files"].pop(LIBRARY_NAME))
    for model in (folder, None, folder / LIBRARY_NAME):
        status, said = run(program, model)
        assert (status, f"lists no file {LIBRARY_NAME}" in said) == (1, True)


def test_without_a_manifest(program: Path, folder: Path) -> None:
    """A folder cannot be checked; a library by its own path lies in no bundle then."""
    (folder / "manifest.json").unlink()
    for model in (folder, None):
        status, said = run(program, model)
        assert (status, "holds no manifest.json" in said) == (1, True)
    assert run(program, folder / LIBRARY_NAME)[0] == 0


def test_a_bare_library(runner: Path, small_path: Path) -> None:
    assert run(runner, small_path)[0] == 0


def test_a_library_that_is_replaced_while_it_is_loaded(
    runner: Path, compiler: list[str], folder: Path, tmp_path: Path
) -> None:
    """Between the check and the load: what was checked is loaded."""
    swap = tmp_path / "swap.so"
    build(compiler, swap, [HERE / "swap_at_load.c"], *LIBRARY, *SYSTEM)
    (tmp_path / "new").write_bytes(b"no library")
    names = {"SWAP_NEW": str(tmp_path / "new"), "SWAP_OLD": str(folder / LIBRARY_NAME)}
    status, said = run(runner, folder, LD_PRELOAD=str(swap), **names)
    assert (folder / LIBRARY_NAME).read_bytes() == b"no library"
    assert "swapped" in said
    assert status == 0
    assert run(runner, folder)[0] == 1


def two(folder: Path, first: Path, second: Path, architecture: str = MACHINE) -> Path:
    """A bundle of the variants "first" and "second"."""
    variants: list[tuple[str, str, tuple[str, ...]]] = [
        ("first", architecture, ()),
        ("second", MACHINE, ()),
    ]
    write_bundle(folder, second, variants=variants)
    library = folder / "lib" / "first" / "libmodel.so"
    shutil.copy(first, library)
    data = library.read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(folder, lambda document: document["files"].update({"lib/first/libmodel.so": entry}))
    return folder


def test_the_next_variant_where_the_cpu_lacks_a_feature(
    runner: Path, build_fake: Callable[..., Path], small_path: Path, tmp_path: Path
) -> None:
    """Even where the first stays loaded, as those do that the compiler links."""
    flags = ('-DFAKE_CPU_FEATURES="nosuchfeature"', "-Wl,-z,nodelete")
    folder = two(tmp_path / "two", build_fake(*flags), small_path)
    assert run(runner, folder)[0] == 0
    assert "nosuchfeature" in run(runner, folder / "lib" / "first" / "libmodel.so")[1]


def test_no_variant_after_a_damaged_one(runner: Path, small_path: Path, tmp_path: Path) -> None:
    folder = two(tmp_path / "two", small_path, small_path)
    (folder / "lib" / "first" / "libmodel.so").write_bytes(small_path.read_bytes()[:-1])
    status, said = run(runner, folder)
    assert (status, "was changed or cut short" in said) == (1, True)
    edit(folder, lambda document: document["variants"][0].update(architecture="m68k"))
    assert run(runner, folder)[0] == 0


def set_schema(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.update(schema=value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_schema(3), "has schema 3, and this runner reads up to 2"),
        (set_schema(0), "no number from 1"),
        (set_schema("1"), "no number from 1"),
        (lambda d: d.pop("schema"), "expected one schema"),
        (lambda d: d.pop("variants"), "expected variants"),
        (lambda d: d.pop("files"), "expected files"),
        (lambda d: d.update(variants=[]), "expected variants"),
        (lambda d: d.update(variants=d["variants"] * 65), "expected variants"),
        (lambda d: d["variants"][0].pop("library"), "expected variants"),
        (lambda d: d["variants"][0].update(library="../x"), "expected variants"),
        (lambda d: d["variants"][0].update(library="x" * 600), "expected variants"),
        (lambda d: d["variants"][0].update(architecture="m68k"), "is for m68k, and this runner"),
        (lambda d: d["files"][LIBRARY_NAME].pop("sha256"), "expected files"),
        (lambda d: d["files"][LIBRARY_NAME].update(sha256="0" * 65), "expected files"),
        (lambda d: d["files"][LIBRARY_NAME].update(sha256="0" * 64), "says another"),
        (lambda d: d["files"][LIBRARY_NAME].update(sha256=""), "says another"),
        (lambda d: d["files"][LIBRARY_NAME].update(bytes=1e300), "expected files"),
        (lambda d: d["files"][LIBRARY_NAME].update(bytes=10**40), "the manifest says 1000"),
        (lambda d: d["files"][LIBRARY_NAME].update(bytes="12"), "expected files"),
    ],
)
def test_a_manifest_that_is_wrong(
    runner: Path, folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(folder, change)
    status, said = run(runner, folder)
    assert status == 1
    assert message in said


def test_keys_that_stand_there_twice(runner: Path, folder: Path) -> None:
    """Two readers would believe two different things."""
    path = folder / "manifest.json"
    text = path.read_text()
    entry = json.loads(text)["files"][LIBRARY_NAME]
    pairs = {
        "schema": "1",
        "variants": "[]",
        "files": "{}",
        "library": '"x"',
        "architecture": '"m68k"',
        LIBRARY_NAME: json.dumps(entry),
        "sha256": '"0"',
        "bytes": "1",
    }
    for key, value in pairs.items():
        at = text.index(f'"{LIBRARY_NAME}":') if key in ("sha256", "bytes") else 0
        at = text.index(f'"{key}":', at)
        path.write_text(f'{text[:at]}"{key}": {value}, {text[at:]}')
        status, said = run(runner, folder)
        assert (status, "is damaged" in said) == (1, True), key


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
@pytest.mark.parametrize("name", [LIBRARY_NAME, "manifest.json"])
def test_what_is_no_file_of_the_bundle(
    runner: Path, folder: Path, name: str, change: Callable[[Path], object], message: str
) -> None:
    change(folder / name)
    status, said = run(runner, folder)
    assert status == 1
    assert message in said


def test_links_that_stay_inside(runner: Path, folder: Path, tmp_path: Path) -> None:
    (folder / LIBRARY_NAME).rename(folder / "here.so")
    (folder / LIBRARY_NAME).symlink_to("../../here.so")
    (tmp_path / "link").symlink_to(folder)
    assert run(runner, tmp_path / "link")[0] == 0


def test_a_manifest_without_end(runner: Path, folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    assert "more than 4194304 bytes" in run(runner, folder)[1]


def test_bytes_and_lengths_of_the_files(runner: Path, folder: Path) -> None:
    """The program itself over a sample; every byte, inside one process, is below."""
    library, manifest = folder / LIBRARY_NAME, folder / "manifest.json"
    for place in flipped(library, range(0, library.stat().st_size, 97), 0x01):
        assert run(runner, folder)[0] == 1, place
    for length in shortened(library):
        assert run(runner, folder)[0] == 1, length
    for place in flipped(manifest, range(0, manifest.stat().st_size, 11), 0x01):
        status, _ = run(runner, folder)
        assert status == 1 or passes(folder, whole=False), place
    assert run(runner, folder)[0] == 0


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    command = compilers().get("gcc") or compilers().get("clang")
    if command is None:
        pytest.skip("no compiler with sanitizers: install gcc or clang")
    parts = [RUNNER / f"{name}.c" for name in ("bundle", "copy", "sha256", "json", "failure")]
    output = tmp_path_factory.mktemp("fuzz") / "bundle_fuzz"
    try:
        sources = [HERE / "bundle_fuzz.c", *parts]
        return build(command, output, sources, f"-I{RUNNER}", *SANITIZERS)
    except AssertionError as error:
        pytest.skip(f"the compiler has no sanitizers: {str(error)[:200]}")


@pytest.mark.parametrize(
    ("name", "step", "mask"),
    [(LIBRARY_NAME, PAGE, 0x01), ("manifest.json", 1, 0x01), ("manifest.json", 1, 0xFF)],
)
def test_every_byte(fuzz: Path, folder: Path, name: str, step: int, mask: int) -> None:
    whole = (folder / name).read_bytes()
    done = run_frames([fuzz, folder, name, str(mask), str(step)], b"", timeout_s=110)
    assert done.returncode == 0, done.stderr.decode()
    flips, lengths = done.stdout.decode().split()
    assert len(flips) == len(whole)
    if name == LIBRARY_NAME:
        assert "1" not in flips + lengths
        return
    assert set(lengths[1:]) == {"0"}  # the first is a manifest without its last line's end
    places = [place for place, answer in enumerate(flips) if answer == "1"]
    assert len(places) < len(whole) / 2
    for place in flipped(folder / name, range(len(whole)), mask):
        if place in places:
            assert passes(folder, whole=False), place


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_manifest(runner: Path, folder: Path, data: st.DataObject) -> None:
    """As test_bundle_damage.py asks of Python."""
    path = folder / "manifest.json"
    whole = path.read_bytes()
    if not (folder / "link.so").is_symlink():
        outside(folder)
    try:
        path.write_bytes(data.draw(manifests(json.loads(whole))))
        status, _ = run(runner, folder)
        assert status == 1 or passes(folder, whole=False)
    finally:
        path.write_bytes(whole)
