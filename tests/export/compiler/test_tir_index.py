"""Index expressions: folding keeps the value, printing can be read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var, index, maximum, minimum

NAMES = [Var("a"), Var("b"), Var("c")]


def _combine(children):
    numbers = st.integers(1, 20)
    return st.one_of(
        st.tuples(children, children).map(lambda pair: pair[0] + pair[1]),
        st.tuples(children, numbers).map(lambda pair: pair[0] * pair[1]),
        st.tuples(children, numbers).map(lambda pair: pair[1] + pair[0]),
        st.tuples(children, numbers).map(lambda pair: pair[0] // pair[1]),
        st.tuples(children, numbers).map(lambda pair: pair[0] % pair[1]),
        st.tuples(children, children).map(lambda pair: minimum(*pair)),
        st.tuples(children, children).map(lambda pair: maximum(*pair)),
    )


EXPRESSIONS = st.recursive(
    st.one_of(st.sampled_from(NAMES), st.integers(0, 50).map(Const)), _combine, max_leaves=12
)
VALUES = st.tuples(*[st.integers(0, 30)] * 3)


@given(EXPRESSIONS, VALUES)
def test_text_and_tree_and_numbers_agree(expression: Index, values) -> None:
    env = dict(zip(NAMES, values, strict=True))
    expected = expression.evaluate(env)
    names = {name.name: value for name, value in env.items()}
    assert eval(str(expression), {"min": min, "max": max}, names) == expected  # noqa: S307
    assert expression.replace(env) == Const(expected)


def test_what_is_constant_moves_outwards_and_folds():
    tile, k = Var("tile"), Var("k")
    assert str((tile * 14 + 3) * 64 + k) == "tile*14*64 + k + 192"
    assert str((tile * 14 + 9) // 7) == "tile*2 + 1"
    assert str((tile * 14 + 9) % 7) == "2"
    assert tile * 1 + 0 == tile
    assert tile * 0 == Const(0)
    assert str(tile - (k - 1)) == "tile - (k - 1)"


def test_conditions_are_numbers():
    a = Var("a")
    assert a.below(3).evaluate({a: 2}) == 1
    assert a.equals(3).evaluate({a: 2}) == 0
    assert index(5) == Const(5)
    with pytest.raises(KeyError):
        a.evaluate({})
