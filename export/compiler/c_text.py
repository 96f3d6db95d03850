"""Pieces of C text, for the tables that a step becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


def quoted(text: str) -> str:
    """A C string literal, in pieces short enough for any compiler."""
    data = text.encode()
    pieces = []
    for first in range(0, max(len(data), 1), 100):
        part = data[first : first + 100]
        pieces.append('"' + "".join(map(_character, part)) + '"')
    return "\n        ".join(pieces)


def _character(byte: int) -> str:
    if 32 <= byte < 127 and chr(byte) not in '"\\?':
        return chr(byte)
    return f"\\{byte:03o}"


def texts(name: str, texts: Sequence[str]) -> Iterator[str]:
    yield f"static const char *const {name}[] = {{"
    yield from (f"    {quoted(text)}," for text in texts)
    yield "};"


def struct(name: str, fields: Mapping[str, object]) -> Iterator[str]:
    yield f"{name} = {{"
    yield from (f"    .{field} = {value}," for field, value in fields.items())
    yield "};"
