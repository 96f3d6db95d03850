"""Sums of pairs of products as TIR, for NEON without a dot product; see ``families.pairs``."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from shiftedge.export.compiler.backends.cpu.families.pairs import LANES
from shiftedge.export.compiler.backends.cpu.llvm.nodes import number
from shiftedge.export.compiler.kernel_ir.kernel import Dot

__all__ = ["factors", "multiply_add"]

_PAIRS = 2 * LANES
_BYTES = 4 * LANES


def factors(packed: Any, term: int, terms: int) -> tuple[Any, Any]:
    """What the weights of a step's term are multiplied with: int8x8 for each of their halves.

    Args:
        words: int32x4, of codes.
        term: of the step.
        terms: of the step; fewer than a register has words, if its last words are not used.
    """
    pairs = tirx.reinterpret(f"int16x{_PAIRS}", packed)
    if terms < LANES:
        order = [2 * term + lane // LANES for lane in range(_PAIRS)]
    else:
        order = [(lane + term) % _PAIRS for lane in range(_PAIRS)]
    if order != list(range(_PAIRS)):
        pairs = tirx.Shuffle([pairs], [number(place) for place in order])
    values = tirx.reinterpret(f"int8x{_BYTES}", pairs)
    return _half(values, 0), _half(values, 1)


def multiply_add(total: Any, values: tuple[Any, Any], weights: Any, dot: Dot, *, own: bool) -> Any:
    """int32x4 ``total`` plus the products of ``codes``, from :func:`factors`, and ``weights``.

    ``own``: by NEON's instructions; otherwise by plain arithmetic, which makes the same sums in as
    many bits.
    """
    weights = tirx.reinterpret(f"int8x{_BYTES}", weights)
    low, high = (_products(values[half], _half(weights, half), own=own) for half in (0, 1))
    if dot.kind == "smlal":
        return total + _by_two(low + high, own=own)
    return total + _by_two(low, own=own) + _by_two(high, own=own)


def _products(values: Any, weights: Any, *, own: bool) -> Any:
    wide = f"int16x{_PAIRS}"
    if not own:
        return tirx.Cast(wide, values) * tirx.Cast(wide, weights)
    return tirx.call_llvm_pure_intrin(wide, "llvm.aarch64.neon.smull.v8i16", weights, values)


def _half(value: Any, half: int) -> Any:
    return tirx.Shuffle([value], [number(half * _PAIRS + lane) for lane in range(_PAIRS)])


def _by_two(products: Any, *, own: bool) -> Any:
    """Neighbours' sums, of 32 bits."""
    if own:
        name = "llvm.aarch64.neon.saddlp.v4i32.v8i16"
        return tirx.call_llvm_pure_intrin(f"int32x{LANES}", name, products)
    wide = tirx.Cast(f"int32x{_PAIRS}", products)
    even, odd = (
        tirx.Shuffle([wide], [number(2 * lane + first) for lane in range(LANES)])
        for first in (0, 1)
    )
    return even + odd
