"""How weights lie where a processor multiplies bytes but has no dot product: Armv8.0.

A widening multiply makes eight products of 16 bits of eight bytes each, a second one adds eight
more, and a pairwise sum adds those two by two to four sums of 32 bits: 16 products of 4 outputs in
three instructions. Numbered by pairs of values (16 bits, P0 to P7 of 16 values), both multiplies
want a pair for each of outputs 0 to 3. None of them can take its bytes from a lane, but the eight
pairs of a register turned by t are, in its lower and its upper half,

    P(t)  P(t+1)  P(t+2)  P(t+3)      P(t+4)  P(t+5)  P(t+6)  P(t+7)        all modulo 8

and over t = 0, 1, 2, 3 each output meets every pair once, whichever pair it begins with. So the
weights of output j lie in lanes j and j + 4 of vector t, those of pairs t + j and t + j + 4, and a
pixel's 16 values cost three turns (``ext``) where a broadcast of each pair would cost eight.

Packed lanes that do not fill a register are broadcast, each as a register of its own: its first
pair in the lower half, its second in the upper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LANES = 4
"""Of a register, each of two pairs of values; as many outputs share one."""


def arranged(block: NDArray[np.int32], runs: Sequence[int]) -> NDArray[np.int32]:
    """A block's packed weights (inputs, outputs), outputs a multiple of 4, in the order above;
    ``runs`` are how many of the inputs each innermost loop takes.

    Raises:
        ValueError: the runs are not those of the block.
    """
    inputs, outputs = block.shape
    if sum(runs) != inputs or outputs % LANES:
        raise ValueError(f"{inputs} inputs of {outputs} outputs are not runs of {list(runs)}")
    made, first = [], 0
    for run in runs:
        whole = run - run % LANES
        if whole:
            made.append(_turned(block[first : first + whole]))
        if whole < run:
            made.append(_spread(block[first + whole : first + run]))
        first += run
    return np.concatenate(made)


def _turned(packed: NDArray[np.int32]) -> NDArray[np.int32]:
    """Inputs that fill registers."""
    pairs = _pairs(packed)
    # [register][pair of it][vector of outputs][output of it]
    found = pairs.reshape(-1, 2 * LANES, *pairs.shape[2:])
    lanes = np.arange(2 * LANES)
    turns = [found[:, (lanes + turn) % (2 * LANES), :, lanes % LANES] for turn in range(LANES)]
    # Two lists of indices put their own axis first: [lane][register][vector].
    return _packed(np.stack(turns).transpose(2, 0, 3, 1), packed.shape)


def _spread(packed: NDArray[np.int32]) -> NDArray[np.int32]:
    """Inputs that are a register each."""
    # [input][half][vector][output], and halves of a register go inside the vectors.
    return _packed(_pairs(packed).transpose(0, 2, 1, 3), packed.shape)


def _pairs(packed: NDArray[np.int32]) -> NDArray[np.int16]:
    """(inputs, outputs) as [input][pair of it][vector of 4 outputs][output of it]."""
    pairs_of_bytes = (
        np.ascontiguousarray(packed, "<i4").view("<i2").reshape(len(packed), -1, LANES, 2)
    )
    pairs: NDArray[np.int16] = pairs_of_bytes.transpose(0, 3, 1, 2)
    return pairs


def _packed(pairs: NDArray[np.int16], shape: tuple[int, ...]) -> NDArray[np.int32]:
    flat = np.ascontiguousarray(pairs, "<i2").reshape(-1)
    packed: NDArray[np.int32] = flat.view("<i4").astype(np.int32).reshape(shape)
    return packed
