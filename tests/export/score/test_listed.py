"""A user's table of films: what is read, and what is refused with which sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.streamed import SPEC

from shiftedge.export.score.listed import check_labels, read_table
from shiftedge.runtime.errors import DataError, ShiftedgeError

HEAD = "file,start,end,label\n"


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a table beside two films."""
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no film")

    def write(text: str) -> Path:
        path = tmp_path / "films.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_rows_of_a_film_are_its_events_in_order(table: Callable[[str], Path]) -> None:
    path = table(HEAD + "a.mp4,20,20.5,Swiping Right\nb.mp4,,,\na.mp4,1.5,2.25,Swiping Left\n\n")
    first, second = read_table(path)
    assert first.path == path.parent / "a.mp4"
    assert [(event.label, event.start_s, event.end_s) for event in first.events] == [
        ("Swiping Left", 1.5, 2.25),
        ("Swiping Right", 20.0, 20.5),
    ]
    assert first.lines == (4, 2)
    assert second.events == ()


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_columns_stand_in_any_order_and_others_are_passed_over(
    table: Callable[[str], Path], separator: str
) -> None:
    rows = ["Label,who,End,Start,File", '"Swiping Left",me,2,1,"a.mp4"']
    (film,) = read_table(table("\ufeff" + "\r\n".join(rows).replace(",", separator)))
    assert [event.end_s for event in film.events] == [2.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("file,start,end,label\n", "names no films"),
        ("file,start,label\na.mp4,1,x\n", "no columns 'end'"),
        ("file,start,end,label,file\na.mp4,1,2,x,b.mp4\n", "2 columns 'file'"),
        (HEAD + ",1,2,Swiping Left\n", "Line 2 of .* names no file"),
        (HEAD + "c.mp4,1,2,Swiping Left\n", "c.mp4, which does not exist"),
        (HEAD + "notes.txt,1,2,Swiping Left\n", "expected a video or a folder"),
        (HEAD + "a.mp4,one,2,Swiping Left\n", "Line 2 of .* has start = 'one'"),
        (HEAD + "a.mp4,1,,Swiping Left\n", "has end = ''"),
        (HEAD + "a.mp4,-1,2,Swiping Left\n", "has start = '-1'"),
        (HEAD + "a.mp4,1,nan,Swiping Left\n", "has end = 'nan'"),
        (HEAD + "a.mp4,2,2,Swiping Left\n", "an end after the start"),
        (HEAD + "a.mp4,1,2,\n", "times and no label"),
        (HEAD + "a.mp4,1,2,Swiping Left\na.mp4,1,2.0,Swiping Left\n", "Line 3 .* what line 2 says"),
        (HEAD + 'a.mp4,1,2,"Swiping Left\n', "is no table"),
        ("\0" * 20, "is no text"),
    ],
)
def test_what_is_no_table_is_refused(
    table: Callable[[str], Path], text: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_table(table(text))


def test_a_label_that_no_model_has_is_refused(table: Callable[[str], Path]) -> None:
    films = read_table(table(HEAD + "a.mp4,1,2,swiping left\n"))
    with pytest.raises(DataError, match=r"Line 2 .*'swiping left'.*expected 'Swiping Left'"):
        check_labels(films, {"m": SPEC})
    films = read_table(table(HEAD + "a.mp4,1,2,Nodding\n"))
    with pytest.raises(DataError, match=r"neither one nor two has; expected some of 'No gesture'"):
        check_labels(films, {"one": SPEC, "two": SPEC})
    check_labels(read_table(table(HEAD + "a.mp4,1,2,No gesture\n")), {"m": SPEC})


@given(text=st.text(alphabet='file,startendlabel;\t"\n\r 01.2-é', max_size=120))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "films.csv"
    path.write_text(HEAD + text if len(text) % 2 else text, encoding="utf-8", newline="")
    try:
        films = read_table(path)
    except ShiftedgeError:
        return
    assert all(event.end_s > event.start_s >= 0.0 for film in films for event in film.events)
