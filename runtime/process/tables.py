"""Tables of text: plain, and in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Column(NamedTuple):
    """What a table shows of each row, which may be a part of a document."""

    heading: str
    value: str | Callable[[Mapping[str, Any]], Any]
    """Of a row: keys with dots between them, or what makes it; None, also on the way, is an empty
    cell."""
    form: str = ""
    """Of :func:`format`."""
    scale: float = 1.0
    """Of a number."""

    def cell(self, row: Mapping[str, Any]) -> str:
        """Text, empty where there is no value."""
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
    """Headings and rows of cells."""

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
        """The table of columns as data."""
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
        """Of each column, whether it is text."""
        align = self.align.ljust(len(self.headings), self.align[-1])
        return [each == "l" for each in align]


def print_tables(tables: Sequence[Table], notes: Sequence[str]) -> None:
    """On stdout, with the notes below."""
    parts = ["\n".join(table.lines()) for table in tables]
    separator = "\n\n" if len(tables) > 1 else "\n"
    sys.stdout.write(separator.join([*parts, "\n".join(notes)]) + "\n")
