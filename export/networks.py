"""Where a network to export comes from: a checkpoint, an architecture, or somebody's own module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shiftedge.export.catalogue import JESTER_LABELS
from shiftedge.export.checkpoint import Checkpoint
from shiftedge.export.data.silent import silent_labels
from shiftedge.export.models.build import ARCHITECTURES, build
from shiftedge.export.to_onnx import describe
from shiftedge.runtime.errors import ModelError, SpecError
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

DEFAULT_SIZE = 224
"""Pixels a side, as in the paper."""

# fmt: off
TRAINED = (
    "height", "width", "resize_short_side", "frame_rate_hz", "mean", "std", "max_gap_s",
    "silent_labels",
)
# fmt: on
"""Fields of the spec that our own checkpoints hold beside the decoder's: training fixes them."""


def spec_of(
    checkpoint: Checkpoint,
    *,
    labels: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    name: str | None = None,
    silent: Sequence[str] = (),
    usual_silent: bool = True,
) -> ModelSpec:
    """The spec of a checkpoint's network.

    Args:
        labels: one for each class; left out: those in the file, Jester's for the official online
            file, or "class 0", "class 1", ...
        size: (width, height) of the model's frame in pixels; left out: the file's, or 224x224.
        name: for people; left out: the file's name.
        silent, usual_silent: see :func:`from_name`; a file that says which labels are silent is
            believed, and ``silent`` come to them.

    Raises:
        SpecError: the labels do not match the classes.
        ModelError: the network does not run at that size.
    """
    settings = _settings(checkpoint)
    if size is not None:
        for side in ("height", "width", "resize_short_side"):
            settings.pop(side, None)
        settings["width"], settings["height"] = size
    settings.setdefault("height", DEFAULT_SIZE)
    settings.setdefault("width", DEFAULT_SIZE)
    chosen = labels or _labels(checkpoint)
    stored = settings.pop("silent_labels", None)
    if usual_silent and stored is not None and checkpoint.labels is not None:
        # By their places, since they may have got other names.
        places = [checkpoint.labels.index(label) for label in stored if label in checkpoint.labels]
        silent = (*silent, *(chosen[place] for place in places if place < len(chosen)))
        usual_silent = False
    return describe(
        checkpoint.net,
        name=name or checkpoint.path.name.split(".")[0],
        labels=chosen,
        silent_labels=silent_labels(chosen, silent, usual=usual_silent),
        **settings,
    )


def from_name(
    name: str,
    *,
    classes: int,
    labels: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    width: float = 1.0,
    silent: Sequence[str] = (),
    usual_silent: bool = True,
    seed: int = 0,
) -> tuple[nn.Module, ModelSpec]:
    """A network by architecture (untrained, for measuring) or by ``module:function`` of the user's.

    Args:
        name: a key of ``ARCHITECTURES``, or ``package.module:function`` of a function that takes
            no argument and gives a torch module with shifts in it. That module is imported, which
            runs its code.
        classes: length of the logits, where there are no labels to count.
        labels: one for each class; left out: "class 0", ...
        size: (width, height) in pixels; left out: 224x224.
        width: multiplier of MobileNetV2's channels.
        silent: labels that never become an event, besides those whose names are usual for it.

    Raises:
        ModelError: no such architecture, module or function, or it gives no torch module.
        SpecError: the labels do not match the classes.
    """
    count = classes if labels is None else len(labels)
    if ":" in name:
        net = _own_module(name)
    elif name in ARCHITECTURES:
        description: dict[str, Any] = {"architecture": name, "classes": count}
        if name == "mobilenet_v2":
            description["width"] = width
        torch.manual_seed(seed)
        net = build(description)
    else:
        raise ModelError(
            f"There is no architecture {name!r}; known are {', '.join(ARCHITECTURES)}, and "
            "module:function for a network of your own. A fetched model is exported with "
            "--checkpoint FILE."
        )
    columns, rows = size or (DEFAULT_SIZE, DEFAULT_SIZE)
    chosen = labels or [f"class {index}" for index in range(count)]
    return net, describe(
        net,
        name=name.rpartition(":")[2],
        labels=chosen,
        height=rows,
        width=columns,
        silent_labels=silent_labels(chosen, silent, usual=usual_silent),
    )


def read_labels(path: str | Path) -> list[str]:
    """Labels from a text file, one a line in the order of the classes; empty lines are skipped.

    Raises:
        SpecError: the file cannot be read as text, or holds none.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"Cannot read the labels from {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path} is no text in UTF-8; expected one label a line, in the order of the classes."
        ) from error
    labels = [line.strip() for line in text.splitlines() if line.strip()]
    if not labels:
        raise SpecError(
            f"{path} holds no labels; expected one a line, in the order of the classes."
        )
    return labels


def _labels(checkpoint: Checkpoint) -> Sequence[str]:
    if checkpoint.labels is not None:
        return checkpoint.labels
    if checkpoint.family == "official online" and checkpoint.classes == len(JESTER_LABELS):
        return JESTER_LABELS
    return [f"class {index}" for index in range(checkpoint.classes)]


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    stored = checkpoint.spec
    settings = {key: stored[key] for key in TRAINED if key in stored}
    for key in ("mean", "std", "silent_labels"):
        if key in settings:
            settings[key] = tuple(settings[key])
    decoder = stored.get("decoder")
    if decoder is not None:
        try:
            settings["decoder"] = DecoderSettings(**decoder)
        except TypeError as error:
            raise SpecError(
                f"{checkpoint.path}: its decoder settings are not understood ({error})."
            ) from error
    return settings


def _own_module(name: str) -> nn.Module:
    module_name, _, function_name = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the user, as `python -m` would find it
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        net = function()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{name} gave no network: {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise ModelError(f"{name} gave a {type(net).__name__}; expected a torch.nn.Module.")
    return net.eval()
