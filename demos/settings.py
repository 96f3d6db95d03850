"""What a run is told by one TOML file: its model, its sources, and what happens on a gesture.

:data:`SCHEMA` is the file's form as data; docs/live.md is made for people from the same words. What
is wrong is told with the line that it stands on.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from shiftedge.runtime.capture.options import four_letters, rate, retry_for, size
from shiftedge.runtime.errors import MissingExtraError, SettingError
from shiftedge.runtime.process.files import expanded
from shiftedge.runtime.words import shown

Place = tuple[str | int, ...]
"""The keys that lead to a value of the file: ``("action", 1, "keys")``."""
LARGEST_BYTES = 1 << 16


def _words(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError('a text in quotes, such as "door"')
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _number(least: float, most: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not least <= value <= most:
            raise ValueError(f"a number from {least:g} to {most:g}")
        return float(value)

    return read


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number from 1")
    return value


def _some(value: Any) -> tuple[str, ...]:
    """One text or a list of them."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError('a text such as "Swiping Left", or a list of such')
    return tuple(map(_words, value))


def _several(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError('a list of texts, such as ["notify-send", "{label}"]')
    return tuple(value)


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError('a table of texts, such as { Authorization = "Bearer ..." }')
    if any(re.search(r"[\r\n]", text) for pair in value.items() for text in pair):
        raise ValueError("texts without line breaks")
    return dict(value)


def _read(read: Callable[[str], Any]) -> Callable[[Any], str]:
    """A value of a source's options, as text; a number may be one."""

    def check(value: Any) -> str:
        text = format(value, "g") if isinstance(value, float) else str(value)
        read(text)
        return text

    return check


def _retry(value: Any) -> Any:
    return retry_for(str(value))


def http_url(value: Any) -> str:
    """An address of the web."""
    text = _words(value)
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\x00-\x1f]", text):
        raise ValueError("a URL such as http://host:8123/api/webhook/door")
    return text


def address(default_port: int) -> Callable[[Any], tuple[str, int]]:
    """A reader of ``"host"``, ``"host:1883"`` or ``"[::1]:1883"``."""

    def read(value: Any) -> tuple[str, int]:
        text = _words(value)
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        whole = host and not re.search(r"[/?#@\s]", text)
        if not host or not whole:
            raise ValueError(f'a host and its port, such as "127.0.0.1:{default_port}"')
        return host, default_port if port is None else port

    return read


def _topic(value: Any) -> str:
    text = _words(value).strip("/")
    if not text or re.search(r"[+#\x00-\x1f]", text):
        raise ValueError('a topic such as "shiftedge/hall", without + and #')
    return text


@dataclass(frozen=True)
class Setting:
    """One key of a table."""

    read: Callable[[Any], Any]
    """Gives the value, or raises ValueError with what was expected."""
    words: str
    """What it is, for docs/live.md."""
    needed: bool = False


@dataclass(frozen=True)
class Section:
    """One kind of table."""

    words: str
    keys: Mapping[str, Setting]
    several: bool = False
    """Whether it is a list of tables: ``[[source]]``."""


SCHEMA: Mapping[str, Section] = {
    "model": Section(
        "What recognises; the command line's words come before these",
        {
            "path": Setting(
                _words, "an .onnx file or a bundle's folder; left out: the bundled model"
            ),
            "engine": Setting(_words, "`native` or `onnxruntime`"),
            "threads": Setting(_whole, "for one step"),
            "precision": Setting(
                _words, "`fp32`, `bf16` or `int8`, of a bundle that holds several"
            ),
            "device": Setting(
                _words, "`cpu`, `cuda` or `auto`, of a bundle that has code for a GPU (`auto`)"
            ),
        },
    ),
    "source": Section(
        "A camera; `--source` on the command line takes the place of all",
        {
            "from": Setting(_words, "what `--source` takes", needed=True),
            "name": Setting(_words, "of the camera, in events; left out: what it is from"),
            "size": Setting(_read(size), 'of a camera\'s frames, such as `"1280x720"`'),
            "fps": Setting(_read(rate), "of a camera"),
            "fourcc": Setting(_read(four_letters), 'a camera\'s pixel format, such as `"MJPG"`'),
            "retry": Setting(_retry, '`"forever"`, or seconds: as `--retry`'),
        },
        several=True,
    ),
    "lines": Section(
        "JSON lines on standard output",
        {
            "print": Setting(_flag, "`false` prints none"),
            "steps": Setting(_flag, "a line for every model step too: as `--steps`"),
        },
    ),
    "action": Section(
        "What happens on a gesture; exactly one of `keys`, `command` and `webhook` in each",
        {
            "on": Setting(
                _some, 'a label, a list of labels, or `"*"` for every gesture', needed=True
            ),
            "camera": Setting(_some, "only of these cameras, by their names"),
            "confidence": Setting(_number(0.0, 1.0), "only from this on"),
            "pause_s": Setting(_number(0.0, 86400.0), "not again for so long"),
            "keys": Setting(
                _some, 'a key such as `"PageDown"` or `"Ctrl+Alt+T"`, or several one after another'
            ),
            "command": Setting(
                _several, "a program and its arguments, run as they are, by no shell"
            ),
            "limit_s": Setting(_number(0.1, 3600.0), "of a command, which is stopped then (10)"),
            "webhook": Setting(http_url, "a URL that is sent the event as JSON, by POST"),
            "headers": Setting(_texts, "of a webhook"),
            "retry_s": Setting(
                _number(0.0, 86400.0), "how long one event's webhook is tried again (60)"
            ),
        },
        several=True,
    ),
    "mqtt": Section(
        "Every event to an MQTT broker",
        {
            "broker": Setting(_words, 'such as `"homeassistant.local"` or `"10.0.0.2:8883"`', True),
            "user": Setting(_words, "for the broker"),
            "password_file": Setting(_words, "whose first line is the password"),
            "tls": Setting(_flag, "`true` speaks TLS; the port is 8883 then, else 1883"),
            "ca_file": Setting(_words, "PEM file of who signs the broker's certificate"),
            "topic": Setting(_topic, "what all topics begin with (`shiftedge`)"),
            "discovery": Setting(_flag, "`false`: Home Assistant is not told of the cameras"),
            "discovery_prefix": Setting(_topic, "Home Assistant's (`homeassistant`)"),
        },
    ),
    "metrics": Section(
        "Figures for Prometheus",
        {"listen": Setting(address(9464), "where `/metrics` is served (`127.0.0.1:9464`)")},
    ),
    "web": Section(
        "A page in the browser, of the first camera",
        {
            "listen": Setting(address(8765), "where it is served (`127.0.0.1:8765`): as `--web`"),
            "cert": Setting(_words, "PEM file of a certificate, for https: as `--cert`"),
            "key": Setting(_words, "its key, where it is not in there: as `--key`"),
        },
    ),
}
DOES = ("keys", "command", "webhook")
ONLY_WITH = {"limit_s": "command", "headers": "webhook", "retry_s": "webhook"}


class RunSettings:
    """A file that fits :data:`SCHEMA`.

    Raises:
        SettingError: it cannot be read, is no TOML, or does not fit; the sentence names the line.
        MissingExtraError: Python 3.10 without tomli.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(str(path))
        self._toml = _toml()
        try:
            with self.path.open("rb") as file:
                raw = file.read(LARGEST_BYTES + 1)
            if len(raw) > LARGEST_BYTES:
                raise SettingError(f"{path} has more than {LARGEST_BYTES:,} bytes; is it the file?")
            self._text = raw.decode("utf-8-sig")
            document = self._toml.loads(self._text)
        except OSError as error:
            raise SettingError(f"Cannot read {path}: {error.strerror or error}.") from error
        except (UnicodeDecodeError, self._toml.TOMLDecodeError, RecursionError) as error:
            raise SettingError(f"{path} is not TOML: {error}.") from error
        self._tables: dict[str, list[dict[str, Any]]] = {}
        for name, value in document.items():
            section = SCHEMA.get(name)
            if section is None:
                self.refuse((name,), f"there is no section {shown(name)}; {_meant(name, SCHEMA)}")
            form = f"[[{name}]]" if section.several else f"[{name}]"
            tables = value if section.several else [value]
            if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
                self.refuse((name,), f"{name} is no table; write {form} and its keys below")
            self._tables[name] = [
                self._table(section, (name, index) if section.several else (name,), table)
                for index, table in enumerate(tables)
            ]
        for index, action in enumerate(self.tables("action")):
            self._check_action(("action", index), action)

    def tables(self, section: str) -> Sequence[Mapping[str, Any]]:
        """The tables of a kind, in order, each key's value as its reader gives it."""
        return self._tables.get(section, [])

    def table(self, section: str) -> Mapping[str, Any] | None:
        """The one table of a kind; None where the file has none."""
        return next(iter(self.tables(section)), None)

    def beside(self, name: str) -> Path:
        """A file that the settings name: relative to their own folder."""
        return self.path.parent / expanded(name)

    def refuse(self, place: Place, words: str) -> NoReturn:
        """Complain of the value at a place.

        Raises:
            SettingError: always.
        """
        raise SettingError(f"{self.path}, line {self.line(place)}: {words}.")

    def line(self, place: Place) -> int:
        """The line, from 1, on which the value at a place, or else the table around it, begins.

        TOML's readers do not tell. But any number of whole lines from the first on are a file of
        their own, unless they end inside a value: the fewest that hold the place end with it.
        """
        lines = self._text.split("\n")
        begins, known = 1, len(place) == 0
        for count in range(1, len(lines) + 1):
            try:
                found: Any = self._toml.loads("\n".join(lines[:count]))
            except self._toml.TOMLDecodeError:
                continue
            try:
                for key in place:
                    found = found[key]
                known = True
                break
            except (KeyError, IndexError, TypeError):
                begins = count + 1
        if not known:
            return self.line(place[:-1])
        # Comments and empty lines before it were files of their own, so it begins right here.
        return begins

    def _table(self, section: Section, place: Place, table: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, value in table.items():
            key = section.keys.get(name)
            if key is None:
                self.refuse(
                    (*place, name),
                    f"there is no key {shown(name)} in {place[0]}; {_meant(name, section.keys)}",
                )
            try:
                found[name] = key.read(value)
            except ValueError as error:
                self.refuse((*place, name), f"{name} is {shown(value)}; expected {error}")
        for name, key in section.keys.items():
            if key.needed and name not in found:
                self.refuse(place, f"{place[0]} has no {name} ({key.words})")
        return found

    def _check_action(self, place: Place, action: Mapping[str, Any]) -> None:
        does = [name for name in DOES if name in action]
        if len(does) != 1:
            what = f"does {len(does)} things ({', '.join(does)})" if does else "does nothing"
            self.refuse(place, f"the action {what}; expected one of {', '.join(DOES)}")
        for name, of in ONLY_WITH.items():
            if name in action and of not in action:
                self.refuse((*place, name), f"{name} is for a {of}")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What was probably meant, whatever its case."""
    of = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(word.casefold(), of, 1)
    return of[close[0]] if close else None


def _meant(word: str, known: Iterable[str]) -> str:
    close = nearest(word, known)
    listed = f"known are {', '.join(known)}"
    return f"did you mean {close}? {listed[0].upper()}{listed[1:]}" if close else listed


def _toml() -> Any:
    try:
        return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError as error:
        raise MissingExtraError(
            "Reading TOML on Python 3.10 needs the package tomli: run  pip install tomli"
        ) from error
