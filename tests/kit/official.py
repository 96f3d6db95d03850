"""The official training code's networks over clips, from a state dict in its names: what an export
is compared with. Written from the paper and from what the names say, with nothing of ours.

A module whose name goes on with ``.net`` is wrapped: its input is shifted first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["STAGES", "clip_logits", "mobile_state", "official_file", "resnet_state"]

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
          (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def shifted(x: Tensor, frames: int, way: str, div: int) -> Tensor:
    """``x`` (N * frames, C, H, W) shifted.

    "two-way" and "one-way" are the training forms; "two-way online" is the first without a future:
    its channels keep what they hold now, and the second group has the past.
    """
    x = x.reshape(-1, frames, *x.shape[1:])
    fold = x.shape[2] // div
    out = x.clone()
    past = slice(0, fold) if way == "one-way" else slice(fold, 2 * fold)
    out[:, 0, past] = 0
    out[:, 1:, past] = x[:, :-1, past]
    if way == "two-way":
        out[:, -1, :fold] = 0
        out[:, :-1, :fold] = x[:, 1:, :fold]
    return out.flatten(0, 1)


def clip_logits(state: Mapping[str, Tensor], clip: Tensor, way: str, *, div: int = 8) -> Tensor:
    """Logits (N, T, classes) of clips (N, T, 3, H, W); ``state`` has names without wrappers."""
    frames = clip.shape[1]

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        if f"{name}.net.weight" in state:
            x, name = shifted(x, frames, way, div), f"{name}.net"
        weight = state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, None, stride, weight.shape[2] // 2, 1, groups)

    def norm(name: str, x: Tensor) -> Tensor:
        rest = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *rest)

    def whole(name: str, x: Tensor) -> tuple[str, Tensor]:
        if any(key.startswith(f"{name}.net.") for key in state):
            return f"{name}.net", shifted(x, frames, way, div)
        return name, x

    def bottleneck(name: str, x: Tensor, stride: int) -> Tensor:
        name, x = whole(name, x)
        y = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x)))
        y = F.relu(norm(f"{name}.bn2", conv(f"{name}.conv2", y, stride)))
        y = norm(f"{name}.bn3", conv(f"{name}.conv3", y))
        if f"{name}.downsample.0.weight" in state:
            x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
        return F.relu(x + y)

    def inverted(name: str, x: Tensor, stride: int, expansion: int) -> Tensor:
        name, x = whole(name, x)
        y, at = x, 0
        for step in ([1] if expansion > 1 else []) + [stride]:
            y = F.relu6(norm(f"{name}.conv.{at + 1}", conv(f"{name}.conv.{at}", y, step)))
            at += 3
        y = norm(f"{name}.conv.{at + 1}", conv(f"{name}.conv.{at}", y))
        return x + y if x.shape == y.shape else y

    x = clip.flatten(0, 1)
    if "conv1.weight" in state:
        x = F.max_pool2d(F.relu(norm("bn1", conv("conv1", x, 2))), 3, 2, 1)
        names = {match[0] for key in state if (match := re.match(r"layer\d\.\d+", key))}
        for name in sorted(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)]):
            x = bottleneck(name, x, 2 if name.endswith(".0") and name != "layer1.0" else 1)
        head = "fc"
    else:
        x, index, head = F.relu6(norm("features.0.1", conv("features.0.0", x, 2))), 1, "classifier"
        for expansion, _, repeats, first in STAGES:
            for block in range(repeats):
                stride = first if block == 0 else 1
                x = inverted(f"features.{index}", x, stride, expansion)
                index += 1
        x = F.relu6(norm(f"features.{index}.1", conv(f"features.{index}.0", x)))
    logits = F.linear(x.mean((2, 3)), state[f"{head}.weight"], state[f"{head}.bias"])
    return logits.reshape(len(clip), frames, -1)


class _Draw:
    def __init__(self, seed: int) -> None:
        self.state: dict[str, Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def _uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator) * (high - low) + low

    def conv(self, name: str, out: int, into: int, size: int, gain: float = 1.0) -> None:
        span = gain * (6.0 / (into * size * size)) ** 0.5
        self.state[f"{name}.weight"] = self._uniform(-span, span, out, into, size, size)

    def norm(self, name: str, channels: int) -> None:
        self.state[f"{name}.weight"] = self._uniform(0.7, 1.3, channels)
        self.state[f"{name}.bias"] = self._uniform(-0.3, 0.3, channels)
        self.state[f"{name}.running_mean"] = self._uniform(-0.2, 0.2, channels)
        self.state[f"{name}.running_var"] = self._uniform(0.5, 1.5, channels)

    def dense(self, name: str, out: int, into: int) -> None:
        self.state[f"{name}.weight"] = self._uniform(-0.1, 0.1, out, into)
        self.state[f"{name}.bias"] = self._uniform(-0.1, 0.1, out)


def mobile_state(classes: int, channels: list[int], *, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a MobileNetV2; ``channels`` of the stem, the seven stages and the head."""
    draw, at, index = _Draw(seed), channels[0], 1
    draw.conv("features.0.0", at, 3, 3)
    draw.norm("features.0.1", at)
    for (expansion, _, repeats, _), out in zip(STAGES, channels[1:-1], strict=True):
        for _ in range(repeats):
            hidden, place = at * expansion, 0
            if expansion > 1:
                draw.conv(f"features.{index}.conv.0", hidden, at, 1)
                draw.norm(f"features.{index}.conv.1", hidden)
                place = 3
            draw.conv(f"features.{index}.conv.{place}", hidden, 1, 3)
            draw.norm(f"features.{index}.conv.{place + 1}", hidden)
            draw.conv(f"features.{index}.conv.{place + 3}", out, hidden, 1)
            draw.norm(f"features.{index}.conv.{place + 4}", out)
            at, index = out, index + 1
    draw.conv(f"features.{index}.0", channels[-1], at, 1)
    draw.norm(f"features.{index}.1", channels[-1])
    draw.dense("classifier", classes, channels[-1])
    return draw.state


def resnet_state(classes: int, depth: str = "resnet50", *, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a ResNet."""
    draw, at = _Draw(seed), 64
    draw.conv("conv1", at, 3, 7)
    draw.norm("bn1", at)
    for stage, count in enumerate(DEPTHS[depth]):
        planes = 64 << stage
        for index in range(count):
            name = f"layer{stage + 1}.{index}"
            sizes = ((planes, at, 1), (planes, planes, 3), (4 * planes, planes, 1))
            for layer, (out, into, size) in enumerate(sizes, start=1):
                draw.conv(f"{name}.conv{layer}", out, into, size, 0.5 if layer == 3 else 1.0)
                draw.norm(f"{name}.bn{layer}", out)
            if index == 0:
                draw.conv(f"{name}.downsample.0", 4 * planes, at, 1)
                draw.norm(f"{name}.downsample.1", 4 * planes)
            at = 4 * planes
    draw.dense("fc", classes, at)
    return draw.state


def official_file(state: Mapping[str, Tensor], shifts: list[str]) -> tuple[dict, dict]:
    """``state`` with the modules called ``shifts`` wrapped, and what the official trainer saves."""
    wrapped = {}
    for key, value in state.items():
        for name in sorted(shifts, reverse=True):  # the branch before the block around it
            if key.startswith(f"{name}."):
                key = f"{name}.net.{key.removeprefix(name + '.')}"
        wrapped[key] = value
    saved = {}
    for key, value in wrapped.items():
        last = re.fullmatch(r"(?:fc|classifier)\.(weight|bias)", key)
        saved[f"module.new_fc.{last[1]}" if last else f"module.base_model.{key}"] = value
    return wrapped, {"epoch": 50, "arch": "resnet50", "state_dict": saved, "best_prec1": 70.0}
