"""Lists of clips: every form in use, and a sentence for whatever is not one."""

from __future__ import annotations

import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.export.data.lists import Row, parse_classes, parse_list, read_text, role_of
from shiftedge.runtime.errors import DataError


def simple(text: str) -> list[tuple[str, str | int | None]]:
    return [
        (row.path, row.label if row.label is not None else row.index)
        for row in parse_list(text, "list.csv")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("34870;Drumming Fingers\n56557;Sliding Two Fingers Down\n",
         [("34870", "Drumming Fingers"), ("56557", "Sliding Two Fingers Down")]),
        ("a.mp4,left\nb/c.mp4,right\n", [("a.mp4", "left"), ("b/c.mp4", "right")]),
        ("a.mp4\tleft\r\nb.mp4\tright\r\n", [("a.mp4", "left"), ("b.mp4", "right")]),
        ("\ufeffpath,label\na.mp4,left\n", [("a.mp4", "left")]),
        ("label;path\nleft;a.mp4\n", [("a.mp4", "left")]),
        ("Filename, Class Name\na.mp4, swipe left\n", [("a.mp4", "swipe left")]),
        ('"my, clips/a.mp4","swipe, ""left"""\n', [("my, clips/a.mp4", 'swipe, "left"')]),
        ("# mine\n\na.mp4,left\n\n", [("a.mp4", "left")]),
        ("20bn-jester-v1/34870 37 1\n20bn-jester-v1/56557 37 10\n",
         [("20bn-jester-v1/34870", 1), ("20bn-jester-v1/56557", 10)]),
        ("my clips/a b 36 4\n", [("my clips/a b", 4)]),
        ("some/a.mp4 0\nsome/b c.mp4 11\n", [("some/a.mp4", 0), ("some/b c.mp4", 11)]),
        ("some/a.mp4 left\nsome/b.mp4 right\n", [("some/a.mp4", "left"), ("some/b.mp4", "right")]),
        ("video_id,label,frames,label_id,shape,format\n1,Stop Sign,37,14,\"(176, 100)\",jpg\n",
         [("1", "Stop Sign")]),
        ("a.mp4,36,4\nb.mp4,36,3\n", [("a.mp4", 4), ("b.mp4", 3)]),
        ("a.mp4;4\n", [("a.mp4", 4)]),
        ("a;x;\nb;y;\n", [("a", "x"), ("b", "y")]),
        ("a.mp4,left", [("a.mp4", "left")]),
        ("left,a.mp4\nright,b.webm\n", [("a.mp4", "left"), ("b.webm", "right")]),
        ("a.mp4,left\rb.mp4,right\r", [("a.mp4", "left"), ("b.mp4", "right")]),
    ],
)  # fmt: skip
def test_forms_in_use(text: str, expected: list[tuple[str, str | int]]) -> None:
    assert simple(text) == expected


def test_columns_say_frames_and_split() -> None:
    rows = parse_list("clip,gesture,subset\na,x,train\nb,y,Validation\nc,x,test\n", "l")
    assert [row.role for row in rows] == ["learn", "check", "test"]
    assert parse_list("a,x,train\nb,y,val\n", "l")[1].role == "check"
    (row,) = parse_list("a/b 36 4\n", "l")
    assert row == Row(1, "a/b", index=4, frames=36)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "list.csv names no clips; expected"),
        ("# nothing\n \n", "names no clips"),
        ("a.mp4\nb.mp4\n", "Line 1 of list.csv has no label; expected"),
        ("a.mp4,left\nb.mp4\nc.mp4,left\n", "Line 2 of list.csv has no label"),
        ("a.mp4,left\n,left\n", "Line 2 of list.csv names no clip"),
        ("path,label\n", "has a header and no clips"),
        ("path,class_id\na.mp4,first\n", "Line 2 of list.csv has the class 'first'"),
        ("a,b,c,d\n", "has 4 columns and no header"),
        ("a.mp4 swipe left\nb.mp4 swipe right\n", "Line 1 of list.csv has several spaces"),
    ],
)
def test_what_is_no_list(text: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_list(text, "list.csv")
    assert sentence in str(caught.value)


def test_classes() -> None:
    assert parse_classes("Swiping Left\nSwiping Right\n\n", "c") == {
        0: "Swiping Left", 1: "Swiping Right",
    }  # fmt: skip
    assert parse_classes("1 ApplyEyeMakeup\n2 Archery\n", "c") == {
        1: "ApplyEyeMakeup",
        2: "Archery",
    }
    assert parse_classes("0,left\n1,right\n", "c") == {0: "left", 1: "right"}
    for text in ("", "left\nleft\n", "1 a\n1 b\n"):
        with pytest.raises(DataError):
            parse_classes(text, "c")


def test_text_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes("a.mp4,вправо\n".encode("utf-16"))
    assert simple(read_text(path)) == [("a.mp4", "вправо")]
    path.write_bytes(b"v\xe9.mp4,left\n")
    assert simple(read_text(path)) == [("v\udce9.mp4", "left")]
    path.write_bytes(b"\x89PNG\0\0")
    with pytest.raises(DataError, match="is no text"):
        read_text(path)
    with pytest.raises(DataError, match="Cannot read"):
        read_text(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("name", "role"),
    [("train", "learn"), ("Train", "learn"), ("val_videos", "check"), ("validation", "check"),
     ("test-set", "test"), ("train whistle", None), ("left", None), ("", None)],
)  # fmt: skip
def test_names_of_splits(name: str, role: str | None) -> None:
    assert role_of(name) == role


NAMES = st.text(string.ascii_letters + string.digits + "_-./éж", min_size=1, max_size=20).filter(
    lambda name: not name.startswith("#") and name.strip() == name
)
LABELS = st.text(string.ascii_letters + "éж ", min_size=2, max_size=20).filter(
    lambda name: name.strip() == name and not role_of(name)
)


@given(
    rows=st.lists(st.tuples(NAMES, LABELS), min_size=1, max_size=12),
    separator=st.sampled_from([",", ";", "\t"]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    quoted=st.booleans(),
    start=st.sampled_from(["", "\ufeff", "# a comment\n", "\n\n", "path{}label\n"]),
)
@settings(max_examples=300)
def test_what_is_written_is_read(
    rows: list[tuple[str, str]], separator: str, ending: str, quoted: bool, start: str
) -> None:
    mark = '"' if quoted else ""
    lines = [f"{mark}{path}{mark}{separator}{mark}{label}{mark}" for path, label in rows]
    text = start.format(separator).replace("\n", ending) + ending.join(lines)
    if "path" not in start and {"path", "label"} <= {word for row in rows[:1] for word in row}:
        return
    read = [(row.path, row.label) for row in parse_list(text, "l")]
    if len(read) == len(rows) - 1:  # the first row happens to read like a header
        rows = rows[1:]
    assert read == rows


@given(
    rows=st.lists(
        st.tuples(NAMES, st.integers(1, 500), st.integers(0, 400)), min_size=1, max_size=12
    ),
    three=st.booleans(),
)
@settings(max_examples=200)
def test_lists_with_spaces_are_read(rows: list[tuple[str, int, int]], three: bool) -> None:
    lines = [
        f"{path} {frames} {index}" if three else f"{path} {index}" for path, frames, index in rows
    ]
    read = [(row.path, row.frames, row.index) for row in parse_list("\n".join(lines), "l")]
    assert read == [(path, frames if three else None, index) for path, frames, index in rows]


@given(text=st.text(st.characters(exclude_characters="\0"), max_size=200))
@settings(max_examples=500)
def test_any_text_gives_clips_or_a_sentence(text: str) -> None:
    with contextlib.suppress(DataError):
        assert parse_list(text, "l")
    with contextlib.suppress(DataError):
        assert parse_classes(text, "c")
