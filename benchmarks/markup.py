"""Pieces of a page: text made harmless, sections, tables, and lists of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from shiftedge.benchmarks.lenient import number, text

__all__ = ["CSS", "bullets", "cell", "escaped", "facts", "missing", "section", "table"]

ABSENT = "–"
LONGEST_LIST = 40
DEEPEST = 6

CSS = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1b1b;--quiet:#595959;--grid:#c9c9c9;
--s0:#0072b2;--s1:#d55e00;--s2:#00805d;--s3:#b85c93;--s4:#a87900;--s5:#3b97d3;--s6:#6b6b6b}
@media screen and (prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#e8e8e8;--quiet:#a8a8a8;
--grid:#4a4d52;--s0:#4da6e0;--s1:#ff8a4c;--s2:#2cc79a;--s3:#e59bc6;--s4:#e8b53c;--s5:#9bd3f5;
--s6:#b0b0b0}}
body{margin:0 auto;padding:1rem;max-width:64rem;background:var(--paper);color:var(--ink);
font:1rem/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.2rem;border-bottom:1px solid var(--grid)}
h3{font-size:1.05rem}
figure{margin:1rem 0}figcaption,.quiet,caption{color:var(--quiet);font-size:.88rem}
caption{text-align:left;caption-side:bottom;padding-top:.3rem}
.wide{overflow-x:auto}.wide svg{display:block;width:100%;min-width:34rem;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}svg text{font-family:system-ui,sans-serif}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;
overflow-wrap:normal}
th,td{padding:.25rem .55rem;border-bottom:1px solid var(--grid);text-align:right;vertical-align:top}
thead th{vertical-align:bottom}.word{text-align:left}tbody th{text-align:left}
.not{color:var(--s1);font-weight:600}
.warning{border-left:.3rem solid var(--s1);padding:.2rem .8rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.4rem 0}
dt{color:var(--quiet)}dd{margin:0}dd ul{margin:0;padding-left:1.1rem}
@media print{body{max-width:none;padding:0;font-size:10pt}table{font-size:6.5pt}
th,td{padding:.1rem .2rem}.wide{overflow:visible}.wide svg{min-width:0}
figure,tr{break-inside:avoid}h2,h3{break-after:avoid}}
"""


def escaped(value: object) -> str:
    """For text and for attributes in double quotes."""
    return escape(text(value), quote=True)


def section(heading: str, parts: Sequence[str]) -> str:
    """``parts`` are markup."""
    return f"<section>\n<h2>{escaped(heading)}</h2>\n{''.join(parts)}</section>\n"


def missing(sentence: str) -> str:
    """What stands where something would."""
    return f'<p class="quiet">{escaped(sentence)}</p>\n'


def bullets(lines: Sequence[str]) -> str:
    """A list of sentences."""
    return f"<ul>\n{''.join(f'<li>{escaped(line)}</li>' for line in lines)}\n</ul>\n"


def facts(value: object, depth: int = 0) -> str:
    """Any JSON value, as lists of terms and what they are."""
    if depth > DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        pairs = "".join(
            f"<dt>{escaped(str(key).replace('_', ' '))}</dt><dd>{facts(one, depth + 1)}</dd>\n"
            for key, one in value.items()
        )
        return f"<dl>\n{pairs}</dl>\n" if pairs else ABSENT
    if isinstance(value, list | tuple):
        shown = value[:LONGEST_LIST]
        rest = f", … ({len(value)} in all)" if len(value) > len(shown) else ""
        if any(isinstance(one, Mapping | list | tuple) for one in shown):
            items = "".join(f"<li>{facts(one, depth + 1)}</li>" for one in shown)
            return f"<ul>{items}</ul>{rest}"
        return ", ".join(facts(one, depth + 1) for one in shown) + rest or ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}" if 10_000 <= abs(value) < 10**30 else escaped(value)
    return escaped(value) or ABSENT


def table(
    name: str,
    caption: str,
    headings: Sequence[tuple[str, bool]],
    rows: Sequence[Sequence[str]],
) -> str:
    """A table that scrolls by itself where the page is narrow.

    Args:
        name: of the region that scrolls.
        caption: stands below.
        headings: text, and whether words stand under it rather than numbers.
        rows: cells of markup; the first one names its row.
    """
    kinds = [' class="word"' if words else "" for _, words in headings]
    head = "".join(
        f'<th scope="col"{kind}>{escaped(heading)}</th>'
        for (heading, _), kind in zip(headings, kinds, strict=True)
    )
    body = ""
    for first, *others in rows:
        cells = "".join(
            f"<td{kind}>{one or ABSENT}</td>" for one, kind in zip(others, kinds[1:], strict=True)
        )
        body += f'<tr><th scope="row">{first or ABSENT}</th>{cells}</tr>\n'
    return (
        f'<div class="wide" role="region" aria-label="{escaped(name)}" tabindex="0"><table>\n'
        f"<caption>{escaped(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def cell(value: object, form: str, scale: float = 1.0) -> str:
    """A number, or nothing where it is none."""
    found = number(value)
    return "" if found is None else format(found * scale, form)
