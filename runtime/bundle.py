"""A compiled bundle: a folder of one model, compiled for one kind of machine, to be copied there.

::

    gestures-x86-64-v3/
        manifest.json                    what this module reads and writes
        lib/<variant>/libmodel.so        the compiled step, for CPUs with the variant's features, or
                                         for a GPU
        LICENSE, README

Nothing in the folder is believed before it was checked: the manifest's every field has bounds, a
path cannot leave the folder, and each file is as long, and has the SHA-256, that the manifest says.
That finds what a copy, a disk or a half-finished update did to it. It is no signature: whoever can
change the folder can change the manifest too, and a library runs with the program's own rights, so
take bundles only from where you would take programs, or ask for a signature: Ed25519 over the
manifest, which holds the checksum of every file. Keys are PEM files, as ``openssl genpkey
-algorithm ed25519`` and ``openssl pkey -pubout`` write them. The signature is the file
``manifest.json.sig``, 64 bytes, deterministic (RFC 8032).

What each field of the manifest means is in docs/formats.md.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from shiftedge.runtime.errors import BundleError
from shiftedge.runtime.manifest import (
    MANIFEST_NAME,
    Manifest,
    Variant,
)
from shiftedge.runtime.process.cpu import cpu_features, machine_name
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import sha256_of
from shiftedge.runtime.words import shown

MANIFEST_BYTES_MOST = 4 << 20
"""A manifest of 100 kernels and 200 labels has some 30 KB."""

COPY_AGAIN = "copy or compile the bundle again"


class Bundle:
    """An opened bundle whose files are all there and whole; :meth:`open` makes it."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        trusted_keys: str | Path | Sequence[str | Path] | None = None,
    ) -> Bundle:
        """Read the manifest and check every file that it lists.

        Files that it does not list are left alone.

        Args:
            trusted_keys: PEM files of public keys, one of which must have signed the manifest, or
                one such file; None asks for no signature.

        Raises:
            BundleError: no such folder or manifest, a manifest that is malformed, from a newer
                version or not signed by a trusted key, or a file that is missing, changed, or
                outside the folder.
            MissingExtraError: keys are given, and the package cryptography is not installed.
            SpecError: the manifest's spec is malformed or from a newer version.
        """
        folder = Path(folder)
        data = _read_manifest(folder)
        if trusted_keys is not None:
            # Before anything in it is looked at.
            try:
                check_signature(data, _read_signature(folder), trusted_keys)
            except BundleError as error:
                raise BundleError(f"{folder}: {error}") from error
        try:
            manifest = Manifest.from_json(data.decode())
        except UnicodeDecodeError as error:
            raise BundleError(
                f"{folder / MANIFEST_NAME} holds text that is not UTF-8, so it is damaged: "
                f"{COPY_AGAIN}."
            ) from error
        except BundleError as error:
            raise BundleError(f"{folder}: {error}") from error
        bundle = cls(folder, manifest)
        for name in manifest.files:
            bundle.verify(name)
        return bundle

    def verify(self, name: str) -> Path:
        """Check one of ``manifest.files``: inside the folder, its size, its SHA-256.

        Returns:
            Where it lies, with every symbolic link resolved.

        Raises:
            BundleError: not listed, missing, changed, or outside the folder.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.folder} lists no file {name!r}; {COPY_AGAIN}.")
        path = self.folder / name
        real = _inside(self.folder, path)
        with _told(path), _open_file(real) as file:
            size = os.fstat(file.fileno()).st_size
            # The size first: a file that has grown without end need not be read.
            digest = sha256_of(file).hex() if size == entry.bytes else ""
        if size != entry.bytes:
            raise BundleError(
                f"{path} has {size} bytes; the manifest says {entry.bytes}, so it was changed or "
                f"cut short: {COPY_AGAIN}."
            )
        if digest != entry.sha256:
            raise BundleError(
                f"{path} has the SHA-256 {digest}; the manifest says {entry.sha256}, so it was "
                f"changed or damaged: {COPY_AGAIN}."
            )
        return real

    def variant(
        self,
        machine: str | None = None,
        features: Iterable[str] | None = None,
        *,
        precision: str | None = None,
    ) -> Variant:
        """The first variant, in the manifest's order, that a CPU can run.

        Args:
            precision: only variants of this one; None takes any.

        Raises:
            BundleError: there is none; the message says what is missing.
        """
        machine = machine_name() if machine is None else machine
        present = cpu_features() if features is None else frozenset(features)
        variants = self._variants("cpu", precision)
        for variant in variants:
            if variant.architecture == machine and present.issuperset(variant.features):
                return variant
        if not variants:
            raise BundleError(
                f"In {precision} {self.folder} has code for GPUs alone: leave the precision out, "
                "or use the device cuda."
            )
        mine = [variant for variant in variants if variant.architecture == machine]
        if not mine:
            kinds = ", ".join(dict.fromkeys(variant.architecture for variant in variants))
            raise BundleError(
                f"{self.folder} is for {kinds}, and this machine is {machine}: compile the model "
                "for this machine with `shiftedge compile` (--list-targets shows which there are)."
            )
        lacking = [[name for name in v.features if name not in present] for v in mine]
        fewest = min(lacking, key=len)
        raise BundleError(
            f"{self.folder} needs a CPU with {', '.join(fewest)}, which this one has not: compile "
            "the model for another target with `shiftedge compile` (--list-targets shows which "
            "there are)."
        )

    def gpu_variants(
        self, machine: str | None = None, *, precision: str | None = None
    ) -> list[Variant]:
        """Those for GPUs of machines like this one, or of another architecture, in the manifest's
        order. Whether there is such a GPU, their libraries find out.

        Raises:
            BundleError: nothing is compiled in that precision.
        """
        machine = machine_name() if machine is None else machine
        variants = self._variants("cuda", precision)
        return [each for each in variants if each.architecture == machine]

    def _variants(self, device: str, precision: str | None) -> list[Variant]:
        builds = self.manifest.builds
        if precision is not None and precision not in builds:
            raise BundleError(
                f"{self.folder} is compiled in {' and '.join(builds)}, and {precision} is asked "
                "for: compile a model of that precision, or leave the precision out."
            )
        return [
            each
            for each in self.manifest.variants
            if each.device == device and precision in (None, each.precision)
        ]


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise BundleError(f"There is no bundle folder {folder}; check the path.")
    if not os.path.lexists(path):
        raise BundleError(
            f"{folder} holds no {MANIFEST_NAME}, so it is no compiled bundle; name a folder that "
            "`shiftedge compile` made, or an .onnx file."
        )
    data = _read(folder, path, MANIFEST_BYTES_MOST)
    if len(data) > MANIFEST_BYTES_MOST:
        raise BundleError(
            f"{path} has more than {MANIFEST_BYTES_MOST:,} bytes, so it is no manifest: "
            f"{COPY_AGAIN}."
        )
    return data


def _read_signature(folder: Path) -> bytes | None:
    path = folder / SIGNATURE_NAME
    return _read(folder, path, SIGNATURE_BYTES) if os.path.lexists(path) else None


def _read(folder: Path, path: Path, most: int) -> bytes:
    """A small file of the folder; a byte more than ``most`` where it is larger."""
    with _told(path), _open_file(_inside(folder, path)) as file:
        return file.read(most + 1)


def _inside(folder: Path, path: Path) -> Path:
    """Where ``path`` leads, unless that is out of ``folder``."""
    with _told(path):
        real = path.resolve(strict=True)
        inside = real.is_relative_to(folder.resolve(strict=True))
    if not inside:
        raise BundleError(
            f"{path} is a link that leads out of the bundle, to {real}; a bundle holds its files "
            f"itself: {COPY_AGAIN}."
        )
    return real


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever the file system refuses, as a sentence."""
    try:
        yield
    # RuntimeError: links in a circle, in Python before 3.13; ValueError: no path at all.
    except (OSError, RuntimeError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise BundleError(f"{path} cannot be read ({reason}): {COPY_AGAIN}.") from error


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[BinaryIO]:
    """An ordinary file; a pipe in its place would be waited for, and a device never end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("it is no ordinary file")
        yield os.fdopen(handle, "rb", closefd=False)
    finally:
        os.close(handle)


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

    Raises:
        BundleError: no signature, or by no trusted key; or a key that cannot be read.
        MissingExtraError: the package cryptography is not installed.
    """
    crypto = require("cryptography.exceptions")
    keys = [_key(path, "public") for path in _key_paths(trusted_keys)]
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
    """The signature of a manifest by a PEM file of an Ed25519 private key without a password.

    Raises:
        BundleError: the key cannot be read, or is another kind.
        MissingExtraError: the package cryptography is not installed.
    """
    signature: bytes = _key(Path(key), "private").sign(manifest)
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


_WRITES = {"private": "openssl genpkey -algorithm ed25519", "public": "openssl pkey -pubout"}
"""What writes such a key."""


def _key(path: Path, kind: Literal["private", "public"]) -> Any:
    pem = require("cryptography.hazmat.primitives.serialization")
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519")
    try:
        with open(path, "rb") as file:
            data = file.read(_KEY_BYTES_MOST)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"The key {path} cannot be read: {reason}.") from error
    cause: Exception | None = None
    try:
        if kind == "private":
            key, wanted = pem.load_pem_private_key(data, password=None), ed25519.Ed25519PrivateKey
        else:
            key, wanted = pem.load_pem_public_key(data), ed25519.Ed25519PublicKey
        if isinstance(key, wanted):
            return key
    except (ValueError, TypeError) as error:
        cause = error
    raise BundleError(
        f"{path} is no {kind} Ed25519 key in PEM; expected what `{_WRITES[kind]}` writes."
    ) from cause
