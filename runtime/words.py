"""What others wrote - models, file names, devices, users - as words that are safe to print.

A label, a path or a field of a bundle may be 100 KB long, or hold control codes that a terminal
would obey: ``\\x1b[2J`` clears the screen, a carriage return hides what stood before, and the marks
of Unicode's bidirectional algorithm show a name as another.
"""

from __future__ import annotations

import json
import re
import reprlib
import sys
from typing import IO, Any

LONGEST_VALUE = 200
"""Characters of a value in a sentence."""
LONGEST_SENTENCE = 1500
"""Characters of a whole message: a path may have 4096 bytes, and a sentence names one or two."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""C0 and C1 controls, and Unicode's line separators and marks of direction."""
_CONTROL_BUT_LINES = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def plain(value: object, most: int = LONGEST_SENTENCE, *, lines: bool = False) -> str:
    """A value as text for people: controls as ?, and the middle left out of what is too long.

    Args:
        lines: keep line feeds.
    """
    text = str(value)
    if len(text) > most:  # before the rest, which would take its time with a file's worth of text
        text = _shortened(text, most)
    return (_CONTROL_BUT_LINES if lines else _CONTROL).sub("?", text)


def is_text(words: str) -> bool:
    """Whether UTF-8 can encode ``words``: not what Python makes of bytes that are no text."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """As ``repr``, but short and harmless: for a value that a sentence complains of."""
    try:
        return plain(_short.repr(value), LONGEST_VALUE)
    except ValueError:  # a whole number of more digits than Python turns into text
        return f"a {type(value).__name__}"


def first_line(error: BaseException) -> str:
    """Of what an error says, at most 300 characters; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def say(text: str, to: IO[str] | None = None) -> None:
    """Write a line for people, or some, to ``to`` or else to stderr, at once and harmlessly.

    A program without a console has no stderr, and nobody to tell.
    """
    stream = sys.stderr if to is None else to
    if stream is not None:
        stream.write(f"{plain(text, sys.maxsize, lines=True)}\n")
        stream.flush()


def note(text: str) -> None:
    """A line that the program itself has to say."""
    say(f"shiftedge: {text}")


def json_text(document: Any, *, indent: int | None = None) -> str:
    """JSON in which a text is itself, whatever its script, and a control code is an escape.

    ``json.dumps`` escapes the controls below U+0020 alone, and a terminal obeys others too.
    """
    return escaped(json.dumps(document, ensure_ascii=False, indent=indent))


def encodable(text: str) -> str:
    """Text that UTF-8 can encode, with escapes for what is no character: a name's bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


def escaped(text: str) -> str:
    """JSON text with its control codes as escapes."""
    return _CONTROL_BUT_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shortened(text: str, most: int) -> str:
    head = most * 2 // 3
    return f"{text[:head]} ... {text[len(text) - (most - head - 5) :]}"


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 120
        self.maxlevel = 3

    def repr_PosixPath(self, value: Any, level: int) -> str:  # noqa: N802 - reprlib's naming
        return self.repr_str(str(value), level)


_short = _Short()
