"""The manifest of a compiled bundle: what it holds, for which CPUs, and proof of it.

Like the spec, it is JSON, unknown keys are ignored, and a higher schema number is refused. It comes
with the folder, from wherever that was copied, so each field has bounds: a manifest that passed can
be printed, joined to a path and written again without another look.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from shiftedge.runtime.errors import BundleError
from shiftedge.runtime.spec import ModelSpec, is_number, is_whole, requirement
from shiftedge.runtime.words import is_text, shown

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
"""Far more than is ever recorded."""

DEPTH_MOST = 16
"""Of objects in objects."""

DEVICES = ("cpu", "cuda")
"""Kinds of what kernels run on."""

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
"""A target, a variant, an architecture, a CPU's feature."""

PATH_PART = re.compile(r"[A-Za-z0-9._@+-]{1,128}")
"""Names that every file system and shell takes as they are."""

FLOAT_MOST = 3.5e38
"""Past the largest float32."""

SHA256 = re.compile(r"[0-9a-f]{64}")

COMPILE_AGAIN = "copy or compile the bundle again"

need = requirement(BundleError, "The bundle's manifest", f": {COMPILE_AGAIN}.")


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
    """What the CPU must have, as in the line flags or Features of /proc/cpuinfo; of a GPU, such as
    "cuda_sm_53", that or a newer one."""
    precision: str = "fp32"
    """Of the build that it belongs to, one of ``spec.PRECISIONS``."""
    device: str = "cpu"
    """What its kernels run on, of :data:`DEVICES`."""


@dataclass(frozen=True)
class FileEntry:
    """A file as it was written."""

    sha256: str
    """Hexadecimal, lower case."""
    bytes: int


@dataclass(frozen=True)
class SelfTest:
    """What a board is to compute: logits of the model's reference for a clip that it makes
    itself. The reference is ONNX Runtime for float32 and fp16, and our own numpy for int8 and
    bf16."""

    clip: str
    """Name of the clip's formula, :data:`shiftedge.runtime.selftest.CLIP`."""
    tolerance: float
    """Largest accepted difference, relative to the largest magnitude of all these logits."""
    logits: tuple[tuple[float, ...], ...]
    """For each frame, from empty states on, one number for each label."""


@dataclass(frozen=True)
class Build:
    """What compiling made of one file, so of one precision; the fields are those of
    :class:`Manifest`."""

    spec: ModelSpec
    numerics: Mapping[str, Any]
    memory: Mapping[str, int]
    source_sha256: str
    kernels: tuple[Mapping[str, Any], ...]
    selftest: SelfTest | None = None
    gpus: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        document: dict[str, Any] = {
            "spec": json.loads(self.spec.to_json()),
            "numerics": dict(self.numerics),
            "memory": dict(self.memory),
            "source_sha256": self.source_sha256,
            "kernels": [dict(row) for row in self.kernels],
        }
        if self.gpus:
            document["gpus"] = {name: dict(each) for name, each in self.gpus.items()}
        if self.selftest is not None:
            logits = [list(row) for row in self.selftest.logits]
            document["selftest"] = {**asdict(self.selftest), "logits": logits}
        return document


@dataclass(frozen=True)
class Manifest:
    """All that ``manifest.json`` says. Creating one checks it.

    ``spec``, ``numerics``, ``memory``, ``source_sha256``, ``kernels``, ``selftest`` and ``gpus``
    are those of the first variant's precision; :attr:`builds` has them for every precision.

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
    gpus: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name of each variant for a GPU: its ``numerics``, ``memory`` and ``kernels``; those of the
    build itself are a processor's."""
    others: Mapping[str, Build] = field(default_factory=dict)
    """By precision: the bundle's builds beside the first one."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def builds(self) -> dict[str, Build]:
        """Every build by its precision, that of the first variant first."""
        first = Build(**{key: getattr(self, key) for key in Build.__dataclass_fields__})
        return {self.spec.precision: first, **self.others}

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        first, *others = self.builds.items()
        document = {
            **first[1].to_dict(),
            "schema": MANIFEST_SCHEMA,
            "target": self.target,
            "variants": [
                {**asdict(variant), "features": list(variant.features)} for variant in self.variants
            ],
            "files": {path: asdict(entry) for path, entry in self.files.items()},
            "tools": dict(self.tools),
        }
        if others:
            document["others"] = {precision: build.to_dict() for precision, build in others}
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
        schema: Any = document.get("schema")
        need(is_whole(schema, 1, math.inf), "schema", schema, "a number from 1")
        if schema > MANIFEST_SCHEMA:
            raise BundleError(
                f"The bundle's manifest has schema {shown(schema)}, and this shiftedge reads up to "
                f"{MANIFEST_SCHEMA}: upgrade shiftedge, or compile the bundle with this version."
            )
        _check_plain(document)
        _need_keys(document, cls)
        variants, files = document["variants"], document["files"]
        need(isinstance(variants, list), "variants", variants, "a list")
        need(isinstance(files, dict), "files", files, "an object of files")
        others = document.get("others", {})
        need(isinstance(others, dict), "others", others, "an object of builds by precision")
        return cls(
            target=document["target"],
            variants=tuple(map(_variant, variants)),
            files={path: _file(path, entry) for path, entry in files.items()},
            tools=document["tools"],
            others={precision: _build(entry) for precision, entry in others.items()},
            **vars(_build(document)),
        )


_OPTIONAL = ("selftest", "gpus", "others")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key twice: two readers would believe two different things."""
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} stands there twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _need_keys(document: Mapping[str, Any], kind: type[Build | Manifest]) -> None:
    keys = [key for key in kind.__dataclass_fields__ if key not in _OPTIONAL]
    absent = [key for key in keys if key not in document]
    if absent:
        raise BundleError(
            f"The bundle's manifest has no {', '.join(absent)}; expected {', '.join(keys)}: "
            f"{COMPILE_AGAIN}."
        )


def _build(entry: Any) -> Build:
    need(isinstance(entry, Mapping), "a build of others", entry, "an object")
    _need_keys(entry, Build)
    need(isinstance(entry["kernels"], list), "kernels", entry["kernels"], "a list")
    gpus = entry.get("gpus", {})
    need(isinstance(gpus, dict), "gpus", gpus, "an object of variants by name")
    return Build(
        spec=ModelSpec.from_dict(entry["spec"]),
        numerics=entry["numerics"],
        memory=entry["memory"],
        source_sha256=entry["source_sha256"],
        kernels=tuple(entry["kernels"]),
        selftest=_self_test(entry["selftest"]) if "selftest" in entry else None,
        gpus=gpus,
    )


def _variant(entry: Any) -> Variant:
    good = isinstance(entry, Mapping) and isinstance(entry.get("features"), list)
    need(good, "a variant", entry, "name, library, architecture and a list of features")
    return Variant(
        name=entry.get("name", ""),
        library=entry.get("library", ""),
        architecture=entry.get("architecture", ""),
        features=tuple(entry["features"]),
        precision=entry.get("precision", "fp32"),
        device=entry.get("device", "cpu"),
    )


def _file(path: str, entry: Any) -> FileEntry:
    need(isinstance(entry, Mapping), f"files[{shown(path)}]", entry, "sha256 and bytes")
    return FileEntry(sha256=entry.get("sha256", ""), bytes=entry.get("bytes", -1))


def _self_test(entry: Any) -> SelfTest:
    rows = entry.get("logits") if isinstance(entry, Mapping) else None
    good = isinstance(rows, list) and all(isinstance(row, list) for row in rows)
    need(good, "selftest", entry, "clip, tolerance and a list of lists of logits")
    return SelfTest(
        clip=entry.get("clip", ""),
        tolerance=entry.get("tolerance", 0),
        logits=tuple(map(tuple, rows or ())),
    )


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_path(value: object) -> bool:
    """A file in the folder: no way out, nothing that two systems would read differently."""
    if not isinstance(value, str) or len(value) > 512:
        return False
    parts = value.split("/")
    return all(_matches(PATH_PART, part) and part not in (".", "..") for part in parts)


def _is_bytes(value: object) -> bool:
    return is_whole(value, 0, BYTES_MOST)


def _need_word(what: str, value: object) -> None:
    expected = "a short name of letters, digits, '_', '.', '+' and '-'"
    need(_matches(WORD, value), what, value, expected)


def _need_mapping(what: str, value: object, holds: Callable[[Any], bool], entries: str) -> None:
    good = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    good = good and isinstance(value, Mapping) and all(holds(each) for each in value.values())
    need(good, what, value, f"an object of {entries}")


def _check(manifest: Manifest) -> None:
    """Raise BundleError for the first field that is out of range; say which, and what it may be."""
    spec = manifest.spec
    need(isinstance(spec, ModelSpec), "spec", spec, "a ModelSpec")
    _need_word("target", manifest.target)
    _need_mapping("files", manifest.files, lambda each: isinstance(each, FileEntry), "files")
    for path, entry in manifest.files.items():
        expected = "a path inside the bundle, of plain names and forward slashes"
        need(_is_path(path) and path != MANIFEST_NAME, "a file", path, expected)
        need(_matches(SHA256, entry.sha256), f"sha256 of {path}", entry.sha256, "64 hex digits")
        need(_is_bytes(entry.bytes), f"bytes of {path}", entry.bytes, "a size up to 2 GiB")
    _need_mapping("tools", manifest.tools, lambda each: isinstance(each, str), "versions")
    _need_mapping("others", manifest.others, lambda each: isinstance(each, Build), "builds")
    once = spec.precision not in manifest.others
    expected = f"builds of other precisions than {spec.precision}"
    need(once, "others", sorted(manifest.others), expected)
    for precision, build in manifest.builds.items():
        of = "" if build.spec is spec else f" of {precision}"
        _check_build(build, of)
        need(build.spec.precision == precision, f"spec{of}", build.spec.precision, precision)
        keys = ", ".join(build.spec.differs_from(spec))
        need(not keys, f"a spec{of} that differs in", keys, "one network in several precisions")
    _check_variants(manifest)
    _check_plain(manifest.to_dict())


def _check_variants(manifest: Manifest) -> None:
    names = [variant.name for variant in manifest.variants]
    need(len(names) > 0, "variants", names, "at least one")
    for variant in manifest.variants:
        _need_word("a variant's name", variant.name)
        of = f"of variant {variant.name}"
        library, precision = variant.library, variant.precision
        known = isinstance(library, str) and library in manifest.files
        need(known, f"library {of}", library, "the path of one of its files")
        _need_word(f"architecture {of}", variant.architecture)
        good = all(_matches(WORD, feature) for feature in variant.features)
        need(good, f"features {of}", variant.features, "names as in /proc/cpuinfo")
        known = isinstance(precision, str) and precision in manifest.builds
        need(known, f"precision {of}", precision, " or ".join(manifest.builds))
        need(variant.device in DEVICES, f"device {of}", variant.device, " or ".join(DEVICES))
    need(len(set(names)) == len(names), "variants", names, "each name once")
    order = list(dict.fromkeys(variant.precision for variant in manifest.variants))
    need(order[0] == manifest.spec.precision, "a first variant of", order[0], "the first build's")
    need(len(order) == len(manifest.builds), "variants of", order, "one for each build")


def _check_build(build: Build, of: str) -> None:
    """``of`` says which, behind a field's name."""
    need(isinstance(build.spec, ModelSpec), f"spec{of}", build.spec, "a ModelSpec")
    _need_mapping(f"numerics{of}", build.numerics, lambda value: True, "values")
    _need_mapping(f"memory{of}", build.memory, _is_bytes, "sizes in bytes, up to 2 GiB")
    absent = [key for key in MEMORY_KEYS if key not in build.memory]
    need(not absent, f"memory{of}", dict(build.memory), f"{', '.join(MEMORY_KEYS)} in it")
    for name, facts in build.gpus.items():
        rows = facts.get("kernels") if isinstance(facts, Mapping) else None
        good = isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) for row in rows)
        good = good and all(isinstance(facts.get(key), Mapping) for key in ("numerics", "memory"))
        need(good, f"gpus[{shown(name)}]{of}", facts, "numerics, memory and a list of kernels")
    source = build.source_sha256
    need(_matches(SHA256, source), f"source_sha256{of}", source, "64 hex digits")
    for row in build.kernels:
        need(isinstance(row, Mapping), f"a kernel{of}", row, "an object")
    test = build.selftest
    if test is not None:
        _need_word(f"clip of selftest{of}", test.clip)
        good = is_number(test.tolerance, 0, 1) and test.tolerance > 0
        need(good, f"tolerance of selftest{of}", test.tolerance, "a number from 0 to 1")
        good = 1 <= (count := len(test.logits)) <= SELF_TEST_FRAMES_MOST
        need(good, f"frames of selftest{of}", count, f"from 1 to {SELF_TEST_FRAMES_MOST}")
        for numbers in test.logits:
            good = len(numbers) == build.spec.classes
            good = good and all(is_number(value, -FLOAT_MOST, FLOAT_MOST) for value in numbers)
            need(good, f"logits of selftest{of}", numbers, "a finite number for each label")


def _check_plain(document: object) -> None:
    """Only what JSON, a terminal and a later reader take: of the parts that are for people too."""
    rest: list[tuple[object, int]] = [(document, 0)]
    bounds = f"{ENTRIES_MOST} entries, {DEPTH_MOST} levels deep, at most"
    while rest:
        value, depth = rest.pop()
        if isinstance(value, (Mapping, list, tuple)):
            need(depth < DEPTH_MOST and len(value) <= ENTRIES_MOST, "a part", value, bounds)
            inner = [*value, *value.values()] if isinstance(value, Mapping) else value
            rest.extend((each, depth + 1) for each in inner)
        elif isinstance(value, str):  # halves of a character, which no file can hold
            need(is_text(value), "a text", value, "whole characters")
        elif isinstance(value, float):
            need(math.isfinite(value), "a number", value, "a finite one")
        else:
            need(value is None or isinstance(value, int), "a value", value, "what JSON can hold")
