"""Dense convolutions as matrix products: their shape, and how a thread reads a pixel's channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.families.threads import Body, where, within
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel
from shiftedge.export.compiler.graph.graph import is_vector
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.calls import Argument
from shiftedge.export.compiler.kernel_ir.index import Index, minimum

_SECTOR = 32
"""Bytes of a pixel that a turn takes: 8 channels of float32, 16 of float16."""
_WIDE = 16
"""Bytes that a thread loads at once."""


@dataclass(frozen=True)
class BlockProduct:
    """Shape of a dense convolution."""

    height: int
    width: int
    inputs: int
    out_height: int
    out_width: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    shift: int = 0
    residual: bool = False
    activation: Activation = Activation.NONE
    source: str = "float32"
    """Type of the maps that it reads, state and residual too."""
    made: str = "float32"

    @property
    def pixels(self) -> int:
        return self.out_height * self.out_width

    @property
    def half(self) -> bool:
        """Whether it multiplies numbers of half precision."""
        return self.source == "float16"

    @property
    def depth(self) -> int:
        """Input channels of a turn."""
        return _SECTOR // (2 if self.half else 4)

    @property
    def run(self) -> int:
        """Neighbouring columns of a thread: what it loads at once."""
        return _WIDE // (2 if self.half else 4)

    @property
    def vector(self) -> int:
        """Input channels that a thread brings at once."""
        fits = (count for count in (self.run, 4) if self.inputs % count == 0)
        return next(fits, 1)

    @property
    def plain(self) -> bool:
        """An output pixel reads the input pixel of its own number."""
        sides = self.kernel == (1, 1) and self.stride == (1, 1)
        return sides and not any(self.padding)


def is_product(kernel: FusedKernel, context: GpuContext) -> bool:
    """Whether a kernel is a dense convolution over a map."""
    if not isinstance(kernel, ConvKernel) or kernel.conv.groups > 1:
        return False
    return not is_vector(context.graph.shapes[kernel.conv.inputs[0]])


def product_of(kernel: ConvKernel, context: GpuContext) -> tuple[BlockProduct, dict[str, Argument]]:
    """A convolution's shape, and its arguments but for constants; a join that is no shift of its
    first channels is made before."""
    conv, join, shift, arguments = kernel.conv, kernel.join, 0, {}
    source = conv.inputs[0]
    if join is not None and join.begin == context.map_of(join.inputs[0])[2]:
        state, source = join.inputs
        shift = join.begin
        arguments["state"] = context.value(state)
    elif join is not None:
        source = context.whole(kernel)
    height, width, channels = context.map_of(source)
    out_height, out_width, outputs = context.map_of(kernel.out)
    shape = BlockProduct(
        height, width, channels, out_height, out_width, outputs, conv.kernel, conv.stride,
        conv.padding, shift, kernel.residual is not None, kernel.linear.activation,
        context.dtype_of(source), context.dtype_of(kernel.out),
    )  # fmt: skip
    return shape, {**arguments, "x": context.value(source), **context.ends(kernel)}


class ProductInput:
    """The map that is read, and the state in front of its channels."""

    def __init__(self, shape: BlockProduct, channels: int) -> None:
        """``channels`` is how many are asked for: those that a pixel has not are 0."""
        self.shape, self._channels = shape, channels
        self.x = ir.Buffer("x", shape.height * shape.width * shape.inputs, dtype=shape.source)
        size = shape.height * shape.width * shape.shift
        self.state = ir.Buffer("state", max(1, size), dtype=shape.source)

    @property
    def buffers(self) -> tuple[ir.Buffer, ...]:
        return (self.x, self.state) if self.shape.shift else (self.x,)

    def read(self, pixel: Index, tap: Index, channel: Index, to: ir.Access, count: int) -> Body:
        """``count`` channels from ``channel`` on of what output ``pixel`` reads at a ``tap``, into
        registers; pixels behind the last are the last again."""
        shape = self.shape
        place = minimum(pixel, shape.pixels - 1)
        conditions: list[Index] = []
        if not shape.plain:
            row = place // shape.out_width * shape.stride[0] + tap // shape.kernel[1]
            at = place % shape.out_width * shape.stride[1] + tap % shape.kernel[1]
            top, left, bottom, behind = shape.padding
            conditions = within(row, top, shape.height, shape.height + top + bottom - 1)
            conditions += within(at, left, shape.width, shape.width + left + behind - 1)
            place = (row - top) * shape.width + (at - left)
        if shape.inputs < self._channels:
            conditions.append(channel.below(shape.inputs))
        read = where(conditions, self._shifted(place, channel, to, count))
        return (ir.Fill(to, count), *read) if conditions else read

    def _shifted(self, place: Index, channel: Index, to: ir.Access, count: int) -> Body:
        """Of the state where they are its."""
        shape = self.shape
        own = ir.Copy(self.x.at(place * shape.inputs + channel), to, count)
        if not shape.shift:
            return (own,)
        kept = place * shape.shift + channel
        if shape.shift % count == 0:
            before = ir.Copy(self.state.at(kept), to, count)
            return (ir.If(channel.below(shape.shift), (before,), (own,)),)
        piece = math.gcd(shape.shift, count)
        pieces = (
            ir.If(
                (channel + each).below(shape.shift),
                (ir.Copy(self.state.at(kept + each), to.buffer.at(to.position + each), piece),),
            )
            for each in range(0, count, piece)
        )
        return (own, *pieces)
