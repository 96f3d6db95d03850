"""A user's own films and what happens in them, as a table: ``file,start,end,label``, in seconds.

A film has a row for each gesture. One in which nothing happens has a single row with its file
alone, so that its false events are counted too.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from shiftedge.export.data.files import is_clip, open_clip
from shiftedge.export.data.lists import read_text
from shiftedge.export.data.reader import on_ticks
from shiftedge.export.score.films import OWN, Image, Opened
from shiftedge.runtime.capture.synthetic.timeline import TrueEvent
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.spec import ModelSpec
from shiftedge.runtime.words import shown

COLUMNS = ("file", "start", "end", "label")
EXPECTED = "a first line `file,start,end,label` and a row for each gesture, times in seconds"
_END_SLACK_S = 0.5
"""A film's last frame is held for a moment, and people round."""


@dataclass(frozen=True)
class LabelledFilm:
    """A recording with the gestures in it."""

    path: Path
    events: tuple[TrueEvent, ...]
    lines: tuple[int, ...]
    """Of the table, of each event."""
    table: str
    """The table's name."""
    kind: str = field(default=OWN, init=False)

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def open(self, spec: ModelSpec) -> Opened:
        """See :meth:`shiftedge.export.score.films.Watchable.open`."""
        return Opened(self._frames(spec), self.events, tuple({} for _ in self.events))

    def _frames(self, spec: ModelSpec) -> Iterator[Image]:
        count = 0
        with closing(open_clip(self.path)) as source:
            for frame in on_ticks(source, spec.frame_rate_hz):
                count += 1
                yield frame.image
        if not count:
            raise DataError(f"{self.path} gives no frames; remove it, or convert it to MP4.")
        seconds = count / spec.frame_rate_hz
        for event, line in zip(self.events, self.lines, strict=True):
            if event.end_s > seconds + _END_SLACK_S:
                raise DataError(
                    f"Line {line} of {self.table} ends at {event.end_s:g} s, and {self.path} is "
                    f"{seconds:.1f} s long; expected times within the film, in seconds from its "
                    "first frame."
                )


def read_table(path: Path) -> list[LabelledFilm]:
    """The films of a table, in the order in which they come up.

    Files are named from the table's folder on. Commas, semicolons or tabs part the columns, which
    may stand in any order; others are passed over.

    Raises:
        DataError: it cannot be read, is no such table, or a row's file is not there, its times are
            none, or it stands there twice.
    """
    rows = _rows(read_text(path), str(path))
    found: dict[str, list[tuple[int, TrueEvent]]] = {}
    files: dict[str, Path] = {}
    for line, row in rows:
        where = f"Line {line} of {path}"
        name = row["file"]
        if not name:
            raise DataError(f"{where} names no file; expected {EXPECTED}.")
        if name not in files:
            files[name] = _film(path.parent / Path(name).expanduser(), where)
        events = found.setdefault(name, [])
        if not (row["start"] or row["end"] or row["label"]):
            continue  # a film in which nothing happens
        event = _event(row, where)
        for other, known in events:
            if known == event:
                raise DataError(f"{where} says what line {other} says; remove one of them.")
        events.append((line, event))
    return [
        LabelledFilm(
            files[name],
            tuple(event for _, event in sorted(events, key=_by_start)),
            tuple(line for line, _ in sorted(events, key=_by_start)),
            str(path),
        )
        for name, events in found.items()
    ]


def check_labels(films: Sequence[LabelledFilm], models: Mapping[str, ModelSpec]) -> None:
    """Refuse labels that none of the models has.

    Args:
        models: name of each for people -> its spec.

    Raises:
        DataError: there is one.
    """
    known = {label: name for name, spec in models.items() for label in spec.labels}
    for film in films:
        for event, line in zip(film.events, film.lines, strict=True):
            if event.label in known:
                continue
            alike = [label for label in known if label.casefold() == event.label.casefold()]
            advice = (
                f"expected {alike[0]!r}: labels are compared letter by letter"
                if alike
                else f"expected some of {', '.join(map(repr, known))}"
            )
            who = f"neither {' nor '.join(models)} has" if len(models) > 1 else "the model has not"
            raise DataError(
                f"Line {line} of {film.table} has the label {shown(event.label)}, which {who}; "
                f"{advice}."
            )


def _by_start(entry: tuple[int, TrueEvent]) -> tuple[float, float, int]:
    return entry[1].start_s, entry[1].end_s, entry[0]


def _rows(text: str, name: str) -> list[tuple[int, dict[str, str]]]:
    """Line and cells of each row below the header."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(";\t,", key=head.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{name} is no table ({error}); expected {EXPECTED}.") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise DataError(f"{name} is empty; expected {EXPECTED}.")
    titles = [cell.lower() for cell in lines[0][1]]
    missing = [column for column in COLUMNS if titles.count(column) != 1]
    if missing:
        raise DataError(
            f"{name} has {titles.count(missing[0]) or 'no'} columns {missing[0]!r} in its first "
            f"line; expected {EXPECTED}."
        )
    if len(lines) == 1:
        raise DataError(f"{name} names no films; expected {EXPECTED}.")
    places = {column: titles.index(column) for column in COLUMNS}
    rows = []
    for number, cells in lines[1:]:
        row = {k: cells[at] if at < len(cells) else "" for k, at in places.items()}
        rows.append((number, row))
    return rows


def _film(path: Path, where: str) -> Path:
    try:
        there, usable = path.exists(), path.exists() and is_clip(path)
    except (OSError, ValueError):
        there = usable = False
    if not there:
        raise DataError(
            f"{where} names {path}, which does not exist; files are named from the table's folder."
        )
    if not usable:
        raise DataError(f"{where} names {path}; expected a video or a folder of pictures.")
    return path


def _event(row: Mapping[str, str], where: str) -> TrueEvent:
    times = []
    for column in ("start", "end"):
        try:
            value = float(row[column])
        except ValueError:
            value = math.nan
        if not 0.0 <= value < math.inf:
            raise DataError(
                f"{where} has {column} = {shown(row[column])}; expected seconds from the film's "
                "first frame on, such as 12.5."
            )
        times.append(value)
    if times[1] <= times[0]:
        raise DataError(
            f"{where} ends at {times[1]:g} s and starts at {times[0]:g} s; expected an end after "
            "the start."
        )
    if not row["label"]:
        raise DataError(f"{where} has times and no label; expected {EXPECTED}.")
    return TrueEvent(row["label"], times[0], times[1])
