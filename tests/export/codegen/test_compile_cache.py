"""The cache: what is found in it, what is not, and that it never stands in the way."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from shiftedge.export.compiler import cache
from shiftedge.export.compiler import compile as compiling
from shiftedge.export.compiler.compile import compile_cached, compile_model
from shiftedge.export.compiler.targets import TARGETS, find_target
from shiftedge.export.compiler.verify import proof
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import OutputError


@pytest.fixture(scope="module")
def entry(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with one entry; compiled once, copied for each test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        compiled = compile_model(tiny_onnx, tmp_path_factory.mktemp("b") / "b")
        assert not compiled.cached
        (folder,) = cache.bundles_folder().iterdir()
        yield folder


@pytest.fixture
def own(entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The entry in a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = cache.bundles_folder() / entry.name
    shutil.copytree(entry, copy)
    return copy


@pytest.fixture
def no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("compiled anew")

    monkeypatch.setattr(compiling, "prepare", fail)
    monkeypatch.setattr(compiling, "build_library", fail)


def same(one: Path, other: Path) -> bool:
    names = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in (one, other)]
    return names[0] == names[1] and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names[0]
    )


@pytest.mark.usefixtures("no_build")
def test_an_unchanged_model_is_copied(own: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    compiled = compile_model(tiny_onnx, tmp_path / "b")
    assert compiled.cached
    assert same(tmp_path / "b", own)
    assert compiled.bundle.folder == tmp_path / "b"
    assert compile_cached(tiny_onnx) == own
    copy = shutil.copy(tiny_onnx, tmp_path / "renamed.onnx")
    assert compile_model(copy, tmp_path / "b").cached, "the bytes count, not the name"


@pytest.mark.usefixtures("no_build", "own")
def test_without_the_cache_it_is_compiled(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="compiled anew"):
        compile_model(tiny_onnx, tmp_path / "b", use_cache=False)
    assert not (tmp_path / "b").exists()


@pytest.mark.usefixtures("no_build", "own")
@pytest.mark.parametrize("what", ["model", "target", "verify", "version"])
def test_what_has_changed_is_compiled(
    what: str, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(tiny_onnx.read_bytes())
    changes: dict[str, object] = {}
    if what == "model":
        onnx = pytest.importorskip("onnx")
        document = onnx.load(str(model))
        document.producer_name = "another"
        onnx.save(document, str(model))
    elif what == "target":
        host = find_target("host")
        changes["target"] = next(name for name in TARGETS if TARGETS[name] != host)
        monkeypatch.setattr(proof, "runs_here", lambda target: True)
    elif what == "verify":
        changes["verify"] = False
    else:
        monkeypatch.setattr(cache, "tool_versions", lambda: {"shiftedge": "99"})
    with pytest.raises(AssertionError, match="compiled anew"):
        compile_model(model, tmp_path / "b", **changes)  # type: ignore[arg-type]


def test_the_key_is_of_all_that_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = TARGETS["x86-64-v3"]
    keys = {
        cache.key_of([b"model"], target, "verify=True"),
        cache.key_of([b"model2"], target, "verify=True"),
        cache.key_of([b"model"], target, "verify=False"),
        cache.key_of([b"model", b"model2"], target, "verify=True"),
        cache.key_of([b"modelmodel2"], target, "verify=True"),
        cache.key_of([b"model"], TARGETS["x86-64-v4"], "verify=True"),
        cache.key_of([b"model"], dataclasses.replace(target, cores=9), "verify=True"),
    }
    assert len(keys) == 7
    assert cache.key_of([b"model"], target, "verify=True") in keys
    # A home that serves several machines: each has its own variants, and verifies what it runs.
    for answer in (True, False):
        monkeypatch.setattr(cache, "runs_here", lambda each, answer=answer: answer)
        keys.add(cache.key_of([b"model"], TARGETS["x86-64-v4"], "verify=True"))
    assert len(keys) >= 8
    (tmp_path / "a.c").write_text("int a;")
    monkeypatch.setattr(cache.importlib.resources, "files", lambda name: tmp_path)
    first = cache.key_of([b"model"], target, "verify=True")
    (tmp_path / "a.c").write_text("int b;")
    assert cache.key_of([b"model"], target, "verify=True") != first


@pytest.mark.parametrize("damage", ["library", "manifest gone", "manifest cut", "file gone"])
@pytest.mark.parametrize("cached", [False, True], ids=["compile_model", "compile_cached"])
def test_a_damaged_entry_is_compiled_anew(
    damage: str, cached: bool, own: Path, entry: Path, tiny_onnx: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (library,) = own.glob("lib/*/libmodel.so")
    if damage == "library":
        data = bytearray(library.read_bytes())
        data[len(data) // 2] ^= 1
        library.write_bytes(data)
    elif damage == "manifest gone":
        (own / "manifest.json").unlink()
    elif damage == "manifest cut":
        (own / "manifest.json").write_text("{")
    else:
        library.unlink()

    def make(sources, target, folder: Path, **_: object) -> None:  # in place of seconds of work
        shutil.copytree(entry, folder, dirs_exist_ok=True)

    monkeypatch.setattr(compiling, "_make", make)
    if cached:
        assert compile_cached(tiny_onnx) == own
    else:
        assert not compile_model(tiny_onnx, tmp_path / "b").cached
        assert compile_model(tiny_onnx, tmp_path / "b").cached
    assert same(own, entry)
    assert Bundle.open(own)


def test_a_cache_that_cannot_be_written(
    entry: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    def make(sources, target, folder: Path, **_: object) -> None:
        shutil.copytree(entry, folder, dirs_exist_ok=True)

    monkeypatch.setattr(compiling, "_make", make)
    assert not compile_model(tiny_onnx, tmp_path / "b").cached
    assert not compile_model(tiny_onnx, tmp_path / "b").cached
    assert same(tmp_path / "b", entry)
    with pytest.raises(OutputError, match="Cannot write"):
        compile_cached(tiny_onnx)  # there it is the result that cannot be written


@pytest.mark.usefixtures("no_build")
def test_a_cache_that_can_only_be_read(
    own: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(cache.os, "utime", refuse)
    assert cache.find(own.name) is not None


def test_the_entries_unused_for_longest_go(
    entry: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_KEPT", 3)
    folder, now = cache.bundles_folder(), time.time()
    for age in range(5):
        shutil.copytree(entry, folder / f"old{age}")
        os.utime(folder / f"old{age}", (now - 100 * age - 100,) * 2)
    assert cache.find("old4") is not None, "used again"
    (folder / "mine.txt").write_text("no folder")

    def make(sources, target, folder: Path, **_: object) -> None:
        shutil.copytree(entry, folder, dirs_exist_ok=True)

    monkeypatch.setattr(compiling, "_make", make)
    compile_model(tiny_onnx, tmp_path / "b")
    names = {path.name for path in folder.iterdir()}
    assert names == {"mine.txt", entry.name, "old4", "old0"}


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.bundles_folder() == tmp_path / "shiftedge" / "bundles"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("XDG_CACHE_HOME")
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", unset)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache.bundles_folder() == tmp_path / "home/.cache/shiftedge/bundles"
