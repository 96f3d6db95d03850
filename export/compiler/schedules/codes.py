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
from shiftedge.export.compiler.tir_kernel import NOT_ADDED, Access, Added, Buffer, Codes, Dot

__all__ = [
    "Added",
    "Counting",
    "begins",
    "codes_dtype",
    "ends",
    "pack_words",
    "stage_buffers",
    "sums_dtype",
    "terms_of",
    "whole_dtype",
    "word_bias",
    "word_rows",
    "words_dtype",
]


@dataclass(frozen=True)
class Counting:
    """How a convolution counts in integers."""

    dot: Dot
    zero: int
    """The input's code of 0, as it is stored: what a border holds, and what a state's codes lack.
    """
    ending: Ending
    added: Added | None = None
    """How a residual is added."""
    whole: bool = False
    """The result's codes are kept whole, see ``Dot``, for a stage that treats channels apart."""
    offset: bool = False
    """There is an offset, in steps of the result."""

    @property
    def out(self) -> str:
        """Type of what is made."""
        if not self.ending.rounded:
            return "float32"
        return self.dot.whole if self.whole else self.dot.dtype


def terms_of(counting: Counting | None) -> int:
    """Elements of a word: what a step of the inner loop takes."""
    return 1 if counting is None else counting.dot.terms


def codes_dtype(counting: Counting | None) -> str:
    """Type of the elements of an input."""
    return "float32" if counting is None else counting.dot.dtype


def words_dtype(counting: Counting | None) -> str:
    """Type of what a step of the inner loop takes of the weights."""
    return "float32" if counting is None else counting.dot.words


def sums_dtype(counting: Counting | None) -> str:
    """Type of the sums of products, and of what they begin at."""
    return "float32" if counting is None else "int32"


def whole_dtype(counting: Counting | None) -> str:
    """Type of the elements of an input whose codes are kept whole, and of the weights for it."""
    return "float32" if counting is None else counting.dot.whole


def ends(
    counting: Counting | None, scale: Access, offset: Access, residual: Access | None = None
) -> Codes | None:
    """The end of a tile; None without codes."""
    if counting is None:
        return None
    return Codes(
        scale,
        offset if counting.offset else None,
        counting.ending,
        residual,
        counting.added or NOT_ADDED,
        0 if counting.whole else counting.dot.above,
    )


def begins(
    counting: Counting | None, bias: Access, residual: Access | None = None
) -> tuple[Access, ...]:
    """First values of a tile; a residual's codes are added at its end."""
    return (bias,) if counting or residual is None else (bias, residual)


def stage_buffers(
    counting: Counting | None, weight: Buffer, bias: Buffer, scale: Buffer, offset: Buffer
) -> tuple[Buffer, ...]:
    """Constants of a convolution, those that it has, in the order of the parameters."""
    if counting is None:
        return weight, bias
    return weight, bias, scale, *((offset,) if counting.offset else ())


def word_bias(bias: NDArray[Any], weight: NDArray[Any], counting: Counting | None) -> NDArray[Any]:
    """What sums of words begin at, (outputs,): the bias, and what codes lack as they are stored.

    ``weight``: int8, (outputs, ...). Without codes the bias as it is.
    """
    if counting is None:
        return bias
    lacking = weight.reshape(len(weight), -1).astype(np.int64).sum(1) * counting.dot.above
    total: NDArray[np.int32] = (bias + lacking).astype(np.int32)
    return total


def word_rows(inputs: int, shift: int, terms: int) -> int:
    """Words of a pixel: the state's, then the map's, from the word on that the shift ends in."""
    return -(-shift // terms) + -(-inputs // terms) - shift // terms


def pack_words(weight: NDArray[Any], shift: int, counting: Counting | None) -> NDArray[Any]:
    """(outputs, inputs), int8, to words (outputs, ``word_rows``); float32 as it is."""
    if counting is None:
        return weight
    terms = counting.dot.terms
    state = np.pad(weight[:, :shift], ((0, 0), (0, -shift % terms)))
    begin = shift // terms * terms
    own = weight[:, begin:].copy()
    own[:, : shift - begin] = 0
    own = np.pad(own, ((0, 0), (0, -own.shape[1] % terms)))
    codes = np.ascontiguousarray(np.concatenate([state, own], axis=1))
    return codes.view(f"<i{terms}").astype(counting.dot.words)
