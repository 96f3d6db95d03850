"""Bundles signed and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="the signing extra (cryptography) is not installed")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from shiftedge.runtime.bundle import SIGNATURE_BYTES, check_signature, sign
from shiftedge.runtime.errors import BundleError

PEM = serialization.Encoding.PEM
PRIVATE, PUBLIC = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
PLAIN = serialization.NoEncryption()
MANIFEST = b'{"schema": 1}'


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """(private, public)."""
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(PEM, PRIVATE, PLAIN))
    public.write_bytes(key.public_key().public_bytes(PEM, PUBLIC))
    return private, public


def test_a_signature_by_one_of_the_trusted_keys(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "mine")
    _, other = write_keys(tmp_path, "other")
    signature = sign(MANIFEST, private)
    assert len(signature) == SIGNATURE_BYTES
    assert signature == sign(MANIFEST, private)
    check_signature(MANIFEST, signature, [public])
    check_signature(MANIFEST, signature, [other, public])


def test_what_is_refused(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "mine")
    _, other = write_keys(tmp_path, "other")
    signature = sign(MANIFEST, private)
    with pytest.raises(BundleError, match="is not signed"):
        check_signature(MANIFEST, None, [public])
    for keys in ([other], []):
        with pytest.raises(BundleError, match="by none of the"):
            check_signature(MANIFEST, signature, keys)
    with pytest.raises(BundleError, match="by none of the"):
        check_signature(MANIFEST + b" ", signature, [public])
    for length in (0, 1, 63, 65):
        with pytest.raises(BundleError, match="by none of the"):
            check_signature(MANIFEST, (signature + b"x")[:length], [public])
    for index in range(SIGNATURE_BYTES):
        flipped = bytearray(signature)
        flipped[index] ^= 1
        with pytest.raises(BundleError, match="by none of the"):
            check_signature(MANIFEST, bytes(flipped), [public])


def test_keys_that_are_none(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "mine")
    curve = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec.pem").write_bytes(curve.private_bytes(PEM, PRIVATE, PLAIN))
    (tmp_path / "ec.pub").write_bytes(curve.public_key().public_bytes(PEM, PUBLIC))
    secret = ed25519.Ed25519PrivateKey.generate().private_bytes(
        PEM, PRIVATE, serialization.BestAvailableEncryption(b"password")
    )
    (tmp_path / "locked.pem").write_bytes(secret)
    (tmp_path / "text").write_text("hello")
    for name in ("ec.pem", "locked.pem", "text", "mine.pub"):
        with pytest.raises(BundleError, match="is no private Ed25519 key"):
            sign(MANIFEST, tmp_path / name)
    for name in ("ec.pub", "text", "mine.pem"):
        with pytest.raises(BundleError, match="is no public Ed25519 key"):
            check_signature(MANIFEST, sign(MANIFEST, private), [tmp_path / name])
    for missing in (tmp_path / "absent", tmp_path):
        with pytest.raises(BundleError, match="cannot be read"):
            sign(MANIFEST, missing)
    assert public.exists()
