"""Which weights in a checkpoint are the network's: found below wrappers, told from each other.

Trainers nest the weights (``model``, ``state_dict``, ``model_ema``, ...), wrap the network
(``module.``, ``_orig_mod.``, ``model.``, ``backbone.``, ...), keep a running average beside them
and add what is no parameter at all. Here each set of parameters becomes names that begin where the
network's own begin, and one set is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftedge.runtime.errors import CheckpointError

__all__ = ["Weights", "find_weights"]

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
        path: of the file, for messages.
        document: what :func:`shiftedge.export.checkpoint_file.read_file` gives.
        name: take the set of this name.

    Raises:
        CheckpointError: none is found; several are, and nothing says which; none of that name.
    """
    found = list(_sets(document, "", 0))
    if name is not None:
        named = [each for each in found if name == each.label or name in each.label.split(".")]
        if not named:
            raise CheckpointError(
                f"{path} has no weights called {name!r}; it has {_labels(found) or 'none'}."
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
                f"{path} holds several sets of weights: {_labels(best)}; choose one with "
                "--weights NAME."
            )
    notes = []
    others = [each for each in found if each not in best]
    if others:
        notes.append(
            f"takes the weights {_label(chosen)!r} of {path}, which also holds {_labels(others)}; "
            "choose with --weights NAME"
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


def _label(weights: Weights) -> str:
    return weights.label or "without a name"


def _labels(found: list[Weights]) -> str:
    return ", ".join(_label(each) for each in found)


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
