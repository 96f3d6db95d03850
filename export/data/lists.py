"""Lists of labelled clips as people have them: tables of many kinds, read row by row; and names of
splits.

Known are ``path label`` tables with commas, semicolons or tabs between (Jester's
``34870;Drumming Fingers``), with or without a header; ``path frames class`` and ``path class`` with
spaces between, as the official TSM code and mmaction2 write them; and files that name the classes.
Nothing is looked up on disk here.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from shiftedge.export.data.files import VIDEO_SUFFIXES
from shiftedge.runtime.errors import DataError

LIST_SUFFIXES = frozenset({".csv", ".list", ".lst", ".tsv", ".txt"})

FORMS = (
    "`path;label`, `path,label` or these with tabs (with or without a header), or `path frames "
    "class` and `path class` with spaces, classes being numbers from 0"
)

# fmt: off
_PATH = {"path", "paths", "file", "files", "filename", "filepath", "video", "videos", "clip",
         "clips", "id", "name"}
_LABEL = {"label", "labels", "class", "category", "gesture", "action", "target", "tag", "classname"}
_NUMBER = {"id", "idx", "index", "number", "num", "no"}
_FRAMES = {"frames", "framecount", "numframes", "nframes", "length"}
_SPLIT = {"split", "subset", "set", "usage", "phase", "fold", "partition"}
"""Words in the names of columns, in lower case."""

Role = Literal["learn", "check", "test"]
"""What clips are for: to learn from, to check with, or left for a test."""

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trainset", "trn", "learn"), "learn"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "valset", "dev", "eval",
                     "evaluation", "check"), "check"),
    **dict.fromkeys(("test", "testing", "testset", "tst"), "test"),
}
_FILLERS = {"set", "data", "dataset", "split", "clips", "videos", "video", "frames", "images",
            "rawframes", "rgb"}
"""Words beside that change nothing, as in ``train_videos``."""
# fmt: on

_THREE = re.compile(r"(.*[^\s,;])[ \t]+([0-9]{1,9})[ \t]+([0-9]{1,9})")
_TWO = re.compile(r"(.*[^\s,;])[ \t]+([0-9]{1,9})")
_WHOLE = re.compile(r"[0-9]{1,9}")
_LARGEST_BYTES = 1 << 28


@dataclass(frozen=True)
class Row:
    """One clip of a list. One of ``label`` and ``index`` is known, or neither in a list to test
    with."""

    line: int
    """Of the file, from 1."""
    path: str
    label: str | None = None
    index: int | None = None
    """Of the class."""
    frames: int | None = None
    """Pictures in the clip's folder."""
    role: Role | None = None
    """What the row is for, where the table has a column that says it."""


def role_of(name: str) -> Role | None:
    """What a folder of that name, or a row with that word, is for; None: it names no split.

    ``train``, ``Validation`` and ``val_videos`` do; ``train whistle`` is somebody's label.
    """
    words = name.replace("-", "_").replace(" ", "_").lower().split("_")
    kept = [word for word in words if word and word not in _FILLERS]
    return _ROLES.get(kept[0]) if len(kept) == 1 else None


def role_among(words: list[str]) -> Role | None:
    """What a list is for whose file's name has these words, such as jester, v1, train."""
    found = [_ROLES[word] for word in words if word in _ROLES]
    joined = [
        role for word in words for start, role in _ROLES.items() if word == f"{start}list"
    ]  # UCF-101's trainlist01.txt
    return next(iter(found + joined), None)


def words_of(name: str) -> list[str]:
    """The words of a file's or column's name in lower case: ``jester-v1-train`` has three."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z]+|[0-9]+", spaced.lower())


def read_text(path: Path) -> str:
    """The text of a list in UTF-8 or, where a mark says so, UTF-16 (Excel's "Unicode text").

    Bytes that are not UTF-8 are kept as Python keeps them in names of files, which they may be.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= _LARGEST_BYTES else b"\0"
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise DataError(f"{path} is no text; expected a list of clips: {FORMS}.")
    return text


def parse_list(text: str, name: str) -> list[Row]:
    """The clips of a list; blank lines and lines that begin with # are passed over.

    Raises:
        DataError: a line names no clip or no label, or the columns are not understood.
    """
    lines = _lines(text)
    if not lines:
        raise DataError(f"{name} names no clips; expected {FORMS}.")
    threes = [(number, _THREE.fullmatch(line)) for number, line in lines]
    if all(found for _, found in threes):
        return [
            Row(number, _unquoted(found[1]), index=int(found[3]), frames=int(found[2]))
            for number, found in threes
            if found
        ]
    separator = _separator([line for _, line in lines])
    if separator is not None:
        return _table(lines, separator, name)
    return [_spaced(number, line, name) for number, line in lines]


def parse_classes(text: str, name: str) -> dict[int, str]:
    """Number -> name of each class, from a file with one name a line, or `number name` lines.

    Raises:
        DataError: it holds none, a name twice, or only some lines have a number.
    """
    lines = _lines(text)
    numbered = [re.fullmatch(r"([0-9]{1,9})[ \t]*[,;:\t ][ \t]*(.*\S)", line) for _, line in lines]
    if lines and all(numbered):
        pairs = [(int(found[1]), _unquoted(found[2])) for found in numbered if found]
    else:
        pairs = list(enumerate(_unquoted(line) for _, line in lines))
    classes = dict(pairs)
    if not classes or len(classes) < len(pairs) or len(set(classes.values())) < len(pairs):
        what = "a class twice" if classes else "no classes"
        raise DataError(f"{name} names {what}; expected one name a line, in the order of classes.")
    return classes


def _lines(text: str) -> list[tuple[int, str]]:
    """Number and text of each line that says something."""
    rows = enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), 1)
    stripped = ((number, line.strip(" \r")) for number, line in rows)
    return [(n, line) for n, line in stripped if line.strip() and not line.startswith("#")]


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def _cells(line: str, separator: str) -> list[str]:
    try:
        (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    except (csv.Error, ValueError):  # a field past csv's limit, or a quote that never ends
        cells = line.split(separator)
    cells = [cell.strip() for cell in cells]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _separator(lines: Sequence[str]) -> str | None:
    """What stands between the columns of most lines, best the same number of times in each."""
    best: tuple[float, str] | None = None
    for separator in (";", "\t", ","):
        counts = [len(_cells(line, separator)) for line in lines]
        several = sum(count > 1 for count in counts)
        if 2 * several > len(lines):
            score = several / len(lines) + (0.5 if len(set(counts)) == 1 else 0.0)
            if best is None or score > best[0]:
                best = score, separator
    return None if best is None else best[1]


def _spaced(number: int, line: str, name: str) -> Row:
    found = _TWO.fullmatch(line)
    if found is not None:
        return Row(number, _unquoted(found[1]), index=int(found[2]))
    words = line.split()
    if len(words) == 2:
        return Row(number, words[0], label=words[1])
    what = "no label" if len(words) == 1 else "several spaces, and which one parts them is not said"
    raise DataError(f"Line {number} of {name} has {what}; expected {FORMS}.")


def _table(lines: list[tuple[int, str]], separator: str, name: str) -> list[Row]:
    rows = [(number, _cells(line, separator)) for number, line in lines]
    columns = _header(rows[0][1])
    if columns is not None:
        rows = rows[1:]
        if not rows:
            raise DataError(f"{name} has a header and no clips; expected {FORMS}.")
    else:
        columns = _guessed(rows, name)
    made = [
        _row(number, {k: cells[at] for k, at in columns.items() if at < len(cells)}, name)
        for number, cells in rows
    ]
    if not any(row.label and not _WHOLE.fullmatch(row.label) for row in made):
        # Numbers of classes, whatever the column is called.
        made = [
            replace(row, label=None, index=int(row.label)) if row.label else row for row in made
        ]
    return made


def _row(number: int, cells: Mapping[str, str], name: str) -> Row:
    path, label, index, frames = (cells.get(k, "") for k in ("path", "label", "index", "frames"))
    role = role_of(cells.get("split", ""))
    if not path:
        raise DataError(f"Line {number} of {name} names no clip; expected {FORMS}.")
    if not label and not _WHOLE.fullmatch(index) and role != "test":
        given = f"the class {index!r}" if index else "no label"
        raise DataError(f"Line {number} of {name} has {given}; expected {FORMS}.")
    return Row(
        number,
        path,
        label or None,
        int(index) if not label and _WHOLE.fullmatch(index) else None,
        int(frames) if _WHOLE.fullmatch(frames) and int(frames) else None,
        role,
    )


def _header(cells: list[str]) -> dict[str, int] | None:
    """Which column holds what, if this row names them: a path, and a label or its number."""
    columns: dict[str, int] = {}
    if not all(re.fullmatch(r"[A-Za-z_ #-]*", cell) for cell in cells):
        return None
    for place, cell in enumerate(cells):
        words = set(words_of(cell))
        if words & _LABEL:
            kind = "index" if words & _NUMBER else "label"
        elif words & _FRAMES or "".join(words_of(cell)) in _FRAMES:
            kind = "frames"
        elif words & _SPLIT:
            kind = "split"
        elif words & _PATH:
            kind = "path"
        else:
            continue
        columns.setdefault(kind, place)
    return columns if "path" in columns and {"label", "index"} & columns.keys() else None


def _guessed(rows: list[tuple[int, list[str]]], name: str) -> dict[str, int]:
    """Columns of a table without a header."""
    width = max(len(cells) for _, cells in rows)
    if width == 2:
        videos = [
            all(os.path.splitext(c[i])[1].lower() in VIDEO_SUFFIXES for _, c in rows if len(c) == 2)
            for i in (0, 1)
        ]
        return {"path": 1, "label": 0} if videos == [False, True] else {"path": 0, "label": 1}
    if width == 3:
        second, third = ([c[i] for _, c in rows if len(c) == 3] for i in (1, 2))
        whole = [all(_WHOLE.fullmatch(cell) for cell in column) for column in (second, third)]
        if all(whole):
            return {"path": 0, "frames": 1, "index": 2}
        if whole[1]:
            return {"path": 0, "label": 1, "index": 2}
        if all(role_of(cell) is not None for cell in third):
            return {"path": 0, "label": 1, "split": 2}
    raise DataError(
        f"{name} has {width} columns and no header that says which is which; put a first line such "
        "as `path,label` above them."
    )
