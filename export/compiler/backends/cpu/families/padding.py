"""A map with its border: what convolutions with a window read, so that they test no bound.

Copies (height, width, channels) into a larger map whose border is constant. On the way it joins
the state's channels for a shift, or turns the camera's bytes into normalised numbers. One pass
through the second-level cache; 3 x 3 convolutions read each number 9 times after that. Work units
are rows of the padded map.

For a grouped convolution of packed values there is a map for each group, one after the other: a
window's row of one group is then contiguous, and its lanes need not end with a pixel.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Const, Index, Var

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Sliding:
    """What slides a window over a map."""

    height: int
    width: int
    _: KW_ONLY
    kernel: tuple[int, int]
    """Height, width."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Rows above, columns left, rows below, columns right; zeros."""
    shift: int = 0
    """Channels that come from the state; 0 for no shift."""

    @property
    def out_height(self) -> int:
        padded = self.height + self.padding[0] + self.padding[2]
        return (padded - self.kernel[0]) // self.stride[0] + 1

    @property
    def out_width(self) -> int:
        padded = self.width + self.padding[1] + self.padding[3]
        return (padded - self.kernel[1]) // self.stride[1] + 1


@dataclass(frozen=True)
class Padding:
    height: int
    width: int
    channels: int
    border: tuple[int, int, int, int]
    """Rows above, columns left, rows below, columns right."""
    shift: int = 0
    """Channels that come from the state; 0 for no shift."""
    frame: bool = False
    """The map is a camera frame: uint8, each number times a scale plus an offset."""
    reverse: bool = False
    """Each pixel's channels in the other order: B, G, R to R, G, B. Of a frame only."""
    fill: float = 0.0
    """Of the border."""
    begin: int | None = None
    """First channel of the map that is taken; by default ``shift``, those before are replaced."""
    dtype: str = "float32"
    """Of the padded map, and of a map that is no frame. A frame's bytes are uint8 as they are."""
    storage_offset: int = 0
    """What is subtracted from a frame's bytes, and was from a map's values, see ``Dot``."""
    zero: int = 0
    """What a state's values lack."""
    unpacked: bool = False
    """The padded map is float32: values without their storage offset."""
    groups: int = 1
    """The padded map is so many, each of its share of the channels."""

    @property
    def tables(self) -> bool:
        """Whether a scale and an offset make numbers of a frame's bytes."""
        return self.frame and self.dtype in ("float32", ir.BF16)

    @property
    def first(self) -> int:
        """First channel of the map that is taken."""
        return self.shift if self.begin is None else self.begin

    @property
    def line(self) -> int:
        """Elements of a padded row, of one group."""
        return (self.width + self.border[1] + self.border[3]) * self.group_channels

    @property
    def group_channels(self) -> int:
        """Of one of the maps that are made."""
        return self.channels // self.groups

    @property
    def rows(self) -> int:
        """Padded rows."""
        return self.height + self.border[0] + self.border[2]

    @property
    def size(self) -> int:
        return self.groups * self.rows * self.line

    @property
    def needed(self) -> bool:
        """Whether the map could not be read as it is."""
        changed = self.shift > 0 or self.frame or self.unpacked or self.groups > 1
        return any(self.border) or changed


def schedule(name: str, shape: Padding) -> ir.Kernel:
    """The kernel: parameters x, [state], [scale, offset], padded."""
    if shape.frame and shape.shift:
        raise ValueError(f"{name}: a camera frame has no state's channels")
    if shape.groups > 1 and (shape.frame or shape.unpacked):
        raise ValueError(f"{name}: only values are taken apart into groups as they are")
    padded = ir.Buffer("padded", shape.size, "output", "float32" if shape.unpacked else shape.dtype)
    return ir.Kernel(
        name=name,
        buffers=(*inputs(shape), padded),
        units=shape.rows,
        body=_row_of_groups(shape, ir.UNIT, padded)
        if shape.groups > 1
        else row(shape, ir.UNIT, padded, ir.UNIT * shape.line),
        note="padding",
    )


def before(kernel: ir.Kernel, shape: Padding) -> tuple[ir.Kernel, ...]:
    """``kernel``, which reads the map with its border, behind what makes that, if it is needed."""
    return (schedule(f"{kernel.name}_padded", shape), kernel) if shape.needed else (kernel,)


def inputs(shape: Padding) -> tuple[ir.Buffer, ...]:
    """x, [state], [scale, offset]."""
    numbers = shape.width * (shape.channels - shape.shift + shape.first)
    dtype = "uint8" if shape.frame else shape.dtype
    buffers = [ir.Buffer("x", shape.height * numbers, dtype=dtype)]
    if shape.shift:
        size = shape.height * shape.width * shape.shift
        buffers.append(ir.Buffer("state", size, dtype=shape.dtype))
    if shape.tables:
        buffers += [ir.Buffer("scale", numbers, "weight"), ir.Buffer("offset", numbers, "weight")]
    return tuple(buffers)


def row(shape: Padding, number: Index, target: ir.Buffer, start: Index) -> tuple[ir.Statement, ...]:
    """Makes padded row ``number``, in ``target`` from ``start`` on."""
    left = shape.border[1] * shape.channels
    image = _image(shape, (number - shape.border[0]) * shape.width, target, start + left)
    before, after = _sides(shape, target, start)
    outside = (ir.Fill(target.at(start), shape.line, shape.fill),)
    return _bordered(shape, number, (*before, *image, *after), outside)


def _sides(
    shape: Padding, target: ir.Buffer, start: Index
) -> tuple[tuple[ir.Statement, ...], tuple[ir.Statement, ...]]:
    """The border at the left and the right of a row that begins at ``start``."""

    def fill(first: int, count: int) -> tuple[ir.Statement, ...]:
        return (ir.Fill(target.at(start + first), count, shape.fill),) if count else ()

    left = shape.border[1] * shape.group_channels
    right = left + shape.width * shape.group_channels
    return fill(0, left), fill(right, shape.line - right)


def _bordered(
    shape: Padding, number: Index, body: tuple[ir.Statement, ...], outside: tuple[ir.Statement, ...]
) -> tuple[ir.Statement, ...]:
    """What makes row ``number``: ``body`` inside the image, ``outside`` above and below."""
    top = shape.border[0]
    if shape.border[2]:
        body = (ir.If(number.below(top + shape.height), body, outside),)
    if top:
        body = (ir.If(number.below(top), outside, body),)
    return body


def _row_of_groups(shape: Padding, number: Index, target: ir.Buffer) -> tuple[ir.Statement, ...]:
    """Makes padded row ``number`` of every group's map."""
    group, column, share = Var("group"), Var("column of image"), shape.group_channels
    start = group * (shape.rows * shape.line) + number * shape.line
    sides = tuple(side for both in _sides(shape, target, start) for side in both)
    body: tuple[ir.Statement, ...] = ()
    if sides:
        body = (ir.Loop(group, Const(0), Const(shape.groups), sides),)
    pixel = (number - shape.border[0]) * shape.width + column
    place = start + (column + shape.border[1]) * share
    # Groups of the state alone, the one that it ends in, and those of the map alone.
    whole, rest = divmod(shape.shift, share)
    for first, end, kept in (
        (0, whole, share),
        (whole, whole + (rest > 0), rest),
        (whole + (rest > 0), shape.groups, 0),
    ):
        if first < end:
            copies = _of_group(shape, pixel, group * share, target, place, kept)
            pixels = ir.Loop(column, Const(0), Const(shape.width), copies)
            body += (ir.Loop(group, Const(first), Const(end), (pixels,)),)
    lines = ir.Fill(target.at(start), shape.line, shape.fill)
    outside = (ir.Loop(group, Const(0), Const(shape.groups), (lines,)),)
    return _bordered(shape, number, body, outside)


def _of_group(
    shape: Padding, pixel: Index, channel: Index, target: ir.Buffer, place: Index, kept: int
) -> tuple[ir.Statement, ...]:
    """A pixel of a group whose channels begin at ``channel``: the first ``kept`` are a state's."""
    x, *states = inputs(shape)
    parts: tuple[ir.Statement, ...] = ()
    plus = shape.storage_offset if shape.unpacked else 0
    if kept:
        state = states[0].at(pixel * shape.shift + channel)
        parts += (ir.Copy(state, target.at(place), kept, plus=plus, before=shape.zero),)
    rest = shape.group_channels - kept
    if rest:
        pitch = shape.channels - shape.shift + shape.first
        source = x.at(pixel * pitch + (channel + (shape.first - shape.shift + kept)))
        parts += (ir.Copy(source, target.at(place + kept), rest, plus=plus),)
    return parts


def _image(
    shape: Padding, pixel: Index, target: ir.Buffer, start: Index
) -> tuple[ir.Statement, ...]:
    """A row without its border, of the pixels from ``pixel`` on."""
    channels, width, shift = shape.channels, shape.width, shape.shift
    x, *others = inputs(shape)
    if shape.reverse:
        return _reversed(shape, pixel, target, start)
    if not shift:
        scale, offset = (table.at(0) for table in others) if others else (None, None)
        plus = -shape.storage_offset if shape.frame and not shape.tables else 0
        plus = shape.storage_offset if shape.unpacked else plus
        source, made = x.at(pixel * channels), target.at(start)
        return (ir.Copy(source, made, width * channels, scale, offset, plus),)
    column = Var("column of image")
    place = start + column * channels
    parts = _of_group(shape, pixel + column, Const(0), target, place, shift)
    return (ir.Loop(column, Const(0), Const(width), parts),)


def _reversed(
    shape: Padding, pixel: Index, target: ir.Buffer, start: Index
) -> tuple[ir.Statement, ...]:
    """A row of a frame, channel by channel; 3 copies of one number a pixel."""
    x, scale, offset = inputs(shape)
    channels, column = shape.channels, Var("column of image")
    first = column * channels
    copies = tuple(
        ir.Copy(
            x.at(pixel * channels + first + number),
            target.at(start + first + (channels - 1 - number)),
            1,
            scale.at(first + number),
            offset.at(first + number),
        )
        for number in range(channels)
    )
    return (ir.Loop(column, Const(0), Const(shape.width), copies),)


def normalisation(mean: tuple[float, ...], std: tuple[float, ...], width: int) -> dict[str, Array]:
    """``scale`` and ``offset`` that make (byte / 255 - mean) / std of each byte of a row.

    ``mean`` and ``std`` are in the frame's order of channels, so B, G, R for a camera's frame, of
    ``width`` pixels a row.
    """
    scale = 1.0 / (255.0 * np.asarray(std))
    offset = -np.asarray(mean) / np.asarray(std)
    return {
        "scale": np.tile(scale, width).astype(np.float32),
        "offset": np.tile(offset, width).astype(np.float32),
    }
