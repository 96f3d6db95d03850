"""The manifest of a compiled bundle: what it holds, for which CPUs, and proof of it.

Like the spec, it is JSON, unknown keys are ignored, and a higher schema number is refused. It comes
with the folder, from wherever that was copied, so each field has bounds: a manifest that passed can
be printed, joined to a path and written again without another look.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from shiftedge.runtime.errors import BundleError
from shiftedge.runtime.spec import ModelSpec

__all__ = [
    "MANIFEST_NAME",
    "MANIFEST_SCHEMA",
    "MEMORY_KEYS",
    "FileEntry",
    "Manifest",
    "SelfTest",
    "Variant",
]

MANIFEST_NAME = "manifest.json"
"""File name of the manifest in a bundle."""

MANIFEST_SCHEMA = 1
"""Version of the JSON form. Raised when the meaning of an existing key changes."""

MEMORY_KEYS = ("weights_bytes", "state_bytes", "workspace_bytes", "scratch_bytes")
"""What a loaded model takes: the weights once, the states for each stream (without the block's
header), the workspace for each open model, the scratch for each of its threads."""

BYTES_MOST = 1 << 31
"""Of a file or a memory; weights of a model for a board are some megabytes."""

ENTRIES_MOST = 4096
"""Of any list or object in the manifest."""

SELF_TEST_FRAMES_MOST = 256
"""Far more than is ever recorded; shiftedge-run has the same limit."""

DEPTH_MOST = 16
"""Of objects in objects."""

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
"""A target, a variant, an architecture, a CPU's feature."""

PATH_PART = re.compile(r"[A-Za-z0-9._@+-]{1,128}")
"""Names that every file system and shell takes as they are."""

FLOAT_MOST = 3.5e38
"""Past the largest float32."""

SHA256 = re.compile(r"[0-9a-f]{64}")

COMPILE_AGAIN = "copy or compile the bundle again"


@dataclass(frozen=True)
class Variant:
    """One library of the bundle, and the CPUs that can run it."""

    name: str
    """Such as "x86-64-v3"."""
    library: str
    """Path in the bundle with forward slashes, such as "lib/x86-64-v3/libmodel.so"."""
    architecture: str
    """As ``platform.machine()`` says there: "x86_64", "aarch64", "armv7l"."""
    features: tuple[str, ...]
    """What the CPU must have, as in the line flags or Features of /proc/cpuinfo."""


@dataclass(frozen=True)
class FileEntry:
    """A file as it was written."""

    sha256: str
    """Hexadecimal, lower case."""
    bytes: int


@dataclass(frozen=True)
class SelfTest:
    """What a board is to compute: the logits of ONNX Runtime for a clip that it makes itself."""

    clip: str
    """Name of the clip's formula, :data:`shiftedge.runtime.selftest.CLIP`."""
    tolerance: float
    """Largest accepted difference, relative to the largest magnitude of all these logits."""
    logits: tuple[tuple[float, ...], ...]
    """For each frame, from empty states on, one number for each label."""


@dataclass(frozen=True)
class Manifest:
    """All that ``manifest.json`` says. Creating one checks it.

    Raises:
        BundleError: a field has the wrong type or is out of range.
    """

    spec: ModelSpec
    target: str
    """Name of the target that was compiled for."""
    variants: tuple[Variant, ...]
    """In order of preference."""
    files: Mapping[str, FileEntry]
    """Every file of the folder but the manifest, by its path with forward slashes."""
    numerics: Mapping[str, Any]
    """How far the compiled step is from the ONNX file's: the report of the verification."""
    memory: Mapping[str, int]
    """Bytes, by :data:`MEMORY_KEYS`."""
    tools: Mapping[str, str]
    """Name of each tool that took part -> its version."""
    source_sha256: str
    """Of the ONNX file."""
    kernels: tuple[Mapping[str, Any], ...]
    """One row for each kernel of the step, in order, for people."""
    selftest: SelfTest | None = None
    """None where the model was not verified, or by an older version."""

    def __post_init__(self) -> None:
        _check(self)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        document = {
            "schema": MANIFEST_SCHEMA,
            "spec": json.loads(self.spec.to_json()),
            "target": self.target,
            "variants": [
                {**asdict(variant), "features": list(variant.features)} for variant in self.variants
            ],
            "files": {path: asdict(entry) for path, entry in self.files.items()},
            "numerics": dict(self.numerics),
            "memory": dict(self.memory),
            "tools": dict(self.tools),
            "source_sha256": self.source_sha256,
            "kernels": [dict(row) for row in self.kernels],
        }
        if self.selftest is not None:
            logits = [list(row) for row in self.selftest.logits]
            document["selftest"] = {**asdict(self.selftest), "logits": logits}
        return document

    def to_json(self) -> str:
        """The manifest as text: the same bytes for the same manifest."""
        text = json.dumps(
            self.to_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
        )
        return text + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse and check JSON text.

        Raises:
            BundleError: not JSON, a key twice, from a newer schema, or a field is missing, of the
                wrong type or out of range.
            SpecError: the same of the spec in it.
        """
        try:
            document = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"The bundle's manifest is not valid JSON ({error}): {COMPILE_AGAIN}."
            ) from error
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, document: object) -> Manifest:
        """Build a manifest from parsed JSON; raises as :meth:`from_json` does."""
        if not isinstance(document, Mapping):
            raise BundleError(
                f"The bundle's manifest is a {type(document).__name__}; expected a JSON object: "
                f"{COMPILE_AGAIN}."
            )
        schema = document.get("schema")
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            _refuse("schema", schema, "a number from 1")
        if schema > MANIFEST_SCHEMA:
            raise BundleError(
                f"The bundle's manifest has schema {reprlib.repr(schema)}, and this shiftedge "
                f"reads up to {MANIFEST_SCHEMA}: upgrade shiftedge, or compile the bundle with "
                "this version."
            )
        _check_plain(document)
        fields = [key for key in cls.__dataclass_fields__ if key != "selftest"]
        absent = [key for key in fields if key not in document]
        if absent:
            raise BundleError(
                f"The bundle's manifest has no {', '.join(absent)}; expected {', '.join(fields)}: "
                f"{COMPILE_AGAIN}."
            )
        files = _need(document, "files", dict, "an object of files")
        return cls(
            spec=ModelSpec.from_dict(document["spec"]),
            target=document["target"],
            variants=tuple(map(_variant, _need(document, "variants", list, "a list"))),
            files={path: _file(path, entry) for path, entry in files.items()},
            numerics=document["numerics"],
            memory=document["memory"],
            tools=document["tools"],
            source_sha256=document["source_sha256"],
            kernels=tuple(_need(document, "kernels", list, "a list")),
            selftest=_self_test(document["selftest"]) if "selftest" in document else None,
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key twice: two readers would believe two different things."""
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {reprlib.repr(twice)} stands there twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _refuse(what: str, value: object, expected: str) -> NoReturn:
    raise BundleError(
        f"The bundle's manifest has {what} = {reprlib.repr(value)}; expected {expected}: "
        f"{COMPILE_AGAIN}."
    )


def _need(document: Mapping[str, Any], key: str, kind: type, expected: str) -> Any:
    value = document[key]
    if not isinstance(value, kind):
        _refuse(key, value, expected)
    return value


def _variant(entry: object) -> Variant:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("features"), list):
        _refuse("a variant", entry, "name, library, architecture and a list of features")
    return Variant(
        name=entry.get("name", ""),
        library=entry.get("library", ""),
        architecture=entry.get("architecture", ""),
        features=tuple(entry["features"]),
    )


def _file(path: str, entry: object) -> FileEntry:
    if not isinstance(entry, Mapping):
        _refuse(f"files[{reprlib.repr(path)}]", entry, "sha256 and bytes")
    return FileEntry(sha256=entry.get("sha256", ""), bytes=entry.get("bytes", -1))


def _self_test(entry: object) -> SelfTest:
    rows = entry.get("logits") if isinstance(entry, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        _refuse("selftest", entry, "clip, tolerance and a list of lists of logits")
    assert isinstance(entry, Mapping)
    return SelfTest(
        clip=entry.get("clip", ""),
        tolerance=entry.get("tolerance", 0),
        logits=tuple(map(tuple, rows)),
    )


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_bytes(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= BYTES_MOST


def _is_number(value: object, most: float) -> bool:
    """A number of that magnitude at most; NaN is none."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and -most <= value <= most
    )


def _is_path(value: object) -> bool:
    """A file in the folder: no way out, nothing that two systems would read differently."""
    if not isinstance(value, str) or len(value) > 512:
        return False
    parts = value.split("/")
    return all(_matches(PATH_PART, part) and part not in (".", "..") for part in parts)


def _check(manifest: Manifest) -> None:
    """Raise BundleError for the first field that is out of range; say which, and what it may be."""

    def need(holds: bool, what: str, value: object, expected: str) -> None:
        if not holds:
            _refuse(what, value, expected)

    def need_mapping(what: str, holds: Callable[[Any], bool], expected: str) -> None:
        value = getattr(manifest, what)
        good = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        need(good and all(holds(each) for each in value.values()), what, value, expected)

    word = "a short name of letters, digits, '_', '.', '+' and '-'"
    need(isinstance(manifest.spec, ModelSpec), "spec", manifest.spec, "a ModelSpec")
    need(_matches(WORD, manifest.target), "target", manifest.target, word)
    need_mapping("files", lambda entry: isinstance(entry, FileEntry), "an object of files")
    for path, entry in manifest.files.items():
        expected = "a path inside the bundle, of plain names and forward slashes"
        need(_is_path(path) and path != MANIFEST_NAME, "a file", path, expected)
        need(_matches(SHA256, entry.sha256), f"sha256 of {path}", entry.sha256, "64 hex digits")
        need(_is_bytes(entry.bytes), f"bytes of {path}", entry.bytes, "a size up to 2 GiB")
    names = [variant.name for variant in manifest.variants]
    need(len(names) > 0, "variants", names, "at least one")
    for variant in manifest.variants:
        need(_matches(WORD, variant.name), "a variant's name", variant.name, word)
        what = f"variant {variant.name}"
        for key in ("library", "architecture"):
            value = getattr(variant, key)
            need(isinstance(value, str), f"{key} of {what}", value, "text")
        need(
            variant.library in manifest.files,
            f"library of {what}",
            variant.library,
            "the path of one of its files",
        )
        need(
            _matches(WORD, variant.architecture),
            f"architecture of {what}",
            variant.architecture,
            word,
        )
        good = all(_matches(WORD, feature) for feature in variant.features)
        need(good, f"features of {what}", variant.features, "names as in /proc/cpuinfo")
    need(len(set(names)) == len(names), "variants", names, "each name once")
    need_mapping("numerics", lambda value: True, "an object")
    need_mapping("memory", _is_bytes, "sizes in bytes, up to 2 GiB")
    absent = [key for key in MEMORY_KEYS if key not in manifest.memory]
    need(not absent, "memory", dict(manifest.memory), f"{', '.join(MEMORY_KEYS)} in it")
    need_mapping("tools", lambda value: isinstance(value, str), "an object of versions")
    source = manifest.source_sha256
    need(_matches(SHA256, source), "source_sha256", source, "64 hex digits")
    for row in manifest.kernels:
        need(isinstance(row, Mapping), "a kernel", row, "an object")
    test = manifest.selftest
    if test is not None:
        need(_matches(WORD, test.clip), "clip of selftest", test.clip, word)
        good = _is_number(test.tolerance, 1) and test.tolerance > 0
        need(good, "tolerance of selftest", test.tolerance, "a number from 0 to 1")
        count = len(test.logits)
        good = 1 <= count <= SELF_TEST_FRAMES_MOST
        need(good, "frames of selftest", count, f"from 1 to {SELF_TEST_FRAMES_MOST}")
        for numbers in test.logits:
            good = len(numbers) == manifest.spec.classes
            good = good and all(_is_number(value, FLOAT_MOST) for value in numbers)
            need(good, "logits of selftest", numbers, "a finite number for each label")
    _check_plain(manifest.to_dict())


def _check_plain(document: object) -> None:
    """Only what JSON, a terminal and a later reader take: of the parts that are for people too."""
    rest: list[tuple[object, int]] = [(document, 0)]
    while rest:
        value, depth = rest.pop()
        if isinstance(value, (Mapping, list, tuple)):
            if depth >= DEPTH_MOST or len(value) > ENTRIES_MOST:
                _refuse(
                    "a part", value, f"{ENTRIES_MOST} entries, {DEPTH_MOST} levels deep, at most"
                )
            inner = [*value, *value.values()] if isinstance(value, Mapping) else value
            rest.extend((each, depth + 1) for each in inner)
        elif isinstance(value, str):
            # Halves of a character, which no file can hold.
            if any("\ud800" <= letter <= "\udfff" for letter in value):
                _refuse("a text", value, "whole characters")
        elif isinstance(value, float) and not math.isfinite(value):
            _refuse("a number", value, "a finite one")
        elif value is not None and not isinstance(value, (bool, int, float)):
            _refuse("a value", value, "what JSON can hold")
