"""Reports on their way out: tables of text, plain and in Markdown; JSON; whole files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.process.files import atomic_path
from shiftedge.runtime.words import json_text


class Column(NamedTuple):
    heading: str
    value: str | Callable[[Mapping[str, Any]], Any]
    """Of a row: keys with dots between them, or what makes it; None, also on the way, is an empty
    cell."""
    form: str = ""
    """Of :func:`format`."""
    scale: float = 1.0
    """Of a number."""

    def cell(self, row: Mapping[str, Any]) -> str:
        if callable(self.value):
            found = self.value(row)
        else:
            found = row
            for key in self.value.split("."):
                found = None if found is None else found[key]
        if found is None:
            return ""
        return format(found if self.scale == 1.0 else found * self.scale, self.form)


@dataclass(frozen=True)
class Table:
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    """``l`` or ``r`` for each column; the last one stands for those that follow."""
    title: str = ""

    @classmethod
    def of(
        cls,
        columns: Sequence[Column],
        rows: Iterable[Mapping[str, Any]],
        align: str,
        title: str = "",
    ) -> Table:
        cells = [[column.cell(row) for column in columns] for row in rows]
        return cls([column.heading for column in columns], cells, align, title)

    def lines(self) -> list[str]:
        """Plain, the title first if there is one."""
        widths = [max(map(len, column)) for column in zip(self.headings, *self.rows, strict=True)]
        lines = [self.title] if self.title else []
        for cells in (self.headings, *self.rows):
            padded = (
                cell.ljust(width) if left else cell.rjust(width)
                for cell, width, left in zip(cells, widths, self.lefts, strict=True)
            )
            lines.append("  ".join(padded).rstrip())
        return lines

    def markdown(self) -> list[str]:
        """Without the title. Columns in which nothing stands are left out."""
        shown = [at for at in range(len(self.headings)) if any(row[at] for row in self.rows)]
        lefts = self.lefts
        rule = ["---" if left else "--:" for left in lefts]
        return [
            f"| {' | '.join(cells[at].replace('|', chr(92) + '|') for at in shown)} |"
            for cells in (self.headings, rule, *self.rows)
        ]

    @property
    def lefts(self) -> list[bool]:
        align = self.align.ljust(len(self.headings), self.align[-1])
        return [each == "l" for each in align]


def print_tables(tables: Sequence[Table], notes: Sequence[str]) -> None:
    parts = ["\n".join(table.lines()) for table in tables]
    separator = "\n\n" if len(tables) > 1 else "\n"
    sys.stdout.write(separator.join([*parts, "\n".join(notes)]) + "\n")


def check_writable(*targets: str | Path | None) -> None:
    """Before minutes of measuring, not after; None and - are no files.

    Raises:
        OutputError: the folder of one does not exist.
    """
    for target in targets:
        if target not in (None, "-") and not Path(target).resolve().parent.is_dir():
            raise OutputError(f"Cannot write {target}: its folder does not exist.")


def write(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def tell(json: str | None, report: Mapping[str, Any], show: Callable[[], None]) -> None:
    """The report as JSON on stdout where ``json`` is -; else to people, and to the file that
    ``json`` names."""
    text = json_text(report, indent=2) + "\n"
    if json == "-":
        sys.stdout.write(text)
        return
    show()
    if json is not None:
        write(json, text)
