"""Precisions: what a model's maps and states are stored in, and what follows from that.

A precision more is a row more. What processors make of it (instructions, packed weights) is a
backend's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.numerics import bf16


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _float16(values: NDArray[Any]) -> NDArray[np.float32]:
    """To the nearest, halves to even; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return _float32(np.asarray(values, np.float16))


@dataclass(frozen=True)
class Precision:
    name: str
    made_from: str
    """The precision of the ONNX file that it is compiled from."""
    storage: str
    """Type of the elements of maps, as a spec's states have it; vectors stay float32."""
    buffer: str
    """The same in the kernel IR; empty where a backend chooses how quantised values are stored."""
    accumulator: str
    """In which products are summed."""
    round: Callable[[NDArray[Any]], NDArray[np.float32]]
    """What storing leaves of a number that is not quantised."""
    numbers: Callable[[NDArray[Any]], NDArray[np.float32]]
    """Elements of a buffer as the numbers that they are."""
    reference: str
    """What compiled code is held against, in reports."""
    frames: int
    """Of the stream that both compute."""
    step: float = 0.0
    """Relative to a tensor's largest value: what one number of it may be off by rounding once; 0 of
    float32 and of quantised values, which are not rounded numbers."""

    @property
    def quantized(self) -> bool:
        """Whether values stand for numbers by a scale and a zero point."""
        return self.storage == "uint8"

    @property
    def rounds(self) -> bool:
        """Whether numbers are stored in fewer bits than they are computed in."""
        return self.step > 0


FP32 = Precision(
    "fp32", made_from="fp32", storage="float32", buffer="float32", accumulator="float32",
    round=_float32, numbers=_float32, reference="ONNX Runtime", frames=32,
)  # fmt: skip
"""Three times the receptive field of MobileNetV2 TSM: what an error in a state adds has time to
grow."""
BF16 = Precision(
    "bf16", made_from="fp32", storage="bfloat16", buffer="uint16", accumulator="float32",
    round=bf16.rounded, numbers=bf16.numbers_of, reference="bf16 in numpy", frames=16, step=2.0**-8,
)  # fmt: skip
"""Frames are the self-test's; where every bit is equal nothing can grow."""
FP16 = Precision(
    "fp16", made_from="fp32", storage="float16", buffer="float16", accumulator="float32",
    round=_float16, numbers=_float32, reference="ONNX Runtime", frames=16, step=2.0**-11,
)  # fmt: skip
"""IEEE 754 binary16, of GPUs. Frames are the self-test's; it loses so little that it is held
against the numbers themselves."""
INT8 = Precision(
    "int8", made_from="int8", storage="uint8", buffer="", accumulator="int32",
    round=_float32, numbers=_float32, reference="integers in numpy", frames=12,
)  # fmt: skip
"""Past the receptive field, likewise."""

PRECISIONS = {each.name: each for each in (INT8, BF16, FP16, FP32)}
"""The quickest first."""
NARROW = {each.buffer: each for each in PRECISIONS.values() if each.rounds}
"""By type of a buffer of narrow floats."""
