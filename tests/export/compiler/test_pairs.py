"""The order of weights for sums of pairs of products, against the product of matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families.pairs import LANES, arranged
from shiftedge.export.compiler.backends.cpu.families.product import pack_weights
from shiftedge.export.compiler.backends.cpu.families.tiles import SDOT, SMLAL, Tiles

PAIRS = 2 * LANES
CODES = 4 * LANES


def summed(codes: NDArray[np.int8], weights: NDArray[np.int32], runs: list[int]) -> list[int]:
    """What NEON makes of a pixel's codes: 4 outputs' weights, a vector a word; by instructions."""
    total, first = np.zeros(LANES, np.int64), 0
    for run in runs:
        packed = codes[4 * first : 4 * (first + run)]
        padded = np.pad(packed, (0, -len(packed) % CODES), constant_values=77).reshape(-1, CODES)
        for word in range(run):
            register = padded[word // LANES].reshape(PAIRS, 2)
            term = word % LANES
            if word < run - run % LANES:
                taken = np.roll(register, -term, axis=0)
            else:
                taken = register[[2 * term] * LANES + [2 * term + 1] * LANES]
            vector = np.ascontiguousarray(weights[first + word]).view(np.int8).astype(np.int64)
            products = vector * taken.reshape(-1)
            total += (products[:PAIRS] + products[PAIRS:]).reshape(LANES, 2).sum(1)
        first += run
    return list(total)


@pytest.mark.parametrize("runs", [[4], [1], [3], [8], [7], [2, 9], [1, 4, 6], [3, 3, 3], [4, 0]])
def test_every_output_meets_every_code_once(runs: list[int]) -> None:
    rng = np.random.default_rng(sum(runs))
    outputs, count = 12, sum(runs)
    codes = rng.integers(-128, 128, 4 * count).astype(np.int8)
    weight = rng.integers(-127, 128, (outputs, 4 * count)).astype(np.int8)
    packed = weight.view(np.int32).T
    found = arranged(np.ascontiguousarray(packed), runs)
    assert found.shape == packed.shape
    want = weight.astype(np.int64) @ codes
    for begin in range(0, outputs, LANES):
        assert summed(codes, found[:, begin : begin + LANES], runs) == list(
            want[begin : begin + LANES]
        )


def test_packing_arranges_each_block_for_itself() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-(2**31), 2**31, (21, 7)).astype(np.int32)
    tiles = Tiles(4, 16)
    plain = pack_weights(weight, tiles, LANES, SDOT, (2, 5))
    packed = pack_weights(weight, tiles, LANES, SMLAL, (2, 5))
    first = plain[: 7 * 16].reshape(7, 16)
    second = plain[7 * 16 :].reshape(7, 8)
    assert not second[:, 5:].any()
    expected = [arranged(first, (2, 5)).ravel(), arranged(second, (2, 5)).ravel()]
    np.testing.assert_array_equal(packed, np.concatenate(expected))
    assert (packed != plain).any()
    np.testing.assert_array_equal(plain, pack_weights(weight, tiles, LANES))


@pytest.mark.parametrize(("runs", "outputs"), [((3,), 8), ((2, 2), 6)])
def test_other_runs_are_refused(runs: tuple[int, ...], outputs: int) -> None:
    with pytest.raises(ValueError, match="are not runs of"):
        arranged(np.zeros((4, outputs), np.int32), runs)


def test_both_kinds_store_codes_alike() -> None:
    """A layer may need the one and its neighbours the other."""
    from shiftedge.export.compiler.backends.cpu.families.tiles import SMULL

    assert replace(SMULL, kind=SMLAL.kind) == SMLAL
    assert (SMLAL.dtype, SMLAL.storage_offset, SMLAL.terms) == (
        SDOT.dtype,
        SDOT.storage_offset,
        SDOT.terms,
    )
