"""The states of a compiled model, to be looked at."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from shiftedge.runtime.engines.native import (
    STATE_ALIGNMENT,
    STATE_HEADER_BYTES,
    NativeSession,
)
from shiftedge.runtime.spec import ModelSpec


def session(spec: ModelSpec, block: np.ndarray[Any, Any]) -> NativeSession:
    made = object.__new__(NativeSession)
    made._engine = SimpleNamespace(spec=spec)  # type: ignore[assignment]
    made._state = block
    return made


def laid_out(states: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    block = bytes(STATE_HEADER_BYTES)
    for state in states:
        block += state[0].transpose(1, 2, 0).tobytes()
        block += bytes(-len(block) % STATE_ALIGNMENT)
    return np.frombuffer(bytearray(block), np.uint8)


def test_they_lie_behind_the_header(spec: ModelSpec) -> None:
    random = np.random.default_rng(0)
    states = [random.random(each.shape, np.float32) for each in spec.states]
    found = session(spec, laid_out(states)).states()
    assert found is not None
    for one, other in zip(found, states, strict=True):
        np.testing.assert_array_equal(one, other)
    found[0][:] = 0.0  # a copy
    again = session(spec, laid_out(states)).states()
    assert again is not None
    assert again[0].any()


def test_another_layout_is_not_guessed_at(spec: ModelSpec) -> None:
    states = [np.zeros(each.shape, np.float32) for each in spec.states]
    block = laid_out(states)
    assert session(spec, block[:-1]).states() is None
    assert session(spec, np.concatenate([block, block[:64]])).states() is None
    first = replace(spec.states[0], dtype="bfloat16")
    other = object.__new__(ModelSpec)
    object.__setattr__(other, "states", (first, *spec.states[1:]))
    assert session(other, block).states() is None
