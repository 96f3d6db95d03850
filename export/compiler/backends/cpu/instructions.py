"""Which operations of a kernel multiply what, by which instruction, and how many a cycle.

A kernel may multiply packed values and, between them, single ones: an int8 depthwise stage, whose
channels do not sum, takes them unpacked, as float32 or of 16 bits. Each part is held against the
peak of its own instruction. Parts are named by what is multiplied:

packed    several elements of a lane at once, as the vector unit's ``Dot`` does
float32   numbers one by one
int16     quantised values one by one, of 16 bits (NEON)
gathered  lanes of a depthwise stage, in which a byte or more is of no use (AVX-512 VNNI)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shiftedge.export.compiler.backends.cpu.families.tiles import VectorUnit
from shiftedge.export.compiler.kernel_ir.kernel import Kernel, Segment, Tile

PACKED = "packed"
FLOAT32 = "float32"
INT16 = "int16"
GATHERED = "gathered"

_PACKED = {
    "int8": (
        ("avx512_vnni", "vpdpbusd"),
        ("avx512bw", "vpmaddwd-512"),
        ("avx_vnni", "vpdpbusd-256"),
        ("avx2", "vpmaddwd"),
        ("asimddp", "sdot"),
        ("asimd", "smlal-pairs"),
    ),
    "bf16": (("avx512_bf16", "vdpbf16ps"),),
    "fp32": (),
}
"""By a variant's precision, the features that it may ask for, best first, and what it then uses;
after ``targets.variants_of``. Instructions are named as ``benchmarks/peak_packed.c`` has them."""


def instructions(precision: str, features: Collection[str]) -> dict[str, str]:
    """What multiplies each part in the kernels of a variant: ``float32`` itself, and the others'
    instructions where the precision has them. ``features`` are what it asks for; of a machine
    without a variant, those that it has."""
    found = {FLOAT32: FLOAT32}
    for feature, instruction in _PACKED[precision]:
        if feature in features:
            found[PACKED] = instruction
            break
    if precision == "int8" and "asimd" in features:
        found[INT16] = "smlal"
    if found.get(PACKED) == "vpdpbusd":
        found[GATHERED] = "vpdpbusd"
    return found


def operations(kernel: Kernel) -> dict[str, int]:
    """The kernel's operations by part, 2 a multiply-add; empty where it multiplies nothing."""
    if not kernel.flops:
        return {}
    parts = {
        _part(tile, segment)
        for tile in kernel.tiles()
        for segment in tile.segments
        if segment.weight is not None
    }
    singles = sorted(parts - {PACKED})
    if PACKED not in parts or not singles:
        (part,) = parts
        return {part: kernel.flops}
    if len(singles) > 1 or not 0 < kernel.single_flops < kernel.flops:
        raise ValueError(f"{kernel.name}: single_flops does not say what each part multiplies")
    return {PACKED: kernel.flops - kernel.single_flops, singles[0]: kernel.single_flops}


def _part(tile: Tile, segment: Segment) -> str:
    if segment.dot is not None:
        return GATHERED if segment.gather else PACKED
    return FLOAT32 if tile.accumulator_dtype == "float32" else INT16


def operations_a_cycle(unit: VectorUnit, fmas: float) -> Mapping[str, float]:
    """The most that one core makes of each part, with so many multiply-adds of vectors a cycle."""
    single = 2 * unit.lanes * fmas
    found = {FLOAT32: single, INT16: single}
    if unit.dot is not None:
        found[PACKED] = found[GATHERED] = single * unit.dot.terms / unit.dot.slots
    return found
