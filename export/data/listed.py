"""Clips that lists name: the lists of a folder, their classes, and the files that they mean."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from shiftedge.export.data.files import Clip, Layout, entries, is_video
from shiftedge.export.data.lists import (
    FORMS,
    LIST_SUFFIXES,
    Role,
    Row,
    parse_classes,
    parse_list,
    read_text,
    role_among,
    words_of,
)
from shiftedge.export.data.silent import nearest
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.words import is_text

_PROBED = 20
"""Rows that are tried in each place, to find where a list's clips lie."""
_CLASS_WORDS = {"label", "labels", "labelmap", "class", "classes", "classind", "classnames",
                "category", "categories", "names"}  # fmt: skip
_SUFFIXES = ("", ".mp4", ".webm", ".avi", ".mkv", ".mov")
"""Put behind a name, since some lists leave it out."""
_ARCHIVES = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"})
_OTHER_LISTS = frozenset({".json", ".jsonl", ".ods", ".parquet", ".pkl", ".xls", ".xlsx", ".yaml"})
_NOT_A_TABLE = (
    "not a list that is read here; write its clips as train.csv and val.csv, with a line "
    "`path,label` for each (something-something: the id, and the template without its brackets)."
)
_MOST_PLACES = 64
"""Folders beside a list in which its clips are looked for."""


@dataclass(frozen=True)
class Lists:
    """The files that belong together."""

    learn: Path
    check: Path | None = None
    classes: Path | None = None
    """Names of classes that the lists give by number."""

    @property
    def by_name(self) -> bool:
        """Whether its name says that the list is to train on."""
        return _role(self.learn) == "learn"


def lists_in(folder: Path) -> Lists | None:
    """The lists that a folder holds beside its clips, or None.

    Raises:
        DataError: there are several to learn from.
    """
    files = [path for path in entries(folder) if path.suffix.lower() in LIST_SUFFIXES]
    learn = [path for path in files if _role(path) == "learn" and path.is_file()]
    if len(learn) > 1:
        raise DataError(
            f"{folder} holds {len(learn)} lists of clips to train on ({_names(learn)}); give one "
            "of them as DATA."
        )
    if learn:
        return lists_of(learn[0])
    others = [path for path in files if _role(path) is None and not _names_classes(path)]
    tables = others or [path for path in files if _role(path) is None]
    return lists_of(tables[0]) if len(tables) == 1 else None


def refuse_other_lists(folder: Path) -> None:
    """Raise DataError where a folder has a list to train on that is no table."""
    for path in entries(folder):
        if path.suffix.lower() in _OTHER_LISTS and _role(path) == "learn" and path.is_file():
            raise DataError(f"{path} is {_NOT_A_TABLE}")


def lists_of(path: Path, classes: Path | None = None) -> Lists:
    """A list that somebody named, with the files beside it that go with it.

    Raises:
        DataError: it is no list, or one to test with.
    """
    if path.suffix.lower() not in LIST_SUFFIXES:
        what = "a clip" if is_video(path) else "no list of clips"
        if path.suffix.lower() in _ARCHIVES:
            raise DataError(f"{path} is an archive; unpack it, and give its folder.")
        if path.suffix.lower() in _OTHER_LISTS:
            raise DataError(f"{path} is {_NOT_A_TABLE}")
        raise DataError(
            f"{path} is {what}; expected a folder with one folder of clips for each label, a list "
            f"({', '.join(sorted(LIST_SUFFIXES))}), or synthetic: for rendered clips."
        )
    if _role(path) == "test":
        raise DataError(
            f"{path} is by its name a list of clips to test with; give the one to train on."
        )
    beside = [
        other
        for other in entries(path.parent)
        if other != path and other.suffix.lower() in LIST_SUFFIXES and other.is_file()
    ]
    check = [other for other in beside if _role(other) == "check"] if _role(path) else []
    partner = [other for other in check if _bare(other) == _bare(path)] or check
    if len(partner) > 1:
        raise DataError(
            f"Several lists beside {path} could be those to check with ({_names(partner)}); leave "
            "one there, or put the split into a column of one table: path,label,split."
        )
    if classes is None:
        found = [other for other in beside if _role(other) is None and _names_classes(other)]
        classes = found[0] if len(found) == 1 else None
    return Lists(path, partner[0] if partner else None, classes)


def read_lists(lists: Lists, data: Path) -> Layout:
    """The clips that lists name, each looked for beside its list and in DATA.

    Raises:
        DataError: a line is not understood, a class has no name, a clip has two labels, or not one
            of a list's clips is there.
    """
    learn: list[Clip] = []
    check: list[Clip] = []
    missing: list[Path] = []
    notes: list[str] = []
    rows = [(lists.learn, row) for row in parse_list(read_text(lists.learn), str(lists.learn))]
    if lists.check is not None:
        rows += [(lists.check, row) for row in parse_list(read_text(lists.check), str(lists.check))]
    names = _classes(lists, [row for _, row in rows])
    split = lists.check is not None or any(row.role == "check" for _, row in rows)
    seen: dict[Path, tuple[str, Role]] = {}
    twice = both = 0
    for file in dict.fromkeys(file for file, _ in rows):
        mine = [row for other, row in rows if other == file and row.role != "test"]
        places = _places(file, data, mine)
        there = 0
        for row in mine:
            label = _label(row, names, file, lists)
            path = next(filter(None, (place.find(row.path) for place in places)), None)
            if path is None:
                missing.append(places[0].root / row.path)
                continue
            there += 1
            role: Role = "check" if file == lists.check or row.role == "check" else "learn"
            known = seen.get(path)
            if known is not None and known[0] != label:
                raise DataError(
                    f"Line {row.line} of {file} gives {path} the label {label!r}, and another line "
                    f"{known[0]!r}; expected one for each clip."
                )
            if known is not None:
                twice, both = twice + (known[1] == role), both + (known[1] != role)
                if known[1] == role or role == "learn":
                    continue
                learn = [clip for clip in learn if clip.path != path]
            seen[path] = label, role
            (learn if role == "learn" else check).append(Clip(label, path, row.frames))
        if mine and not there:
            raise _nowhere(file, mine)
        if places[0].dropped:
            away = "/".join(_parts(mine[0].path)[: places[0].dropped])
            slash = "/" if mine[0].path.startswith("/") else ""
            notes.append(
                f"{file} names clips in {slash}{away}, which is not here; they are read from "
                f"{places[0].root}."
            )
    if not learn:
        raise DataError(f"{lists.learn} names no clip to learn from; expected some: {FORMS}.")
    used = {clip.label for clip in (*learn, *check)}
    order = [label_text(name) or name for name in names.values()]
    labels = (*(n for n in order if n in used), *sorted(used - set(order)))
    unused = [name for name in order if name not in used]
    if unused:
        notes.append(
            f"{len(unused)} of the {len(order)} classes have no clips and are left out, such as "
            f"{unused[0]!r}."
        )
    if names and lists.classes is None:
        notes.append(
            "the classes have no names, so the labels are numbers; name them with --labels FILE, "
            "one a line."
        )
    if twice:
        notes.append(f"{twice} clips are listed twice, and taken once.")
    if both:
        notes.append(
            f"{both} clips are listed both to learn from and to check with; they are only checked "
            "with."
        )
    return Layout(tuple(learn), tuple(check) if split else None, labels, (*missing,), (*notes,))


def _role(path: Path) -> Role | None:
    return role_among(words_of(path.stem))


def _names_classes(path: Path) -> bool:
    return bool(_CLASS_WORDS & set(words_of(path.stem)))


def _bare(path: Path) -> list[str]:
    """A list's name without the word that says what it is for."""
    return [word for word in words_of(path.stem) if role_among([word]) is None]


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(path.name for path in paths[:3]) + more


def _classes(lists: Lists, rows: Sequence[Row]) -> dict[int, str]:
    """Names of the classes, where the rows give numbers."""
    if all(row.index is None for row in rows):
        return {}
    if lists.classes is not None:
        return parse_classes(read_text(lists.classes), str(lists.classes))
    return {index: str(index) for index in sorted({r.index for r in rows if r.index is not None})}


def _label(row: Row, names: dict[int, str], file: Path, lists: Lists) -> str:
    if row.index is not None and row.index not in names:
        raise DataError(
            f"Line {row.line} of {file} has class {row.index}, and {lists.classes} names "
            f"{len(names)}, from {min(names)} to {max(names)}; put a name there for each class"
            f"{', of which the first is 0' if min(names) == 0 else ''}."
        )
    label = label_text(names[row.index] if row.index is not None else row.label or "")
    if label is None:
        raise DataError(
            f"Line {row.line} of {file} has a label that is not UTF-8; save the list as UTF-8."
        )
    return label


def label_text(name: str) -> str | None:
    """A label as it goes into a model: letters and their accents as one (macOS keeps them apart);
    None where it is no text."""
    return unicodedata.normalize("NFC", name) if is_text(name) else None


@dataclass(frozen=True)
class _Place:
    """How clips of a list are found."""

    root: Path
    suffix: str = ""
    """Put behind a name."""
    dropped: int = 0
    """Leading parts of a name that are left out: folders of the machine that wrote the list."""

    def find(self, name: str) -> Path | None:
        """The file or folder that a list means, if it is there; lists of Windows have
        backslashes."""
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            if self.dropped:
                spelled = "/".join(_parts(spelled)[self.dropped :])
            path = self.root / (spelled + self.suffix)
            if spelled and os.path.exists(path):  # False as well for a name that is too long
                return path
        return None


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part]


def _places(file: Path, data: Path, rows: Sequence[Row]) -> list[_Place]:
    """Where clips of a list are found, the best first. The list's own folder where none is."""
    parent = file.parent
    roots = [parent, data if data.is_dir() else parent]
    for root in (parent, parent.absolute().parent):
        roots.append(root)
        listable = os.access(root, os.R_OK | os.X_OK)
        children = [path for path in entries(root) if path.is_dir()] if listable else []
        roots += children if len(children) <= _MOST_PLACES else []
    found: list[tuple[int, _Place]] = []
    sample = [row.path for row in rows[:: max(1, len(rows) // _PROBED)]]
    for root in dict.fromkeys(roots):
        for suffix in _SUFFIXES:
            place = _Place(root, suffix)
            hits = len(_hits(place, sample))
            if hits == len(sample):
                return [place]
            if hits:
                found.append((hits, place))
                break
    best = sorted(found, key=lambda item: -item[0])
    # What is missing here may be in other data beside, under the same name.
    near = [place for place in best if place[1].root.is_relative_to(parent)]
    return [place for _, place in near or best[:1]] or _elsewhere(roots, sample) or [_Place(parent)]


def _hits(place: _Place, names: Sequence[str]) -> set[Path]:
    found = (place.find(name) for name in names)
    return {path for path in found if path is not None}


def _elsewhere(roots: Sequence[Path], names: Sequence[str]) -> list[_Place]:
    """Where clips lie that a list names by the folders of another machine, as the official TSM
    code's tools write them (/ssd/video/ucf/rgb/...): as few of these left out as will do."""
    folders = zip(*(_parts(name)[:-1] for name in names), strict=False)
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, folders))
    for dropped in range(1, shared + 1):
        for root in dict.fromkeys(roots):
            for suffix in _SUFFIXES:
                place = _Place(root, suffix, dropped)
                if 2 * len(_hits(place, names)) > len(set(names)):
                    return [place]
    return []


def _nowhere(file: Path, rows: Sequence[Row]) -> DataError:
    first = rows[0].path
    near = nearest(first, [path.name for path in entries(file.parent)][:1000], 1)
    return DataError(
        f"Not one of the {len(rows)} clips that {file} names is there, such as {first!r}; expected "
        f"their paths relative to {file.parent.absolute()}, or to a folder in it or beside it"
        f"{f'; did you mean {near[0]!r}?' if near else '.'}"
    )
