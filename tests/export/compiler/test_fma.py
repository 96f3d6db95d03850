"""fma32 against exact arithmetic on fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from shiftedge.export.compiler.numerics.fma import fma32

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SMALL = st.integers(-(2**24), 2**24).map(lambda whole: float(np.float32(whole / 4096)))


def nearest(exact: Fraction) -> np.float32:
    """The float32 next to ``exact``, the even one of two."""
    with np.errstate(over="ignore"):
        near = np.float32(float(exact))
    if not np.isfinite(near):
        return near
    around = (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf)))
    finite = [each for each in around if np.isfinite(each)]
    return min(
        finite,
        key=lambda each: (abs(Fraction(float(each)) - exact), int(each.view(np.int32)) & 1),
    )


@given(FLOATS | SMALL, FLOATS | SMALL, FLOATS | SMALL)
@example(1.0 + 2.0**-23, 1.0 + 2.0**-23, 2.0**-60)  # float64 rounds to a float32 tie, and hides it
@example(1.0 + 2.0**-12, 1.0 - 2.0**-12, 2.0**30)
@example(2.0**-126, 0.5, 2.0**-149)
def test_it_rounds_once(a, b, c):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if abs(exact) >= Fraction(float(np.finfo(np.float32).max)):
        return
    (got,) = fma32([a], [b], [c])
    assert got == nearest(exact)


@given(st.integers(-(2**23), 2**23), st.integers(1, 2**24), st.integers(0, 255))
def test_near_the_halves_that_decide_a_code(acc, scale, zero):
    scale32, offset = np.float32(scale * 2.0**-40), np.float32(zero + 0.5)
    exact = Fraction(acc) * Fraction(float(scale32)) + Fraction(float(offset))
    assert fma32(np.float32(acc), scale32, offset) == nearest(exact)


def test_rounding_twice_would_differ_here():
    a, b = np.float32(1 + 2.0**-12), np.float32(1 + 2.0**-12)  # the product ends in 2^-24: a tie
    tiny = np.float32(2.0**-80)
    twice = np.float32(np.float64(a) * np.float64(b) + np.float64(tiny))
    assert fma32(a, b, tiny) != twice
    assert fma32(a, b, tiny) == nearest(
        Fraction(float(a)) * Fraction(float(b)) + Fraction(1, 2**80)
    )


def test_shapes_broadcast():
    acc = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    got = fma32(acc, np.float32([1, 2]), np.float32([3, 4]))
    np.testing.assert_array_equal(got, acc * [1, 2] + [3, 4])
    assert got.dtype == np.float32
    assert fma32(np.float32(2), np.float32(3), np.float32(4)).shape == ()


def test_what_is_not_finite_stays_so():
    got = fma32(np.float32([np.inf, np.nan, 3e38]), np.float32(2), np.float32(1))
    np.testing.assert_array_equal(got, np.float32([np.inf, np.nan, np.inf]))
