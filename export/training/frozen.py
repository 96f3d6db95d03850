"""The first parts of a network held as they are, and what they give of each clip kept.

A network that was trained on millions of pictures knows edges and shapes already. Held, its first
parts cost nothing more once they have seen a clip: clips come in a few fixed variations, whose
features are kept in half precision, and each step computes the rest of the network alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shiftedge.export.data.clip_set import ClipSet
from shiftedge.export.models import InvertedResidualNet
from shiftedge.export.models.shift import ClipForm, running
from shiftedge.export.training.augment import Batch
from shiftedge.runtime.errors import DataError

VARIATIONS = 4
"""Of each clip that is kept: features of 36 frames at a sixteenth of 128x96 take 0.3 MB."""
MOST_BYTES = 4 << 30
"""Of features; those of further clips are computed each time."""
_DRAWS = 8
"""What a seed draws, beside those of :mod:`shiftedge.export.training.supply`."""

Key = tuple[int, int, int]
"""Part of the mixture, clip, variation."""


@dataclass(frozen=True)
class Seen:
    """One clip behind the frozen parts."""

    features: NDArray[np.float16]
    """(T, C, H, W)."""
    batch: Batch
    """Its labels; the frames are gone."""


class Frozen:
    """Holds ``net.features[:parts]`` in evaluation mode, without gradients.

    Raises:
        DataError: the network has other parts, or not so many.
    """

    def __init__(self, net: nn.Module, parts: int, seed: int) -> None:
        if not isinstance(net, InvertedResidualNet) or not 0 < parts < len(net.features):
            most = len(net.features) - 1 if isinstance(net, InvertedResidualNet) else 0
            raise DataError(
                f"{parts} parts of the network are to be held, and it has {most} that can be; give "
                "--freeze a smaller number."
            )
        self._net, self._parts, self._seed = net, parts, seed
        self._first = net.features[:parts]
        self._first.requires_grad_(False)
        self._seen: dict[Key, Seen] = {}
        self._bytes = 0

    def train(self) -> None:
        """Set the network to training mode, all but what is held."""
        self._net.train()
        self._first.eval()

    def make(
        self,
        draws: NDArray[np.int64],
        clips: ClipSet,
        vary: Callable[[ClipSet, np.random.Generator], Batch],
    ) -> list[tuple[Key, Batch]]:
        """Each clip of a step in its variation, in a thread; one that has been seen without frames.

        Args:
            draws: rows of a plan, see :meth:`~shiftedge.export.training.supply.Mixture.plan`, in
                the order of ``clips``.
            vary: makes a batch of one clip.
        """
        made = []
        for at, (part, over, row) in enumerate(draws.tolist()):
            key = part, row, over % VARIATIONS
            seen = self._seen.get(key)
            rng = np.random.default_rng((self._seed, _DRAWS, *key))
            batch = seen.batch if seen is not None else vary(clips.take(np.array([at])), rng)
            made.append((key, batch))
        return made

    @torch.no_grad()
    def features(self, made: list[tuple[Key, Batch]], device: str) -> tuple[Tensor, Batch]:
        """What the held parts give of some clips, (N * T, C, H, W), and the clips' labels."""
        found = []
        for key, batch in made:
            seen = self._seen.get(key)
            if seen is None:
                # One clip at a time: what else is in a step must not change its rounding.
                frames = torch.from_numpy(batch.frames).to(device).permute(0, 3, 1, 2)
                with running(ClipForm(len(frames))):
                    given = self._first(self._net.previous(frames))
                features = given.cpu().numpy().astype(np.float16)
                seen = Seen(features, batch.without_frames())
                if self._bytes + features.nbytes <= MOST_BYTES:
                    self._bytes += features.nbytes
                    self._seen[key] = seen
            found.append(seen)
        stacked = np.concatenate([seen.features for seen in found]).astype(np.float32)
        return torch.from_numpy(stacked).to(device), Batch.of([seen.batch for seen in found])

    def logits(self, features: Tensor, length: int) -> Tensor:
        """(N, T, classes) of what :meth:`features` gave."""
        net = self._net
        with running(ClipForm(length)):
            x = net.features[self._parts :](features)
            flat: Tensor = net.classifier(net.dropout(torch.mean(x, dim=(2, 3))))
        return flat.reshape(-1, length, flat.shape[-1])
