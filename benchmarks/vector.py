"""A plot as an ``svg`` element that stands inside a page.

Colours become variables of the page's style sheet, so that a plot follows light and dark; text
stays text, in the page's font.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from shiftedge.benchmarks.lenient import text
from shiftedge.benchmarks.plots import COLOURS

__all__ = ["to_svg"]


def to_svg(figure: Figure, name: str, description: str) -> str:
    """An ``svg`` element for a page, under ``plots.style``.

    Args:
        figure: any.
        name: an identifier that no other plot of the page has.
        description: what somebody hears who does not see it.
    """
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    # By the canvas itself: savefig would lay it all out twice.
    canvas.print_svg(buffer, metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())
    used = {match for node in root.iter() for match in _references(node)}
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        node.tail = None
        for child in [*node]:
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                node.remove(child)
        attributes = {key.rpartition("}")[2]: value for key, value in node.attrib.items()}
        node.attrib.clear()
        for key, value in attributes.items():
            if key == "id":
                if value in used:
                    node.set("id", f"{name}-{value}")
            elif key == "href":
                node.set(key, f"#{name}-{value[1:]}")
            else:
                node.set(key, _rewritten(key, value, name))
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": text(description)})
    return ET.tostring(root, encoding="unicode")


def _references(node: ET.Element) -> Iterator[str]:
    for key, value in node.attrib.items():
        if key.endswith("href"):
            yield value[1:]
        yield from re.findall(r"url\(#([^)]*)\)", value)


def _rewritten(key: str, value: str, name: str) -> str:
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    if key in ("d", "x", "y", "transform"):  # a hundredth of a point is seen by nobody
        return re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s*\n\s*", "", value).strip())
    if key in ("style", "fill", "stroke"):
        value = re.sub(r"font-family: [^;]*(; )?", "", value)
        for colour, variable in COLOURS.items():
            value = value.replace(colour, f"var(--{variable})")
    return value
