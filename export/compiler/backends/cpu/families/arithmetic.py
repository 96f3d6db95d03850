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

from shiftedge.export.compiler.kernel_ir.kernel import (
    BF16,
    NOT_ADDED,
    Access,
    Added,
    Buffer,
    Dot,
    Epilogue,
)
from shiftedge.export.compiler.numerics.bf16 import bits_of
from shiftedge.export.compiler.numerics.requantize import OutputStage

__all__ = [
    "Added",
    "Arithmetic",
    "accumulator_dtype",
    "begins",
    "dot_of",
    "ends",
    "input_dtype",
    "pack_inputs",
    "packed_bias",
    "packed_rows",
    "packed_runs",
    "residual_dtype",
    "stage_buffers",
    "terms_of",
    "unpacked_dtype",
    "weight_dtype",
]


@dataclass(frozen=True)
class Arithmetic:
    """How a convolution over narrow elements counts: codes in integers, bfloat16 in float32."""

    dot: Dot
    zero: int
    """The input's code of 0, as it is stored: what a border holds, and what a state's codes lack.
    """
    stage: OutputStage | None
    """None of bfloat16, whose sums begin and end as those of float32 do."""
    added: Added | None = None
    """How a residual is added."""
    unpacked: bool = False
    """The result's codes are kept whole, see ``Dot``, for a stage that treats channels apart; of
    bfloat16, the result is not rounded."""
    offset: bool = False
    """There is an offset, in steps of the result."""
    packed: bool = True
    """Elements are multiplied in words; otherwise one by one, as float32."""

    @property
    def quantized(self) -> bool:
        """Whether it counts in integers, from sums to codes by a scale and an offset."""
        return self.stage is not None

    @property
    def out(self) -> str:
        """Type of what is made."""
        if self.stage is not None and not self.stage.rounded:
            return "float32"
        return self.dot.unpacked_dtype if self.unpacked else self.dot.dtype


def terms_of(arithmetic: Arithmetic | None) -> int:
    """Elements of a word: what a step of the inner loop takes."""
    dot = dot_of(arithmetic)
    return 1 if dot is None else dot.terms


def dot_of(arithmetic: Arithmetic | None) -> Dot | None:
    """How words are multiplied; None where elements are, one by one."""
    return arithmetic.dot if arithmetic is not None and arithmetic.packed else None


def input_dtype(arithmetic: Arithmetic | None) -> str:
    """Type of the elements of an input."""
    return "float32" if arithmetic is None else arithmetic.dot.dtype


def weight_dtype(arithmetic: Arithmetic | None) -> str:
    """Type of the packed weights: words, or numbers."""
    dot = dot_of(arithmetic)
    return "float32" if dot is None else dot.packed_dtype


def accumulator_dtype(arithmetic: Arithmetic | None) -> str:
    """Type of the sums of products of words, and of what they begin at."""
    return "float32" if arithmetic is None else arithmetic.dot.accumulator_dtype


def residual_dtype(arithmetic: Arithmetic | None) -> str:
    """Type of the elements of what is added: a map of the result's shape."""
    return (
        "float32"
        if arithmetic is None
        else arithmetic.dot.dtype
        if arithmetic.quantized
        else arithmetic.out
    )


def unpacked_dtype(arithmetic: Arithmetic | None) -> str:
    """Type of the elements of an input whose codes are kept whole, and of the weights for it."""
    return "float32" if arithmetic is None else arithmetic.dot.unpacked_dtype


def ends(
    arithmetic: Arithmetic | None, scale: Access, offset: Access, residual: Access | None = None
) -> Epilogue | None:
    """The end of a tile; None without codes."""
    if arithmetic is None or arithmetic.stage is None:
        return None
    return Epilogue(
        scale,
        offset if arithmetic.offset else None,
        arithmetic.stage,
        residual,
        arithmetic.added or NOT_ADDED,
        0 if arithmetic.unpacked else arithmetic.dot.storage_offset,
    )


def begins(
    arithmetic: Arithmetic | None, bias: Access, residual: Access | None = None
) -> tuple[Access, ...]:
    """First values of a tile; a residual's codes are added at its end."""
    counts = arithmetic is not None and arithmetic.quantized
    return (bias,) if counts or residual is None else (bias, residual)


def stage_buffers(
    arithmetic: Arithmetic | None, weight: Buffer, bias: Buffer, scale: Buffer, offset: Buffer
) -> tuple[Buffer, ...]:
    """Constants of a convolution, those that it has, in the order of the parameters."""
    if arithmetic is None or not arithmetic.quantized:
        return weight, bias
    return weight, bias, scale, *((offset,) if arithmetic.offset else ())


def packed_bias(
    bias: NDArray[Any], weight: NDArray[Any], arithmetic: Arithmetic | None
) -> NDArray[Any]:
    """What sums of words begin at, (outputs,): the bias, and what codes lack as they are stored.

    ``weight``: int8, (outputs, ...). Without codes the bias as it is.
    """
    if arithmetic is None or not arithmetic.quantized:
        return bias
    lacking = (
        weight.reshape(len(weight), -1).astype(np.int64).sum(1) * arithmetic.dot.storage_offset
    )
    total: NDArray[np.int32] = (bias + lacking).astype(np.int32)
    return total


def packed_rows(inputs: int, shift: int, terms: int) -> int:
    """Words of a pixel: the state's, then the map's, from the word on that the shift ends in."""
    return sum(packed_runs(inputs, shift, terms))


def packed_runs(inputs: int, shift: int, terms: int) -> tuple[int, ...]:
    """The same, of the state and of the map."""
    return -(-shift // terms), -(-inputs // terms) - shift // terms


def pack_inputs(weight: NDArray[Any], shift: int, arithmetic: Arithmetic | None) -> NDArray[Any]:
    """(outputs, inputs), int8, or float32 that becomes bfloat16, to words (outputs,
    ``packed_rows``);
    float32 that is multiplied as such stays as it is."""
    dot = dot_of(arithmetic)
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
    quantized = np.ascontiguousarray(np.concatenate([state, own], axis=1))
    return quantized.view(dot.packed_dtype)
