"""The document as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shiftedge.runtime.process.tables import Table
from shiftedge.runtime.words import plain

SHOWN_BUDGETS = (1, 3, 6, 12, 24, 48, 96, 192)
"""Of the curve, in a table."""
CONFUSIONS = 6
"""Of clips, the most frequent."""

Document = Mapping[str, Any]


def tables(document: Document) -> list[Table]:
    """All of it."""
    models = document["models"]
    found = [curve_table(document)]
    for model in models:
        found += [point_table(model, document["at"]), label_table(model, document["at"])]
        if model["own"]["conditions"]:
            found.append(condition_table(model, document["at"]))
        if model["targets"]:
            found.append(target_table(model, document["at"]))
    if document["difference"] is not None:
        found.append(difference_table(document))
    return found


def notes(document: Document) -> list[str]:
    """Lines below the tables."""
    return [*about(document), *(line for model in document["models"] for line in clip_lines(model))]


def about(document: Document) -> list[str]:
    """What the figures are of, and how to read them."""
    lines = [
        "films: "
        + "; ".join(
            f"{row['films']} {row['kind']}, {row['minutes']:g} min, {row['events']} gestures"
            for row in document["films"]
        )
    ]
    lines.append(
        "In brackets: 95% intervals, films drawn again. A movement whose label a model lacks is "
        "something else to it."
    )
    return lines


def clip_lines(model: Mapping[str, Any]) -> list[str]:
    """How many clips are called by their name, and what others are called, if there are any."""
    clips = model["clips"]
    if clips is None:
        return []
    pairs = [
        (count, truth, called)
        for truth, row in zip(clips["truth"], clips["confusion"], strict=True)
        for called, count in zip(clips["labels"], row, strict=True)
        if count and called != truth and truth in clips["labels"]
    ]
    most = sorted(pairs, reverse=True)[:CONFUSIONS]
    said = "; ".join(f"{plain(truth)} called {plain(called)} {n}" for n, truth, called in most)
    return [
        f"{plain(model['name'])}: {share(clips['accuracy'])} of {clips['accuracy']['events']} "
        f"clips called by their name{f' ({said})' if said else ''}"
    ]


def curve_table(document: Document, budgets: Sequence[int] = SHOWN_BUDGETS) -> Table:
    """Recall at so many false events an hour."""
    models = document["models"]
    rows = []
    for at, point in enumerate(models[0]["curve"]):
        if point["false_per_hour"] in budgets:
            cells = [share(model["curve"][at]) for model in models]
            rows.append([f"{point['false_per_hour']:g}", *cells])
    headings = ["false events an hour", *(plain(model["name"], 40) for model in models)]
    return Table(headings, rows, "r", "Recall at so many false events an hour or fewer")


def point_table(model: Mapping[str, Any], at: float) -> Table:
    """A model's own settings beside the point of its curve."""
    columns = (model["own"], model["at"])
    cells: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("threshold", lambda point: number(point["enter"], ".3f")),
        ("recall", lambda point: share(point["recall"])),
        ("false events an hour", lambda point: rate(point["false_per_hour"])),
        ("  other things, empty rooms", lambda point: rate(point["idle_false_per_hour"])),
        ("  a still person", lambda point: rate(point["still_false_per_hour"])),
        ("seconds to detection, p50", lambda point: seconds(point["delay_s"]["p50"])),
        ("seconds to detection, p90", lambda point: seconds(point["delay_s"]["p90"])),
    ]
    rows = [[name, *(cell(point) for point in columns)] for name, cell in cells]
    headings = ["", "own settings", f"at {at:g} false an hour"]
    return Table(headings, rows, "lr", plain(model["name"]))


def label_table(model: Mapping[str, Any], at: float) -> Table:
    """Each label at the point of the curve."""
    rows = [
        [
            plain(name, 40),
            str(row["recall"]["events"]),
            share(row["recall"]),
            share(row["near"]),
            share(row["far"]),
            number(row["false_per_hour"]["value"], ".1f"),
        ]
        for name, row in model["at"]["labels"].items()
    ]
    title = f"{plain(model['name'])}, recall of each label at {at:g} false events an hour"
    headings = ("label", "events", "recall", "near", "far", "false an hour")
    return Table(headings, rows, "lr", title)


def condition_table(model: Mapping[str, Any], at: float) -> Table:
    """Recall in each band of each condition."""
    own = model["own"]["conditions"]
    rows = [
        [plain(name), plain(band), str(found["events"]), share(own[name][band]), share(found)]
        for name, bands in model["at"]["conditions"].items()
        for band, found in bands.items()
    ]
    headings = ("condition", "", "events", "own settings", f"at {at:g} false an hour")
    return Table(headings, rows, "llr", f"{plain(model['name'])}, recall by condition")


def target_table(model: Mapping[str, Any], at: float) -> Table:
    """What was promised, and whether it is so."""
    rows = []
    for own, point in zip(model["targets"]["own"], model["targets"]["at"], strict=True):
        cells = [cell for each in (own, point) for cell in (_either(each), verdict(each["met"]))]
        rows.append([own["name"], bound(own), *cells])
    headings = ("target", "wanted", "own settings", "", f"at {at:g} false an hour", "")
    return Table(headings, rows, "lrrlrl", f"{plain(model['name'])}, targets")


def difference_table(document: Document) -> Table:
    """The second model less the first."""
    first, second = (plain(model["name"], 40) for model in document["models"])
    found = document["difference"]
    rows = [
        [f"{name.replace('_', ' ')}, {words}", signed(row), row["verdict"]]
        for key, words in (("at", f"at {document['at']:g} false an hour"), ("own", "own settings"))
        for name, row in found[key].items()
    ]
    if found["clips"] is not None:
        rows.append(["clip accuracy", signed(found["clips"]), found["clips"]["verdict"]])
    title = f"{second} less {first}, over the same films, {len(found['labels'])} labels"
    return Table(("", "difference", ""), rows, "lrl", title)


def share(row: Mapping[str, Any]) -> str:
    """A share and its interval."""
    return _with_interval(row, ".3f")


def rate(row: Mapping[str, Any]) -> str:
    """Events an hour and their interval."""
    return _with_interval(row, ".1f")


def seconds(row: Mapping[str, Any]) -> str:
    """Seconds and their interval."""
    return _with_interval(row, ".2f")


def signed(row: Mapping[str, Any]) -> str:
    """A difference and its interval."""
    return _with_interval(row, "+.3f")


def bound(row: Mapping[str, Any]) -> str:
    """What a target asks for."""
    return f"{'at least' if row['at_least'] else 'at most'} {row['bound']:g}"


def verdict(met: bool | None) -> str:
    """In a word."""
    return {True: "met", False: "MISSED", None: "not known"}[met]


def _either(row: Mapping[str, Any]) -> str:
    return rate(row["figure"]) if "hours" in row["figure"] else share(row["figure"])


def _with_interval(row: Mapping[str, Any], form: str) -> str:
    if row["value"] is None:
        return ""
    return f"{row['value']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


def number(value: float | None, form: str) -> str:
    """A cell: empty where there is no number."""
    return "" if value is None else format(value, form)
