"""What a rule needs to multiply words: of codes, or of bfloat16 numbers, and how sums end.

Maps of codes lie as maps of numbers do, (height, width, channels), a code an element, so that the
codes of a word are neighbours. A map's word begins at a multiple of its length, whatever channels a
shift takes from the state: weights are 0 for those, and for what lies between the last channel and
the end of a word. With words of one float32 number all of it is what it is without codes.

Words of bfloat16 numbers never reach past a map's channels: a weight of 0 makes nothing of a code,
but NaN of what may be NaN. Where channels are not even in number, each is multiplied by itself. A
state's last word may reach past it, since what lies between states is 0 for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.bf16 import bits_of
from shiftedge.export.compiler.requantise import Ending
from shiftedge.export.compiler.tir_kernel import BF16, Access, Buffer, Codes, Dot

__all__ = [
    "Counting",
    "begins",
    "codes_dtype",
    "dot_of",
    "ends",
    "pack_sums",
    "pack_words",
    "residual_dtype",
    "stage_buffers",
    "sums_needed",
    "terms_of",
    "weight_dtype",
    "word_rows",
]


@dataclass(frozen=True)
class Counting:
    """How a convolution over narrow elements counts: codes in integers, bfloat16 in float32."""

    dot: Dot
    zero: int
    """The input's code of 0, as it is stored: what a border holds, and what a state's codes lack.
    """
    ending: Ending | None
    """None of bfloat16, whose sums begin and end as those of float32 do."""
    factor: float = 0.0
    """Of a residual's codes."""
    whole: bool = False
    """The result's codes are kept as float32 whole numbers, for a stage that multiplies those; of
    bfloat16, the result is not rounded."""
    words: bool = True
    """Elements are multiplied in words; otherwise one by one, as float32."""

    @property
    def codes(self) -> bool:
        """Whether it counts in integers, from sums to codes by a scale and an offset."""
        return self.ending is not None

    @property
    def out(self) -> str:
        """Type of what is made."""
        narrow = not self.whole and (self.ending is None or self.ending.rounded)
        return self.dot.dtype if narrow else "float32"


def terms_of(counting: Counting | None) -> int:
    """Elements of a word: what a step of the inner loop takes."""
    dot = dot_of(counting)
    return 1 if dot is None else dot.terms


def dot_of(counting: Counting | None) -> Dot | None:
    """How words are multiplied; None where elements are, one by one."""
    return counting.dot if counting is not None and counting.words else None


def weight_dtype(counting: Counting | None) -> str:
    """Type of the packed weights: words, or numbers."""
    return "float32" if dot_of(counting) is None else "int32"


def codes_dtype(counting: Counting | None) -> str:
    """Type of the elements of an input."""
    return "float32" if counting is None else counting.dot.dtype


def residual_dtype(counting: Counting | None) -> str:
    """Type of the elements of what is added: a map of the result's shape."""
    return "float32" if counting is None else counting.dot.dtype if counting.codes else counting.out


def ends(
    counting: Counting | None, scale: Access, offset: Access, residual: Access | None = None
) -> Codes | None:
    """The end of a tile; None without codes."""
    if counting is None or counting.ending is None:
        return None
    return Codes(scale, offset, counting.ending, residual, counting.factor, counting.dot.above)


def begins(
    counting: Counting | None, sums: Access, bias: Access, residual: Access | None = None
) -> tuple[Access, ...]:
    """First values of a tile: numbers begin with bias and residual, codes with what they lack."""
    if counting is None or not counting.codes:
        return (bias,) if residual is None else (bias, residual)
    return (sums,) if sums_needed(counting) else ()


def stage_buffers(
    counting: Counting | None, weight: Buffer, sums: Buffer, scale: Buffer, bias: Buffer
) -> tuple[Buffer, ...]:
    """Constants of a convolution, those that it has, in the order of the parameters."""
    if counting is None or not counting.codes:
        return weight, bias
    return (weight, sums, scale, bias) if sums_needed(counting) else (weight, scale, bias)


def sums_needed(counting: Counting | None) -> bool:
    """Whether sums begin at what the stored codes lack, times the weights: see ``Dot.above``."""
    return counting is not None and counting.dot.above != 0


def pack_sums(weight: NDArray[Any], counting: Counting) -> NDArray[np.int32]:
    """What the sums of each output begin at, (outputs,), of int8 weights (outputs, ...)."""
    total = weight.reshape(len(weight), -1).astype(np.int64).sum(1) * counting.dot.above
    sums: NDArray[np.int32] = total.astype(np.int32)
    return sums


def word_rows(inputs: int, shift: int, terms: int) -> int:
    """Words of a pixel: the state's, then the map's, from the word on that the shift ends in."""
    return -(-shift // terms) + -(-inputs // terms) - shift // terms


def pack_words(weight: NDArray[Any], shift: int, counting: Counting | None) -> NDArray[Any]:
    """(outputs, inputs), int8, or float32 that becomes bfloat16, to words (outputs, ``word_rows``)
    of int32; float32 that is multiplied as such stays as it is."""
    dot = dot_of(counting)
    if dot is None:
        return weight
    if dot.dtype == BF16:
        weight = bits_of(weight)
    terms = dot.terms
    state = np.pad(weight[:, :shift], ((0, 0), (0, -shift % terms)))
    begin = shift // terms * terms
    own = weight[:, begin:].copy()
    own[:, : shift - begin] = 0
    own = np.pad(own, ((0, 0), (0, -own.shape[1] % terms)))
    kind = "u" if dot.dtype == BF16 else "i"
    narrow = np.concatenate([state, own], axis=1).astype(f"<{kind}{4 // terms}")
    return np.ascontiguousarray(narrow).view("<i4").astype(np.int32)
