"""What multiplies in a kernel, how much of it, and what explanations say of it."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.compiled import prepared  # noqa: E402
from kit.networks import Own, trained  # noqa: E402
from kit.qdq import quantized, with_equal_std  # noqa: E402

from shiftedge.export.agreement import moving_images, normalised  # noqa: E402
from shiftedge.export.compiler.backends.cpu import explain  # noqa: E402
from shiftedge.export.compiler.backends.cpu.cost import kernel_cost  # noqa: E402
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant  # noqa: E402
from shiftedge.export.compiler.backends.cpu.families import (  # noqa: E402
    depthwise,
    elementwise,
    inverted_residual,
    pointwise,
)
from shiftedge.export.compiler.backends.cpu.families.arithmetic import Arithmetic  # noqa: E402
from shiftedge.export.compiler.backends.cpu.families.elementwise import Elementwise  # noqa: E402
from shiftedge.export.compiler.backends.cpu.families.inverted_residual import (  # noqa: E402
    BlockArithmetic,
    BlockShape,
)
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise  # noqa: E402
from shiftedge.export.compiler.backends.cpu.families.tiles import (  # noqa: E402
    PMADDWD,
    SDOT,
    VDPBF16PS,
    VPDPBUSD,
    Tiles,
)
from shiftedge.export.compiler.backends.cpu.families.window import Window  # noqa: E402
from shiftedge.export.compiler.backends.cpu.instructions import (  # noqa: E402
    instructions,
    operations,
    operations_a_cycle,
)
from shiftedge.export.compiler.graph.activations import Activation  # noqa: E402
from shiftedge.export.compiler.numerics.requantize import OutputStage  # noqa: E402
from shiftedge.export.compiler.targets import (  # noqa: E402
    TARGETS,
    find_target,
    find_variant,
    precisions_of,
    variants_of,
)
from shiftedge.export.models import insert_shift  # noqa: E402
from shiftedge.export.to_onnx import describe, to_onnx  # noqa: E402

ENDING = OutputStage(Activation.NONE, None, True, 0, 0.0, 255.0, False)
VARIANTS = [
    pytest.param(variant, id=f"{name}-{variant.name}")
    for name, target in TARGETS.items()
    for precision in precisions_of(target)
    for variant in variants_of(target, precision)
    if isinstance(variant, CpuVariant)
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variants_packed_values_are_multiplied_as_its_unit_says(variant) -> None:
    found = instructions(variant.precision, variant.features)
    assert found["float32"] == "float32"
    if variant.precision == "fp32":
        assert found == {"float32": "float32"}
        return
    kinds = {
        "vpdpbusd": "vpdpbusd", "vpdpbusd-256": "vpdpbusd",
        "vpmaddwd-512": "pmaddwd", "vpmaddwd": "pmaddwd",
        "vdpbf16ps": "vdpbf16ps", "sdot": "sdot", "smlal-pairs": "smlal",
    }  # fmt: skip
    assert kinds[found["packed"]] == variant.unit.dot.kind
    assert found["packed"].endswith("-512") == (
        variant.unit.dot.kind == "pmaddwd" and variant.unit.lanes == 16
    )
    assert ("int16" in found) == (variant.unit.dot.unpacked_dtype == "int16")


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_values_are_quicker_than_single_numbers(variant) -> None:
    rates = operations_a_cycle(variant.unit, variant.core.fmas)
    assert rates["float32"] == 2 * variant.unit.lanes * variant.core.fmas
    if variant.precision != "fp32":
        assert rates["packed"] > rates["float32"]


def block(dot, unit):
    """The kernels of a small block whose stages count as ``dot`` does."""
    stage = None if dot is VDPBF16PS else ENDING
    stages = [Arithmetic(dot, 0, stage, unpacked=whole) for whole in (True, False, False)]
    shape = BlockShape(8, 8, 16, 64, 16, arithmetic=BlockArithmetic(*stages))
    tiles = inverted_residual.tiles_for(shape, unit)
    return shape, inverted_residual.schedule("k", shape, tiles, unit)


@pytest.mark.parametrize(
    ("dot", "target", "precision", "single"),
    [
        (PMADDWD, "x86-64-v3", "int8", "float32"),
        (VPDPBUSD, "x86-64-v4", "int8", "gathered"),
        (SDOT, "rpi5", "int8", "int16"),
        (VDPBF16PS, "x86-64-v4", "bf16", "float32"),
    ],
)
def test_a_blocks_depthwise_is_counted_apart(dot, target, precision, single) -> None:
    units = (each.unit for each in variants_of(find_target(target), precision))
    unit = next(each for each in units if each.dot == dot)
    shape, kernels = block(dot, unit)
    taps = 2 * 64 * 64 * 9
    assert shape.single_flops == taps
    parts = [operations(kernel) for kernel in kernels]
    assert sum(sum(each.values()) for each in parts) == shape.flops
    assert parts[0] == {"packed": 2 * 64 * 16 * 64, single: taps}
    assert parts[1] == {"packed": 2 * 64 * 64 * 16}


def test_kernels_of_one_part() -> None:
    unit = find_variant("x86-64-v3").unit
    (kernel,) = depthwise.schedule("k", Window(6, 6, 8, kernel=(3, 3)), unit)[-1:]
    assert operations(kernel) == {"float32": kernel.flops}
    assert operations(elementwise.schedule("k", Elementwise(9, 5), unit)) == {}
    packed = Pointwise(9, 8, 8, arithmetic=Arithmetic(VPDPBUSD, 0, ENDING))
    (vnni,) = {variants_of(find_target("x86-64-v4"), "int8")[0].unit}
    (kernel,) = pointwise.schedule("k", packed, Tiles(3, 16), vnni)
    assert operations(kernel) == {"packed": 2 * 9 * 8 * 8}


def test_more_instructions_than_a_core_takes_cost_cycles() -> None:
    """On AVX2 a product of codes and its sum are two instructions: tiles that load less win."""
    _, variant = variants_of(find_target("x86-64-v3"), "int8")
    shape = Pointwise(96, 256, 96, arithmetic=Arithmetic(variant.unit.dot, 0, ENDING))

    def cycles(rows: int, columns: int) -> float:
        (kernel,) = pointwise.schedule("k", shape, Tiles(rows, columns), variant.unit)
        return kernel_cost(kernel, variant).arithmetic

    assert cycles(6, 16) < cycles(3, 24) < cycles(2, 32) < cycles(12, 8)
    # 12 products and sums, 6 packed, 2 vectors of weights and 4 for the loop: 36 of 4 a cycle.
    turns = 96 // 6 * (96 // 16) * 128
    assert cycles(6, 16) / turns == pytest.approx(9, rel=0.05)


@pytest.fixture(scope="module")
def files():
    """A small network's files by precision: its ONNX and its spec."""
    torch.manual_seed(0)
    net = trained(insert_shift(Own(), ["b", "c"]))
    spec = describe(net, name="n", labels=["a", "b", "c"], height=32, width=32)
    model = to_onnx(net, spec)
    equal = with_equal_std(spec)
    frames = normalised(moving_images(equal, 2), equal)
    return {"int8": quantized(model, equal, frames), "bf16": (model, spec), "fp32": (model, spec)}


@pytest.mark.parametrize(
    ("target", "precision", "packed"),
    [
        ("x86-64-v3", "int8", "vpdpbusd-256"),
        ("x86-64-v4", "int8", "vpdpbusd"),
        ("x86-64-v4", "bf16", "vdpbf16ps"),
        ("rpi4", "int8", "smlal-pairs"),
        ("rpi4", "fp32", None),
    ],
)
def test_the_shares_are_of_the_peak_that_is_named(files, target, precision, packed) -> None:
    variant = variants_of(find_target(target), precision)[0]
    step, _ = prepared(*files[precision], variant)
    rows = explain.rows(step, variant)
    rates = operations_a_cycle(variant.unit, variant.core.fmas)
    names = {name for row in rows for name in row["peak"]}
    assert names <= {packed or "float32", "float32", "smlal"}
    assert packed is None or packed in names
    for row in rows:
        assert sum(row["operations"].values()) == row["flops"]
        least = sum(count / rates[part] for part, count in row["operations"].items())
        assert row["peak_cycles"] == pytest.approx(least, abs=0.1)
        assert row["predicted_share_of_peak"] <= 1
        assert row["predicted_share_of_peak"] == pytest.approx(
            least / row["predicted_cycles"], abs=0.02
        )


def test_the_tables_columns(files) -> None:
    _, variant = variants_of(find_target("x86-64-v3"), "int8")
    step, _ = prepared(*files["int8"], variant)
    rows = explain.rows(step, variant)
    head, *lines, total = explain.table(rows, variant).splitlines()
    assert head.split()[-3:] == ["peak", "of", "tiles"]
    at = head.index(" peak of ", head.index("of peak") + 7) + 1
    for line, row in zip(lines, rows, strict=True):
        assert line[at:].split("  ")[0].strip() == (" + ".join(row["peak"]) or "-")
        assert f"{row['predicted_share_of_peak']:.0%}"[:-1] in line[:at]
    assert total.startswith("all ")
    # At 1 GHz of 32 operations a cycle a kernel that takes twice its cycles has half the share.
    seconds = [2e-9 * row["predicted_cycles"] for row in rows]
    timed = explain.table(rows, variant, seconds, 32e9).splitlines()
    for line, row in zip(timed[1:], rows, strict=False):
        predicted, measured = map(float, re.findall(r"([\d.]+) us", line))
        assert measured == pytest.approx(2 * predicted, abs=0.11)
        assert predicted == pytest.approx(row["predicted_cycles"] / 1e3, abs=0.06)
        share = float(re.findall(r"(\d+)%", line)[1]) / 100
        assert share == pytest.approx(row["predicted_share_of_peak"] / 2, abs=0.011)
    assert len(re.findall(r"(\d+)%", timed[-1])) == 2
