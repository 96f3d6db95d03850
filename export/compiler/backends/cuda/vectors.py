"""Which elements a thread loads or stores together: one vector where its place is a multiple of the
vector's length whatever the variables are, several narrower ones elsewhere."""

from __future__ import annotations

import math

from shiftedge.export.compiler.kernel_ir.index import Binary, Const, Index

WIDEST = 16
"""Bytes of a thread's widest load or store."""


def multiple_of(position: Index) -> int:
    """A number that divides the position, whatever its variables are; 0 of 0."""
    if isinstance(position, Const):
        return abs(position.value)
    if isinstance(position, Binary):
        left, right = multiple_of(position.left), multiple_of(position.right)
        if position.op == "*":
            return left * right
        if position.op in ("+", "-", "min", "max", "%"):
            return math.gcd(left, right)
        if position.op == "//" and isinstance(position.right, Const) and left % right == 0:
            return left // right
    return 1


def runs(position: Index, count: int, itemsize: int) -> list[tuple[int, int]]:
    """``count`` elements from ``position`` on as (first, length) of aligned vectors."""
    most = max(1, WIDEST // itemsize)
    result, first, base = [], 0, multiple_of(position)
    while first < count:
        length = most
        while length > count - first or math.gcd(base, first) % length:
            length //= 2
        result.append((first, length))
        first += length
    return result


def halved(position: Index) -> Index:
    """Half of an even position."""
    if isinstance(position, Const):
        return Const(position.value // 2)
    if isinstance(position, Binary):
        left, right = position.left, position.right
        sides = [multiple_of(each) % 2 == 0 for each in (left, right)]
        if position.op in ("+", "-") and all(sides):
            return Binary(position.op, halved(left), halved(right))
        if position.op == "*" and sides[1]:
            return left * halved(right)
        if position.op == "*" and sides[0]:
            return halved(left) * right
    return position // 2


def is_next(first: Index, other: Index, count: int) -> bool:
    """Whether ``other`` is ``count`` elements behind ``first``."""
    return first + count == other
