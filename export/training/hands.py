"""An extra lesson in training: where the hands are in each frame, and how they move.

A gesture's label says little per clip, and a network that knows nothing yet needs thousands of
steps before it finds that hands matter. Rendered clips come with the places of both hands, so small
heads on two inner layers are asked for them: a map of where hands are, and their velocity there.
The heads are thrown away afterwards; the network that is kept does not change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftedge.export.models import EfficientNetLite0, MobileNetV2

_LAYERS: dict[type[nn.Module], tuple[int, int]] = {
    MobileNetV2: (6, 13),
    EfficientNetLite0: (5, 11),
}
"""Of ``features``: the last at an eighth of the size, and the last at a sixteenth."""
_SPREAD = 0.09
"""Radius of a hand on the map, as a share of the image's height."""
_SPEED_UNIT = 8.0
"""Velocities are learned in 1/8 of the image's height per frame: a swipe then is about 1."""


class HandLesson(nn.Module):
    """Heads that read the hands' places out of a network while it runs; use as a context.

    Args:
        net: the network to listen to, one that :meth:`suits`.
        aspect: width of the image by its height.
    """

    def __init__(self, net: nn.Module, aspect: float) -> None:
        super().__init__()
        self._aspect = aspect
        self._heard: dict[int, Tensor] = {}
        features = net.get_submodule("features")
        self._layers = [features.get_submodule(str(index)) for index in _LAYERS[type(net)]]
        channels = [_channels_of(layer) for layer in self._layers]
        self.heads = nn.ModuleList(nn.Conv2d(count, 3, 1) for count in channels)
        self._hooks: list[Any] = []

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

    def loss(self, hands: Tensor, length: int) -> Tensor:
        """How far the heads are from the truth, after the network has run.

        Args:
            hands: float (N * T, 2, 2), shares of width and height, NaN where there are none.
            length: T.
        """
        scaled = hands * hands.new_tensor([self._aspect, 1.0])
        before = scaled.reshape(-1, length, 2, 2).roll(1, dims=1)
        moved = (scaled.reshape(-1, length, 2, 2) - before) * _SPEED_UNIT
        moved[:, 0] = torch.nan  # nothing is known of the frame before the first one
        total = hands.new_zeros(())
        for number, head in enumerate(self.heads):
            guess = head(self._heard[number])
            near = self._near(scaled, guess.shape[2], guess.shape[3])  # (NT, 2, h, w)
            total = total + F.binary_cross_entropy_with_logits(guess[:, 0], near.amax(1))
            velocity = moved.flatten(0, 1)  # (NT, 2 hands, 2)
            known = torch.isfinite(velocity).all(-1)
            weight = near * known[:, :, None, None]
            wrong = F.smooth_l1_loss(
                guess[:, None, 1:].expand(-1, 2, -1, -1, -1),
                velocity.nan_to_num(0.0)
                .clamp(-3.0, 3.0)[..., None, None]
                .expand(-1, -1, -1, *guess.shape[2:]),
                reduction="none",
                beta=0.1,
            ).sum(2)
            total = total + (wrong * weight).sum() / weight.sum().clamp(min=1.0)
        return total

    def _near(self, scaled: Tensor, rows: int, columns: int) -> Tensor:
        y = (torch.arange(rows, device=scaled.device) + 0.5) / rows
        x = (torch.arange(columns, device=scaled.device) + 0.5) / columns * self._aspect
        far = (x[None, None, None, :] - scaled[..., 0, None, None]) ** 2
        far = far + (y[None, None, :, None] - scaled[..., 1, None, None]) ** 2
        return torch.exp(-far / (2.0 * _SPREAD**2)).nan_to_num(0.0)


def _channels_of(layer: nn.Module) -> int:
    norms = [m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
    return norms[-1].num_features
