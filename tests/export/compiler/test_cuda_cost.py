"""The cost model of GPUs: what it counts, what must hold of any prediction, and that a choice by
counts in closed form is as good as one by walking. Against the emulated GPU it is held in
``codegen/test_cuda_code.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from shiftedge.export.compiler.backends.cuda import cost, explain
from shiftedge.export.compiler.backends.cuda.devices import GPUS, SM_53, SM_87, SM_90
from shiftedge.export.compiler.backends.cuda.families import product, tensor
from shiftedge.export.compiler.backends.cuda.families.product import BlockProduct, ThreadTiles
from shiftedge.export.compiler.kernel_ir.calls import Call, Step

SHAPES = {
    "many pixels": BlockProduct(56, 56, 24, 56, 56, 144),
    "projection": BlockProduct(56, 56, 144, 56, 56, 24),
    "few pixels": BlockProduct(7, 7, 320, 7, 7, 160),
    "3 x 3": BlockProduct(14, 14, 64, 14, 14, 64, (3, 3), (1, 1), (1, 1, 1, 1)),
    "shifted": BlockProduct(14, 14, 64, 14, 14, 96, shift=8),
}


def kernel(shape: BlockProduct, tiles: ThreadTiles | None = None):
    return product.schedule("k", shape, tiles or product.choose(shape, SM_53))


@pytest.mark.parametrize("name", SHAPES)
def test_closed_form_and_walk_count_alike(name: str) -> None:
    shape = SHAPES[name]
    for tiles in (product.choose(shape, SM_53), ThreadTiles(8, 4), ThreadTiles(16, 2, 4, 12)):
        guessed, walked = product.counts(shape, tiles), cost.count(kernel(shape, tiles))
        for kind in ("multiply-add", "shared load", "shared store", "global load", "barrier"):
            assert guessed.instructions[kind] == pytest.approx(walked.instructions[kind], rel=0.01)
        assert guessed.issued == pytest.approx(walked.issued, rel=0.1)
        assert guessed.wavefronts == pytest.approx(walked.wavefronts, rel=0.05)
        assert guessed.way == pytest.approx(walked.way, rel=0.2)
        assert guessed.bytes == pytest.approx(walked.bytes, rel=0.1)
        assert guessed.shared == walked.shared


@pytest.mark.parametrize("arch", ["sm_75", "sm_87"])
@pytest.mark.parametrize("name", SHAPES)
def test_closed_form_and_walk_of_tensor_cores(name: str, arch: str) -> None:
    shape = replace(SHAPES[name], source="float16", made="float16")
    tiles = tensor.choose(shape, GPUS[arch])
    guessed, made = tensor.counts(shape, tiles), tensor.schedule("k", shape, tiles)
    walked = cost.count(made)
    for kind in ("tensor", "shared load", "shared store"):
        assert guessed.instructions[kind] == walked.instructions.get(kind, 0)
    assert guessed.issued == pytest.approx(walked.issued, rel=0.4)
    assert guessed.wavefronts == walked.wavefronts
    assert guessed.shared == walked.shared
    assert walked.conflicts == 1.0
    assert guessed.registers == walked.registers
    assert cost.predict(made, GPUS[arch]).parts["tensor cores"] > 0


@pytest.mark.parametrize("gpu", [SM_53, SM_87, SM_90], ids=lambda gpu: gpu.arch)
@pytest.mark.parametrize("name", ["projection", "few pixels"])
def test_the_choice_is_near_the_best(name: str, gpu) -> None:
    """Of some tilings, walked."""
    shape = SHAPES[name]
    chosen = cost.predict(kernel(shape, product.choose(shape, gpu)), gpu).microseconds
    for tiles in (ThreadTiles(8, 2), ThreadTiles(8, 4), ThreadTiles(16, 2, 4, 8)):
        other = cost.predict(kernel(shape, tiles), gpu).microseconds
        assert chosen <= 1.1 * other, tiles


@pytest.mark.parametrize("name", SHAPES)
def test_limits_of_shared_memory(name: str) -> None:
    """Each device's tiles: few conflicts, whole sectors where outputs allow, what a block has."""
    shape = SHAPES[name]
    for gpu in GPUS.values():
        made = cost.count(kernel(shape, product.choose(shape, gpu)))
        assert made.conflicts <= 1.2
        assert made.used >= 0.9
        assert made.shared <= gpu.shared_per_block


@given(some.sampled_from(sorted(SHAPES)), some.sampled_from(sorted(GPUS)))
@settings(deadline=None, max_examples=20)
def test_a_better_device_is_no_slower(name: str, arch: str) -> None:
    shape, gpu = SHAPES[name], GPUS[arch]
    made = kernel(shape)
    before = cost.predict(made, gpu)
    for better in (
        replace(gpu, mhz=2 * gpu.mhz),
        replace(gpu, gb_per_s=2 * gpu.gb_per_s),
        replace(gpu, multiprocessors=2 * gpu.multiprocessors),
        replace(gpu, launch_us=0.0),
    ):
        after = cost.predict(made, better)
        assert after.microseconds <= before.microseconds
        assert after.bound in after.parts
    assert before.microseconds >= 1e-3 * made.flops / gpu.peak_gflops


def test_bank_conflicts_by_hand() -> None:
    lanes, every = cost.np.arange(32), cost.np.ones(32, bool)
    assert cost.banks(lanes * 4, every, 4) == (1, 1)
    assert cost.banks(lanes * 8, every, 4) == (1, 2)
    assert cost.banks(lanes * 128, every, 4) == (1, 32)
    assert cost.banks(lanes * 0, every, 4) == (1, 1)
    assert cost.banks(lanes * 16, every, 16) == (4, 4)
    assert cost.banks(lanes % 9 * 16, every, 16)[1] > 4
    assert cost.banks(lanes * 2, every, 2) == (1, 1)
    assert cost.banks(lanes * 4, lanes < 0, 4) == (0, 0)


def test_explained() -> None:
    made = kernel(SHAPES["few pixels"])
    step = Step((Call("k", made, {}, "product", "node"),), {}, (), (), (), 0)
    (row,) = rows = explain.rows(step, SM_53)
    assert row["bound"] in row["microseconds"]
    assert row["predicted_microseconds"] == pytest.approx(
        max(v for k, v in row["microseconds"].items() if k != "launch") + SM_53.launch_us, abs=0.02
    )
    text = explain.table(rows)
    assert row["tiles"] in text
    assert text.splitlines()[-1].startswith("all")
