"""A strict reader of safetensors: tensors by name behind a JSON header, and nothing to run.

The form (huggingface/safetensors, "Format"): 8 bytes, the header's length N as a little-endian
uint64; N bytes of JSON, ``{"NAME": {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}}``
and perhaps ``__metadata__``; the numbers, little-endian, in C order, without gaps.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftedge.runtime.errors import CheckpointError

__all__ = ["looks_like", "read_safetensors"]

_LENGTH_BYTES = 8
_HEADER_MOST = 100_000_000
"""Bytes; the limit of the format's own reader."""

_KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def looks_like(head: bytes, size: int) -> bool:
    """Whether a file of ``size`` bytes that begins with ``head`` (9 bytes) may be of this form."""
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    return head[_LENGTH_BYTES:] == b"{" and length <= _HEADER_MOST and size > _LENGTH_BYTES


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        CheckpointError: the file does not keep the form; nothing that it claims is allocated
            unless the file is as large as that.
        OSError: it cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > min(_HEADER_MOST, size - _LENGTH_BYTES):
            raise _damaged(path, f"its header should have {length:,} bytes, more than the file")
        text = file.read(length)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, f"its header is no JSON ({error})") from error
        if not isinstance(header, dict):
            raise _damaged(path, f"its header is a {type(header).__name__}")
        header.pop("__metadata__", None)
        places = sorted((_place(path, name, entry), name) for name, entry in header.items())
        tensors, at, left = {}, 0, size - _LENGTH_BYTES - length
        for (begin, end, kind, shape), name in places:
            if begin != at or end > left:
                raise _damaged(path, f"the numbers of {name!r} are not where they should be")
            block = bytearray(file.read(end - begin))
            if len(block) != end - begin:
                raise _damaged(path, f"the numbers of {name!r} are not all there")
            # frombuffer refuses what is empty
            flat = torch.frombuffer(block, dtype=_KINDS[kind]) if block else torch.empty(0)
            tensors[name] = flat.to(_KINDS[kind]).reshape(shape)
            at = end
    if at != left:
        raise _damaged(path, f"{left - at:,} bytes follow its last tensor")
    return tensors


def _place(path: Path, name: str, entry: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """Begin and end in bytes, type and shape of a tensor, which agree."""
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (begin, end, *shape))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"its entry {name!r} is malformed") from error
    if not whole or begin > end:
        raise _damaged(path, f"its entry {name!r} is malformed")
    if kind not in _KINDS:
        raise CheckpointError(
            f"{path}: the tensor {name!r} is {str(kind)[:20]}; expected one of "
            f"{', '.join(_KINDS)}: save the weights as float32."
        )
    if math.prod(shape) * _KINDS[kind].itemsize != end - begin:
        raise _damaged(path, f"{name!r} has {end - begin:,} bytes for the shape {list(shape)[:6]}")
    return begin, end, kind, shape


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} looks like safetensors and is not whole ({why}); fetch or copy it again."
    )
