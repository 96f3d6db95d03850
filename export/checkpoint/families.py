"""Checkpoints in the wild: which weights in one are the network's, and what they are called here.

Trainers nest the weights (``model``, ``state_dict``, ``model_ema``, ...), wrap the network
(``module.``, ``_orig_mod.``, ``model.``, ``backbone.``, ...), keep a running average beside them
and add what is no parameter at all. First each set of parameters gets names that begin where the
network's own begin, and one set is chosen (:func:`find_weights`); then its names become ours
(:func:`translated`), which are those of the official online model. Each family is told by its keys
alone:

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftedge.export.models.inverted_residual import STAGES
from shiftedge.runtime.errors import CheckpointError

_DEPTH_MOST = 6
"""Levels of containers that are searched."""
_ELSEWHERE = re.compile(
    r"optim|sched|scaler|^amp|callbacks|loops|rng|sampler|hyper|config|^args|hub|exp_avg|momentum",
    re.IGNORECASE,
)
"""Keys under which trainers keep what is no network."""

_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""Put before names, or inside them, by DataParallel, torch.compile and FSDP; never part of ours."""
_NAME = re.compile(
    r"(?:^|(?<=\.))(?:features\.\d+\.|layer\d+\.|conv[12]\.|bn1\.|classifier\.|new_fc\.|fc_cls\.|"
    r"fc\.)"
)
"""Where a parameter's own name begins, in the networks that are known here."""
_PARTS = ("base_model.", "backbone.", "cls_head.", "head.")
"""Names of a network's parts before that: the official code's, mmaction2's, and common ones."""
_NO_PARAMETER = re.compile(
    r"(?:^|\.)(?:n_averaged|steps|step|initted|decay|num_updates|total_ops|total_params|mean|std)$|"
    r"^ema_[a-z0-9_]+$|_extra_state$|^(?:data_preprocessor|criterion|loss\w*)\."
)
"""Counters of averages and profilers, mmcv's averages, preprocessing and losses."""
_AVERAGE = re.compile(r"(?:^|[._])(?:ema|swa|averaged?|shadow)(?=$|[._])", re.IGNORECASE)


@dataclass(frozen=True)
class Weights:
    """One set of parameters of a network."""

    label: str
    """Where it stands in the file, such as ``state_dict_ema``; empty for the whole file."""
    tensors: dict[str, Tensor]
    """By name, without wrappers: ``features.0.0.weight``, ``layer1.0.conv1.net.weight``."""
    parts: frozenset[str]
    """Which of :data:`_PARTS` the names began with."""
    left: tuple[str, ...]
    """Names beside them that are no part of the network."""

    @property
    def averaged(self) -> bool:
        """Whether it is a running average of the weights."""
        return _AVERAGE.search(self.label) is not None


def find_weights(path: Path, document: Any, name: str | None = None) -> tuple[Weights, list[str]]:
    """The network's weights in what a file holds, and notes about the choice.

    Of several sets, the average is taken where the names show that there is one, as those who keep
    one do (timm, ultralytics); in mmengine's files ``state_dict`` has it already.

    Args:
        document: what :func:`~shiftedge.export.checkpoint.file.read_file` gives.
        name: take the set of this name.

    Raises:
        CheckpointError: none is found; several are, and nothing says which; none of that name.
    """
    found = list(_sets(document, "", 0))
    if name is not None:
        named = [each for each in found if name == each.label or name in each.label.split(".")]
        if not named:
            raise CheckpointError(
                f"{path} has no weights called {name!r}; it has {_labels(*found) or 'none'}."
            )
        found = named
    if not found:
        raise CheckpointError(_nothing(path, document))
    whole = max(len(each.tensors) for each in found)
    complete = [each for each in found if len(each.tensors) == whole]
    plain_first = isinstance(document, Mapping) and (
        "meta" in document or "message_hub" in document
    )
    best = [each for each in complete if each.averaged != plain_first] or complete
    chosen = best[0]
    for other in best[1:]:
        if not _equal(chosen, other):
            raise CheckpointError(
                f"{path} holds several sets of weights: {_labels(*best)}; choose one with "
                "--weights NAME."
            )
    notes = []
    others = [each for each in found if each not in best]
    if others:
        notes.append(
            f"takes the weights {_labels(chosen)!r} of {path}, which also holds "
            f"{_labels(*others)}; choose with --weights NAME"
        )
    if chosen.left:
        notes.append(
            f"leaves out {len(chosen.left)} tensors of {path} that are none of the network's, such "
            f"as {', '.join(chosen.left[:3])}"
        )
    return chosen, notes


def _sets(document: Any, label: str, depth: int) -> Iterator[Weights]:
    """Every set of parameters, those of outer containers first."""
    if depth > _DEPTH_MOST:
        return
    if isinstance(document, (list, tuple)):
        for index, inner in enumerate(document[:8]):
            yield from _sets(inner, f"{label}.{index}".strip("."), depth + 1)
    if not isinstance(document, Mapping):
        return
    tensors = {str(key): value for key, value in document.items() if isinstance(value, Tensor)}
    yield from _networks(tensors, label)
    for key, inner in document.items():
        if not isinstance(inner, Tensor) and not _ELSEWHERE.search(str(key)):
            yield from _sets(inner, f"{label}.{key}".strip("."), depth + 1)


def _networks(tensors: Mapping[str, Tensor], label: str) -> Iterator[Weights]:
    """The networks whose parameters stand side by side, told apart by what their names begin
    with."""
    roots: dict[str, dict[str, Tensor]] = {}
    parts: dict[str, set[str]] = {}
    others: dict[str, Tensor] = {}
    for key, value in tensors.items():
        key = _WRAPPERS.sub("", key)
        match = _NAME.search(key)
        if match is None:
            others[key] = value
            continue
        root, name = key[: match.start()], key[match.start() :]
        found = parts.setdefault(_root(root), set())
        found.update(part for part in _PARTS if root.endswith(part))
        roots.setdefault(_root(root), {})[name] = value
    for root, network in roots.items():
        if not any(name.startswith(("features.", "layer")) for name in network):
            continue
        left = []
        for key, value in others.items():
            if key.startswith(root) and not _NO_PARAMETER.search(key):
                network[key.removeprefix(root)] = value
            else:
                left.append(key)
        yield Weights(
            ".".join(filter(None, (label, root.strip(".")))),
            {name: value for name, value in network.items() if not _NO_PARAMETER.search(name)},
            frozenset(parts[root]),
            tuple(left),
        )


def _root(start: str) -> str:
    """What stands before a network's parts."""
    for part in _PARTS:
        if start.endswith(part):
            return _root(start.removesuffix(part))
    return start


def _equal(one: Weights, other: Weights) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        value.shape == other.tensors[name].shape
        and value.dtype == other.tensors[name].dtype
        and torch.equal(value, other.tensors[name])
        for name, value in one.tensors.items()
    )


def _labels(*found: Weights) -> str:
    return ", ".join(each.label or "without a name" for each in found)


def _nothing(path: Path, document: Any) -> str:
    """The sentence for a file without a network that is known."""
    if not isinstance(document, (Mapping, list, tuple)):
        return f"{path} holds a {type(document).__name__}; expected a dictionary of tensors."
    names = list(_names(document, 0))
    if not names:
        return f"{path} holds no tensors; expected the weights of a network."
    if isinstance(document, Mapping) and {"state", "param_groups"} <= document.keys():
        return (
            f"{path} holds the state of an optimizer and no weights; name the file with the "
            "network's state_dict."
        )
    outside = [name for name in names if not _ELSEWHERE.search(name)]
    if not outside:
        return (
            f"{path} holds the state of an optimizer ({names[0]}, ...) and no weights; name the "
            "file with the network's state_dict."
        )
    return (
        f"{path} has parameters of no known family ({', '.join(outside[:3])}, ...); expected a "
        "MobileNetV2 or ResNet-50 with temporal shifts, as the official TSM code, mmaction2 and "
        "`shiftedge train` save it. For a network of your own, build it in Python and call "
        "shiftedge.export.export_model."
    )


def _names(document: Any, depth: int, label: str = "") -> Iterator[str]:
    """Paths of tensors, for a message."""
    if isinstance(document, Tensor):
        yield label
    elif depth <= _DEPTH_MOST and isinstance(document, Mapping):
        for key, inner in document.items():
            yield from _names(inner, depth + 1, f"{label}.{key}".strip("."))
    elif depth <= _DEPTH_MOST and isinstance(document, (list, tuple)):
        for index, inner in enumerate(document):
            yield from _names(inner, depth + 1, f"{label}.{index}".strip("."))


ONLINE, TRAINING, MMACTION = "official online", "official training", "mmaction2"

# First index in ``features`` of each MobileNetV2 stage; the stem is 0, so the first stage is at 1.
_FIRST_BLOCK = [1 + sum(stage.repeats for stage in STAGES[:index]) for index in range(len(STAGES))]
_HEAD = 1 + sum(stage.repeats for stage in STAGES)

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
class NamedWeights:
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


def translated(path: Path, weights: Weights) -> NamedWeights:
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
    return NamedWeights(family, mobile, tensors, tuple(sorted(shifts, key=_order)), image_head)


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
