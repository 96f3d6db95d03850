"""Tiles by prediction: every sensible tiling of a kernel is scheduled and the cheapest is taken.

What is tried is little, since the shape of a good tile is known: as many accumulators as registers
allow beside the weights of one step, rows of pixels that leave no sliver at the end. What decides
between them, the channels' division into vectors, the edges of short sums, rows that outgrow the
first-level cache, is what ``cost`` predicts. The same model, target and version give the same
tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from shiftedge.export.compiler.backends.cpu.cost import kernel_cost
from shiftedge.export.compiler.backends.cpu.devices import CpuVariant
from shiftedge.export.compiler.backends.cpu.families import dense_conv as dense_rule
from shiftedge.export.compiler.backends.cpu.families import inverted_residual as block_rule
from shiftedge.export.compiler.backends.cpu.families import pointwise as point_rule
from shiftedge.export.compiler.backends.cpu.families import tail as tail_rule
from shiftedge.export.compiler.backends.cpu.families.dense_conv import DenseConv
from shiftedge.export.compiler.backends.cpu.families.inverted_residual import (
    BlockTiles,
    InvertedResidual,
)
from shiftedge.export.compiler.backends.cpu.families.pointwise import Pointwise
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    Tiles,
    best_divisor,
    most_rows,
    window_pixels,
)
from shiftedge.export.compiler.kernel_ir.kernel import Kernel

__all__ = ["dense_conv", "inverted_residual", "pointwise", "tail"]

T = TypeVar("T")
_SIGNIFICANT = 0.002
"""Of the cycles: what the model can tell apart."""


@lru_cache(maxsize=512)
def pointwise(shape: Pointwise, target: CpuVariant) -> Tiles:
    """Tiles of a pointwise convolution or a dense layer."""
    target = _for_dot(target, counts=shape.arithmetic is not None)
    default = point_rule.tiles_for(shape, target.unit)
    maps = shape.pixels * (shape.inputs + shape.outputs * (2 if shape.residual else 1))
    default = _ordered(default, shape.inputs, maps, target)
    candidates = (default, *_tilings(default, shape.pixels, shape.outputs, target))
    return _cheapest(
        candidates, lambda tiles: (point_rule.schedule("k", shape, tiles, target.unit),), target
    )


@lru_cache(maxsize=512)
def dense_conv(shape: DenseConv, target: CpuVariant) -> Tiles:
    """Tiles of a convolution with a window; whole lines or divisors of one."""
    target = _for_dot(target, counts=shape.arithmetic is not None)
    default = dense_rule.tiles_for(shape, target.unit)
    pixels = shape.out_height * shape.out_width
    maps = shape.padded.size + pixels * shape.outputs
    default = _ordered(default, shape.depth, maps, target)
    lines = _tilings(default, shape.out_width, shape.outputs, target)
    return _cheapest(
        (default, *lines),
        lambda tiles: dense_rule.schedule("k", shape, tiles, target.unit),
        target,
    )


@lru_cache(maxsize=512)
def tail(shape: Pointwise, target: CpuVariant) -> Tiles:
    """Tiles of the tail."""
    target = _for_dot(target, counts=shape.arithmetic is not None)
    default = tail_rule.tiles_for(shape, target.unit)
    candidates = (default, *_tilings(default, shape.pixels, shape.outputs, target))
    return _cheapest(
        candidates, lambda tiles: (tail_rule.schedule("k", shape, tiles, target.unit),), target
    )


@lru_cache(maxsize=512)
def inverted_residual(shape: InvertedResidual, target: CpuVariant) -> BlockTiles:
    """Tiles of a block: the expansion's with the band, then the project's."""
    target = _for_dot(target, counts=shape.arithmetic is not None)
    default = block_rule.tiles_for(shape, target.unit)

    def kernels(tiles: BlockTiles) -> tuple[Kernel, ...]:
        return block_rule.schedule("k", shape, tiles, target.unit)

    every = [default, *_blocks(default, shape, target)]
    kept = [tiles for tiles in every if not _crowded(tiles, shape, target)]
    return _cheapest(kept or every, kernels, target)


def _for_dot(target: CpuVariant, *, counts: bool) -> CpuVariant:
    """The target as kernels that count in integers see it."""
    if not counts:
        return target
    # Server processors and Zen 5 make two dot products of 512 bits a cycle, others one: tiles that
    # load little enough for two are as good for one.
    core = target.core
    if target.unit.lanes > 8:
        core = replace(core, fmas=max(core.fmas, 2))
    return target.using(unit=target.unit.for_dot(), core=core)


def _crowded(tiles: BlockTiles, shape: InvertedResidual, target: CpuVariant) -> bool:
    """Whether LLVM puts a sum on the stack: seen on NEON where a tile that fills the registers is
    part of an image's line, whose places in the bordered image then take registers too."""
    unit, rows = target.unit, tiles.expand.rows
    if unit.dot is not None and unit.dot.pairs:
        return False  # more registers are left free than that
    full = rows >= most_rows(unit, tiles.expand.columns // unit.lanes)
    return unit.by_lane and not tiles.band and full and rows < shape.width


def _blocks(
    default: BlockTiles, shape: InvertedResidual, target: CpuVariant
) -> Iterator[BlockTiles]:
    line = shape.width if default.band else shape.height * shape.width
    bands = {default.band}
    if default.band:
        bands |= {band for band in (1, 2, 4) if shape.out_height % band == 0}
    windows = {default.window, best_divisor(shape.out_width, window_pixels(target.unit))}
    for expand in _tilings(default.expand, line, shape.hidden, target):
        if expand.columns > -(-shape.hidden // target.unit.lanes) * target.unit.lanes:
            continue
        for band in sorted(bands):
            for window in sorted(windows):
                yield replace(
                    default, band=band, expand=expand, window=window, channels_outer=bool(band)
                )


def _ordered(tiles: Tiles, inputs: int, maps: int, target: CpuVariant) -> Tiles:
    """All pixels for one block of channels first, where blocks in turn would not stay in a cache.

    Measured on 3 x 3 x 64 over 56 x 56 (Zen 4): two blocks in turn 66% of the peak, one after the
    other 99%.
    """
    core = target.core
    block = 4 * inputs * tiles.columns
    outer = tiles.blocks_outer or (block > core.l1_bytes // 2 and 4 * maps > core.l2_bytes // 2)
    return replace(tiles, blocks_outer=outer)


def _tilings(default: Tiles, line: int, outputs: int, target: CpuVariant) -> Iterator[Tiles]:
    """Tiles of 1 to 4 vectors across and as many rows as registers allow, by three ways to end."""
    unit = target.unit
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


def _waiting(units: int, cores: int) -> float:
    """What a kernel takes, relative to its work, since its units cannot be cut: the mean over one,
    two and four threads, as far as the target has cores."""
    threads = [count for count in (1, 2, 4) if count <= cores]
    return sum(-(-units // count) * count / units for count in threads) / len(threads)


def _cheapest(
    candidates: Iterable[T], kernels: Callable[[T], tuple[Kernel, ...]], target: CpuVariant
) -> T:
    """The first of the cheapest."""
    best: tuple[float, T] | None = None
    for candidate in candidates:
        cycles = sum(
            kernel_cost(kernel, target).cycles * _waiting(kernel.units, target.cores)
            for kernel in kernels(candidate)
        )
        # A tie within what the model can tell apart goes to the default, which comes first.
        if best is None or cycles < best[0] * (1 - _SIGNIFICANT):
            best = (cycles, candidate)
    if best is None:
        raise ValueError("no tiles to choose from")
    return best[1]
