"""float32 fused multiply-add on arrays, exact: numpy has none, and every kernel does.

A product of two float32 numbers is exact in float64. The sum with a third is not, and rounding it
to float64 and then to float32 may differ from rounding once. So the float64 sum is rounded to odd:
where it is inexact, to that neighbour of the true value whose last bit is 1. From such a number
the rounding to float32 goes as from the true value, since float64 has more than two bits more
(Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE Trans. Comp. 2008).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def fma32(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> NDArray[np.float32]:
    """a * b + c, rounded once; numbers that float32 holds exactly, which broadcast against each
    other."""
    product = np.multiply(np.asarray(a, np.float32), np.asarray(b, np.float32), dtype=np.float64)
    addend = np.asarray(c, np.float32).astype(np.float64)
    total = np.atleast_1d(product + addend)
    if _doubtful(total):
        # What the sum lost (Knuth's TwoSum, exact).
        with np.errstate(invalid="ignore"):
            back = total - product
            lost = (product - (total - back)) + (addend - back)
        bits = total.view(np.int64)
        even = (lost != 0.0) & ((bits & 1) == 0) & np.isfinite(total)
        # Bits count magnitudes: away from 0 is up for either sign. A sum of 0 is exact.
        outwards = (lost > 0.0) == (total > 0.0)
        bits += np.where(outwards, 1, -1) * even
    with np.errstate(over="ignore"):
        rounded: NDArray[np.float32] = total.astype(np.float32)
    return rounded.reshape(np.broadcast_shapes(product.shape, addend.shape))


def _doubtful(total: NDArray[np.float64]) -> bool:
    """Whether some sum, rounded once, lies in the middle between two float32 numbers, where what it
    lost decides, or so near 0 that the middle is elsewhere. Few are; to look costs a third."""
    cut = total.view(np.int64) & 0x1FFFFFFF  # the bits that float32 has not
    middle = cut == 0x10000000
    return bool((middle | ((np.abs(total) < _NORMAL) & (total != 0.0))).any())


_NORMAL = float(np.finfo(np.float32).tiny)
