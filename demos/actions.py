"""From the settings of a file to the sources and sinks of a show."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shiftedge.demos.settings import Place, RunSettings, address, nearest
from shiftedge.demos.show import Watched
from shiftedge.demos.sinks import Sink
from shiftedge.demos.sinks.actions import Command, Rule, Webhook
from shiftedge.demos.sinks.keys import Keys, key_codes
from shiftedge.demos.sinks.lines import JsonLines
from shiftedge.demos.sinks.metrics import Metrics
from shiftedge.demos.sinks.mqtt import PORT, TLS_PORT, Broker, Mqtt
from shiftedge.demos.sinks.web.server import Certificate
from shiftedge.demos.sinks.web.sink import DEFAULT_ADDRESS, WebSink
from shiftedge.runtime.capture.source import parse_source, with_settings
from shiftedge.runtime.errors import SourceError
from shiftedge.runtime.spec import ModelSpec
from shiftedge.runtime.words import say

EVERY = "*"
"""Every gesture."""
FILES = "password_file", "ca_file", "cert", "key"
"""Keys whose values are files."""


def sources_of(settings: RunSettings) -> list[Watched]:
    """The sources of a file.

    Raises:
        SettingError: one is none, or two cameras have one name.
    """
    found: list[Watched] = []
    for index, table in enumerate(settings.tables("source")):
        chosen = {name: table.get(name) for name in ("size", "fps", "fourcc")}
        try:
            text = with_settings(table["from"], **chosen)
            parse_source(text)
        except SourceError as error:
            settings.refuse(("source", index, "from"), str(error).rstrip("."))
        camera = Watched(text, table.get("name"), table.get("retry"))
        if camera.camera in [each.camera for each in found]:
            settings.refuse(
                ("source", index), f"two cameras are called {camera.camera}; give each a name"
            )
        found.append(camera)
    return found


def sinks_of(
    settings: RunSettings,
    spec: ModelSpec,
    cameras: Sequence[str],
    held: Mapping[str, Sink] | None = None,
) -> dict[str, Sink]:
    """All that the settings want beside JSON lines, checked against the model and the cameras; each
    under a text that changes with whatever is said of it.

    Args:
        held: of settings that were read before; a sink under the same text is taken from there.

    Raises:
        SettingError: a label that the model has not, an unknown camera or key, a program that is
            not there.
        MissingExtraError: a package that one of them needs is not installed.
    """
    held = held or {}
    found: dict[str, Sink] = {}
    made: list[Sink] = []
    try:
        for (section, table), make in _makers(settings, spec, cameras):
            key = _key(settings, section, table)
            key += f" {sum(each.startswith(key) for each in found)}"  # two may be the same
            sink = held.get(key)
            if sink is None:
                made.append(sink := make())
            found[key] = sink
    except BaseException:
        for sink in made:
            sink.close()
        raise
    return found


def _makers(
    settings: RunSettings, spec: ModelSpec, cameras: Sequence[str]
) -> Iterator[tuple[tuple[str, Mapping[str, Any]], Callable[[], Sink]]]:
    for index, table in enumerate(settings.tables("action")):
        place: Place = ("action", index)
        rule = Rule(
            _labels(settings, (*place, "on"), table["on"], spec),
            _cameras(settings, (*place, "camera"), table.get("camera"), cameras),
            table.get("confidence", 0.0),
            table.get("pause_s", 0.0),
        )
        make = next(MAKERS[name] for name in MAKERS if name in table)
        yield ("action", table), functools.partial(make, settings, place, table, rule)
    if (mqtt := settings.table("mqtt")) is not None:
        yield ("mqtt", mqtt), lambda: Mqtt(_broker(settings, mqtt))
    if (metrics := settings.table("metrics")) is not None:
        yield ("metrics", metrics), lambda: Metrics(metrics.get("listen", ("127.0.0.1", 9464)))
    if (web := settings.table("web")) is not None:
        where = web.get("listen", DEFAULT_ADDRESS)
        yield ("web", web), lambda: WebSink(where, say, _certificate(settings, web))


def _key(settings: RunSettings, section: str, table: Mapping[str, Any]) -> str:
    """With what the files hold that a table names, since a certificate is renewed in its place."""
    files = []
    for name in FILES:
        if name in table:
            with contextlib.suppress(OSError):  # the sink complains of it
                content = settings.beside(table[name]).read_bytes()
                files.append(hashlib.sha256(content).hexdigest())
    return f"{section} {sorted(table.items())} {files}"


def json_lines(settings: RunSettings, *, steps: bool) -> JsonLines | None:
    """Lines on standard output, unless the settings want none."""
    table = settings.table("lines") or {}
    if not table.get("print", True):
        return None
    named = any("name" in each for each in settings.tables("source"))
    return JsonLines(steps=steps or table.get("steps", False), camera=named or None)


def _labels(
    settings: RunSettings, place: Place, given: Sequence[str], spec: ModelSpec
) -> frozenset[str] | None:
    gestures = [label for label in spec.labels if label not in spec.silent_labels]
    for label in given:
        if label in spec.silent_labels:
            settings.refuse(place, f"{label!r} is a label that never becomes an event")
        if label != EVERY and label not in gestures:
            close = nearest(label, gestures)
            meant = f"did you mean {close!r}? " if close else ""
            settings.refuse(
                place,
                f"the model {spec.name} has no gesture {label!r}; {meant}It has: "
                f"{', '.join(gestures)}",
            )
    return None if EVERY in given else frozenset(given)


def _cameras(
    settings: RunSettings, place: Place, given: Sequence[str] | None, known: Sequence[str]
) -> frozenset[str] | None:
    for name in given or ():
        if name not in known:
            settings.refuse(place, f"there is no camera {name!r}; there are {', '.join(known)}")
    return frozenset(given) if given else None


def _keys(settings: RunSettings, place: Place, table: Mapping[str, Any], rule: Rule) -> Sink:
    try:
        chords = [key_codes(text) for text in table["keys"]]
    except ValueError as error:
        settings.refuse((*place, "keys"), str(error))
    return Keys(rule, table["keys"], chords)


def _command(settings: RunSettings, place: Place, table: Mapping[str, Any], rule: Rule) -> Sink:
    program = table["command"][0]
    if not program or shutil.which(program) is None:
        settings.refuse((*place, "command"), f"there is no program {program!r} that could be run")
    return Command(rule, table["command"], table.get("limit_s", 10.0))


def _webhook(settings: RunSettings, place: Place, table: Mapping[str, Any], rule: Rule) -> Sink:
    return Webhook(rule, table["webhook"], table.get("headers"), table.get("retry_s", 60.0))


MAKERS: Mapping[str, Callable[[RunSettings, Place, Mapping[str, Any], Rule], Sink]] = {
    "keys": _keys,
    "command": _command,
    "webhook": _webhook,
}


def _certificate(settings: RunSettings, table: Mapping[str, Any]) -> Certificate | None:
    if "cert" not in table:
        if "key" in table:
            settings.refuse(("web", "key"), "there is a key and no cert")
        return None
    key = settings.beside(table["key"]) if "key" in table else None
    return Certificate(settings.beside(table["cert"]), key)


def _broker(settings: RunSettings, table: Mapping[str, Any]) -> Broker:
    tls = table.get("tls", False) or "ca_file" in table
    try:
        host, port = address(TLS_PORT if tls else PORT)(table["broker"])
    except ValueError as error:
        settings.refuse(("mqtt", "broker"), f"broker is {table['broker']!r}; expected {error}")
    password = None
    if "password_file" in table:
        if "user" not in table:
            settings.refuse(("mqtt", "password_file"), "there is a password and no user")
        try:
            lines = settings.beside(table["password_file"]).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            settings.refuse(("mqtt", "password_file"), f"the file cannot be read ({reason})")
        password = lines[0] if lines else ""
    return Broker(
        host=host,
        port=port,
        user=table.get("user"),
        password=password,
        tls=tls,
        ca_file=settings.beside(table["ca_file"]) if "ca_file" in table else None,
        topic=table.get("topic", Broker.topic),
        discovery=table.get("discovery_prefix", Broker.discovery)
        if table.get("discovery", True)
        else None,
    )
