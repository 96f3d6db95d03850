"""The memory plan: values that live at the same time never share a byte."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from shiftedge.export.compiler.kernel_ir.layout import ALIGNMENT, Life, MemoryPlan, plan

SPANS = st.tuples(st.integers(1, 5000), st.integers(0, 12), st.integers(0, 6))
LIVES = st.lists(SPANS, max_size=25).map(
    lambda spans: [
        Life(f"v{number}", size, first, first + length)
        for number, (size, first, length) in enumerate(spans)
    ]
)


@given(LIVES)
def test_no_two_that_live_together_overlap(lives: list[Life]) -> None:
    found = plan(lives)
    assert set(found.offsets) == {life.name for life in lives}
    for life in lives:
        assert found.offsets[life.name] % ALIGNMENT == 0
        assert 0 <= found.offsets[life.name] <= found.size_bytes - life.size_bytes
    for one, other in itertools.combinations(lives, 2):
        if one.first <= other.last and other.first <= one.last:
            first, second = found.offsets[one.name], found.offsets[other.name]
            apart = first + one.size_bytes <= second or second + other.size_bytes <= first
            assert apart, (one, other)


@given(LIVES)
def test_the_size_is_between_the_least_and_the_sum(lives: list[Life]) -> None:
    found = plan(lives)
    assert found.size_bytes % ALIGNMENT == 0
    assert found.least_bytes <= found.size_bytes
    assert found.size_bytes <= sum(-(-life.size_bytes // ALIGNMENT) * ALIGNMENT for life in lives)
    alive = [
        sum(life.size_bytes for life in lives if life.first <= number <= life.last)
        for number in range(20)
    ]
    assert max(alive) <= found.size_bytes


@given(LIVES, st.randoms())
def test_the_order_of_the_values_does_not_matter(lives: list[Life], random) -> None:
    mixed = list(lives)
    random.shuffle(mixed)
    assert plan(mixed) == plan(lives)


def test_a_chain_takes_two_places() -> None:
    chain = [Life(f"v{number}", 640, number, number + 1) for number in range(9)]
    found = plan(chain)
    assert found.size_bytes == found.least_bytes == 1280
    assert set(found.offsets.values()) == {0, 640}


def test_nothing_takes_nothing() -> None:
    assert plan([]) == MemoryPlan({}, 0, 0)
