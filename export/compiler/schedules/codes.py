"""What a rule needs to count in integers: words of codes, packed weights, and how sums end.

Maps of codes lie as maps of numbers do, (height, width, channels), a code an element, so that the
codes of a word are neighbours. A map's word begins at a multiple of its length, whatever channels a
shift takes from the state: weights are 0 for those, and for what lies between the last channel and
the end of a word. With words of one float32 number all of it is what it is without codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.requantise import Ending
from shiftedge.export.compiler.tir_kernel import Access, Buffer, Codes, Dot

__all__ = [
    "Counting",
    "begins",
    "codes_dtype",
    "ends",
    "pack_sums",
    "pack_words",
    "stage_buffers",
    "sums_needed",
    "terms_of",
    "word_rows",
    "word_runs",
]


@dataclass(frozen=True)
class Counting:
    """How a convolution counts in integers."""

    dot: Dot
    zero: int
    """The input's code of 0, as it is stored: what a border holds, and what a state's codes lack.
    """
    ending: Ending
    factor: float = 0.0
    """Of a residual's codes."""
    whole: bool = False
    """The result's codes are kept as float32 whole numbers, for a stage that multiplies those."""

    @property
    def out(self) -> str:
        """Type of what is made."""
        return self.dot.dtype if self.ending.rounded and not self.whole else "float32"


def terms_of(counting: Counting | None) -> int:
    """Elements of a word: what a step of the inner loop takes."""
    return 1 if counting is None else counting.dot.terms


def codes_dtype(counting: Counting | None) -> str:
    """Type of the elements of an input."""
    return "float32" if counting is None else counting.dot.dtype


def ends(
    counting: Counting | None, scale: Access, offset: Access, residual: Access | None = None
) -> Codes | None:
    """The end of a tile; None without codes."""
    if counting is None:
        return None
    return Codes(scale, offset, counting.ending, residual, counting.factor, counting.dot.above)


def begins(
    counting: Counting | None, sums: Access, bias: Access, residual: Access | None = None
) -> tuple[Access, ...]:
    """First values of a tile: numbers begin with bias and residual, codes with what they lack."""
    if counting is None:
        return (bias,) if residual is None else (bias, residual)
    return (sums,) if sums_needed(counting) else ()


def stage_buffers(
    counting: Counting | None, weight: Buffer, sums: Buffer, scale: Buffer, bias: Buffer
) -> tuple[Buffer, ...]:
    """Constants of a convolution, those that it has, in the order of the parameters."""
    if counting is None:
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
    return sum(word_runs(inputs, shift, terms))


def word_runs(inputs: int, shift: int, terms: int) -> tuple[int, ...]:
    """The same, of the state and of the map."""
    return -(-shift // terms), -(-inputs // terms) - shift // terms


def pack_words(weight: NDArray[Any], shift: int, counting: Counting | None) -> NDArray[Any]:
    """(outputs, inputs), int8, to words (outputs, ``word_rows``) of int32; float32 as it is."""
    if counting is None:
        return weight
    terms = counting.dot.terms
    state = np.pad(weight[:, :shift], ((0, 0), (0, -shift % terms)))
    begin = shift // terms * terms
    own = weight[:, begin:].copy()
    own[:, : shift - begin] = 0
    own = np.pad(own, ((0, 0), (0, -own.shape[1] % terms)))
    narrow = np.concatenate([state, own], axis=1).astype(f"<i{4 // terms}")
    return np.ascontiguousarray(narrow).view("<i4").astype(np.int32)
