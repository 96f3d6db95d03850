"""A bundle's folder: what it must hold, what it may not do, and which CPU it is for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_manifest import GOOD, PATHS

from shiftedge.runtime import bundle as bundle_module
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import BundleError, SpecError
from shiftedge.runtime.manifest import FileEntry, Manifest, Variant

LIBRARY = "lib/plain/libmodel.so"


def entry(data: bytes) -> FileEntry:
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def write(folder: Path, **changes: Any) -> Path:
    """A bundle with a library of twelve bytes: these tests do not run it."""
    contents = {LIBRARY: b"not a library"[:12], "README": b"read me", "LICENSE": b""}
    fields = {name: getattr(GOOD, name) for name in Manifest.__dataclass_fields__}
    fields["variants"] = (Variant("plain", LIBRARY, "x86_64", ()),)
    fields["files"] = {name: entry(data) for name, data in contents.items()}
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(Manifest(**{**fields, **changes}).to_json(), "utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny-plain")


def test_open(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")  # what is not listed is left alone
    bundle = Bundle.open(str(folder))
    assert bundle.folder == folder
    assert bundle.manifest.spec == GOOD.spec
    assert bundle.variant("x86_64", ()).name == "plain"
    assert bundle.verify("README").read_text() == "read me"


def test_a_link_to_the_folder_is_fine(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    Bundle.open(tmp_path / "link")


def test_a_link_inside_the_folder_is_fine(folder: Path) -> None:
    (folder / "README").rename(folder / "README.md")
    (folder / "README").symlink_to("README.md")
    Bundle.open(folder)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_link(target: Callable[[Path], str | Path]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = path.read_bytes()
        (path.parents[3] / "outside").write_bytes(data)  # the same bytes: only the place is wrong
        path.unlink()
        path.symlink_to(target(path))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, r"cannot be read \(No such file"),
        (lambda path: path.write_bytes(b""), "has 0 bytes; the manifest says 12"),
        (lambda path: path.write_bytes(b"x" * 13), "has 13 bytes; the manifest says 12"),
        (lambda path: path.write_bytes(b"Not a librar"), "has the SHA-256 .* changed or damaged"),
        (to_folder, r"no ordinary file"),
        (to_pipe, r"no ordinary file"),
        (to_link(lambda path: "nowhere"), r"cannot be read"),
        (to_link(lambda path: path.name), r"cannot be read"),
        (to_link(lambda path: path.parents[3] / "outside"), "a link that leads out of the bundle"),
        (to_link(lambda path: "../../../outside"), "a link that leads out of the bundle"),
        (to_link(lambda path: "/dev/zero"), "a link that leads out of the bundle"),
    ],
)
def test_a_file_that_is_not_as_it_was(
    folder: Path, change: Callable[[Path], object], message: str
) -> None:
    change(folder / LIBRARY)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(folder)
    assert "libmodel.so" in str(caught.value)
    assert str(caught.value).endswith("copy or compile the bundle again.")


def test_a_folder_of_it_that_leads_out(folder: Path, tmp_path: Path) -> None:
    (folder / "lib").rename(tmp_path / "lib")
    (folder / "lib").symlink_to(tmp_path / "lib")
    with pytest.raises(BundleError, match="a link that leads out"):
        Bundle.open(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(folder: Path) -> None:
    (folder / "README").chmod(0)
    with pytest.raises(BundleError, match="Permission denied"):
        Bundle.open(folder)


def test_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("absent", "file"):
        with pytest.raises(BundleError, match=f"no bundle folder .*{name}; check the path"):
            Bundle.open(tmp_path / name)
    with pytest.raises(BundleError, match=r"holds no manifest.json, so it is no compiled bundle"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe{}", "not UTF-8"),
        (b" " * (bundle_module.MANIFEST_BYTES_MOST + 1), "more than 4,194,304 bytes"),
        (b"{}", "tiny-plain: The bundle's manifest has schema = None"),
    ],
)
def test_a_manifest_that_is_none(folder: Path, data: bytes, message: str) -> None:
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


def test_a_manifest_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    (folder / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match="a link that leads out"):
        Bundle.open(folder)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    with pytest.raises(BundleError, match="no ordinary file"):
        Bundle.open(folder)


@pytest.mark.parametrize("path", PATHS)
def test_only_listed_files_are_looked_at(folder: Path, path: str) -> None:
    with pytest.raises(BundleError, match="lists no file"):
        Bundle.open(folder).verify(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([LIBRARY, "README", "manifest.json"]),
    st.integers(0, 10_000),
    st.integers(0, 255),
    st.booleans(),
)
def test_any_flipped_byte_or_shorter_file(
    folder: Path, name: str, at: int, value: int, shorten: bool
) -> None:
    path = folder / name
    whole = path.read_bytes()
    at %= len(whole)
    data = whole[:at] if shorten else whole[:at] + bytes([value]) + whole[at + 1 :]
    path.write_bytes(data)
    try:
        bundle = Bundle.open(folder)
    except (BundleError, SpecError):
        assert data != whole
    else:  # only the manifest has bytes that nothing proves
        assert data == whole or name == "manifest.json"
        bundle.manifest.to_json()
    finally:
        path.write_bytes(whole)


# Which CPU.

VARIANTS = (
    Variant("v4", LIBRARY, "x86_64", ("avx2", "avx512f", "avx512bw")),
    Variant("v3", "README", "x86_64", ("avx2", "fma")),
    Variant("arm", "LICENSE", "aarch64", ("asimddp",)),
)


def test_the_first_variant_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(write(tmp_path / "b", variants=VARIANTS))
    chosen = [
        bundle.variant(machine, features.split()).name
        for machine, features in (
            ("x86_64", "avx2 fma avx512f avx512bw sse2"),
            ("x86_64", "avx2 fma avx512f"),
            ("aarch64", "asimd asimddp"),
        )
    ]
    assert chosen == ["v4", "v3", "arm"]
    monkeypatch.setattr(bundle_module, "machine_name", lambda: "aarch64")
    monkeypatch.setattr(bundle_module, "cpu_features", lambda: frozenset({"asimddp"}))
    assert bundle.variant().name == "arm"


@pytest.mark.parametrize(
    ("machine", "features", "message"),
    [
        ("armv7l", "neon", "is for x86_64, aarch64, and this machine is armv7l: compile"),
        ("x86_64", "sse2 avx2", "needs a CPU with fma, which this one has not: compile"),
        ("x86_64", "", "needs a CPU with avx2, fma, which"),
        ("aarch64", "asimd", "needs a CPU with asimddp"),
    ],
)
def test_no_variant_fits(tmp_path: Path, machine: str, features: str, message: str) -> None:
    bundle = Bundle.open(write(tmp_path / "b", variants=VARIANTS))
    with pytest.raises(BundleError, match=message) as caught:
        bundle.variant(machine, features.split())
    assert "another target" in str(caught.value) or "for this machine" in str(caught.value)
