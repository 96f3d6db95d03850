"""Sums of pairs of products as TIR, for NEON without a dot product; see ``schedules.pairs``."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from shiftedge.export.compiler.schedules.pairs import WORDS
from shiftedge.export.compiler.tir_kernel import Dot
from shiftedge.export.compiler.tir_nodes import number

__all__ = ["factors", "multiply_add"]

_PAIRS = 2 * WORDS
_BYTES = 4 * WORDS


def factors(words: Any, term: int, terms: int) -> tuple[Any, Any]:
    """What the weights of a step's term are multiplied with: int8x8 for each of their halves.

    Args:
        words: int32x4, of codes.
        term: of the step.
        terms: of the step; fewer than a register has words, if its last words are not used.
    """
    pairs = tirx.reinterpret(f"int16x{_PAIRS}", words)
    if terms < WORDS:
        order = [2 * term + lane // WORDS for lane in range(_PAIRS)]
    else:
        order = [(lane + term) % _PAIRS for lane in range(_PAIRS)]
    if order != list(range(_PAIRS)):
        pairs = tirx.Shuffle([pairs], [number(place) for place in order])
    codes = tirx.reinterpret(f"int8x{_BYTES}", pairs)
    return _half(codes, 0), _half(codes, 1)


def multiply_add(total: Any, codes: tuple[Any, Any], weights: Any, dot: Dot, *, own: bool) -> Any:
    """int32x4 ``total`` plus the products of ``codes``, from :func:`factors`, and ``weights``.

    ``own``: by NEON's instructions; otherwise by plain arithmetic, which makes the same sums.
    """
    weights = tirx.reinterpret(f"int8x{_BYTES}", weights)
    if not own:
        return total + _plainly(codes, weights)
    low, high = (
        tirx.call_llvm_pure_intrin(
            f"int16x{_PAIRS}",
            "llvm.aarch64.neon.smull.v8i16",
            _half(weights, half),
            codes[half],
        )
        for half in (0, 1)
    )
    if dot.kind == "smlal":
        return _in_order(total + _by_two(low + high))
    return _in_order(_in_order(total + _by_two(low)) + _by_two(high))


def _half(value: Any, half: int) -> Any:
    return tirx.Shuffle([value], [number(half * _PAIRS + lane) for lane in range(_PAIRS)])


def _by_two(products: Any) -> Any:
    return tirx.call_llvm_pure_intrin(
        f"int32x{WORDS}", "llvm.aarch64.neon.saddlp.v4i32.v8i16", products
    )


def _in_order(total: Any) -> Any:
    """``total``, as a sum that LLVM does not take apart.

    It would first add up what a loop's turn adds to each accumulator, and hold all of these sums
    beside the accumulators: more than there are registers. A fence of arithmetic is no instruction.
    """
    fenced = tirx.call_llvm_pure_intrin(
        f"float32x{WORDS}",
        f"llvm.arithmetic.fence.v{WORDS}f32",
        tirx.reinterpret(f"float32x{WORDS}", total),
    )
    return tirx.reinterpret(f"int32x{WORDS}", fenced)


def _plainly(codes: Any, weights: Any) -> Any:
    wide = f"int32x{_PAIRS}"
    parts = []
    for half in (0, 1):
        products = tirx.Cast(wide, codes[half]) * tirx.Cast(wide, _half(weights, half))
        for first in (0, 1):
            lanes = [number(first + 2 * lane) for lane in range(WORDS)]
            parts.append(tirx.Shuffle([products], lanes))
    return parts[0] + parts[1] + parts[2] + parts[3]
