"""Pages: one HTML file each, tables and plots in it, no network and no scripts, light and dark.

A page is a template that extends ``base.html.j2``, whose macros make tables, lists of facts and
figures. All text in it is foreign: the templates escape names, reasons and versions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shiftedge.export.pages import charts
from shiftedge.runtime.process.extras import require

UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What HTML and XML may not hold."""
TEMPLATE = "page.html.j2"
"""Of each package that makes a page."""


def render(package: str, **values: Any) -> str:
    """The whole page.

    Args:
        package: whose :data:`TEMPLATE` it is, such as "shiftedge.benchmarks".
        values: that the template names.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja2 = require("jinja2")
    places = [jinja2.PackageLoader(each, "") for each in (package, "shiftedge.export.pages")]
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.ChoiceLoader(places),
    )
    environment.filters["fact"] = _fact
    made: str = environment.get_template(TEMPLATE).render(**values)
    return made.lstrip()


def printable(value: Any) -> Any:
    """The document without characters that a page may not hold."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {printable(key): printable(one) for key, one in value.items()}
    return [printable(one) for one in value] if isinstance(value, list | tuple) else value


def _fact(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def plotted(heading: str, name: str, figure: Any, told: str, caption: str) -> dict[str, Any]:
    """A part of a section: a plot. ``told`` says what is drawn to those who do not see it, with the
    heading and the caption."""
    what = f"{told}, {heading}" if heading else told
    svg = charts.to_svg(figure, name, f"{what}. {caption}")
    return {"heading": heading, "svg": svg, "caption": caption}


def missing(caption: str, heading: str = "") -> dict[str, Any]:
    """The same where there is nothing to draw."""
    return {"heading": heading, "svg": "", "caption": caption}
