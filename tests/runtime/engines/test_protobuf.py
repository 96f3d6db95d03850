"""Protobuf's wire form: what is written is read, and what is cut short is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime.engines.protobuf import field, fields, spans, varint, varint_of

FIELDS = st.lists(
    st.tuples(st.integers(1, (1 << 29) - 1), st.one_of(st.integers(0, (1 << 63) - 1), st.binary())),
    max_size=8,
)


@given(st.integers(0, (1 << 64) - 1))
def test_a_number_is_read_as_it_was_written(value: int) -> None:
    data = varint_of(value)
    assert varint(memoryview(data), 0) == (value, len(data))


@given(FIELDS)
def test_a_message_is_its_fields(content: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(field(number, value) for number, value in content)
    found = [
        (number, value if isinstance(value, int) else bytes(value))
        for number, value in fields(memoryview(data))
    ]
    assert found == content
    assert b"".join(span for *_, span in spans(memoryview(data))) == data


@given(st.binary(min_size=1), st.data())
def test_a_message_that_is_cut_short_is_refused(content: bytes, data: st.DataObject) -> None:
    whole = field(3, content)
    end = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises((IndexError, ValueError)):
        list(fields(memoryview(whole[:end])))
