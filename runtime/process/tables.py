"""Tables of text: for a terminal, for a pipe, and in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    """``l`` or ``r`` for each column; the last one stands for those that follow."""
    title: str = ""

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
    """On stdout, with the notes below: by rich on a terminal where it is installed, else plain."""
    stdout = sys.stdout
    if stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table as RichTable
        except ImportError:
            pass
        else:
            console = Console(markup=False, highlight=False)
            for table in tables:
                shown = RichTable(title=table.title, title_justify="left")
                for heading, left in zip(table.headings, table.lefts, strict=True):
                    shown.add_column(heading, justify="left" if left else "right")
                for row in table.rows:
                    shown.add_row(*row)
                console.print(shown)
            for note in notes:
                console.print(note)
            return
    parts = ["\n".join(table.lines()) for table in tables]
    separator = "\n\n" if len(tables) > 1 else "\n"
    stdout.write(separator.join([*parts, "\n".join(notes)]) + "\n")


def number(value: float | None, form: str, scale: float = 1.0) -> str:
    """A cell: empty where there is no number."""
    return "" if value is None else format(value * scale, form)
