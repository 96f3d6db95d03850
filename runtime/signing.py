"""Who made a bundle: Ed25519 signatures over its manifest.

Loading a bundle is running its code. Checksums find damage; a signature by a key that one trusts
finds everything else, since the manifest holds the checksum of every file. Keys are PEM files, as
``openssl genpkey -algorithm ed25519`` and ``openssl pkey -pubout`` write them. The signature is the
file ``manifest.json.sig``, 64 bytes, deterministic (RFC 8032).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftedge.runtime.errors import BundleError
from shiftedge.runtime.extras import require
from shiftedge.runtime.words import shown

__all__ = ["SIGNATURE_BYTES", "SIGNATURE_NAME", "check_signature", "sign"]

SIGNATURE_NAME = "manifest.json.sig"
"""Of the file beside the manifest."""
SIGNATURE_BYTES = 64
_KEY_BYTES_MOST = 1 << 16


def check_signature(
    manifest: bytes,
    signature: bytes | None,
    trusted_keys: str | Path | Sequence[str | Path],
) -> None:
    """Refuse a manifest that none of the keys has signed.

    Args:
        manifest: the file's bytes.
        signature: the signature file's, None where there is none.
        trusted_keys: PEM files of public keys, or one. None at all trusts nobody.

    Raises:
        BundleError: no signature, or by no trusted key; or a key that cannot be read.
        MissingExtraError: the package cryptography is not installed.
    """
    crypto = require("cryptography.exceptions")
    keys = [_public_key(path) for path in _key_paths(trusted_keys)]
    if signature is None:
        raise BundleError(
            f"The bundle is not signed (it has no {SIGNATURE_NAME}), and only bundles signed by a "
            "trusted key may be loaded: sign it with `shiftedge compile --sign KEY`."
        )
    for key in keys:
        try:
            key.verify(signature, manifest)
        except crypto.InvalidSignature:
            continue
        return
    raise BundleError(
        f"The bundle's signature is by none of the {len(keys)} trusted keys, or its manifest was "
        "changed after it was signed: get it again from who made it."
    )


def sign(manifest: bytes, key: str | Path) -> bytes:
    """The signature of a manifest.

    Args:
        manifest: the file's bytes.
        key: PEM file of an Ed25519 private key, without a password.

    Raises:
        BundleError: the key cannot be read, or is another kind.
        MissingExtraError: the package cryptography is not installed.
    """
    serialization = require("cryptography.hazmat.primitives.serialization")
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519")
    path = Path(key)
    data = _read(path)
    try:
        private = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise _no_key(path, "private", "openssl genpkey -algorithm ed25519") from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise _no_key(path, "private", "openssl genpkey -algorithm ed25519")
    signature: bytes = private.sign(manifest)
    return signature


def _key_paths(given: object) -> list[Path]:
    """Of one file or several. A text is one: its letters are no files."""
    several = [given] if isinstance(given, (str, os.PathLike)) else given
    if not isinstance(several, (list, tuple, set, frozenset)) or not all(
        isinstance(path, (str, os.PathLike)) for path in several
    ):
        raise BundleError(
            f"trusted_keys is {shown(given)}; expected the path of a public key's PEM file, or a "
            "list of such paths."
        )
    return [Path(path) for path in several]


def _public_key(path: Path) -> Any:
    serialization = require("cryptography.hazmat.primitives.serialization")
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519")
    data = _read(path)
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError) as error:
        raise _no_key(path, "public", "openssl pkey -pubout") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _no_key(path, "public", "openssl pkey -pubout")
    return key


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_KEY_BYTES_MOST)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"The key {path} cannot be read: {reason}.") from error


def _no_key(path: Path, kind: str, command: str) -> BundleError:
    return BundleError(f"{path} is no {kind} Ed25519 key in PEM; expected what `{command}` writes.")
