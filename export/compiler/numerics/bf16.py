"""bfloat16 in numpy: the upper half of a float32, kept as its bits in uint16.

numpy has no such type. Numbers are rounded to the nearest, halves to even, as the processors'
own conversions do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.graph.graph import Conv, Graph


def bits_of(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Finite numbers of any float type as uint16 bits, of the same shape.

    A float64 is rounded to float32 first, which moves only what lies within 2^-24 of itself from
    the middle between two bfloat16 numbers.
    """
    bits = np.asarray(values, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    upper = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    result: NDArray[np.uint16] = upper.astype(np.uint16)
    return result


def numbers_of(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 numbers that uint16 bits stand for, exactly, of the same shape."""
    numbers: NDArray[np.float32] = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return numbers


def rounded(values: NDArray[Any]) -> NDArray[np.float32]:
    """The nearest bfloat16 numbers, as float32."""
    return numbers_of(bits_of(values))


def in_pairs(conv: Conv, graph: Graph) -> bool:
    """Whether a convolution over maps of bfloat16 multiplies pairs of neighbouring channels, and so
    rounds its weights to bfloat16. Otherwise it multiplies float32 numbers one by one.

    It does where it sums over the channels and a row of its window is even in number. The frame's
    three channels are few, and are numbers of float32 where its bytes are read.
    """
    (source,) = conv.inputs
    if conv.groups > 1 or source == graph.frame:
        return False
    return conv.kernel[1] * int(conv.weight.shape[1]) % 2 == 0
