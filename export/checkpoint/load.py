"""What a file holds -> a network with the weights in it, its past first."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shiftedge.export.checkpoint.families import ONLINE, NamedWeights, find_weights, translated
from shiftedge.export.checkpoint.file import read_file
from shiftedge.export.models.build import build
from shiftedge.export.models.channel_order import past_first
from shiftedge.export.models.inverted_residual import STEM_CHANNELS, MobileNetV2, scaled
from shiftedge.export.models.resnet import LAYERS, ResNet
from shiftedge.export.models.shift import FOLD_DIV
from shiftedge.runtime.errors import CheckpointError, TwoWayCheckpointError

OWN_FORMAT = "shiftedge.checkpoint"
OWN_VERSION = 1
WIDTHS = (1.0, 0.5, 0.75, 1.4, 0.35, 0.25, 1.3, 2.0)
"""MobileNetV2 width multipliers in use, tried in this order against the tensors' shapes."""

READINGS = ("one-way", "two-way")
"""How the shift ran while the weights were trained: from the past alone, or from the future too."""


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights in it, in evaluation mode, and what the file said of itself."""

    path: Path
    net: nn.Module
    """Its one-way form gives the past to the channels that learned on it."""
    description: dict[str, Any]
    """Arguments of :func:`shiftedge.export.models.build.build`."""
    family: str
    """"official online", "official training", "mmaction2" or "shiftedge"."""
    two_way: bool
    """Whether the weights were read as trained with future frames."""
    labels: tuple[str, ...] | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    """What training fixed of the model spec: size, frame rate, decoder. Own files only."""
    training: dict[str, Any] = field(default_factory=dict)
    """Seed, command and scores, for the record. Own files only."""
    ranges: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Of a fine-tune for int8: scale and zero point of what each module gives. Own files only."""
    notes: tuple[str, ...] = ()
    """What a user should know of how the file was read: which weights of several, and how."""

    @property
    def classes(self) -> int:
        """Length of the logits."""
        return int(self.description["classes"])


def load_checkpoint(
    path: str | Path,
    *,
    read_as: str | None = None,
    weights: str | None = None,
    shift_div: int | None = None,
) -> Checkpoint:
    """Read a checkpoint of any known family.

    Args:
        path: the file, or a folder of a trainer with one file of weights in it.
        read_as: one of :data:`READINGS`, which no file but our own says; None: one-way for an
            official online file, and a refusal for the files of the training codes.
        weights: which set of weights, where a file holds several; None: an average, where there is
            one.
        shift_div: channels per shifted channel, which no file but our own says; None: 8.

    Raises:
        CheckpointError: unreadable, unsafe, of no known family, with a shift where none is known,
            or not fitting its network.
        TwoWayCheckpointError: nothing says whether the weights were trained one-way or two-way.
    """
    path = Path(path)
    if read_as is not None and read_as not in READINGS:
        raise CheckpointError(
            f"A checkpoint cannot be read as {read_as!r}; expected one of {', '.join(READINGS)}."
        )
    document = read_file(path)
    if isinstance(document, Mapping) and document.get("format") == OWN_FORMAT:
        if read_as == "two-way" or shift_div is not None or weights is not None:
            raise CheckpointError(
                f"{path} says itself how it was trained, one-way by shiftedge; leave out how to "
                "read it."
            )
        return _own(path, document)
    found, notes = find_weights(path, document, weights)
    named = translated(path, found)
    reading = _reading(path, named, read_as)
    description = _described(path, named)
    if shift_div not in (None, FOLD_DIV):
        description["shift_div"] = shift_div
    net = _filled(path, description, named.tensors)
    if reading == "two-way":
        past_first(net)
        notes.append(
            f"reads {path} as trained two-way: the second eighth of each shifted map, which "
            "learned the frame before, gets it; expect a lower accuracy than with future frames"
        )
    two_way = reading == "two-way"
    return Checkpoint(path, net, description, named.family, two_way=two_way, notes=tuple(notes))


def serialise_checkpoint(
    net: nn.Module,
    description: Mapping[str, Any],
    *,
    labels: tuple[str, ...],
    spec: Mapping[str, Any],
    training: Mapping[str, Any],
    ranges: Mapping[str, tuple[float, int]] | None = None,
) -> bytes:
    """The bytes of our own format. See :class:`Checkpoint` for the arguments."""
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


def _reading(path: Path, named: NamedWeights, read_as: str | None) -> str:
    """How the weights were trained, as far as the file or else the user says."""
    if named.family == ONLINE:
        if named.image_head and read_as is None:
            raise CheckpointError(
                f"{path} has torchvision's names (classifier.1) and nothing in it says that it was "
                "trained with a temporal shift: streaming an image network with one would garble "
                "its features; train it with the shift, or say that it was with --read-as one-way "
                "(or two-way)."
            )
        return read_as or "one-way"
    if not named.shifts:
        raise CheckpointError(
            f"{path} was trained without a temporal shift (no shifted convolution in it): "
            "streaming it with one would garble its features, and without one there is nothing to "
            "stream; train it with the shift."
        )
    if read_as is None:
        raise TwoWayCheckpointError(
            f"{path} is an {named.family} checkpoint, and those do not say whether their shift was "
            "trained two-way (as that code does unless it is changed: each prediction also saw the "
            "next frame, which a live camera does not have yet) or one-way. Choose --read-as "
            "two-way (the frame before goes to the second eighth of the channels, which learned on "
            "it; `shiftedge train --start` wins back what is lost without the next frame) or "
            "--read-as one-way (the frame before goes to the first eighth)."
        )
    return read_as


def _described(path: Path, named: NamedWeights) -> dict[str, Any]:
    """Architecture and arguments from names and shapes."""
    if named.mobile and not any(re.match(r"features\.\d+\.conv\.\d", key) for key in named.tensors):
        raise CheckpointError(
            f"{path} is a network that is not known here ({', '.join(list(named.tensors)[:3])}, "
            "...); MobileNetV2 and ResNet-50, 101 and 152 are. For another one, build it in Python "
            "and call shiftedge.export.export_model."
        )
    classifier = "classifier" if named.mobile else "fc"
    network = "MobileNetV2" if named.mobile else "ResNet"
    weight = named.tensors.get(f"{classifier}.weight")
    if weight is None or weight.dim() != 2:
        raise CheckpointError(
            f"{path} is a {network} without a classifier: it has no {classifier}.weight, nor "
            "new_fc.weight or cls_head.fc_cls.weight, of (classes, features); save the whole "
            "network, its last layer included."
        )
    if not weight.shape[0]:
        raise CheckpointError(
            f"{path} has a classifier of no classes ({classifier}.weight is "
            f"{tuple(weight.shape)}); save the network with its trained last layer."
        )
    description: dict[str, Any] = {"classes": int(weight.shape[0])}
    if named.mobile:
        description = _mobile(path, named.tensors, description)
    else:
        description = _resnet(path, named.tensors, description)
    if named.shifts:
        usual = _without_numbers(description)
        assert isinstance(usual, (MobileNetV2, ResNet))
        if set(named.shifts) != set(usual.shifts):
            description["shifts"] = list(named.shifts)
    return description


def _resnet(
    path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> dict[str, Any]:
    counts = [
        len({key.split(".")[1] for key in tensors if key.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    ]
    for name, layers in LAYERS.items():
        if tuple(counts) == layers and "layer1.0.conv3.weight" in tensors:
            return {"architecture": name, **description}
    raise CheckpointError(
        f"{path} is a ResNet of {'-'.join(map(str, counts))} blocks that is not known here; "
        "MobileNetV2 and ResNet-50, 101 and 152 are. For another one, build it in Python and call "
        "shiftedge.export.export_model."
    )


def _mobile(
    path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]
) -> dict[str, Any]:
    stem = tensors.get("features.0.0.weight")
    if stem is None or stem.dim() != 4:
        raise CheckpointError(
            f"{path} is a MobileNetV2 without its first convolution (features.0.0.weight); save "
            "the whole network."
        )
    description = {**description, "previous_frame": stem.shape[1] == 6}
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    best: tuple[int, dict[str, Any]] | None = None
    likely = sorted(WIDTHS, key=lambda width: scaled(STEM_CHANNELS, width) != stem.shape[0])
    for width in likely:
        candidate = {"architecture": "mobilenet_v2", **description, "width": width}
        expected = _without_numbers(candidate).state_dict()
        wrong = sum(shapes.get(key) != tuple(value.shape) for key, value in expected.items())
        if best is None or wrong < best[0]:
            best = (wrong, candidate)
        if wrong == 0:
            break
    assert best is not None  # WIDTHS is not empty
    return best[1]


def _without_numbers(description: Mapping[str, Any]) -> nn.Module:
    """The network that is described, its parameters only shapes: whatever a file claims, no memory
    is spent on it."""
    with torch.device("meta"):
        return build(description)


def _filled(path: Path, description: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    expected = _without_numbers(description).state_dict()
    name = str(description["architecture"])
    missing = [key for key in expected if key not in state and "num_batches" not in key]
    surplus = [key for key in state if key not in expected]
    if missing or surplus:
        kind, keys = ("lacks", missing) if missing else ("has besides", surplus)
        raise CheckpointError(
            f"{path} does not fit {name}: it {kind} {len(keys)} of its parameters, such as "
            f"{', '.join(keys[:3])}; check that it is a checkpoint of this architecture."
        )
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{path} does not fit {name}: {key} has shape {tuple(value.shape)}; expected "
                f"{tuple(expected[key].shape)}."
            )
        plain[key] = _plain(path, key, value, expected[key])
    net = build(description)
    net.load_state_dict(plain, strict=False)  # older files lack num_batches_tracked
    return net.eval()


def _plain(path: Path, key: str, value: Tensor, wanted: Tensor) -> Tensor:
    """A parameter as the network has it, float32 of any floating type."""
    dense = value.layout == torch.strided and not (value.is_quantized or value.is_meta)
    if not dense or value.untyped_storage().nbytes() < value.numel() * value.itemsize:
        raise CheckpointError(
            f"{path}: {key} is no dense tensor of numbers (it is sparse, quantised, or claims more "
            "than the file holds); save the state_dict of the network on the CPU, in float32."
        )
    if value.is_floating_point() != wanted.is_floating_point():
        raise CheckpointError(
            f"{path}: {key} is {str(value.dtype).removeprefix('torch.')}; expected "
            f"{'floating point' if wanted.is_floating_point() else 'an integer'}: save the "
            "network's float weights."
        )
    value = value.detach().to(wanted.dtype)
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise CheckpointError(
            f"{path}: {key} holds NaN or infinity; the training diverged, or the file is damaged."
        )
    return value


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
    tensors = {
        str(key): value for key, value in parts["state_dict"].items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensors; expected the official TSM online and training checkpoints, "
            "mmaction2's, and those that `shiftedge train` writes."
        )
    net = _filled(path, description, tensors)
    training = document.get("training")
    return Checkpoint(
        path,
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
