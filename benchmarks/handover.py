"""Kinds of measurement that are a word after ``bench``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def sub_parser(bench: argparse.ArgumentParser, word: str, **settings: Any) -> Any:
    """A parser that ``bench`` hands over to when its first word is ``word``.

    argparse cannot have both an optional positional, which is bench's model, and sub-parsers. A
    model file of that name is given as ./word.
    """
    parser = type(bench)(prog=f"{bench.prog} {word}", **settings)
    parse_bench = bench.parse_known_args

    def parse(args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        if args and args[0] == word:
            return parser.parse_known_args(args[1:], namespace)
        return parse_bench(args, namespace)

    bench.parse_known_args = parse  # type: ignore[method-assign,assignment]
    parser.set_defaults(usage_error=parser.error)
    return parser
