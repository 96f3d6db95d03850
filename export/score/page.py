"""The document as one HTML file, see :mod:`shiftedge.export.pages.render`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftedge.export.pages import charts
from shiftedge.export.pages.render import missing, plotted, printable, render
from shiftedge.export.score import plots, text
from shiftedge.export.score.report import SCHEMA
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.files import atomic_path


def page(document: Mapping[str, Any]) -> str:
    """The whole file.

    Args:
        document: what :func:`shiftedge.export.score.report.document` gave, or its JSON.

    Raises:
        ShiftedgeError: of another schema.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    if document.get("schema") != SCHEMA:
        raise ShiftedgeError(
            f"The score's schema is {document.get('schema')}; expected {SCHEMA}. Make the page "
            "with the version of shiftedge that scored."
        )
    found: dict[str, Any] = printable(document)
    models, at = found["models"], found["at"]
    with charts.style():
        sections = {
            "curve": [_curve(found)],
            "labels": [_labels(model, place, at) for place, model in enumerate(models)],
            "conditions": [_conditions(found)],
            "clips": [_clips(model, place) for place, model in enumerate(models)],
        }
    return render(
        "shiftedge.export.score",
        title=" against ".join(f"{model['name']}" for model in models) + ": events on streams",
        report=found,
        notes=text.about(found),
        curve_table=text.curve_table(found, tuple(p["false_per_hour"] for p in models[0]["curve"])),
        points=[text.point_table(model, at) for model in models],
        targets=[text.target_table(model, at) for model in models if model["targets"]],
        difference=text.difference_table(found) if found["difference"] else None,
        **sections,
    )


def write_page(path: str | Path, document: Mapping[str, Any]) -> None:
    """The page as a file, whole or not at all.

    Raises:
        ShiftedgeError, MissingExtraError: as :func:`page` does.
        OutputError: it cannot be written.
    """
    content = page(document)
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _curve(found: Mapping[str, Any]) -> dict[str, Any]:
    models, at = found["models"], found["at"]
    said = "; ".join(
        f"{model['name']} finds {text.share(model['at']['recall'])} at {at:g} false events an hour"
        for model in models
    )
    caption = (
        f"{said}. Further up and further left is better. The bands are 95% intervals; a mark is "
        "what a model does with the settings that it has."
    )
    return plotted("", "curve", plots.curve(models, at), "Recall against false events", caption)


def _labels(model: Mapping[str, Any], place: int, at: float) -> dict[str, Any]:
    rows = [
        (f"{name} ({row['recall']['events']})", [row["recall"]])
        for name, row in model["at"]["labels"].items()
    ]
    caption = (
        f"At {at:g} false events an hour; in brackets how many there were. The table has near and "
        "far by themselves, and each label's own false events."
    )
    name = f"labels-{place}"
    figure = plotted(
        model["name"],
        name,
        plots.shares(rows, [model["name"]]),
        "Share found of each label",
        caption,
    )
    return {**figure, "sentences": [], "table": text.label_table(model, at)}


def _conditions(found: Mapping[str, Any]) -> dict[str, Any]:
    models, at = found["models"], found["at"]
    nothing = {"value": None}
    known = [model["at"]["conditions"] for model in models]
    pairs = dict.fromkeys(
        (name, band) for each in known for name, bands in each.items() for band in bands
    )
    if not pairs:
        return missing("Of a user's films the conditions are not known.")
    rows = [
        (f"{name}: {band}", [each.get(name, {}).get(band, nothing) for each in known])
        for name, band in pairs
    ]
    figure = plotted(
        "",
        "conditions",
        plots.shares(rows, [model["name"] for model in models]),
        "Share found in each band of each condition",
        f"At {at:g} false events an hour. The figures are in the tables.",
    )
    return {**figure, "sentences": [], "table": text.condition_table(models[0], at)}


def _clips(model: Mapping[str, Any], place: int) -> dict[str, Any]:
    if model["clips"] is None:
        return missing("No clips were scored (--clips).", model["name"])
    (said,) = text.clip_lines(model)
    figure = plots.confusion(model["clips"])
    return plotted(model["name"], f"clips-{place}", figure, "What clips are called", f"{said}.")
