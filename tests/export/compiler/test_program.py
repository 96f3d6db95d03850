"""The generated table and weights: against the headers, and back from C's text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.compiled import prepared
from kit.onnx_files import SPEC, model, step_model

from shiftedge.export.compiler.backends.cpu.families import keep
from shiftedge.export.compiler.c_text import quoted
from shiftedge.export.compiler.compile import table_of
from shiftedge.export.compiler.kernel_ir.layout import ALIGNMENT, weights
from shiftedge.export.compiler.targets import find_variant
from shiftedge.export.compiler.verify.agreement import HEADER_BYTES

NATIVE = Path(__file__).parents[3] / "runtime" / "native"
TARGET = find_variant("x86-64-v3")
ODD = ('say "hi"', "back\\slash", "??/ ??= ??'", "naïve 手势 👍", "tab\there\nline", "%s{}$")


def from_c(text: str) -> str:
    """What a C compiler makes of string literals that stand one after the other."""
    assert "??" not in text, "trigraphs, which C11 still has"
    data = bytearray()
    for literal in re.findall(r'"((?:[^"\\]|\\.)*)"', text):
        for part in re.findall(r"\\[0-7]{3}|[^\\]", literal):
            data += bytes([int(part[1:], 8)]) if part[0] == "\\" else part.encode("ascii")
    return data.decode()


def test_the_numbers_of_the_headers() -> None:
    text = (NATIVE / "cpu" / "kernels.h").read_text()
    assert f"#define SHIFTEDGE_BUFFERS_MOST {keep._BUFFERS_MOST}\n" in text
    assert "sizeof(shiftedge_state_header) == 64" in (NATIVE / "program.h").read_text()
    assert HEADER_BYTES == 64


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_text_survives_c(text: str) -> None:
    assert from_c(quoted(text)) == text
    assert max(map(len, quoted(text).splitlines())) < 509  # what C90 promises to take


def test_odd_names_and_labels() -> None:
    def body(b) -> str:
        b.op("Identity", "state_0", out="next_state_0")
        x = b.conv(b.op("Concat", "state_0", "frame", axis=1), 6, 4)
        return b.op("Flatten", b.op("GlobalAveragePool", x))

    data, spec = step_model(body, (1, 1, 6, 5), labels=ODD)
    text = table_of(*prepared(data, spec, TARGET), spec, TARGET)
    assert text.isascii()
    stored = re.search(r"\.spec_json = (.*?),\n    \.fingerprint", text, re.DOTALL)
    assert stored is not None
    assert type(spec).from_json(from_c(stored[1])) == spec


def test_the_weights_are_the_constants_in_the_order_of_use() -> None:
    step, places = prepared(model(), SPEC, TARGET)
    block = weights(step, places)
    assert len(block) == places.weights_bytes
    assert places.weights_bytes % ALIGNMENT == 0
    assert set(places.constants) == set(step.constants)
    offsets = list(places.constants.values())
    assert offsets == sorted(offsets)
    covered = 0
    for name, offset in places.constants.items():
        array = step.constants[name]
        assert array.dtype == np.float32
        assert offset % ALIGNMENT == 0
        assert block[offset : offset + array.nbytes] == array.tobytes()
        covered += array.nbytes
    assert np.count_nonzero(np.frombuffer(block, np.uint8)) <= covered


def test_the_table_names_what_was_laid_out() -> None:
    step, places = prepared(model(), SPEC, TARGET)
    text = table_of(step, places, SPEC, TARGET)
    for name, value in {
        "kernel_count": len(step.calls),
        "workspace_bytes": places.workspace.size_bytes,
        "state_bytes": places.state_bytes,
        "scratch_bytes": places.scratch_bytes,
        "weights_bytes": places.weights_bytes,
        "classes": SPEC.classes,
        "height": SPEC.height,
        "max_gap_s": SPEC.max_gap_s,
    }.items():
        assert f".{name} = {value}," in text
    assert f'"{" ".join(TARGET.features)}"' in text
    for call in step.calls:
        assert text.count(f'"{call.name}"') == 1
        assert f"run_{call.kernel.name}(" in text


def test_the_fingerprint_is_of_weights_and_states() -> None:
    def fingerprint(step, places) -> str:
        found = re.search(r"UINT64_C\((.*?)\)", table_of(step, places, SPEC, TARGET))
        assert found is not None
        return found[1]

    step, places = prepared(model(), SPEC, TARGET)
    assert fingerprint(step, places) == fingerprint(*prepared(model(), SPEC, TARGET))
    name = next(iter(step.constants))
    step.constants[name][0] += 1  # type: ignore[index]
    assert fingerprint(step, places) != fingerprint(*prepared(model(), SPEC, TARGET))
