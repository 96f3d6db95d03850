"""What families are parameterised by: the vector unit, and the sizes of tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from shiftedge.export.compiler.kernel_ir.kernel import BF16, Dot


class Caches(Protocol):
    """What lies close to a core."""

    @property
    def l1_bytes(self) -> int:
        """Of its data cache."""

    @property
    def l2_bytes(self) -> int:
        """Of its second-level cache."""


@dataclass(frozen=True)
class VectorUnit:
    name: str
    """Of the instructions, for people and kernels' names."""
    lanes: int
    """float32 numbers a register holds."""
    registers: int
    by_lane: bool = False
    """A multiply-add can take its number from a lane of a vector."""
    dot: Dot | None = None
    """How it multiplies packed values; None where that is no quicker than multiply-adds of
    float32."""

    def for_dot(self) -> VectorUnit:
        """The unit for the tiles of kernels that multiply packed values.

        With packed values from lanes a tile that fills the registers makes LLVM keep sums on the
        stack (A76: 7 x 12, beside which a step's weights and values leave no register); two more
        are then left free. Sums of pairs take two registers more on their way, and a broadcast's
        order one. Where products are added by an instruction of their own they need a register on
        the way: on AVX2 (Zen 3, of 160 GOP/s that its instructions reach without loads) 6 x 16
        makes 142, 4 x 24 makes 90 to 120.
        """
        pairs = self.dot is not None and self.dot.pairs
        added = self.dot is not None and self.dot.kind == "pmaddwd"
        free = (4 if pairs else 2) if self.by_lane else int(added)
        return replace(self, registers=self.registers - free)


PMADDWD = Dot("pmaddwd", terms=2, dtype="int16", slots=4 / 3, instructions=2)
"""AVX2: 16-bit pairs, twice a multiply-add's products; weights become 16 bits as they are loaded.
Their sum is added by an instruction of its own. On Intel since Haswell two of the three vector
units multiply and all three add (uops.info: vpmaddwd p01, vpaddd p015), so 1.5 pairs of
instructions go in a cycle where 2 multiply-adds do: 4/3. Zen 3 makes 1.57, see
``benchmarks/peak_packed.c``.
Of 8 bits there is vpmaddubsw, whose sums saturate at 16 bits: 255 * 127 twice is too much for it.
"""
_PMADDWD_512 = replace(PMADDWD, slots=1)
"""One multiply-add of 512 bits a cycle, which ``targets`` reckons with, leaves room for a pair: on
Intel vpmaddwd goes to p05 and vpaddd to p05, on Zen 4 each takes two of four units for half of it.
"""
VPDPBUSD = Dot("vpdpbusd", terms=4, dtype="uint8", unpacked_dtype="int32")
"""AVX-512 VNNI: unsigned values times signed weights, added to 32 bits at once. A depthwise stage
gathers lanes from values that have 32 bits each: three dots a 3 x 3 window instead of nine
multiply-adds."""
SDOT = Dot("sdot", terms=4, dtype="int8", storage_offset=128, unpacked_dtype="int16")
"""Armv8.2 dot product: both signed. Its widening multiply-add of 16 bits is one of as many lanes as
a multiply-add of float32, on half the bytes, and values need no rounding to be kept for it."""
SMLAL = Dot(
    "smlal",
    terms=4,
    dtype="int8",
    storage_offset=128,
    unpacked_dtype="int16",
    pairs=True,
    slots=2,
    instructions=3,
)
"""Armv8.0, which has no dot product: two products of bytes are summed in 16 bits, which hold them
as long as no weight is -128; then pairs of these in 32."""
SMULL = replace(SMLAL, kind="smull")
"""The same for any weights: each product is summed in 32 bits."""
VDPBF16PS = Dot("vdpbf16ps", terms=2, dtype=BF16, accumulator_dtype="float32")
"""AVX512_BF16: pairs of bfloat16, added to float32."""
AVX512 = VectorUnit("avx512", lanes=16, registers=32, dot=_PMADDWD_512)
AVX512_VNNI = VectorUnit("avx512", lanes=16, registers=32, dot=VPDPBUSD)
AVX512_BF16 = VectorUnit("avx512", lanes=16, registers=32, dot=VDPBF16PS)
AVX2 = VectorUnit("avx2", lanes=8, registers=16, dot=PMADDWD)
AVX2_VNNI = VectorUnit(
    "avx2", lanes=8, registers=16, dot=replace(VPDPBUSD, unpacked_dtype="float32")
)
"""AVX-VNNI: processors without AVX-512, which have no shift over two registers either."""
NEON = VectorUnit("neon", lanes=4, registers=32, by_lane=True)
NEON_DOT = VectorUnit("neon", lanes=4, registers=32, by_lane=True, dot=SDOT)
NEON_PAIRS = VectorUnit("neon", lanes=4, registers=32, by_lane=True, dot=SMLAL)
NEON32 = VectorUnit("neon", lanes=4, registers=16)


@dataclass(frozen=True)
class Tiles:
    """A matrix product's tiling: blocks of ``columns`` channels by tiles of ``rows`` pixels."""

    rows: int
    columns: int
    """A multiple of the lanes; and half the lanes more if ``folded``."""
    folded: bool = False
    """The half vector sums even and odd inputs in turn, see ``kernel_ir.kernel.Part``: no lane is
    idle with 24 channels on 16 lanes. Inputs come in even numbers from each buffer."""
    prefetch: bool = True
    """Ask for the next block's weights while this one's are used. Worth 10% of the whole step."""
    blocks_outer: bool = True
    """All pixels for one block of channels, then the next block: weights are read once. Otherwise
    all channels for one tile of pixels: features are read once."""

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


def _fitting(rows: int, line: int) -> int:
    """At most ``rows``, whole lines or a divisor of one, if that is not under half of it."""
    if not line:
        return rows
    fit = best_divisor(line, rows) if line > rows else rows // line * line
    return fit if 2 * fit > rows else rows


WEIGHTS_IN_CACHE = 256 * 1024  # bytes; half of the smallest L2 among the targets (A76: 512 KiB)


# Rows of a tile for so many vectors across: accumulators leave room for those vectors of weights
# and one of features. 7 x 64 and anything 16 high spill on AVX-512.
_WIDE_ROWS = {1: 14, 2: 14, 3: 7, 4: 6}
_NARROW_ROWS = {1: 12, 2: 6}


def most_rows(unit: VectorUnit, across: int) -> int:
    """Rows of a tile so many vectors wide whose sums fit the registers, beside the weights of a
    step and what they are multiplied with: a number, or with ``by_lane`` a vector of each row."""
    if unit.by_lane:
        return (unit.registers - across - 1) // (across + 1)
    return (unit.registers - across - 1) // across


def default_tiles(
    pixels: int, inputs: int, outputs: int, unit: VectorUnit, line: int = 0, *, even: bool = False
) -> Tiles:
    """Tiles that are good without a search: as many accumulators as registers allow, less spill.

    On AVX-512 7x48, 14x32 and 6x64 were measured best, by which divides the channels. A step of
    14 rows loads 16 vectors for 28 multiply-adds, of 7x48 10 for 21; two vectors of weights and
    one of features stay outside the accumulators. With ``line``, an image's width, a tile is whole
    rows or divides one where that costs little, so that addresses need no division. ``even``:
    inputs come in even numbers from each buffer, as folded tiles need.
    """
    lanes = unit.lanes
    if even and 2 * outputs % (3 * lanes) == 0 and outputs % lanes and lanes >= 8:
        # One and a half vectors across; beside the sums, weights of two inputs. 12 rows spill.
        rows = min(pixels, 8 if unit.registers >= 32 else 4)
        rows = _fitting(rows, line) if line else -(-pixels // -(-pixels // rows))
        return Tiles(rows, 3 * lanes // 2, folded=True, blocks_outer=False)
    vectors = -(-outputs // lanes)
    wide = unit.registers >= 24
    # By preference: no channel block left over, then the squarest tile: 7 x 12 on NEON.
    candidates = ((2, 3, 4) if wide else (2,)) if vectors > 1 else (1,)
    square = 3 if unit.by_lane else 2
    if unit.dot is not None and unit.dot.pairs:
        square = 4  # turns of a pixel's values serve more channels, and blocks are whole registers
    across = min(candidates, key=lambda n: (-vectors % n, abs(n - square)))
    most = (_WIDE_ROWS if wide else _NARROW_ROWS)[across]
    rows = min(pixels, most, most_rows(unit, across))
    # Without lines: the last tile should not be a sliver. 49 pixels as 3 x 13 + 10, not 3 x 14 + 7.
    rows = _fitting(rows, line) if line else -(-pixels // -(-pixels // rows))
    outer = 4 * inputs * outputs > WEIGHTS_IN_CACHE
    # Arm's prefetchers follow the weights by themselves, and a hint is an instruction of a few
    # ten; asking once a tile instead costs x86-64 5% of the step, where requests then pile up.
    return Tiles(rows, across * lanes, prefetch=not unit.by_lane, blocks_outer=outer)


def tilings(default: Tiles, line: int, outputs: int, unit: VectorUnit) -> Iterator[Tiles]:
    """``default`` with 1 to 4 vectors across and as many rows as registers allow, by three ways to
    end; ``line`` are the pixels of all or of an image's line."""
    vectors = -(-outputs // unit.lanes)
    for across in range(1, min(4, vectors) + 1):
        most = min(most_rows(unit, across), line)
        if most < 1:
            continue
        rows = {most, -(-line // -(-line // most)), best_divisor(line, most)}
        if unit.by_lane and most > 1:
            rows.add(most - 1)
        if line > 14:
            rows.add(best_divisor(line, min(most, 14)))
        for number in sorted(rows):
            if 2 * number >= min(most, 14):
                yield replace(default, rows=number, columns=across * unit.lanes, folded=False)


def in_order(tiles: Tiles, inputs: int, maps: int, core: Caches) -> Tiles:
    """All pixels for one block of channels first, where blocks in turn would not stay in a cache.

    Measured on 3 x 3 x 64 over 56 x 56 (Zen 4): two blocks in turn 66% of the peak, one after the
    other 99%. ``inputs`` are of a channel, ``maps`` the numbers of all maps.
    """
    block = 4 * inputs * tiles.columns
    outer = block > core.l1_bytes // 2 and 4 * maps > core.l2_bytes // 2
    return replace(tiles, blocks_outer=tiles.blocks_outer or outer)


def window_pixels(unit: VectorUnit) -> int:
    """Pixels of a depthwise tile whose sums stay in registers. On NEON the taps' weights and the
    rows' numbers are operands of their own, and LLVM holds many of them."""
    return 8 if unit.by_lane else min(14, unit.registers - 4)


def best_divisor(number: int, most: int) -> int:
    return max(each for each in range(1, min(number, most) + 1) if number % each == 0)
