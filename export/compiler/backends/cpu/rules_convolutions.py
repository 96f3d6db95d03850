"""Rules for convolutions: pointwise, with a window, over the frame's bytes, depthwise, grouped.

Where a convolution counts in integers it multiplies words, but for a depthwise one, which takes
codes as whole numbers of float32. That is exact as long as no sum of products can leave 23 bits,
which the weights tell; one whose sums can multiplies words as groups of one channel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu import choose
from shiftedge.export.compiler.backends.cpu.conv_constants import (
    ConvConstants,
    count,
    frame_constants,
    in_pairs,
    weights_of,
)
from shiftedge.export.compiler.backends.cpu.families import (
    dense_conv,
    depthwise,
    grouped_conv,
    pointwise,
)
from shiftedge.export.compiler.backends.cpu.families.arithmetic import Arithmetic
from shiftedge.export.compiler.backends.cpu.families.dense_conv import DenseConv
from shiftedge.export.compiler.backends.cpu.families.tiles import Tiles
from shiftedge.export.compiler.backends.cpu.rules_maps import Maps
from shiftedge.export.compiler.graph.fusion import ConvKernel, Linear
from shiftedge.export.compiler.graph.graph import Conv, Quantization
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.kernel import BF16
from shiftedge.export.compiler.kernel_ir.kernel import Kernel as Scheduled
from shiftedge.export.compiler.numerics.requantize import exact_in_float32
from shiftedge.runtime.errors import CompileError

__all__ = ["Convolutions"]


class Convolutions(Maps):
    """Kernels of one convolution."""

    def convolution(self, kernel: ConvKernel) -> None:
        """One convolution, with what runs in its kernel."""
        conv, unit = kernel.conv, self.target.unit
        padded = conv.groups == 1 and not conv.pointwise
        shift, _, arguments = self.shift(kernel.join, conv.inputs[0], any_join=padded)
        has_residual = kernel.residual is not None
        if kernel.residual is not None:
            arguments["residual"] = self.source(kernel.residual)
        arguments["out"] = self.value(kernel.out)
        kind = kernel.activation
        height, width, channels = self.map_of(conv.inputs[0])
        frame = self.reads_frame(conv)
        if conv.pointwise and not frame:
            constants = self.count(kernel)
            point = pointwise.Pointwise(
                height * width,
                channels,
                int(conv.weight.shape[0]),
                shift,
                has_residual,
                kind,
                constants.arithmetic,
            )
            tiles = choose.pointwise(point, self.target)
            name = self.name("pointwise")
            scheduled: tuple[Scheduled, ...] = (pointwise.schedule(name, point, tiles, unit),)
            packed = self.pack_pointwise(conv, constants, tiles, shift)
        elif conv.groups == 1:
            dense = replace(
                self.dense_shape(conv, shift, frame=frame),
                begin=kernel.join.begin if kernel.join else None,
                residual=has_residual,
                activation=kind,
            )
            constants = self.count(kernel, dense if frame else None)
            dense = replace(dense, arithmetic=constants.arithmetic)
            tiles = choose.dense_conv(dense, self.target)
            name = self.name("convolution")
            scheduled = dense_conv.schedule(name, dense, tiles, unit)
            packed = dense_conv.pack(
                weights_of(conv),
                constants.start,
                dense,
                tiles,
                unit,
                constants.scale,
                constants.offset,
            )
            if frame:
                arguments["x"] = Argument(Memory.FRAME)
            if dense.padded.tables:
                arguments.update(self.normalisation(dense.padded))
        elif conv.depthwise and exact_in_float32(conv):
            window = self.window_of(conv.inputs[0], conv.kernel)
            window = replace(window, stride=conv.stride, padding=conv.padding, shift=shift)
            constants = self.count(kernel, unpacked=True)
            name = self.name("depthwise")
            scheduled = depthwise.schedule(
                name, window, unit, kind, has_residual, constants.arithmetic
            )
            packed = depthwise.pack(
                weights_of(conv), constants.start, constants.scale, constants.offset
            )
        else:
            name, scheduled, packed = self._grouped(kernel, shift)
        arguments.update(self.pack(name, packed))
        family = scheduled[-1].note.split(",")[0]
        self.call_all(scheduled, arguments, family, kernel.name)

    def pack_pointwise(
        self, conv: Conv, constants: ConvConstants, tiles: Tiles, shift: int
    ) -> dict[str, NDArray[Any]]:
        """Constants of a pointwise convolution as ``pointwise`` and ``tail`` read them."""
        return pointwise.pack(
            weights_of(conv)[:, :, 0, 0],
            constants.start,
            tiles,
            self.target.unit,
            shift=shift,
            arithmetic=constants.arithmetic,
            scale=constants.scale,
            offset=constants.offset,
        )

    def count(
        self, kernel: ConvKernel, frame: DenseConv | None = None, *, unpacked: bool = False
    ) -> ConvConstants:
        """How a convolution counts; ``whole``: its kernel takes codes as whole numbers."""
        conv = kernel.conv
        if conv.quantized_weight is None:
            return ConvConstants(self.bf16_arithmetic(conv, kernel.out), conv.bias)
        linear = Linear(conv, kernel.activation, kernel.quantization)
        quantization = self.graph.quantization
        residual = None if kernel.residual is None else quantization[kernel.residual]
        if frame is not None:
            return self.frame_constants(linear, frame, residual=residual)
        source = quantization[conv.inputs[0]]
        return count(linear, source, self.dot(), residual=residual, unpacked_source=unpacked)

    def bf16_arithmetic(self, conv: Conv, out: str, *, unpacked: bool = False) -> Arithmetic | None:
        """How a convolution over maps of bfloat16 counts; None of float32.

        Args:
            conv: the convolution.
            out: the value that its kernel makes.
            whole: that is no value in memory: keep the result as float32.

        Raises:
            CompileError: it makes a map of a vector.
        """
        if self.target.precision != "bf16":
            return None
        made = self.dtype_of(out) == BF16
        if self.dtype_of(conv.inputs[0]) != BF16:
            if made:
                raise CompileError(
                    f"{conv.name!r} makes a map of a vector, which has no rule in bf16: compile "
                    "the model in fp32."
                )
            return None
        packed = in_pairs(conv, self.graph)
        return Arithmetic(self.dot(), 0, None, unpacked=unpacked or not made, packed=packed)

    def reads_frame(self, conv: Conv) -> bool:
        """Whether its kernel reads the camera's bytes: one that counts does even where the frame
        is a map of numbers too."""
        frame = conv.inputs[0] == self.graph.frame
        return frame and (conv.quantized_weight is not None or not self.has_frame_map())

    def frame_constants(
        self,
        linear: Linear,
        shape: DenseConv,
        *,
        residual: Quantization | None = None,
        unpacked: bool = False,
    ) -> ConvConstants:
        """The same for the first convolution; ``whole``: its result is kept as whole numbers."""
        std = self.spec.std
        if len(set(std)) > 1:
            raise CompileError(
                f"The model's standard deviations differ between colours ({std}), and its first "
                "convolution counts in integers; quantise the model with `shiftedge quantize`."
            )
        return frame_constants(
            linear, shape, self.spec.mean, std[0], self.dot(), residual=residual, unpacked=unpacked
        )

    def _grouped(
        self, kernel: ConvKernel, shift: int
    ) -> tuple[str, tuple[Scheduled, ...], dict[str, NDArray[Any]]]:
        conv, unit = kernel.conv, self.target.unit
        height, width, channels = self.map_of(conv.inputs[0])
        constants = self.count(kernel)
        shape = grouped_conv.GroupedConv(
            height=height,
            width=width,
            inputs=channels,
            outputs=int(conv.weight.shape[0]),
            groups=conv.groups,
            kernel=conv.kernel,
            stride=conv.stride,
            padding=conv.padding,
            shift=shift,
            residual=kernel.residual is not None,
            activation=kernel.activation,
            arithmetic=constants.arithmetic,
        )
        tiles = grouped_conv.tiles_for(shape, unit)
        name = self.name("grouped")
        scheduled = grouped_conv.schedule(name, shape, tiles, unit)
        packed = grouped_conv.pack(
            weights_of(conv), constants.start, shape, tiles, unit, constants.scale, constants.offset
        )
        return name, scheduled, packed

    def dense_shape(self, conv: Conv, shift: int, *, frame: bool) -> DenseConv:
        """Of a convolution with a window."""
        height, width, channels = self.map_of(conv.inputs[0])
        return DenseConv(
            height=height,
            width=width,
            inputs=channels,
            outputs=int(conv.weight.shape[0]),
            kernel=conv.kernel,
            stride=conv.stride,
            padding=conv.padding,
            shift=shift,
            frame=frame,
        )
