"""Parameter names of the checkpoints in the wild, translated to ours.

Ours are those of the official online model. Each family below is told by its keys alone:

=================  =============================================  ============================
family             looks like                                     trained with
=================  =============================================  ============================
official online    ``features.0.0.weight``, ``classifier.weight``  one-way shift
official training  ``module.base_model...net.``, ``module.new_fc``  two-way shift
mmaction2          ``backbone...net.``, ``cls_head.fc_cls``         two-way shift
=================  =============================================  ============================

Sources: mit-han-lab/temporal-shift-module (ops/models.py, ops/temporal_shift.py) and
open-mmlab/mmaction2 (models/backbones/{resnet,mobilenet_v2}_tsm.py, models/heads/tsm_head.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from shiftedge.export.models.mobilenet_v2 import STAGES

__all__ = ["FAMILIES", "Family", "family_of"]

# First index in ``features`` of each MobileNetV2 stage; the stem is 0, so the first stage is at 1.
_FIRST_BLOCK = [1 + sum(stage[2] for stage in STAGES[:index]) for index in range(len(STAGES))]
_HEAD = 1 + sum(stage[2] for stage in STAGES)


@dataclass(frozen=True)
class Family:
    """One way of naming parameters."""

    name: str
    two_way: bool
    matches: Callable[[Iterable[str]], bool]
    rename: Callable[[str], str]


def _online(key: str) -> str:
    return key


def _training(key: str) -> str:
    """``module.base_model.layer1.0.conv1.net.weight`` -> ``layer1.0.conv1.weight``."""
    key = key.removeprefix("module.")
    classifier = re.fullmatch(r"new_fc\.(weight|bias)", key)
    if classifier:
        return f"<classifier>.{classifier[1]}"
    return key.removeprefix("base_model.").replace(".net.", ".")


def _mmaction(key: str) -> str:
    """``backbone.layer2.1.conv.0.net.conv.weight`` -> ``features.3.conv.0.weight``, and so on."""
    classifier = re.fullmatch(r"cls_head\.fc_cls\.(weight|bias)", key)
    if classifier:
        return f"<classifier>.{classifier[1]}"
    key = key.removeprefix("backbone.").replace(".net.", ".")
    mobile = re.fullmatch(r"layer(\d+)\.(\d+)\.conv\.(\d+)\.(conv|bn)\.(.+)", key)
    if mobile:
        stage, block, layer = int(mobile[1]) - 1, int(mobile[2]), int(mobile[3])
        if stage >= len(_FIRST_BLOCK):
            return key
        # A ConvModule is conv + bn + activation in one; ours are three entries of a Sequential.
        place = 3 * layer + (1 if mobile[4] == "bn" else 0)
        return f"features.{_FIRST_BLOCK[stage] + block}.conv.{place}.{mobile[5]}"
    resnet = re.fullmatch(r"(layer\d+\.\d+)\.(conv(\d)|downsample)\.(conv|bn)\.(.+)", key)
    if resnet:
        part, norm = resnet[2], resnet[4] == "bn"
        if part == "downsample":
            return f"{resnet[1]}.downsample.{1 if norm else 0}.{resnet[5]}"
        return f"{resnet[1]}.{'bn' if norm else 'conv'}{resnet[3]}.{resnet[5]}"
    return key  # the stem and the head, which need to know the architecture: see stem_and_head


def stem_and_head(keys: Iterable[str]) -> Callable[[str], str]:
    """The rest of mmaction2's renaming, which differs between its MobileNetV2 and its ResNet."""
    mobile = any(key.startswith("features.") for key in keys)

    def rename(key: str) -> str:
        match = re.fullmatch(r"conv([12])\.(conv|bn)\.(.+)", key)
        if match is None:
            return key
        norm = match[2] == "bn"
        if mobile:
            return f"features.{0 if match[1] == '1' else _HEAD}.{1 if norm else 0}.{match[3]}"
        return f"{'bn' if norm else 'conv'}1.{match[3]}" if match[1] == "1" else key

    return rename


FAMILIES = (
    Family(
        "mmaction2",
        two_way=True,
        matches=lambda keys: any(key.startswith(("backbone.", "cls_head.")) for key in keys),
        rename=_mmaction,
    ),
    Family(
        "official training",
        two_way=True,
        matches=lambda keys: any("base_model." in key or "new_fc." in key for key in keys),
        rename=_training,
    ),
    Family(
        "official online",
        two_way=False,
        matches=lambda keys: any(key.startswith("features.0.") for key in keys),
        rename=_online,
    ),
)


def family_of(keys: Iterable[str]) -> Family | None:
    """The family whose names these are, or None."""
    keys = list(keys)
    return next((family for family in FAMILIES if family.matches(keys)), None)
