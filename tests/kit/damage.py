"""Bundles damaged in every way, and what may be said about them, whoever reads them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

MACHINE = platform.machine()
LIBRARY_NAME = "lib/plain/libmodel.so"
PAGE = 4096


def passes(folder: Path, *, whole: bool = True) -> bool:
    """Whether code of this bundle may be loaded, found out in another way than the loaders do.

    whole: every file that the manifest lists, and a library for this machine; otherwise the
        libraries, whatever machine they are for.
    """
    document = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    names = {variant["library"] for variant in document["variants"]}
    if whole:
        assert any(variant["architecture"] == MACHINE for variant in document["variants"])
        names |= set(document["files"])
    for name in names:
        entry, path = document["files"][name], folder / name
        data = path.read_bytes()
        same = (hashlib.sha256(data).hexdigest(), len(data)) == (entry["sha256"], entry["bytes"])
        if not same or not path.resolve().is_relative_to(folder.resolve()):
            return False
    return len(names) > 0


def is_sentence(text: str) -> bool:
    """One line of words that end, as an error is told."""
    return len(text.splitlines()) == 1 and len(text) > 20 and text.endswith(".")


def flipped(path: Path, places: range, mask: int) -> Iterator[int]:
    """The file with the bits of one byte changed, for each place in turn; afterwards as it was."""
    whole = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for place in places:
            os.pwrite(file.fileno(), bytes([whole[place] ^ mask]), place)
            yield place
            os.pwrite(file.fileno(), whole[place : place + 1], place)


def shortened(path: Path) -> Iterator[int]:
    """The file cut at each page, at nothing, and one byte short; afterwards as it was."""
    whole = path.read_bytes()
    for length in sorted({*range(0, len(whole), PAGE), max(0, len(whole) - 1)} - {len(whole)}):
        path.write_bytes(whole[:length])
        yield length
    path.write_bytes(whole)


# Manifests.

HUGE = (1 << 31, 1 << 63, 10**400, -1, 1e308, 0.5)
WRONG = (None, True, [], {}, "", "x" * 5000, "\0", "\ud800", "\u001b[2J", [[]] * 9, {"a": {}})
OUTSIDE = ("../outside.so", "/etc/passwd", "/dev/zero", "lib/../../outside.so", "..", "link.so")
MACHINES = ("m68k", "aarch64", "x86_64", "armv7l", "x86-64", "")
"""Architectures, wrong ones among them."""


def outside(folder: Path) -> None:
    """Put the library beside the folder too, and a link to it inside: whole, but not where a file
    of a bundle may lie."""
    target = folder.parent / "outside.so"
    target.write_bytes((folder / LIBRARY_NAME).read_bytes())
    (folder / "link.so").symlink_to(target)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in pairs:
        found += _places(each, (*path, key))
    return found


@st.composite
def manifests(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """A manifest with one to three things wrong, at times none."""
    changed = copy.deepcopy(document)
    outer = json.dumps(changed["files"][LIBRARY_NAME])
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["value", "value", "path", "machine", "schema", "more"]))
        if kind == "path":  # a library outside, listed as it should be
            name = draw(st.sampled_from(OUTSIDE))
            _put(changed, ("variants", 0, "library"), name)
            _put(changed, ("files", name), json.loads(outer))
        elif kind == "machine":
            _put(changed, ("variants", 0, "architecture"), draw(st.sampled_from(MACHINES)))
        elif kind == "schema":
            _put(changed, ("schema",), draw(st.sampled_from([0, 3, 10**30, "1", 1.0, None])))
        elif kind == "more":
            _put(changed, (draw(st.text(max_size=4)),), draw(st.sampled_from(WRONG)))
        else:
            where = draw(st.sampled_from(_places(document)))
            _put(changed, where, draw(st.sampled_from([*WRONG, *HUGE, *OUTSIDE])))
    text = json.dumps(changed, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 3)) == 0:  # a key twice, with another value first
        key = draw(st.sampled_from(["schema", "variants", "files", "library", "sha256", "bytes"]))
        value = draw(st.sampled_from(["1", "[]", "{}", '"lib"', f'{{"{LIBRARY_NAME}": {outer}}}']))
        text = text.replace(f'"{key}":', f'"{key}": {value}, "{key}":', 1)
    return text.encode(errors="surrogatepass")  # half a character is no UTF-8


def _put(document: Any, where: tuple[Any, ...], value: Any) -> None:
    """Set one value, unless an earlier change took its place away."""
    try:
        for key in where[:-1]:
            document = document[key]
        document[where[-1]] = copy.deepcopy(value)  # a later change may reach into it
    except (TypeError, KeyError, IndexError):
        pass
