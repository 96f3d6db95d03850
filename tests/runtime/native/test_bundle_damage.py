"""``load`` and damaged bundles: the right sentence, and no code of what fails its check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.damage import LIBRARY_NAME, flipped, is_sentence, manifests, outside, passes, shortened
from kit.fake_bundle import write_bundle

from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.engines import native as private_code
from shiftedge.runtime.errors import BundleError, ModelError, SpecError
from shiftedge.runtime.loading import load

REFUSED = (BundleError, ModelError, SpecError)
Attempt = Callable[..., str]


class ReachedError(Exception):
    """The library's code would be running now."""


@pytest.fixture
def folder(small_path: Path, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small-plain", small_path)


@pytest.fixture
def attempt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """Load the folder: the sentence, or nothing where its code would be loaded, as it may."""

    def reach(path: str) -> NoReturn:
        raise ReachedError(path)

    monkeypatch.setattr(private_code.ctypes, "CDLL", reach)
    monkeypatch.setattr(private_code, "_loaded", {})

    def load_it(keys: list[Path] | None = None) -> str:
        with pytest.raises((ReachedError, *REFUSED)) as caught:
            load(folder, trusted_keys=keys)
        if isinstance(caught.value, ReachedError):
            assert passes(folder)
            return ""
        assert is_sentence(str(caught.value))
        return str(caught.value)

    return load_it


@pytest.fixture
def signed(folder: Path, tmp_path: Path) -> list[Path]:
    """The folder signed, and the only key that is trusted."""
    serialization = pytest.importorskip(
        "cryptography.hazmat.primitives.serialization", reason="the signing extra is not installed"
    )
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key.pub").write_bytes(key.public_key().public_bytes(pem, form))
    signature = key.sign((folder / "manifest.json").read_bytes())
    (folder / "manifest.json.sig").write_bytes(signature)
    return [tmp_path / "key.pub"]


def size(path: Path) -> range:
    return range(path.stat().st_size)


def test_as_it_is(folder: Path, attempt: Attempt) -> None:
    assert attempt() == ""


def test_every_byte_of_the_library(folder: Path) -> None:
    """By the check of one file, which ``load`` makes of each; below with ``load`` itself."""
    bundle = Bundle.open(folder)
    path = folder / LIBRARY_NAME
    refused = 0
    for place in flipped(path, size(path), 0x01):
        with pytest.raises(BundleError, match="was changed or damaged"):
            bundle.verify(LIBRARY_NAME)
        refused = place + 1
    assert refused == path.stat().st_size > 10_000
    assert bundle.verify(LIBRARY_NAME)


@pytest.mark.parametrize(("name", "step"), [(LIBRARY_NAME, 197), ("README", 1), ("LICENSE", 1)])
def test_bytes_of_a_file(folder: Path, attempt: Attempt, name: str, step: int) -> None:
    for mask in (0x80, 0xFF):
        for _ in flipped(folder / name, size(folder / name)[::step], mask):
            assert f"{name} has the SHA-256" in attempt()
    assert attempt() == ""


@pytest.mark.parametrize("mask", [0x01, 0x10, 0xFF])
def test_every_byte_of_the_manifest(folder: Path, attempt: Attempt, mask: int) -> None:
    """What nothing proves may change: a report, a version, a label. What is loaded may not."""
    path = folder / "manifest.json"
    said = [attempt() for _ in flipped(path, size(path), mask)]
    assert 0 < sum(not sentence for sentence in said) < len(said) / 2 or mask == 0xFF
    assert attempt() == ""


@pytest.mark.parametrize("name", [LIBRARY_NAME, "README", "LICENSE", "manifest.json"])
def test_every_length(folder: Path, attempt: Attempt, name: str) -> None:
    for length in shortened(folder / name):
        # Without its last line's end a manifest is whole.
        assert attempt() or (name == "manifest.json" and length > 0)
    assert attempt() == ""


def test_every_byte_of_a_signed_bundle(folder: Path, attempt: Attempt, signed: list[Path]) -> None:
    """With a trusted key nothing may change."""
    assert attempt(signed) == ""
    for name in ("manifest.json", "manifest.json.sig", "README", "LICENSE", LIBRARY_NAME):
        step = 97 if name == LIBRARY_NAME else 1
        for place in flipped(folder / name, size(folder / name)[::step], 0x01):
            assert attempt(signed), (name, place)
        for length in shortened(folder / name):
            assert attempt(signed), (name, length)
    assert attempt(signed) == ""


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_manifest(folder: Path, attempt: Attempt, data: st.DataObject) -> None:
    """Wrong types, huge numbers, paths and links that leave the folder, keys twice, a newer schema,
    another architecture."""
    path = folder / "manifest.json"
    whole = path.read_bytes()
    if not (folder / "link.so").is_symlink():
        outside(folder)
    try:
        path.write_bytes(data.draw(manifests(json.loads(whole))))
        attempt()
    finally:
        path.write_bytes(whole)
