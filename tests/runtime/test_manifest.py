"""The manifest as text: a round trip, every limit, and no text that does more than an error."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftedge.runtime.errors import BundleError, ModelError, SpecError
from shiftedge.runtime.manifest import Build, FileEntry, Manifest, SelfTest, Variant
from shiftedge.runtime.spec import ModelSpec, StateSpec

SPEC = ModelSpec(
    name="tiny",
    labels=("No gesture", "左へ"),
    height=24,
    width=32,
    resize_short_side=28,
    states=(StateSpec("a", (1, 2, 12, 16)),),
    receptive_field=3,
)
FAST, SLOW = "lib/x86-64-v4/libmodel.so", "lib/x86-64-v3/libmodel.so"
GOOD = Manifest(
    spec=SPEC,
    target="x86-64-v4",
    variants=(
        Variant("x86-64-v4", FAST, "x86_64", ("avx2", "avx512f")),
        Variant("x86-64-v3", SLOW, "x86_64", ("avx2",)),
    ),
    files={
        "README": FileEntry("0" * 64, 12),
        FAST: FileEntry("1" * 64, 1000),
        SLOW: FileEntry("2" * 64, 0),
    },
    numerics={"frames": 32, "passed": True, "comparisons": [{"tensor": "logits", "worst": 1e-6}]},
    memory={
        "weights_bytes": 4,
        "state_bytes": 5,
        "workspace_bytes": 6,
        "scratch_bytes": 0,
        "frame_bytes": 7,
    },
    tools={"tvm": "0.27", "zig": "0.13"},
    source_sha256="f" * 64,
    kernels=({"name": "k000", "units": 12},),
    selftest=SelfTest("drift-1", 1e-4, ((1.5, -2.0), (0.0, 3.25))),
)


def document() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(GOOD.to_json())
    return result


def parse(changed: object) -> Manifest:
    return Manifest.from_json(json.dumps(changed))


def test_round_trip() -> None:
    text = GOOD.to_json()
    assert Manifest.from_json(text) == GOOD
    assert Manifest.from_json(text).to_json() == text
    assert Manifest.from_dict(document()) == GOOD


def test_the_text_is_always_the_same() -> None:
    text = GOOD.to_json()
    assert text.endswith("}\n")
    assert text.startswith('{\n "files"')
    assert "左へ" in text
    backwards = {
        key: dict(reversed(list(getattr(GOOD, key).items())))
        for key in ("files", "numerics", "memory", "tools")
    }
    assert dataclasses.replace(GOOD, **backwards).to_json() == text
    keys = list(json.loads(text))
    assert keys == sorted(keys)


def test_unknown_keys_are_for_later_versions() -> None:
    later = document()
    later["colour"] = "red"
    later["variants"][0]["mood"] = 1
    later["files"]["README"]["author"] = "me"
    assert Manifest.from_dict(later) == GOOD


OPTIONAL = ("selftest", "gpus", "others")
REQUIRED = [field.name for field in dataclasses.fields(Manifest) if field.name not in OPTIONAL]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_field_is_named(key: str) -> None:
    short = document()
    del short[key]
    with pytest.raises(BundleError, match=f"manifest has no {key}; expected spec, target"):
        parse(short)


def test_a_manifest_without_a_self_test() -> None:
    """As of a model that was not verified, or of an older version."""
    short = document()
    del short["selftest"]
    manifest = parse(short)
    assert manifest == dataclasses.replace(GOOD, selftest=None)
    assert "selftest" not in manifest.to_json()
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_variant_for_a_gpu() -> None:
    """Comes back as it was; of what is not named, the device is the processor."""
    facts = {"numerics": {"verified": True}, "memory": {}, "kernels": [{"name": "k000"}]}
    gpu = dataclasses.replace(GOOD.variants[0], features=("cuda_sm_53",), device="cuda")
    manifest = dataclasses.replace(
        GOOD, variants=(gpu, GOOD.variants[1]), gpus={"x86-64-v4": facts}
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    shorter = document()
    for variant in shorter["variants"]:
        del variant["device"]
    assert parse(shorter) == GOOD


def test_whole_numbers_are_logits_too() -> None:
    changed = document()
    changed["selftest"]["logits"] = [[0, -3], [1, 2]]
    assert parse(changed).selftest == SelfTest("drift-1", 1e-4, ((0, -3), (1, 2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (GOOD.to_json()[:-20], "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema": ' + "9" * 5000 + "}", "not valid JSON|schema 9"),
        ('{"schema": NaN}', "NaN is no JSON number"),
        ('{"schema": 1, "schema": 1}', "the key 'schema' stands there twice"),
        ('{"schema": 1, "files": {"a": 1, "a": 2}}', "the key 'a' stands there twice"),
        ("null", "is a NoneType; expected a JSON object"),
        ("[]", "is a list"),
        ("{}", "schema = None; expected a number from 1"),
        ('{"schema": "1"}', "schema = '1'"),
        ('{"schema": true}', "schema = True"),
        ('{"schema": 0}', "schema = 0"),
        ('{"schema": 3}', "schema 3, and this shiftedge reads up to 1: upgrade"),
    ],
)
def test_text_that_is_no_manifest(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(text)


PATHS = [
    *("/etc/passwd", "../x", "lib/../../x", "lib/./x", "lib//x", "lib/", "", ".", "..", "/"),
    *("lib\\x", "C:\\x", "a\0b", "a\nb", "a b", "ä", "\ud800", "~", "x" * 129, "manifest.json"),
    "/".join(["x" * 100] * 6),
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_leave_or_mislead(path: str) -> None:
    changed = document()
    changed["files"][path] = {"sha256": "0" * 64, "bytes": 1}
    with pytest.raises(BundleError, match=r"a file = .*inside the bundle|whole characters"):
        parse(changed)
    variants = document()
    variants["variants"][0]["library"] = path
    with pytest.raises(BundleError, match=r"library of variant|whole characters"):
        parse(variants)


WORDS: list[Any] = ["", None, 3, ["a"], "a b", "../a", "-a", "a/b", "x" * 65, "a\n", {}]
BAD: list[tuple[tuple[Any, ...], Any]] = [
    *[(("target",), value) for value in WORDS],
    *[(("variants",), value) for value in (None, {}, [], "x", [None], [{}], [[]], 1)],
    *[(("variants", 0, "name"), value) for value in (*WORDS, "x86-64-v3")],
    *[(("variants", 0, "architecture"), value) for value in WORDS],
    *[(("variants", 0, "features"), value) for value in (None, "avx2", {}, [1], [None], [""])],
    *[(("variants", 0, "features"), [value]) for value in WORDS],
    *[(("files",), value) for value in (None, [], "x", {}, {"a": None}, {"a": []}, {"a": {}})],
    *[(("files", FAST), value) for value in (None, [], 3, {}, {"sha256": "1" * 64})],
    *[
        (("files", FAST, "bytes"), value)
        for value in (-1, 1 << 40, 10**400, 1.0, "1", None, True, [])
    ],
    *[
        (("files", FAST, "sha256"), value)
        for value in ("", "1" * 63, "1" * 65, "G" * 64, "A" * 64, "1" * 64 + "\n", None, 1, [])
    ],
    *[(("numerics",), value) for value in (None, [], 1, "x")],
    *[(("numerics", "a"), value) for value in ("\udfff", {"\ud800": 1}, [[1], ["\ud800"]])],
    *[(("memory",), value) for value in (None, [], {}, {"weights_bytes": 1})],
    *[(("memory", "state_bytes"), value) for value in (-1, 1.5, None, "1", 1 << 60, True)],
    *[(("tools",), value) for value in (None, [], {"tvm": 1}, {"tvm": None})],
    *[(("source_sha256",), value) for value in (None, "", "f" * 63, 12, [])],
    *[(("kernels",), value) for value in (None, {}, [1], ["a"], [[]], [{}] * 5000)],
    *[(("variants", 0, "device"), value) for value in (None, "", "gpu", 1, [], {})],
    *[(("gpus",), value) for value in (None, [], "x", {"a": None}, {"a": []}, {"a": {}})],
    *[
        (("gpus",), {"a": {"numerics": {}, "memory": {}, "kernels": [], **bad}})
        for bad in ({"numerics": []}, {"memory": 1}, {"kernels": {}}, {"kernels": [1]})
    ],
    *[(("selftest",), value) for value in (None, [], 1, "x", {}, {"clip": "drift-1"})],
    *[(("selftest", "clip"), value) for value in WORDS],
    *[
        (("selftest", "tolerance"), value)
        for value in (0, -1e-4, 1.5, 10**400, True, None, "1e-4", [])
    ],
    *[
        (("selftest", "logits"), value)
        for value in (None, {}, 1, "ab", [], [1.0], [[]], [[1.0]], [[1.0, 2.0, 3.0]], ["ab"])
    ],
    *[
        (("selftest", "logits"), [[0.5, value]])
        for value in (None, "1", True, [], 10**400, 1e39, -1e39)
    ],
    (("selftest", "logits"), [[0.5, 0.5]] * 257),
]


@pytest.mark.parametrize(("where", "value"), BAD)
def test_fields_that_are_wrong(where: tuple[Any, ...], value: Any) -> None:
    changed = document()
    part = changed
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(BundleError, match=r"manifest has .*; expected .*(bundle again|version)\.$"):
        parse(changed)


def test_a_wrong_spec_is_a_spec_error() -> None:
    for value in (None, [], {}, {**document()["spec"], "height": 0}):
        with pytest.raises(SpecError):
            parse({**document(), "spec": value})


def test_what_is_no_json_number() -> None:
    for text in ("1e999", "-1e999", "NaN", "Infinity"):
        changed = GOOD.to_json().replace("1e-06", text)
        assert changed != GOOD.to_json()
        with pytest.raises(BundleError, match=r"finite|no JSON number"):
            Manifest.from_json(changed)


def test_depth_has_an_end() -> None:
    nested: Any = []
    for _ in range(50):
        nested = [nested]
    with pytest.raises(BundleError, match="levels deep"):
        parse({**document(), "numerics": {"a": nested}})


def test_the_same_limits_hold_for_the_compiler() -> None:
    """What could not be read again cannot be made."""
    for changes, message in (
        ({"target": "a b"}, "target = 'a b'"),
        ({"numerics": {"worst": float("nan")}}, "a number = nan"),
        ({"numerics": {"worst": b"1"}}, "a value = b'1'"),
        ({"spec": None}, "spec = None"),
        ({"files": {}}, "library of variant"),
        ({"files": {FAST: 1, SLOW: 2}}, "files = "),
    ):
        with pytest.raises(BundleError, match=message):
            dataclasses.replace(GOOD, **changes)
    assert issubclass(BundleError, ModelError)


def test_messages_stay_short() -> None:
    with pytest.raises(BundleError) as caught:
        parse({**document(), "target": "x" * 100_000})
    assert len(str(caught.value)) < 300


# Anything at all.

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "/x", "a\\b", 10**400, 1 << 63, "\ud800"])
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += places(each, (*path, index))
    return found


PLACES = places(document())


def good_or_refused(text: str) -> None:
    """No other exception; and what passes can be written and read again."""
    try:
        manifest = Manifest.from_json(text)
    except (BundleError, SpecError) as error:
        str(error)
        return
    again = manifest.to_json()
    again.encode()
    assert Manifest.from_json(again) == manifest


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=3))
def test_any_value_in_any_place(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    changed = copy.deepcopy(document())
    for where, value in changes:
        part: Any = changed
        try:
            for key in where[:-1]:
                part = part[key]
            part[where[-1]] = value
        except (TypeError, KeyError, IndexError):  # an earlier change took the place away
            continue
    good_or_refused(json.dumps(changed))


@settings(max_examples=100)
@given(anything)
def test_any_document(value: Any) -> None:
    good_or_refused(json.dumps(value))


@settings(max_examples=200)
@given(st.integers(0, len(GOOD.to_json())), st.text(max_size=3), st.integers(0, 3))
def test_any_edit_of_the_text(at: int, put: str, cut: int) -> None:
    text = GOOD.to_json()
    good_or_refused(text[:at] + put + text[at + cut :])


# Builds of several precisions.

QUICK = "lib/x86-64-v4-int8/libmodel.so"
CODES = dataclasses.replace(
    SPEC,
    precision="int8",
    std=(0.25, 0.25, 0.25),
    states=(StateSpec("a", (1, 2, 12, 16), "uint8", 0.5, 7),),
)
MIXED = dataclasses.replace(
    GOOD,
    spec=CODES,
    variants=(Variant("x86-64-v4-int8", QUICK, "x86_64", ("avx2",), "int8"), *GOOD.variants),
    files={**GOOD.files, QUICK: FileEntry("3" * 64, 10)},
    numerics={"codes": "bit for bit"},
    selftest=SelfTest("drift-1", 1e-4, ((1.0, 2.0),)),
    others={"fp32": GOOD.builds["fp32"]},
)


def test_several_precisions() -> None:
    text = MIXED.to_json()
    assert Manifest.from_json(text) == MIXED
    assert list(MIXED.builds) == ["int8", "fp32"]
    assert MIXED.builds["fp32"].spec == SPEC
    assert MIXED.builds["int8"].spec == CODES
    assert MIXED.builds["int8"].numerics == {"codes": "bit for bit"}
    assert json.loads(text)["schema"] == json.loads(text)["spec"]["schema"] == 1


def test_a_variant_of_before_says_no_precision() -> None:
    older = document()
    for variant in older["variants"]:
        del variant["precision"]
    assert parse(older) == GOOD


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        *keys, last = path.split(".")
        for key in keys:
            document = document[int(key) if key.isdigit() else key]
        document[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set("others", []), r"others = \[\]; expected an object of builds by precision"),
        (_set("others", {}), "precision of variant x86-64-v4 = 'fp32'; expected int8"),
        (_set("others.fp32", 3), "a build of others = 3; expected an object"),
        (_set("others", {"fp32": {}}), "manifest has no spec, numerics, memory"),
        (_set("others.fp32.spec.precision", "int8"), "spec of fp32 = 'int8'; expected fp32"),
        (_set("others.fp32.memory", {}), "memory of fp32 = {}; expected weights_bytes"),
        (_set("others.fp32.source_sha256", "x"), "source_sha256 of fp32 = 'x'"),
        (_set("others.fp32.selftest.tolerance", 2), "tolerance of selftest of fp32 = 2"),
        (_set("others.fp32.spec.height", 48), "differs in = 'height'; expected one network"),
        (_set("others.fp32.spec.labels", ["a", "b"]), "differs in = 'labels"),
        (_set("variants.1.precision", "int8"), "variants"),
        (_set("variants.0.precision", "fp32"), "a first variant of = 'fp32'"),
        (_set("variants.0.precision", "bf16"), "precision of variant x86-64-v4-int8 = 'bf16'"),
        (_set("variants.0.precision", ["int8"]), "precision of variant"),
    ],
)  # fmt: skip
def test_builds_that_do_not_fit(edit: Callable[[dict[str, Any]], None], message: str) -> None:
    changed: dict[str, Any] = json.loads(MIXED.to_json())
    edit(changed)
    if message == "variants":  # both variants of float32 must go before a build has none
        edit = _set("variants.2.precision", "int8")
        edit(changed)
        message = "variants of = "
    with pytest.raises(BundleError, match=message):
        parse(changed)


def test_a_build_twice() -> None:
    with pytest.raises(BundleError, match="expected builds of other precisions than int8"):
        dataclasses.replace(MIXED, others={"int8": Build(**vars(MIXED.builds["int8"]))})
