"""A network with shifts -> an ONNX file with explicit states, verified before it is written."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftedge.export.agreement import FRAMES, TOLERANCE, AgreementReport
from shiftedge.export.data.silent import silent_labels as silent
from shiftedge.export.models.shift import TemporalShift
from shiftedge.export.models.streaming import StreamingModel, evaluating
from shiftedge.export.quantize.calibration import RANGES_KEY
from shiftedge.export.verify import verify_onnx
from shiftedge.runtime.errors import ModelError, OutputError, SpecError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import atomic_path
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec
from shiftedge.runtime.words import first_line, shown

OPSET = 18
"""ONNX operator set; ONNX Runtime reads it since 1.14 (2023)."""

IR_VERSION = 9
"""ONNX file format version; ONNX Runtime reads it since 1.15, and 1.31 reads up to 13."""

SIDE_MOST = 8192
"""Pixels of a frame's side, as in ModelSpec."""

_SETTINGS = ("frame_rate_hz", "max_gap_s", "mean", "std", "decoder")
"""Fields of ModelSpec that are free to choose."""

RESIZE_MARGIN = 256 / 224
"""The paper's code scales the short side to 256 pixels and cuts out 224."""


def describe(
    net: nn.Module,
    *,
    name: str,
    labels: Sequence[str],
    height: int,
    width: int,
    resize_short_side: int | None = None,
    silent_labels: Sequence[str] | None = None,
    **settings: Any,
) -> ModelSpec:
    """The spec of ``net`` for frames of height x width pixels, its states found by a dry run.

    Args:
        net: maps (N, 3, H, W) to (N, classes), with shifts inside.
        resize_short_side: see ModelSpec; left out, 256/224 of the shorter side, as in the paper.
        silent_labels: those of ``labels`` that never become an event, () for none; left out, those
            whose names are usual for it, such as "No gesture", "none" or "background".
        settings: other fields of ModelSpec, such as ``frame_rate_hz``.

    Raises:
        ModelError: the network does not run on frames of that size, or has no shift.
        SpecError: the labels do not match the classes, one that is to be silent is none of them,
            or a setting is unknown or out of range.
    """
    _check_numbers(net)
    labels = _names("labels", labels)
    if silent_labels is not None:
        silent_labels = _names("silent_labels", silent_labels)
    for what, side in (("height", height), ("width", width)):
        if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= SIDE_MOST:
            raise SpecError(
                f"The {what} is {shown(side)}; expected a whole number of pixels from 1 to "
                f"{SIDE_MOST}."
            )
    unknown = settings.keys() - _SETTINGS
    if unknown:
        raise SpecError(
            f"There is no setting {min(unknown)!r}; the settings are {', '.join(_SETTINGS)}."
        )
    with evaluating(net), torch.no_grad():
        try:
            logits, states = StreamingModel(net).step(torch.zeros(1, 3, height, width))
        except Exception as error:  # the user's code may raise anything
            raise ModelError(
                f"The network does not run on frames of {width}x{height} pixels: "
                f"{first_line(error)}"
            ) from error
    if not states:
        idle = [name for name, part in net.named_modules() if isinstance(part, TemporalShift)]
        if idle:
            raise ModelError(
                f"The temporal shift at {idle[0]!r} moves nothing: the network does not run it, or "
                f"it has fewer than {net.get_submodule(idle[0]).fold_div} channels there; put it "
                "before a layer that is run and has more, or give insert_shift a smaller fold_div."
            )
        raise ModelError(
            "The network has no temporal shift, so there is nothing to stream; put shifts in "
            "with shiftedge.export.models.insert_shift."
        )
    if not isinstance(logits, torch.Tensor):
        raise ModelError(
            f"The network gives a {type(logits).__name__} for one frame; expected one tensor, "
            "logits of (1, classes): export a module that returns that alone."
        )
    for what, tensor in (("logits", logits), *(("a state", state) for state in states)):
        if tensor.dtype != torch.float32:
            raise ModelError(
                f"The network gives {what} of {_name(tensor)}; expected float32: convert with "
                ".float() inside it."
            )
    if logits.dim() != 2 or logits.shape[0] != 1:
        raise ModelError(
            f"The network gives {tuple(logits.shape)} for one frame; expected (1, classes)."
        )
    if len(labels) != logits.shape[1]:
        raise SpecError(
            f"There are {len(labels)} labels and the network has {logits.shape[1]} classes; give "
            "one label a line, in the order of the classes."
        )
    if resize_short_side is None:
        resize_short_side = round(min(height, width) * RESIZE_MARGIN)
    return ModelSpec(
        name=name,
        labels=tuple(labels),
        silent_labels=(
            silent(labels) if silent_labels is None else silent(labels, silent_labels, usual=False)
        ),
        height=height,
        width=width,
        resize_short_side=resize_short_side,
        states=tuple(
            StateSpec(f"state_{index}", tuple(state.shape)) for index, state in enumerate(states)
        ),
        # Each shift looks back by one more frame than the layers before it. Exact for networks
        # whose shifts follow each other, as in all of ours; a bound where they lie in branches.
        receptive_field=1 + len(states),
        **settings,
    )


def to_onnx(
    net: nn.Module, spec: ModelSpec, ranges: Mapping[str, tuple[float, int]] | None = None
) -> bytes:
    """Serialise the online step of ``net`` as ONNX with the spec in its metadata.

    Inputs ``frame`` (1, 3, H, W) and ``state_i``; outputs ``logits`` (1, classes) and
    ``next_state_i``, all float32 and of static shape. Batch norms are folded into the convolutions.
    ``ranges``, where a fine-tune for int8 held some, go into the metadata too.

    Raises:
        ModelError: the network uses something that cannot be expressed in ONNX.
    """
    _check_numbers(net)
    onnx = require("onnx")
    require("onnxscript")  # torch's exporter stands on it
    model = StreamingModel(net)
    states = [torch.zeros(state.shape) for state in spec.states]
    frame = torch.zeros(1, 3, spec.height, spec.width)
    with evaluating(net), _quiet():
        try:
            program = torch.onnx.export(
                model,
                (frame, *states),
                input_names=list(spec.inputs),
                output_names=list(spec.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert program is not None  # without a file name the exporter returns the program
            document = program.model_proto
        except Exception as error:  # the exporter raises many kinds of its own
            raise _unwritable(error) from error
    _clean(document)
    document.ir_version = IR_VERSION
    document.producer_name = "shiftedge"
    document.producer_version = ""
    del document.metadata_props[:]
    document.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    if ranges:
        document.metadata_props.add(key=RANGES_KEY, value=json.dumps(dict(ranges)))
    try:
        onnx.checker.check_model(document, full_check=True)
        serialised: bytes = document.SerializeToString(deterministic=True)
    except Exception as error:  # the checker's, and protobuf's of more than 2 GB
        raise _unwritable(error) from error
    return serialised


@working("exporting")
def export_model(
    net: nn.Module,
    spec: ModelSpec,
    path: str | Path,
    *,
    frames: int = FRAMES,
    tolerance: float = TOLERANCE,
    ranges: Mapping[str, tuple[float, int]] | None = None,
) -> AgreementReport:
    """Write ``net`` to ``path`` as ONNX, once it has been shown to compute what torch computes.

    Args:
        net: maps (N, 3, H, W) to (N, classes), with shifts inside; any torch module.
        path: of the ONNX file. Nothing is written, and a file already there is left as it was,
            unless every comparison holds.
        tolerance: largest accepted error, relative to the largest value of each tensor.
        ranges: of the checkpoint, for `shiftedge quantize`; see ``Checkpoint.ranges``.

    Raises:
        ModelError: the network cannot be exported, or an argument is none.
        SpecError: ``spec`` is none.
        VerificationError: torch and ONNX Runtime disagree.
        OutputError: ``path`` cannot be written.
    """
    _check_numbers(net)
    if not isinstance(spec, ModelSpec):
        raise SpecError(f"The spec is {shown(spec)}; expected a ModelSpec, as describe() makes it.")
    if not isinstance(path, (str, os.PathLike)):
        raise OutputError(f"The path is {shown(path)}; expected a file's name.")
    if not isinstance(frames, int) or frames < 1:
        raise ModelError(f"The stream is of {shown(frames)} frames; expected at least 1.")
    if not isinstance(tolerance, (int, float)) or not tolerance >= 0:
        raise ModelError(f"The tolerance is {shown(tolerance)}; expected a number from 0.")
    with atomic_path(path) as temporary, evaluating(net):
        serialised = to_onnx(net, spec, ranges)
        report = verify_onnx(
            StreamingModel(net), serialised, spec, frames=frames, tolerance=tolerance
        )
        report.require_passed()
        temporary.write_bytes(serialised)
    return report


def _check_numbers(net: Any) -> None:
    """Refuse a network whose numbers are no float32 on the CPU.

    Raises:
        ModelError: of the first parameter or buffer that is not, or it is no network.
    """
    if not isinstance(net, nn.Module):
        kind = "a class" if isinstance(net, type) else shown(net)
        raise ModelError(f"The network is {kind}; expected a torch.nn.Module, made and loaded.")
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if tensor.is_meta:
            raise ModelError(
                f"The network's {name} has no numbers (it is on the device meta); load its weights "
                "before it is exported."
            )
        if tensor.device.type != "cpu":
            raise ModelError(
                f"The network's {name} is on {tensor.device}; expected the CPU: call .cpu() on the "
                "network."
            )
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype != torch.float32):
            raise ModelError(
                f"The network's {name} is {_name(tensor)}; expected float32: call .float() on the "
                "network."
            )


def _names(what: str, given: Any) -> Sequence[str]:
    """A list of texts.

    Raises:
        SpecError: it is something else.
    """
    if isinstance(given, (list, tuple)) and all(isinstance(each, str) for each in given):
        return given
    raise SpecError(f"The {what} are {shown(given)}; expected a list of names.")


def _name(tensor: torch.Tensor) -> str:
    """Of its type, such as float16."""
    return str(tensor.dtype).removeprefix("torch.")


def _unwritable(error: Exception) -> ModelError:
    why = first_line(error.__cause__ or error)
    return ModelError(f"The network cannot be written as ONNX: {why}")


def _clean(document: Any) -> None:
    """Drop what the exporter leaves for debugging: names of scopes, stack traces, source paths."""
    graph = document.graph
    graph.name = "step"
    graph.doc_string = document.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings about packages that we do not need off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
