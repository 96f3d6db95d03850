"""Random networks for ONNX files: what those of numbers and those of codes have in common."""

from __future__ import annotations

import numpy as np
from onnx_kit import Builder

__all__ = ["RandomNetwork"]


class RandomNetwork:
    """Adds random layers to a model, one after the other."""

    def __init__(self, b: Builder, x: str, seed: int) -> None:
        self.b, self.x = b, x
        self.rng = np.random.default_rng(seed)
        self.channels = 8

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def groups(self) -> None:
        divisors = [n for n in range(1, self.channels + 1) if self.channels % n == 0]
        groups = self.pick(*divisors)
        outputs = groups * self.pick(1, 2, 3)
        self.x = self.b.conv(self.x, outputs, self.channels, self.pick(1, 3), groups=groups)
        self.channels = outputs

    def block(self) -> None:
        """An inverted residual."""
        b, channels, hidden = self.b, self.channels, 2 * self.channels
        y = b.op("Relu", b.conv(self.x, hidden, channels))
        y = b.op("HardSwish", b.conv(y, hidden, hidden, self.pick(3, 5), groups=hidden))
        y = b.conv(y, channels, hidden)
        self.x = b.op("Add", self.x, y) if self.pick(0, 1) else y
