"""What the compiler makes of networks for targets, byte for byte what it was when it was recorded.

A change that is to leave the code alone, such as one that moves modules or renames, is held to it.
One that is meant to change code records it anew, in a commit that says so:
RECORD_OBJECT_CODE=1 pytest tests/export/codegen/test_object_code.py
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

from kit.compiled import GESTURES, prepared
from kit.random_networks import coded, random_network
from kit.step_networks import NETWORKS, Network

from shiftedge.export.compiler.backends.cpu.llvm.lower import compile_kernels
from shiftedge.export.compiler.kernel_ir.layout import weights
from shiftedge.export.compiler.sources import read_model
from shiftedge.export.compiler.targets import find_target, variants_of

RECORDED = Path(__file__).with_suffix(".json")
TARGETS = {
    "fp32": ("x86-64-v3", "x86-64-v4", "rpi4", "rpi5", "rpi3-armv7"),
    "bf16": ("x86-64-v4",),
    "int8": ("x86-64-v3", "x86-64-v4", "rpi4", "rpi5"),
}
SMALL = ("gestures", "mobilenet-0.35@64x48", "previous-0.5@128x96", "own@64x48")
LARGE = ("mobilenet-1.0@224x224", "mobilenet-1.4@160x120", "lite0@64x48", "resnet-8@112x112")
RANDOM = ("random-0", "random-1", "random-3", "random-5")
LARGE_FOR = {"fp32": ("x86-64-v4", "rpi4"), "bf16": ("x86-64-v4",), "int8": ("x86-64-v3", "rpi5")}
"""The kernels of large networks are the small ones' in other sizes, so they take fewer targets."""
CASES = (
    *((name, each, to) for each, targets in TARGETS.items() for name in SMALL for to in targets),
    *((name, each, to) for each, targets in LARGE_FOR.items() for name in LARGE for to in targets),
    *((name, "int8", to) for name in RANDOM for to in TARGETS["int8"]),
)
"""Network, precision, target; all variants of it."""


@cache
def network(name: str, precision: str) -> Network:
    if name.startswith("random-"):
        return random_network(int(name.removeprefix("random-")))
    data, spec = read_model(GESTURES) if name == "gestures" else NETWORKS[name]()
    return coded(data, spec) if precision == "int8" else (data, spec)


def made(case: tuple[str, str, str], folder: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Variant, and digests of what was made for it."""
    name, precision, target = case
    data, spec = network(name, precision)
    for variant in variants_of(find_target(target), precision):
        step, places = prepared(data, spec, variant)
        # Numbered, since a kernel's name may change.
        kernels = [replace(each, name=f"kernel_{n}") for n, each in enumerate(step.kernels)]
        code = compile_kernels(kernels, variant.llvm(), variant.unit.lanes, variant.dots)
        path = folder / f"{variant.name}.o"
        code.write(path)
        yield (
            variant.name,
            {
                "kernels": len(kernels),
                "calls": len(step.calls),
                "object": digest(path.read_bytes()),
                "weights": digest(weights(step, places)),
                "workspace_bytes": places.workspace.size_bytes,
                "state_bytes": places.state_bytes,
            },
        )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_is_what_was_recorded(case: tuple[str, str, str], tmp_path: Path) -> None:
    now, key = dict(made(case, tmp_path)), " ".join(case)
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    if "RECORD_OBJECT_CODE" in os.environ:
        recorded[key] = now
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    assert now == recorded.get(key)


def test_every_record_is_of_a_case() -> None:
    assert set(json.loads(RECORDED.read_text())) == {" ".join(case) for case in CASES}
