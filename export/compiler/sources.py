"""The ONNX files that a bundle is made from: read, and of one model in different precisions.

An int8 build is made from an int8 file, whose ranges came from calibration; a bf16 or fp16 build
from the float32 file, since rounding needs no more than the numbers themselves.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shiftedge.export.compiler.numerics.precision import PRECISIONS
from shiftedge.runtime.engines.onnx_claims import check_spec, check_weights
from shiftedge.runtime.engines.onnxruntime import check_claims
from shiftedge.runtime.errors import CompileError, MissingExtraError, ModelError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

CHOICES = ("auto", "fp32", "bf16", "fp16", "int8")
"""What a user may ask for, several with commas between; "auto" is what the files are."""


@dataclass(frozen=True)
class Source:
    """One file, and what is made of it."""

    path: Path
    data: bytes
    """Serialised ONNX."""
    spec: ModelSpec
    """Of the file."""
    precision: str
    """What it is compiled in: the file's own, or bf16 or fp16 of a float32 file."""

    @property
    def compiled_spec(self) -> ModelSpec:
        """Of the compiled model: a spec in bf16 or fp16 says so, and that of the states."""
        precision = PRECISIONS[self.precision]
        if precision.made_from == self.precision:
            return self.spec
        states = (
            # A vector stays float32, as ``Builder.dtype_of`` has it.
            each if math.prod(each.shape[2:]) == 1 else replace(each, dtype=precision.storage)
            for each in self.spec.states
        )
        return replace(self.spec, precision=self.precision, states=tuple(states))


def read_sources(paths: Sequence[Path], precision: str = "auto") -> list[Source]:
    """Read the files of one bundle, in the order of its builds.

    Args:
        paths: one file, or more, each of another precision.
        precision: of the builds, of :data:`CHOICES`, with commas between several.

    Raises:
        CompileError: no such precision, none of the files can be compiled in it, or a file is of
            none that is asked for; two files of one precision, or files of two models.
        ModelError: no such file, or not an ONNX file with a spec.
        SpecError: a spec is malformed or from a newer version.
    """
    wanted = _wanted(precision)
    if not paths:
        raise CompileError("There is no file to compile; name at least one .onnx file.")
    files = _by_precision(paths)
    first, *others = files.values()
    for other in others:
        _check_pair(first, other)
    wanted = wanted or tuple(files)
    for name in wanted:
        if PRECISIONS[name].made_from not in files:
            raise CompileError(_another(first, name))
    used = {PRECISIONS[name].made_from for name in wanted}
    for name, source in files.items():
        if name not in used:
            raise CompileError(
                f"{source.path} is {name}, and nothing that is asked for ({', '.join(wanted)}) is "
                "made from it: leave the file out, or name its precision too."
            )
    # The quickest first.
    ordered = [precision for name, precision in PRECISIONS.items() if name in wanted]
    return [replace(files[each.made_from], precision=each.name) for each in ordered]


def _wanted(precision: str) -> tuple[str, ...]:
    """What is asked for, each once; nothing for "auto"."""
    names = tuple(dict.fromkeys(precision.split(",")))
    for name in names:
        if name not in CHOICES or (name == "auto" and len(names) > 1):
            raise CompileError(
                f"There is no precision {precision!r}; expected one of {', '.join(CHOICES)}, or "
                "several with commas between, such as bf16,fp32."
            )
    return () if names == ("auto",) else names


def _by_precision(paths: Sequence[Path]) -> dict[str, Source]:
    """The files by what they say they compute in."""
    files: dict[str, Source] = {}
    for path in paths:
        data, spec = read_model(path)
        precision = spec.precision
        if precision not in PRECISIONS or PRECISIONS[precision].made_from != precision:
            raise CompileError(
                f"{path} says that it computes in {precision}, which no ONNX file does here: "
                f"compile the float32 file, with --precision {precision}."
            )
        if precision in files:
            raise CompileError(
                f"{files[precision].path} and {path} are both {precision}; a bundle has one model "
                "of each precision: name one of them."
            )
        files[precision] = Source(path, data, spec, precision)
    return files


def _another(source: Source, precision: str) -> str:
    """That a file has not the precision asked for, and where to get one that has."""
    if PRECISIONS[precision].quantized:
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
    keys = second.spec.differs_from(first.spec)
    if keys:
        raise CompileError(
            f"{first.path} and {second.path} differ in {', '.join(keys)}, so they are not one "
            "model in two precisions: compile them into a bundle each."
        )


def read_model(path: Path) -> tuple[bytes, ModelSpec]:
    """The bytes of an ONNX file, and its spec.

    Raises:
        ModelError: no such file, not ONNX, without a spec, or of tensors that no board holds.
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
    check_weights(data, path)
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path} has no {METADATA_KEY} in its metadata; write it with `shiftedge export`, "
            "which describes frame, states and labels there."
        )
    spec = ModelSpec.from_json(metadata[METADATA_KEY])
    check_spec(spec, path)
    # What no board's memory holds, as far as ONNX Runtime is there to say it.
    with contextlib.suppress(MissingExtraError):  # the frontend knows no operator that expands
        check_claims(data, path)
    return data, spec
