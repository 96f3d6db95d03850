"""The ONNX files that a bundle is made from: read, and of one model in different precisions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftedge.runtime.errors import CompileError, ModelError
from shiftedge.runtime.extras import require
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

__all__ = ["CHOICES", "Source", "read_model", "read_sources"]

CHOICES = ("auto", "fp32", "bf16", "int8")
"""What a user may ask for; "auto" is what the files are."""

_ORDER = ("int8", "fp32")
"""Of a bundle's builds, the quickest first."""


@dataclass(frozen=True)
class Source:
    """One file."""

    path: Path
    data: bytes
    """Serialised ONNX."""
    spec: ModelSpec


def read_sources(paths: Sequence[Path], precision: str = "auto") -> list[Source]:
    """Read the files of one bundle, in the order of its builds.

    Args:
        paths: one file, or more, each of another precision.
        precision: one of :data:`CHOICES`; other than "auto" for a single file.

    Raises:
        CompileError: not that precision, two files of one precision, or files of two models.
        ModelError: no such file, or not an ONNX file with a spec.
        SpecError: a spec is malformed or from a newer version.
    """
    if precision not in CHOICES:
        raise CompileError(
            f"There is no precision {precision!r}; expected one of {', '.join(CHOICES)}."
        )
    if precision == "bf16":
        raise CompileError(
            "Compiling in bf16 is not there yet; compile in fp32, or quantise the model to int8 "
            "with `shiftedge quantize`."
        )
    if not paths:
        raise CompileError("There is no file to compile; name at least one .onnx file.")
    if precision != "auto" and len(paths) > 1:
        raise CompileError(
            f"--precision {precision} is for one file, and {len(paths)} are named, which are each "
            "compiled in their own: leave it out."
        )
    sources = [Source(path, *read_model(path)) for path in paths]
    if precision not in ("auto", sources[0].spec.precision):
        raise CompileError(_another(sources[0], precision))
    sources.sort(key=lambda source: _ORDER.index(source.spec.precision))
    for first, second in itertools.pairwise(sources):
        _check_pair(first, second)
    return sources


def _another(source: Source, precision: str) -> str:
    """That a file has not the precision asked for, and where to get one that has."""
    if precision == "int8":
        return (
            f"{source.path} computes in float32, and int8 needs ranges of its tensors: make an "
            f"int8 file with `shiftedge quantize {source.path} --calibration SOURCE --output "
            f"{source.path.stem}-int8.onnx`, and compile that."
        )
    return (
        f"{source.path} is quantised to {source.spec.precision}, and {precision} is asked for: "
        "compile the float32 file that it was made from."
    )


def _check_pair(first: Source, second: Source) -> None:
    precision = first.spec.precision
    if precision == second.spec.precision:
        raise CompileError(
            f"{first.path} and {second.path} are both {precision}; a bundle has one model of each "
            "precision: name one of them."
        )
    keys = second.spec.differs_from(first.spec)
    if keys:
        raise CompileError(
            f"{first.path} and {second.path} differ in {', '.join(keys)}, so they are not one "
            "model in two precisions: compile them into a bundle each."
        )


def read_model(path: Path) -> tuple[bytes, ModelSpec]:
    """The bytes of an ONNX file, and its spec.

    Raises:
        ModelError: no such file, not ONNX, or without a spec.
        SpecError: the spec is malformed or from a newer version.
    """
    onnx = require("onnx")
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder; name the .onnx file to compile.")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        document = onnx.load_model_from_string(data)
        metadata = {entry.key: entry.value for entry in document.metadata_props}
    except Exception as error:  # protobuf's DecodeError has no public name across its versions
        raise ModelError(
            f"{path} is not an ONNX file, or is damaged; expected one that `shiftedge export` "
            "wrote."
        ) from error
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path} has no {METADATA_KEY} in its metadata; write it with `shiftedge export`, "
            "which describes frame, states and labels there."
        )
    return data, ModelSpec.from_json(metadata[METADATA_KEY])
