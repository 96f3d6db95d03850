"""Parameter names of the checkpoints in the wild, translated to ours, and what else they tell.

Ours are those of the official online model. Each family below is told by its keys alone, once
wrappers are off (``checkpoint_weights``):

=================  ==============================================  ============================
family             looks like                                      trained with
=================  ==============================================  ============================
official online    ``features.0.0.weight``, ``classifier.weight``  one-way shift
official training  ``base_model...net.``, ``new_fc``               two-way, unless its user
                                                                   changed the code
mmaction2          ``backbone...net.``, ``cls_head.fc_cls``        the same
=================  ==============================================  ============================

Both training codes wrap what they shift in a module whose attribute is ``net``, so the names say
where each shift stands: ``layer1.0.conv1.net.weight`` in the residual branch of a block,
``layer1.0.net.conv1.weight`` before the whole block.

Sources: mit-han-lab/temporal-shift-module (ops/models.py, ops/temporal_shift.py, ops/non_local.py)
and open-mmlab/mmaction2 (models/backbones/{resnet,mobilenet_v2}_tsm.py, models/heads/tsm_head.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from shiftedge.export.checkpoint_weights import Weights
from shiftedge.export.models.mobilenet_v2 import STAGES
from shiftedge.runtime.errors import CheckpointError

__all__ = ["MMACTION", "ONLINE", "TRAINING", "Named", "translated"]

ONLINE, TRAINING, MMACTION = "official online", "official training", "mmaction2"

# First index in ``features`` of each MobileNetV2 stage; the stem is 0, so the first stage is at 1.
_FIRST_BLOCK = [1 + sum(stage[2] for stage in STAGES[:index]) for index in range(len(STAGES))]
_HEAD = 1 + sum(stage[2] for stage in STAGES)

_CONV_MODULE = re.compile(r"(?:^|\.)(?:conv\d?|conv\.\d)(?:\.net)?\.(?:conv|bn)\.")
"""mmcv's convolution, norm and activation in one module."""
_BLOCK = re.compile(r"(?:features\.\d+|layer\d+\.\d+)")
_BRANCH = re.compile(r"features\.\d+\.conv\.0|layer\d+\.\d+\.conv1")
_CLIP_WIDE = (
    (re.compile(r"\.(?:nl|non_local_block)\."), "non-local blocks, which look at all frames of a "
     "clip at once"),
    (re.compile(r"^layer\d+\.net\."), "temporal pooling, which halves the frames of a clip"),
)  # fmt: skip
"""Parts of the training codes that no frame-by-frame form exists of."""


@dataclass(frozen=True)
class Named:
    """Weights under our names."""

    family: str
    mobile: bool
    """MobileNetV2, else a ResNet."""
    tensors: dict[str, Tensor]
    shifts: tuple[str, ...]
    """Modules that a shift stands before, in our names, as the file has them; none in an official
    online file, whose code says where they are."""
    image_head: bool = False
    """The last layer has torchvision's name, which neither TSM code gives it."""


def translated(path: Path, weights: Weights) -> Named:
    """Our names for a set of weights, and where their shifts stand.

    Raises:
        CheckpointError: the network has parts that cannot be streamed, or a shift where none is
            known.
    """
    for pattern, what in _CLIP_WIDE:
        for name in weights.tensors:
            if pattern.search(name):
                raise CheckpointError(
                    f"{path} has {what} ({name}), so it cannot be run frame by frame; train the "
                    "network without them."
                )
    mobile = _is_mobile(weights.tensors)
    family = _family(weights)
    classifier = "classifier" if mobile else "fc"
    rename = _mmaction if family == MMACTION else _official
    tensors: dict[str, Tensor] = {}
    below: dict[str, list[str]] = {}  # what was wrapped -> our names of the convolutions in it
    for key, value in weights.tensors.items():
        name = rename(key.replace(".net.", "."), mobile)
        name = re.sub(r"^(?:new_fc|fc_cls|classifier\.1)\.", f"{classifier}.", name)
        for match in re.finditer(r"\.net\.", key):
            wrapped = below.setdefault(key[: match.start()].replace(".net.", "."), [])
            if value.dim() == 4:
                wrapped.append(name.rpartition(".")[0])
        tensors[name] = value
    shifts = [_shift(path, wrapped, names) for wrapped, names in below.items()]
    image_head = "classifier.1.weight" in weights.tensors
    return Named(family, mobile, tensors, tuple(sorted(shifts, key=_order)), image_head)


def _is_mobile(names: Mapping[str, Tensor]) -> bool:
    """By the official names, or mmaction2's, whose MobileNetV2 has seven stages of blocks with
    ``conv``."""
    return any(re.match(r"features\.|layer\d+\.\d+\.(?:net\.)?conv\.\d", name) for name in names)


def _family(weights: Weights) -> str:
    names = weights.tensors
    if any(_CONV_MODULE.search(name) for name in names):
        return MMACTION
    wrapped = any(".net." in name or name.startswith("new_fc.") for name in names)
    if wrapped or "base_model." in weights.parts or not _is_mobile(names):
        return TRAINING
    return ONLINE


def _official(key: str, mobile: bool) -> str:
    return key


def _mmaction(key: str, mobile: bool) -> str:
    """``layer2.1.conv.0.conv.weight`` -> ``features.3.conv.0.weight``, and so on."""
    match = re.fullmatch(r"layer(\d+)\.(\d+)\.conv\.(\d+)\.(conv|bn)\.(.+)", key)
    if match:
        stage, block, layer = int(match[1]) - 1, int(match[2]), int(match[3])
        if stage >= len(_FIRST_BLOCK):
            return key
        # A ConvModule is conv + bn + activation in one; ours are three entries of a Sequential.
        place = 3 * layer + (1 if match[4] == "bn" else 0)
        return f"features.{_FIRST_BLOCK[stage] + block}.conv.{place}.{match[5]}"
    match = re.fullmatch(r"(layer\d+\.\d+)\.(conv(\d)|downsample)\.(conv|bn)\.(.+)", key)
    if match:
        norm = match[4] == "bn"
        if match[2] == "downsample":
            return f"{match[1]}.downsample.{1 if norm else 0}.{match[5]}"
        return f"{match[1]}.{'bn' if norm else 'conv'}{match[3]}.{match[5]}"
    match = re.fullmatch(r"conv([12])\.(conv|bn)\.(.+)", key)
    if match:
        norm = match[2] == "bn"
        if mobile:
            return f"features.{0 if match[1] == '1' else _HEAD}.{1 if norm else 0}.{match[3]}"
        if match[1] == "1":
            return f"{'bn' if norm else 'conv'}1.{match[3]}"
    return key


def _shift(path: Path, wrapped: str, names: list[str]) -> str:
    """Our name of the module that a shift stands before.

    Args:
        wrapped: what the file wraps, in its names.
        names: the convolutions in it, in ours.
    """
    distinct = sorted(set(names))
    if len(distinct) == 1 and _BRANCH.fullmatch(distinct[0]):
        return distinct[0]
    blocks = {match[0] for name in distinct if (match := _BLOCK.match(name))}
    if _BLOCK.fullmatch(wrapped) and len(blocks) == 1:
        return blocks.pop()
    raise CheckpointError(
        f"{path} has a temporal shift before {wrapped}; known are shifts before a block (the "
        "official shift_place 'block') and before the first convolution of its residual branch "
        "('blockres'). For another place, build the network in Python with "
        "shiftedge.export.models.insert_shift."
    )


def _order(name: str) -> tuple[int, ...]:
    """Of the modules, as they run."""
    return tuple(int(number) for number in re.findall(r"\d+", name))
