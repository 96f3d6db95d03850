"""The spec as text: a round trip, every limit, and no text that does more than SpecError."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.runtime.errors import SpecError
from shiftedge.runtime.spec import DecoderSettings, ModelSpec, StateSpec

GOOD = ModelSpec(
    name="tiny",
    labels=("No gesture", "Swiping Left"),
    height=24,
    width=32,
    resize_short_side=28,
    states=(StateSpec("a", (1, 2, 12, 16)), StateSpec("b", (1, 4, 6, 8))),
    receptive_field=3,
    silent_labels=("No gesture",),
    decoder=DecoderSettings(enter=0.7),
)


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(GOOD.to_json()), **changes}


def test_round_trip() -> None:
    assert ModelSpec.from_json(GOOD.to_json()) == GOOD
    assert ModelSpec.from_json(GOOD.to_json(indent=2)) == GOOD
    assert ModelSpec.from_dict(document()) == GOOD
    assert hash(GOOD) == hash(ModelSpec.from_json(GOOD.to_json()))


INT8 = dataclasses.replace(
    GOOD,
    precision="int8",
    states=(
        StateSpec("a", (1, 2, 12, 16), "uint8", 0.02353, 0),
        StateSpec("b", (1, 4, 6, 8)),
        StateSpec("c", (1, 4, 6, 8), "uint8", 0.1, 131),
    ),
)


def test_what_states_hold() -> None:
    assert ModelSpec.from_json(INT8.to_json()) == INT8
    held = json.loads(INT8.to_json())
    assert (held["precision"], held["schema"]) == ("int8", 1)
    assert held["states"][0] == {
        "name": "a", "shape": [1, 2, 12, 16], "dtype": "uint8", "scale": 0.02353, "zero_point": 0,
    }  # fmt: skip
    # Keys with a default may be left out.
    plain = {**json.loads(GOOD.to_json()), "states": [
        {"name": "a", "shape": [1, 2, 12, 16]}, {"name": "b", "shape": [1, 4, 6, 8]},
    ]}  # fmt: skip
    del plain["precision"]
    assert ModelSpec.from_dict(plain) == GOOD


def test_states_of_bytes() -> None:
    assert (GOOD.state_bytes, INT8.state_bytes) == (4 * (384 + 192), 384 + 4 * 192 + 192)
    first, plain, last = INT8.states
    assert [state.fresh().dtype for state in INT8.states] == ["uint8", "float32", "uint8"]
    assert not plain.fresh().any()
    assert (last.fresh() == 131).all()
    assert not last.numbers(last.fresh()).any()
    codes = first.fresh() + 200
    assert first.numbers(codes).dtype == "float32"
    assert first.numbers(codes)[0, 0, 0, 0] == pytest.approx(200 * 0.02353)
    values = plain.fresh() + 0.5
    assert plain.numbers(values) is values


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int8"}, "dtype = 'int8'; expected float32, float16, bfloat16 or uint8"),
        ({"dtype": ["uint8"]}, "expected float32, float16, bfloat16 or uint8"),
        ({"dtype": "uint8", "scale": 0.0}, "scale = 0.0; expected a number above 0"),
        ({"dtype": "uint8", "scale": float("nan")}, "expected a number above 0"),
        ({"dtype": "uint8", "scale": "1"}, "expected a number above 0"),
        ({"dtype": "uint8", "zero_point": 256}, "zero_point = 256; expected a whole number"),
        ({"dtype": "uint8", "zero_point": 1.5}, "expected a whole number from 0 to 255"),
        ({"scale": 2.0}, "expected 1 for float32"),
        ({"zero_point": 3}, "expected 0 for float32"),
    ],
)
def test_what_a_state_may_not_hold(changes: dict[str, Any], message: str) -> None:
    bad = document()
    bad["states"][0] |= changes
    with pytest.raises(SpecError, match=message):
        ModelSpec.from_dict(bad)


def test_states_of_bfloat16() -> None:
    """Two bytes each, the upper half of a float32; zero bytes are a fresh stream."""
    state = StateSpec("state_0", (1, 2, 1, 2), "bfloat16")
    assert state.bytes == 8
    fresh = state.fresh()
    assert (fresh.dtype, fresh.shape, fresh.any()) == (np.uint16, (1, 2, 1, 2), False)
    bits = np.array([0x3F80, 0xC040, 0x0000, 0x3E20], np.uint16).reshape(state.shape)
    numbers = state.numbers(bits)
    assert numbers.dtype == np.float32
    assert numbers.reshape(-1).tolist() == [1.0, -3.0, 0.0, 0.15625]
    spec = dataclasses.replace(GOOD, precision="bf16", states=(state,))
    assert ModelSpec.from_json(spec.to_json()) == spec
    for changed, expected in (({"scale": 0.5}, "1 for bfloat16"), ({"zero_point": 3}, "0 for")):
        with pytest.raises(SpecError, match=expected):
            dataclasses.replace(spec, states=(dataclasses.replace(state, **changed),))


def test_precisions_are_known() -> None:
    with pytest.raises(SpecError, match="precision = 'int4'; expected fp32, bf16, fp16 or int8"):
        ModelSpec.from_dict(document(precision="int4"))
    with pytest.raises(SpecError, match="expected fp32, bf16, fp16 or int8"):
        ModelSpec.from_dict(document(precision=["int8"]))


def test_labels_of_any_script_survive() -> None:
    spec = dataclasses.replace(GOOD, labels=("左へ", "🖐"), silent_labels=())
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert "左へ" in spec.to_json()


def test_derived_numbers() -> None:
    assert (GOOD.classes, GOOD.state_size) == (2, 384 + 192)
    assert GOOD.states[1].size == 192


def test_optional_fields_have_defaults() -> None:
    short = document()
    for key in ("frame_rate_hz", "max_gap_s", "mean", "std", "silent_labels", "decoder"):
        del short[key]
    spec = ModelSpec.from_dict(short)
    assert (spec.frame_rate_hz, spec.max_gap_s, spec.silent_labels) == (12.0, 1.0, ())
    assert spec.decoder == DecoderSettings()


def test_unknown_keys_are_for_later_versions() -> None:
    later = document(colour="red")
    later["decoder"]["mood"] = 1
    assert ModelSpec.from_dict(later) == GOOD


@pytest.mark.parametrize("key", ["name", "labels", "height", "width", "states", "receptive_field"])
def test_a_missing_field_is_named(key: str) -> None:
    short = document()
    del short[key]
    with pytest.raises(SpecError, match=key):
        ModelSpec.from_dict(short)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("null", "is a NoneType; expected a JSON object"),
        ("[]", "is a list"),
        ("{}", "schema None"),
        ('{"schema": "1"}', "schema '1'"),
        ('{"schema": true}', "schema True"),
        ('{"schema": 0}', "schema 0"),
        ('{"schema": 99}', "schema 99, and this shiftedge reads up to 1: upgrade"),
    ],
)
def test_text_that_is_no_spec(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ModelSpec.from_json(text)


BAD_FIELDS: list[tuple[str, Any]] = [
    *[("name", value) for value in ("", None, 3, ["a"])],
    *[("labels", value) for value in ([], None, "abc", ["a", "a"], ["a", ""], [1, 2], [[], []])],
    *[("silent_labels", value) for value in (["unknown"], None, "No gesture", [[]])],
    *[
        (side, value)
        for side in ("height", "width", "resize_short_side")
        for value in (0, -1, 8193, 2.5, "24", None, True)
    ],
    *[("receptive_field", value) for value in (0, -1, 1.5, None, 10**9)],
    *[("frame_rate_hz", value) for value in (0, -12, 1e9, "12", None, float("nan"), float("inf"))],
    *[("max_gap_s", value) for value in (0, -1, 0.01, None, "1", float("nan"))],
    *[("mean", value) for value in ([], [1, 2], [1, 2, 3, 4], None, ["a", 0, 0], [0, 0, None])],
    *[("std", value) for value in ([0, 1, 1], [-1, 1, 1], [1, 1], None, [1, 1, float("nan")])],
    *[("states", value) for value in (None, {}, "s", [None], [{}], [{"name": "s"}], [[]])],
    *[
        ("states", [{"name": "s", "shape": shape}])
        for shape in (None, [], [0], [-1], [1.5], ["1"], [1 << 40], [None], [[1]], "12")
    ],
    ("states", [{"shape": [1]}]),
    ("states", [{"name": "", "shape": [1]}]),
    ("states", [{"name": 3, "shape": [1]}]),
    ("states", [{"name": "s", "shape": [1]}] * 2),
    *[("decoder", value) for value in (None, [], 3, "x")],
    *[("decoder", {"enter": value}) for value in (-0.1, 1.1, None, "x", float("nan"))],
    ("decoder", {"enter": 0.3, "exit": 0.5}),
    *[
        ("decoder", {key: value})
        for key in ("smoothing_s", "min_duration_s", "rearm_s")
        for value in (-1, 1e9, None, "x")
    ],
]


@pytest.mark.parametrize(("key", "value"), BAD_FIELDS)
def test_a_field_out_of_range_is_named(key: str, value: Any) -> None:
    with pytest.raises(SpecError, match=key.rstrip("s")) as caught:
        ModelSpec.from_dict(document(**{key: value}))
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("key", ["frame_rate_hz", "max_gap_s"])
def test_a_whole_number_too_large_for_a_float(key: str) -> None:
    with pytest.raises(SpecError, match=key):
        ModelSpec.from_dict(document(**{key: 10**400}))


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_any_text_gives_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        ModelSpec.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(key=st.sampled_from(sorted(document())), value=JSON)
def test_any_value_of_any_field_is_read_or_refused(key: str, value: Any) -> None:
    try:
        spec = ModelSpec.from_dict(document(**{key: value}))
    except SpecError:
        return
    assert ModelSpec.from_json(spec.to_json()) == spec
