"""The inverted residual's shape, its tiles, and its weights as its kernels read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu.families import product
from shiftedge.export.compiler.backends.cpu.families.arithmetic import (
    Arithmetic,
    dot_of,
    pack_inputs,
    packed_bias,
    packed_rows,
    packed_runs,
    terms_of,
)
from shiftedge.export.compiler.backends.cpu.families.dense_conv import DenseConv, weight_rows
from shiftedge.export.compiler.backends.cpu.families.tiles import (
    Tiles,
    VectorUnit,
    best_divisor,
    default_tiles,
    window_pixels,
)
from shiftedge.export.compiler.graph.graph import Activation
from shiftedge.export.compiler.kernel_ir.kernel import Gather

__all__ = ["BlockArithmetic", "BlockTiles", "InvertedResidual", "pack", "tiles_for"]

Array = NDArray[np.float32]


_GATHERED = 4
"""Codes in a word that is gathered: bytes of 32 bits."""


@dataclass(frozen=True)
class BlockArithmetic:
    """How a block counts: codes in integers, or bfloat16 in float32.

    The expanded map is kept as the dot product's ``whole`` says. As whole numbers of float32 (AVX2)
    a filter of k x k of them sums up to 255 * 127 * k^2, exact in float32 up to 22 x 22, so that
    the depthwise takes multiply-adds of float32, one each, where codes would first have to be
    widened. Of bfloat16 too it is float32.
    """

    expand: Arithmetic | None
    """None without an expand."""
    depthwise: Arithmetic
    """Its ``zero`` is the expanded map's border, as a code."""
    project: Arithmetic

    @property
    def quantized(self) -> bool:
        """Whether it counts in integers."""
        return self.depthwise.quantized


@dataclass(frozen=True)
class InvertedResidual:
    """Shape of a block."""

    height: int
    width: int
    inputs: int
    hidden: int
    outputs: int
    stride: int = 1
    kernel: int = 3
    """Odd; padded with kernel // 2 zeros at each side."""
    expand: bool = True
    """False: the depthwise reads the input; hidden must equal inputs."""
    stem: DenseConv | None = None
    """The network's first convolution in the place of the expand: its outputs are this block's
    hidden channels, its output's size this block's, its inputs these inputs."""
    shift: int = 0
    """Channels that the expand reads from the state; 0 for no shift."""
    residual: bool = False
    """Add a map of the output's shape, usually the block's input."""
    expand_activation: Activation = Activation.RELU6
    depthwise_activation: Activation = Activation.RELU6
    arithmetic: BlockArithmetic | None = None
    """With codes; activations are part of its endings."""

    @property
    def pad(self) -> int:
        return self.kernel // 2

    @property
    def out_height(self) -> int:
        return (self.height + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def out_width(self) -> int:
        return (self.width + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def expand_depth(self) -> int:
        """Products summed for one expanded number."""
        return self.stem.depth if self.stem else self.inputs

    @property
    def expand_rows(self) -> int:
        """Rows of the expand's weights: products, or words of codes."""
        if self.stem:
            return self.stem.rows
        arithmetic = self.arithmetic.expand if self.arithmetic else None
        return packed_rows(self.inputs, self.shift, terms_of(arithmetic))

    @property
    def expand_runs(self) -> tuple[int, ...]:
        """Of them, those of each of its innermost loops."""
        if self.stem:
            return self.stem.runs
        arithmetic = self.arithmetic.expand if self.arithmetic else None
        return packed_runs(self.inputs, self.shift, terms_of(arithmetic))

    @property
    def gather(self) -> Gather | None:
        """How the depthwise puts words together, where it counts in words."""
        if self.arithmetic is None or self.arithmetic.depthwise.dot.unpacked_dtype != "int32":
            return None
        return Gather(self.kernel, self.stride)

    @property
    def packed_taps(self) -> int:
        """Then those of a row of its window."""
        return -(-self.kernel // _GATHERED)

    @property
    def project_rows(self) -> int:
        """Rows of the project's weights."""
        arithmetic = self.arithmetic.project if self.arithmetic else None
        return packed_rows(self.hidden, 0, terms_of(arithmetic))

    @property
    def flops(self) -> int:
        pixels, out_pixels = self.height * self.width, self.out_height * self.out_width
        expand = 2 * pixels * self.expand_depth * self.hidden if self.expand else 0
        taps = self.kernel * self.kernel
        return expand + 2 * out_pixels * self.hidden * (taps + self.outputs)

    @property
    def single_flops(self) -> int:
        """Of them, those of stages that multiply single numbers, or words that they gather: the
        depthwise, and an expand whose elements are not taken in words."""
        stage = self.arithmetic.expand if self.arithmetic else None
        alone = replace(self, outputs=0, expand=self.expand and dot_of(stage) is None)
        return alone.flops


@dataclass(frozen=True)
class BlockTiles:
    """Tiling of a block. ``expand.columns`` is the block of hidden channels of all stages."""

    band: int
    """Output rows of a work unit, a divisor of all; 0 for the phased form."""
    expand: Tiles
    window: int
    """Output pixels of a depthwise tile, of one vector of channels each."""
    project: Tiles
    channels_outer: bool = False
    """The depthwise takes one vector of channels over all rows of the band, with its weights in
    registers, rather than all vectors row by row."""


def tiles_for(shape: InvertedResidual, unit: VectorUnit) -> BlockTiles:
    """The default tiles; see the module's docstring of ``tiles``."""
    out_pixels = shape.out_height * shape.out_width
    phased = shape.expand and not shape.stem and shape.height * shape.width <= _PHASED_PIXELS
    pixels = shape.height * shape.width if phased else shape.width
    expand = default_tiles(pixels, shape.expand_rows, shape.hidden, unit, line=shape.width)
    expand = Tiles(expand.rows, expand.columns, prefetch=phased and expand.prefetch)
    band = 0
    if not phased:
        row_bytes = 4 * shape.hidden * (shape.stride * shape.width + shape.out_width)
        band = best_divisor(shape.out_height, max(1, min(4, _BAND_BYTES // row_bytes)))
    project_pixels = out_pixels if phased else band * shape.out_width
    even = (
        shape.hidden % 2 == 0 and not shape.arithmetic
    )  # blocks of whole vectors, and what is left over
    project = default_tiles(project_pixels, shape.project_rows, shape.outputs, unit, even=even)
    window = best_divisor(shape.out_width, window_pixels(unit))
    if window < 4:
        window = min(shape.out_width, window_pixels(unit))
    return BlockTiles(band, expand, window, project)


_PHASED_PIXELS = 14 * 14  # with 32 hidden channels and borders 32 KiB, within any L1
_BAND_BYTES = 192 * 1024  # expanded and depthwise rows of a band, within any L2


def pack(
    weights: dict[str, NDArray[Any]], shape: InvertedResidual, tiles: BlockTiles, unit: VectorUnit
) -> dict[str, NDArray[Any]]:
    """The weights as the kernels read them, under the same names.

    ``weights``: ``expand_weight`` (hidden, inputs), or a stem's (hidden, inputs, kernel height,
    kernel width); ``depthwise_weight`` (hidden, kernel, kernel); ``project_weight`` (outputs,
    hidden); and ``expand_bias``, ``depthwise_bias``, ``project_bias``. With codes weights are
    int8, biases whole numbers, and there are ``expand_scale`` and so on, and ``expand_offset`` and
    so on where they have one; a stem's is by classes of places.
    """
    lanes, block = unit.lanes, tiles.expand.columns
    more = -shape.hidden % block
    taps = shape.kernel * shape.kernel
    depthwise = np.pad(weights["depthwise_weight"].reshape(shape.hidden, taps), ((0, more), (0, 0)))
    packed = {
        "depthwise_weight": depthwise.reshape(-1, block, taps).transpose(0, 2, 1).copy().ravel(),
        "depthwise_bias": np.pad(weights["depthwise_bias"], (0, more)).astype(np.float32),
    }
    arithmetic = shape.arithmetic
    counts = arithmetic.project if arithmetic else None
    bias = packed_bias(weights["project_bias"], weights["project_weight"], counts)
    packed["project_bias"] = product.pack_bias(bias, lanes)
    project = pack_inputs(weights["project_weight"], 0, counts)
    runs = product.blocked_runs(shape.hidden, block, terms_of(counts))
    packed["project_weight"] = product.pack_weights(
        project, tiles.project, lanes, dot_of(counts), runs
    )
    if arithmetic and arithmetic.quantized:
        dtype = arithmetic.depthwise.dot.unpacked_dtype
        if shape.gather:
            packed["depthwise_weight"] = _gathered(depthwise, shape, block)
        else:
            packed["depthwise_weight"] = packed["depthwise_weight"].astype(dtype)
        if dtype != "float32":
            packed["depthwise_bias"] = np.pad(weights["depthwise_bias"], (0, more))
        for name in ("project_scale", "project_offset"):
            if name in weights:
                packed[name] = product.pack_bias(weights[name], lanes)
        for name in ("depthwise_scale", "depthwise_offset", "expand_scale", "expand_offset"):
            if name in weights:
                wide = [(0, 0)] * (weights[name].ndim - 1) + [(0, more)]
                packed[name] = np.pad(weights[name], wide).ravel()
    if shape.expand:
        expand = weights["expand_weight"]
        if shape.stem:
            expand = weight_rows(expand, shape.stem)
        else:
            expand = pack_inputs(expand, shape.shift, arithmetic.expand if arithmetic else None)
        expand = np.pad(expand, ((0, more), (0, 0)))
        counts = arithmetic.expand if arithmetic else None
        packed["expand_weight"] = product.pack_weights(
            expand, tiles.expand, lanes, dot_of(counts), shape.expand_runs
        )
        bias = packed_bias(weights["expand_bias"], weights["expand_weight"], counts)
        packed["expand_bias"] = np.pad(bias, (0, more))
    return packed


def _gathered(weight: NDArray[Any], shape: InvertedResidual, block: int) -> NDArray[Any]:
    """(channels, taps), int8, as [block][row of the window][word][channel]; see ``Gather``."""
    rows = weight.reshape(-1, shape.kernel, shape.kernel)
    more = _GATHERED * shape.packed_taps - shape.kernel
    codes = np.ascontiguousarray(np.pad(rows, ((0, 0), (0, 0), (more, 0))))
    packed_taps = codes.view(np.int32).reshape(-1, block, shape.kernel * shape.packed_taps)
    packed: NDArray[Any] = packed_taps.transpose(0, 2, 1).ravel()
    return packed
