"""What others wrote, short and harmless."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.words import json_text, plain, say, shown

OBEYED = {*map(chr, (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)))} | {"\u2066"}


@given(st.text(), st.integers(60, 300))
def test_text_is_one_short_harmless_line(text: str, most: int) -> None:
    words = plain(text, most)
    assert len(words) <= most
    assert not set(words) & OBEYED
    if not set(text) & OBEYED and len(text) <= most and words != text:
        assert len(words) == len(text), "marks of direction become ? too"


@given(st.recursive(st.text() | st.integers() | st.floats(), st.lists) | st.binary())
def test_a_value_is_short_and_harmless(value: Any) -> None:
    words = shown(value)
    assert len(words) <= 200
    assert not set(words) & OBEYED


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("abc", "'abc'"),
        (True, "True"),
        (None, "None"),
        (["a", 2], "['a', 2]"),
        (Path("a/b"), "'a/b'"),
        ("\x1b[2J", r"'\x1b[2J'"),
    ],
)
def test_small_values_are_shown_as_they_are(value: object, words: str) -> None:
    assert shown(value) == words


@pytest.mark.parametrize(
    "value", ["x" * 100_000, ["x" * 1000] * 6, np.zeros(10**6), {1: "y" * 999}]
)
def test_large_values_are_shortened(value: object) -> None:
    assert len(shown(value)) <= 200
    assert "..." in shown(value)


@given(st.text())
def test_json_is_the_same_and_harmless(text: str) -> None:
    line = json_text({"label": text})
    assert json.loads(line) == {"label": text}
    assert not set(line) & OBEYED


def test_every_error_is_harmless_and_keeps_its_end() -> None:
    error = ShiftedgeError(f"The path {'x' * 600_000}\x1b[2J is no file; name another.")
    assert len(str(error)) <= 1500
    assert str(error).startswith("The path xxx")
    assert str(error).endswith("x?[2J is no file; name another.")


def test_lines_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    say("a\nb\x1b")
    assert capsys.readouterr().err == "a\nb?\n"
    out = io.StringIO()
    say("c", out)
    assert out.getvalue() == "c\n"
    monkeypatch.setattr("sys.stderr", None)
    say("for nobody")
