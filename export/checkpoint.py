"""Checkpoints in, networks out: four formats told apart by their keys, none of them executed.

Every file goes through torch's ``weights_only`` reader, which builds tensors and plain containers
and refuses anything that would run code.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shiftedge.export.checkpoint_names import Family, family_of, stem_and_head
from shiftedge.export.models.build import build
from shiftedge.runtime.errors import CheckpointError, TwoWayCheckpointError
from shiftedge.runtime.files import atomic_path

__all__ = [
    "OWN_FORMAT",
    "OWN_VERSION",
    "Checkpoint",
    "load_checkpoint",
    "save_checkpoint",
    "serialise_checkpoint",
]

OWN_FORMAT = "shiftedge.checkpoint"
OWN_VERSION = 1
WIDTHS = (1.0, 0.5, 0.75, 1.4, 0.35, 0.25, 1.3, 2.0)
"""MobileNetV2 width multipliers in use, tried in this order against the tensors' shapes."""

KNOWN_FORMATS = (
    "the official TSM online and training checkpoints, mmaction2's, and those that "
    "`shiftedge train` writes"
)


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights in it, in evaluation mode, and what the file said of itself."""

    net: nn.Module
    description: dict[str, Any]
    """Arguments of :func:`shiftedge.export.models.build.build`."""
    family: str
    """"official online", "official training", "mmaction2" or "shiftedge"."""
    two_way: bool
    labels: tuple[str, ...] | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    """What training fixed of the model spec: size, frame rate, decoder. Own files only."""
    training: dict[str, Any] = field(default_factory=dict)
    """Seed, command and scores, for the record. Own files only."""
    ranges: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Of a fine-tune for int8: scale and zero point of what each module gives. Own files only."""

    @property
    def classes(self) -> int:
        """Length of the logits."""
        return int(self.description["classes"])


def load_checkpoint(path: str | Path, *, accept_two_way: bool = False) -> Checkpoint:
    """Read a checkpoint of any known family.

    Args:
        path: the file.
        accept_two_way: take weights that were trained with future frames all the same.

    Raises:
        CheckpointError: unreadable, unsafe, of no known family, or not fitting its network.
        TwoWayCheckpointError: trained with a two-way shift and ``accept_two_way`` is False.
    """
    path = Path(path)
    document = _read(path)
    if not isinstance(document, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(document).__name__}; expected a dictionary of tensors."
        )
    if document.get("format") == OWN_FORMAT:
        return _own(path, document)
    tensors = _tensors(path, document)
    family = family_of(tensors)
    if family is None:
        first = ", ".join(list(tensors)[:3])
        raise CheckpointError(
            f"{path} has parameters of no known family ({first}, ...); expected {KNOWN_FORMATS}. "
            "For a network of your own, build it in Python and call shiftedge.export.export_model."
        )
    if family.two_way:
        _check_two_way(path, tensors, family, accept_two_way)
    renamed = {family.rename(key): value for key, value in tensors.items()}
    if family.name == "mmaction2":
        rename = stem_and_head(renamed)
        renamed = {rename(key): value for key, value in renamed.items()}
    description, state = _describe(path, renamed)
    net = _filled(path, description, state)
    return Checkpoint(net, description, family.name, family.two_way)


def save_checkpoint(
    path: str | Path,
    net: nn.Module,
    description: Mapping[str, Any],
    *,
    labels: tuple[str, ...],
    spec: Mapping[str, Any],
    training: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, int]] | None = None,
) -> None:
    """Write our own format, atomically. See :class:`Checkpoint` for the arguments.

    Raises:
        OutputError: the file cannot be written.
    """
    content = serialise_checkpoint(
        net, description, labels=labels, spec=spec, training=training, ranges=ranges
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def serialise_checkpoint(
    net: nn.Module,
    description: Mapping[str, Any],
    *,
    labels: tuple[str, ...],
    spec: Mapping[str, Any],
    training: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, int]] | None = None,
) -> bytes:
    """What :func:`save_checkpoint` writes."""
    document = {
        "format": OWN_FORMAT,
        "version": OWN_VERSION,
        "model": dict(description),
        "labels": list(labels),
        "spec": dict(spec),
        "training": dict(training),
        **({} if ranges is None else {"ranges": {k: list(pair) for k, pair in ranges.items()}}),
        "state_dict": {key: value.detach().cpu() for key, value in net.state_dict().items()},
    }
    buffer = io.BytesIO()  # torch's own writer takes a full disk for damage
    torch.save(document, buffer)
    return buffer.getvalue()


def _read(path: Path) -> Any:
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the checkpoint {path}: {error.strerror}; name an existing file."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # torch warns of the legacy format the official file has
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))  # the name it would have called
        if wanted is not None:
            raise CheckpointError(
                f"{path} asks to run code when it is opened ({wanted[1]}), which shiftedge never "
                "does; load it where you trust it and save its state_dict alone."
            ) from error
        raise CheckpointError(_damaged(path, size)) from error
    except (
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        IndexError,
        OSError,
        AttributeError,
        AssertionError,
        OverflowError,
        MemoryError,
        zipfile.BadZipFile,
    ) as error:  # whatever a damaged file leads torch's reader to
        raise CheckpointError(_damaged(path, size)) from error


def _damaged(path: Path, size: int) -> str:
    return (
        f"{path} ({size:,} bytes) is not a whole torch checkpoint: it is truncated, damaged or "
        "another kind of file; fetch or copy it again."
    )


def _tensors(path: Path, document: Mapping[Any, Any]) -> dict[str, Tensor]:
    inner = document.get("state_dict", document)
    if not isinstance(inner, Mapping):
        raise CheckpointError(f"{path}: its state_dict is no dictionary; expected {KNOWN_FORMATS}.")
    tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors; expected {KNOWN_FORMATS}.")
    return tensors


def _check_two_way(
    path: Path, tensors: Mapping[str, Tensor], family: Family, accepted: bool
) -> None:
    if not any(".net." in key for key in tensors):
        raise CheckpointError(
            f"{path} was trained without a temporal shift (no shifted convolution in it): "
            "streaming it with one would garble its features; train it with the shift, or export "
            "the network as it is from Python with shiftedge.export.export_model."
        )
    if not accepted:
        raise TwoWayCheckpointError(
            f"{path} is an {family.name} checkpoint, trained with a two-way shift: each "
            "prediction saw features of the next frame, which a live camera does not have yet, and "
            "run online it would silently lose accuracy. Use an online (one-way) checkpoint, train "
            "this one further with `shiftedge train --start`, or pass --accept-two-way to take it "
            "as it is."
        )


def _describe(
    path: Path, renamed: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Architecture and arguments from names and shapes, and the classifier under its final name."""
    mobile = any(key.startswith("features.") for key in renamed)
    classifier = "classifier" if mobile else "fc"
    state = {key.replace("<classifier>", classifier): value for key, value in renamed.items()}
    weight = state.get(f"{classifier}.weight")
    if weight is None or weight.dim() != 2:
        raise CheckpointError(
            f"{path} has no classifier ({classifier}.weight); expected {KNOWN_FORMATS}."
        )
    description: dict[str, Any] = {"classes": int(weight.shape[0])}
    if not mobile:
        if "layer1.0.conv3.weight" not in state:
            raise CheckpointError(
                f"{path} is a network that is not known here; MobileNetV2 and ResNet-50 are. "
                "For another one, build it in Python and call shiftedge.export.export_model."
            )
        return {"architecture": "resnet50", **description}, state
    stem = state.get("features.0.0.weight")
    if stem is None or stem.dim() != 4:
        raise CheckpointError(f"{path} has no first convolution (features.0.0.weight).")
    description["previous_frame"] = stem.shape[1] == 6
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    best: tuple[int, dict[str, Any]] | None = None
    for width in WIDTHS:
        candidate = {"architecture": "mobilenet_v2", **description, "width": width}
        with torch.device("meta"):
            expected = build(candidate).state_dict()
        wrong = sum(shapes.get(key) != tuple(value.shape) for key, value in expected.items())
        if best is None or wrong < best[0]:
            best = (wrong, candidate)
        if wrong == 0:
            break
    assert best is not None  # WIDTHS is not empty
    return best[1], state


def _filled(path: Path, description: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    net = build(description)
    expected = net.state_dict()
    name = str(description["architecture"])
    missing = [key for key in expected if key not in state and "num_batches" not in key]
    surplus = [key for key in state if key not in expected]
    if missing or surplus:
        kind, keys = ("lacks", missing) if missing else ("has besides", surplus)
        raise CheckpointError(
            f"{path} does not fit {name}: it {kind} {len(keys)} of its parameters, such as "
            f"{', '.join(keys[:3])}; check that it is a checkpoint of this architecture."
        )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{path} does not fit {name}: {key} has shape {tuple(value.shape)}; expected "
                f"{tuple(expected[key].shape)}."
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path}: {key} holds NaN or infinity; the training diverged, or the file is "
                "damaged."
            )
    net.load_state_dict(dict(state), strict=False)  # older files lack num_batches_tracked
    return net.eval()


def _own(path: Path, document: Mapping[str, Any]) -> Checkpoint:
    version = document.get("version")
    if not isinstance(version, int) or version < 1:
        raise CheckpointError(f"{path}: its version is {version!r}; expected {OWN_VERSION}.")
    if version > OWN_VERSION:
        raise CheckpointError(
            f"{path} is of format version {version}, and this shiftedge reads up to {OWN_VERSION}: "
            "upgrade shiftedge."
        )
    parts: dict[str, Any] = {}
    for key, kind in (("model", dict), ("labels", list), ("spec", dict), ("state_dict", dict)):
        value = document.get(key)
        if not isinstance(value, kind):
            raise CheckpointError(
                f"{path}: its {key} is a {type(value).__name__}; expected a {kind.__name__}."
            )
        parts[key] = value
    description, labels = dict(parts["model"]), parts["labels"]
    if description.get("classes") != len(labels):
        raise CheckpointError(
            f"{path} names {len(labels)} labels for {description.get('classes')} classes; "
            "expected one for each."
        )
    net = _filled(path, description, _tensors(path, parts["state_dict"]))
    training = document.get("training")
    return Checkpoint(
        net,
        description,
        "shiftedge",
        two_way=False,
        labels=tuple(str(label) for label in labels),
        spec=dict(parts["spec"]),
        training=dict(training) if isinstance(training, Mapping) else {},
        ranges=_ranges(path, document.get("ranges", {})),
    )


def _ranges(path: Path, stored: Any) -> dict[str, tuple[float, int]]:
    try:
        pairs = {str(name): (float(scale), int(zero)) for name, (scale, zero) in stored.items()}
        good = all(0.0 < scale < math.inf and 0 <= zero <= 255 for scale, zero in pairs.values())
    except (AttributeError, TypeError, ValueError):
        good = False
    if not good:
        raise CheckpointError(
            f"{path}: its ranges are malformed; expected a scale above 0 and a zero point of 0 to "
            "255 for each module: fine-tune again with `shiftedge train --quantize`."
        )
    return pairs
