"""An extra lesson in training: where the hands are in each frame, how they are held, how they move.

A gesture's label says little per clip, and a network that knows nothing yet needs thousands of
steps before it finds that hands matter, and more before it tells a thumb from a fist: of sixteen
gestures, eight epochs of 10,000 clips without the second part of the lesson taught the swipes and a
wave alone. Rendered clips come with how both hands are held, so small heads on two inner layers are
asked for it: a map of where hands are, and there their size, direction and fingers, and how quickly
these change. The heads are thrown away afterwards; the network that is kept does not change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftedge.export.models import EfficientNetLite0, MobileNetV2
from shiftedge.runtime.capture.synthetic.hand import HAND_FIELDS

_LAYERS: dict[type[nn.Module], tuple[int, int]] = {
    MobileNetV2: (6, 13),
    EfficientNetLite0: (5, 11),
}
"""Of ``features``: the last at an eighth of the size, and the last at a sixteenth."""
_SPREAD = (0.05, 0.7, 0.11)
"""Radius of a hand on the map as a share of the image's height: least, in hands, and most."""
_SEEN = 0.06
"""Length of a hand, as a share of the height, from which its fingers can be made out: 6 pixels."""
_MOVING = ("x", "y", "size", "index", "others", "splay")
"""What is asked for the change of, which tells swipes, pushes and zooms."""
_UNITS = {"x": 8.0, "y": 8.0, "size": 30.0}
"""Changes are learned in 1/8 of the image's height a frame, a hand's length in 1/30: what a quick
gesture does then is about 1. Fingers take four frames from a fist to an open hand."""
_FINGERS_UNIT = 4.0
_MAP_WEIGHT, _HELD_WEIGHT, _MOVING_WEIGHT = 5.0, 0.3, 0.5
"""Of the map's cross entropy, a mean over places most of which are empty, and of two sums."""
_EMPTY = -2.5
"""Logit of the map where nothing is known yet: about one place in 13 is near a hand."""
HEADS_RATE = 5.0
"""Learning rate of the heads, by the network's: they begin with nothing, and what they ask for
should not wait until they have found their scale."""


class HandLesson(nn.Module):
    """Heads that read the hands out of a network while it runs; use as a context.

    Args:
        net: the network to listen to, one that :meth:`suits`.
        aspect: width of the image by its height.
    """

    def __init__(self, net: nn.Module, aspect: float) -> None:
        super().__init__()
        self._aspect = aspect
        self._heard: dict[int, Tensor] = {}
        features = net.get_submodule("features")
        last = len(list(features.children())) - 2  # the head comes after it
        self._layers = [features.get_submodule(str(min(i, last))) for i in _LAYERS[type(net)]]
        channels = [_channels_of(layer) for layer in self._layers]
        outputs = 1 + len(HAND_FIELDS) - 2 + len(_MOVING)
        self.heads = nn.ModuleList(_head(count, outputs) for count in channels)
        self._hooks: list[Any] = []
        self._columns = [HAND_FIELDS.index(name) for name in _MOVING]
        units = [_UNITS.get(name, _FINGERS_UNIT) for name in _MOVING]
        self._units = nn.Buffer(torch.tensor(units), persistent=False)

    @staticmethod
    def suits(net: nn.Module) -> bool:
        """Whether it is known which layers of ``net`` to listen to."""
        return isinstance(net, tuple(_LAYERS))

    def __enter__(self) -> HandLesson:
        for number, layer in enumerate(self._layers):
            self._hooks.append(layer.register_forward_hook(self._listener(number)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._heard.clear()

    def _listener(self, number: int) -> Any:
        def listen(module: nn.Module, inputs: object, output: Tensor) -> None:
            self._heard[number] = output

        return listen

    def loss(self, hands: Tensor, length: int, cut: float = 1.0) -> Tensor:
        """How far the heads are from the truth, after the network has run.

        Args:
            hands: float (N * T, 2, K), see
                :data:`~shiftedge.runtime.capture.synthetic.hand.HAND_FIELDS`; NaN where there is
                no hand.
            length: T.
            cut: sides of what is seen, as a share of the frame's; hands' places and sizes are
                shares of what is seen.
        """
        square = hands.clone()
        square[..., :3] *= cut  # shares of the whole frame, which hands are as large in
        square[..., 0] *= self._aspect
        clips = square.reshape(-1, length, 2, len(HAND_FIELDS))
        moved = (clips - clips.roll(1, dims=1))[..., self._columns] * self._units
        moved[:, 0] = torch.nan  # nothing is known of the frame before the first one
        moved = moved.flatten(0, 1)
        held = square[..., 2:]
        # Of a far hand all that can be told is how large it is.
        held = torch.cat(
            (held[..., :1] * 5.0, held[..., 1:].masked_fill(held[..., :1] < _SEEN, torch.nan)), -1
        )
        total = hands.new_zeros(())
        for number, head in enumerate(self.heads):
            guess = head(self._heard[number].float())
            near = self._near(square, guess.shape[2], guess.shape[3], cut)  # (NT, 2, h, w)
            total = total + _MAP_WEIGHT * F.binary_cross_entropy_with_logits(
                guess[:, 0], near.amax(1)
            )
            mine = guess[:, 1 : len(HAND_FIELDS) - 1]
            total = total + _HELD_WEIGHT * _wrong(mine, held, near)
            total = total + _MOVING_WEIGHT * _wrong(guess[:, len(HAND_FIELDS) - 1 :], moved, near)
        return total

    def _near(self, square: Tensor, rows: int, columns: int, cut: float) -> Tensor:
        least, share, most = _SPREAD
        spread = (share * square[..., 2]).clamp(least, most)[..., None, None]
        y = (torch.arange(rows, device=square.device) + 0.5) / rows * cut
        x = (torch.arange(columns, device=square.device) + 0.5) / columns * self._aspect * cut
        far = (x[None, None, None, :] - square[..., 0, None, None]) ** 2
        far = far + (y[None, None, :, None] - square[..., 1, None, None]) ** 2
        return torch.exp(-far / (2.0 * spread**2)).nan_to_num(0.0)


def _wrong(guess: Tensor, truth: Tensor, near: Tensor) -> Tensor:
    """Mean over where hands are of the sum of errors over what is asked.

    Args:
        guess: (NT, C, h, w).
        truth: (NT, 2, C), NaN where nothing is known.
        near: (NT, 2, h, w).
    """
    known = torch.isfinite(truth)
    wanted = truth.nan_to_num(0.0).clamp(-3.0, 3.0)[..., None, None]
    errors = F.smooth_l1_loss(
        guess[:, None].expand(-1, 2, -1, -1, -1),
        wanted.expand(-1, -1, -1, *guess.shape[2:]),
        reduction="none",
        beta=0.1,
    )
    weight = near[:, :, None] * known[..., None, None]
    # Each column over the places where it is known.
    sums, weights = (errors * weight).sum((0, 1, 3, 4)), weight.sum((0, 1, 3, 4))
    return (sums / weights.clamp(min=1.0)).sum()


def _head(channels: int, outputs: int) -> nn.Module:
    """Reads a layer, whatever its scale; gives what is mostly true before anything is learned."""
    last = nn.Conv2d(channels, outputs, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    nn.init.constant_(last.bias[:1], _EMPTY)  # type: ignore[index]
    return nn.Sequential(nn.BatchNorm2d(channels, affine=False), last)


def _channels_of(layer: nn.Module) -> int:
    norms = [m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
    return norms[-1].num_features
