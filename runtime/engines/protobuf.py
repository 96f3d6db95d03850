"""Protobuf, as far as ONNX files need it: fields of a number and a type, messages in messages.

A board has no onnx package, and the little that is read and changed of a file there needs none.
"""

from __future__ import annotations

from collections.abc import Iterator


def whole_numbers(value: int | memoryview) -> list[int]:
    """Of one field, packed or not; those below 0, which are no sizes, as 2^64 less."""
    if isinstance(value, int):
        return [value]
    numbers, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        numbers.append(number)
    return numbers


Value = int | memoryview
"""Of a field: a whole number, or the bytes of anything else."""


def spans(data: memoryview) -> Iterator[tuple[int, Value, memoryview]]:
    """Number and value of each field of a message, and the whole field as it stands there.

    Raises:
        IndexError, ValueError: the message is no whole one.
    """
    at = 0
    while at < len(data):
        begin = at
        key, at = varint(data, at)
        kind = key & 7
        value: Value
        if kind == 0:
            value, at = varint(data, at)
        elif kind in (1, 2, 5):
            size, at = varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
            if at + size > len(data):
                raise IndexError("a field goes past the end")
            value = data[at : at + size]
            at += size
        else:
            raise ValueError(f"a field of type {kind}")
        yield key >> 3, value, data[begin:at]


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message; values of fixed length as bytes."""
    for number, value, _ in spans(data):
        yield number, value


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The whole number at a place, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")


def field(number: int, content: bytes | int) -> bytes:
    """A message or a text as a field, or a whole number from 0 on."""
    if isinstance(content, int):
        return varint_of(number << 3) + varint_of(content)
    return varint_of(number << 3 | 2) + varint_of(len(content)) + content


def varint_of(value: int) -> bytes:
    """A whole number from 0 on, seven bits a byte."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))
