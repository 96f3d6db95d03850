"""A bundle's folder appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from shiftedge.export.compiler import package
from shiftedge.export.compiler.package import new_folder
from shiftedge.runtime.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def old_bundle(folder: Path) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text("old")
    (folder / "extra").write_text("old")
    return folder


def write(folder: Path) -> None:
    (folder / "manifest.json").write_text("new")


def write_and_raise(path: Path, error: BaseException) -> None:
    with new_folder(path) as folder:
        write(folder)
        raise error


def test_a_new_folder_with_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with new_folder(path) as folder:
        assert folder.parent == path.parent
        assert names(folder) == []
        write(folder)
        assert not path.exists()
    assert names(path) == ["manifest.json"]
    assert names(path.parent) == ["b"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_bundle_is_replaced_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = old_bundle(tmp_path / "b")
    with new_folder(path) as folder:
        write(folder)
        assert (path / "manifest.json").read_text() == "old"
    assert (path / "manifest.json").read_text() == "new"
    assert names(path) == ["manifest.json"]
    assert names(tmp_path) == ["b"]


def test_an_empty_folder_may_stand_there(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with new_folder(tmp_path / "b") as folder:
        write(folder)
    assert names(tmp_path) == ["b"]


@pytest.mark.parametrize("stands", [False, True])
def test_through_a_link_the_bundle_is_written_that_it_leads_to(
    tmp_path: Path, stands: bool
) -> None:
    """As of those who keep current -> v1; a link that leads nowhere yet is followed too."""
    path = old_bundle(tmp_path / "v1") if stands else tmp_path / "v1"
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "outer").symlink_to("current")
    with new_folder(tmp_path / "outer") as folder:
        write(folder)
    assert (tmp_path / "current").readlink() == Path("v1")
    assert (tmp_path / "outer").readlink() == Path("current")
    assert not path.is_symlink()
    assert names(path) == ["manifest.json"]
    assert (path / "manifest.json").read_text() == "new"
    assert names(tmp_path) == ["current", "outer", "v1"]


def test_links_in_a_circle_and_mount_points_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="Too many levels of symbolic links"):
        write_and_raise(tmp_path / "a", AssertionError())
    (tmp_path / "mounted").mkdir()
    monkeypatch.setattr(package.os.path, "ismount", lambda path: path.name == "mounted")
    with pytest.raises(OutputError, match=r"is a mount point, .*name a folder in it"):
        write_and_raise(tmp_path / "mounted", AssertionError())
    assert names(tmp_path) == ["a", "b", "mounted"]


def test_there_is_a_bundle_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who looks finds none, and a process that is killed loses none."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    if not package._exchanged(one, other):
        pytest.skip("this system cannot exchange two folders at once (renameat2)")
    path = old_bundle(tmp_path / "b")

    def never(*_: object) -> None:
        raise AssertionError("taken away before the other is there")

    monkeypatch.setattr(package.os, "replace", never)
    with new_folder(path) as folder:
        write(folder)
    assert names(path) == ["manifest.json"]
    assert names(tmp_path) == ["b", "one", "other"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_bundle_is_refused_and_left(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine"
    if kind == "folder":
        path.mkdir()
        (path / "photo.jpg").write_text("dear")
    else:
        path.write_text("dear")
    with pytest.raises(OutputError, match="exists and is no bundle"), new_folder(path):
        pytest.fail("the body must not run")
    assert names(tmp_path) == ["mine"]
    assert (path / "photo.jpg" if kind == "folder" else path).read_text() == "dear"


@pytest.mark.parametrize("where", ["x" * 300, "file/b", "file"])
def test_impossible_paths_are_a_sentence(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write") as caught, new_folder(tmp_path / where):
        pytest.fail("the body must not run")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("stands", [False, True])
def test_a_body_that_fails_changes_nothing(tmp_path: Path, error: type, stands: bool) -> None:
    path = old_bundle(tmp_path / "b") if stands else tmp_path / "b"
    with pytest.raises(error):
        write_and_raise(path, error())
    assert names(tmp_path) == (["b"] if stands else [])
    if stands:
        assert (path / "manifest.json").read_text() == "old"


def test_a_full_disk_in_the_body(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write_and_raise(tmp_path / "b", full)
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), None])
@pytest.mark.parametrize("at", [1, 2])
def test_an_exchange_that_fails_half_way_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None, at: int
) -> None:
    """Between taking the old bundle away and putting the new one there."""
    path = old_bundle(tmp_path / "b")
    replace, calls = os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == at:
            raise error or KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(package, "_exchanged", lambda *_: False)  # as an old system
    monkeypatch.setattr(package.os, "replace", failing)
    with pytest.raises(OutputError if error else KeyboardInterrupt), new_folder(path) as folder:
        write(folder)
    assert names(tmp_path) == ["b"]
    assert names(path) == ["extra", "manifest.json"]
    assert (path / "manifest.json").read_text() == "old"


def test_a_tree_that_cannot_be_copied_is_one_sentence(tmp_path: Path) -> None:
    why = "[Errno 28] No space left on device: 'x'"
    with pytest.raises(OutputError) as caught, new_folder(tmp_path / "b"):
        raise shutil.Error([("from", "to", why), ("from2", "to2", why)])
    assert str(caught.value) == f"Cannot write {tmp_path / 'b'}: {why}."


def test_entries_are_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "lib" / "x").mkdir(parents=True)
    (tmp_path / "lib" / "x" / "a.so").write_bytes(b"abc")
    (tmp_path / "LICENSE").write_bytes(b"")
    found = package.entries(tmp_path)
    assert {name: entry.bytes for name, entry in found.items()} == {"LICENSE": 0, "lib/x/a.so": 3}
    assert found["lib/x/a.so"].sha256.startswith("ba7816bf")
