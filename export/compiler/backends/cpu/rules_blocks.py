"""Rules for kernels of several convolutions: the inverted residual and the tail.

What their schedules do not take (a depthwise window with an uneven border, a last map whose 0 is
not the code 0) is made of smaller kernels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cpu import choose
from shiftedge.export.compiler.backends.cpu.conv_constants import (
    ConvConstants,
    count,
    in_pairs,
    weights_of,
)
from shiftedge.export.compiler.backends.cpu.families import inverted_residual, pointwise, tail
from shiftedge.export.compiler.backends.cpu.families.dense_conv import DenseConv
from shiftedge.export.compiler.backends.cpu.families.inverted_residual import BlockArithmetic
from shiftedge.export.compiler.backends.cpu.rules_convolutions import Convolutions
from shiftedge.export.compiler.graph.fusion import ConvKernel, InvertedResidual, Tail
from shiftedge.export.compiler.graph.graph import Activate, Activation, Add, Conv, Mean, Operator
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.numerics.requantize import exact_in_float32, mean_constants

__all__ = ["Blocks"]

Array = NDArray[np.float32]


class Blocks(Convolutions):
    """Kernels of several convolutions."""

    def inverted_residual(self, kernel: InvertedResidual) -> None:
        """[Shift and] expand or stem, depthwise, project [and a sum]."""
        conv = kernel.depthwise.conv
        size, pad = conv.kernel[0], conv.kernel[0] // 2
        regular = (
            conv.kernel == (size, size)
            and size % 2
            and size >= 3
            and conv.stride[0] == conv.stride[1]
            and conv.padding == (pad,) * 4
            and exact_in_float32(conv)
        )
        if not regular:
            self._apart(kernel)
            return
        head = kernel.stem or kernel.expand
        first = (head or kernel.depthwise).conv
        shift, _, inputs = self.shift(kernel.join, first.inputs[0])
        height, width, _ = self.map_of(conv.inputs[0])
        project = kernel.project.conv
        stem = None
        if kernel.stem is not None:
            frame = self.reads_frame(kernel.stem.conv)
            stem = self.dense_shape(kernel.stem.conv, 0, frame=frame)
            if frame:
                inputs = {"x": Argument(Memory.FRAME)}
        arithmetic, constants = self._block_arithmetic(kernel, stem)
        if stem is not None and arithmetic is not None:
            stem = replace(stem, arithmetic=arithmetic.expand)
        if stem is not None and stem.padded.tables:
            inputs.update(self.normalisation(stem.padded))
        shape = inverted_residual.InvertedResidual(
            height=height,
            width=width,
            inputs=self.map_of(first.inputs[0])[2],
            hidden=int(conv.weight.shape[0]),
            outputs=int(project.weight.shape[0]),
            stride=conv.stride[0],
            kernel=size,
            expand=head is not None,
            stem=stem,
            shift=shift,
            residual=kernel.residual is not None,
            expand_activation=Activation.NONE if head is None else head.activation,
            depthwise_activation=kernel.depthwise.activation,
            arithmetic=arithmetic,
        )
        weights: dict[str, NDArray[Any]] = {
            "depthwise_weight": weights_of(conv)[:, 0],
            "depthwise_bias": conv.bias,
            "project_weight": weights_of(project)[:, :, 0, 0],
            "project_bias": project.bias,
        }
        if head is not None:
            stem_weight = weights_of(head.conv)
            weights["expand_weight"] = stem_weight if stem else stem_weight[:, :, 0, 0]
            weights["expand_bias"] = head.conv.bias
        weights.update(constants)
        unit = self.target.unit
        tiles = choose.inverted_residual(shape, self.target)
        name = self.name("first_block" if stem else "inverted_residual")
        scheduled = inverted_residual.schedule(name, shape, tiles, unit)
        arguments = {
            **inputs,
            **self.pack(name, inverted_residual.pack(weights, shape, tiles, unit)),
            "out": self.value(kernel.out),
        }
        if kernel.residual is not None:
            arguments["residual"] = self.source(kernel.residual)
        family = "first convolution and block" if stem else "inverted residual"
        self.call_all(scheduled, arguments, family, kernel.name)

    def _block_arithmetic(
        self, kernel: InvertedResidual, stem: DenseConv | None
    ) -> tuple[BlockArithmetic | None, dict[str, NDArray[Any]]]:
        """How a block counts, and what its sums begin and end with; or None and nothing."""
        depthwise, project = kernel.depthwise, kernel.project
        if self.target.precision == "bf16":
            return self._bf16_block(kernel), {}
        if depthwise.conv.quantized_weight is None or depthwise.quantization is None:
            return None, {}
        quantization, dot = self.graph.quantization, self.dot()
        head = kernel.stem or kernel.expand
        constants: dict[str, NDArray[Any]] = {}
        expand, source = None, None
        if head is None:
            source = quantization[depthwise.conv.inputs[0]]
        elif stem is not None and stem.frame:
            expand = self.frame_constants(head, stem, unpacked=True)
        else:
            expand = count(head, quantization[head.conv.inputs[0]], dot, unpacked=True)
        if head is not None:
            source = head.quantization
        if source is None:
            raise ValueError(f"{kernel.name}: a depthwise convolution of codes without codes")
        residual = None if kernel.residual is None else quantization[kernel.residual]
        stages = {
            "depthwise": count(depthwise, source, dot, unpacked_source=True),
            "project": count(project, depthwise.quantization, dot, residual=residual),
        }
        if expand is not None:
            stages["expand"] = expand
        for name, made in stages.items():
            values = {"bias": made.start, "scale": made.scale, "offset": made.offset}
            constants |= {f"{name}_{key}": each for key, each in values.items() if each is not None}
        depthwise_counts, project_counts = (
            stages["depthwise"].arithmetic,
            stages["project"].arithmetic,
        )
        if depthwise_counts is None or project_counts is None:
            raise ValueError(f"{kernel.name}: some of its convolutions do not count")
        expand_counts = None if expand is None else expand.arithmetic
        found = BlockArithmetic(expand_counts, depthwise_counts, project_counts)
        return found, constants

    def _bf16_block(self, kernel: InvertedResidual) -> BlockArithmetic | None:
        """The same of maps of bfloat16; what the project reads is kept so, whatever its size."""
        head = kernel.stem or kernel.expand
        first = self.bf16_arithmetic((head or kernel.depthwise).conv, kernel.out, unpacked=True)
        if first is None:
            return None
        unpacked = self.dtype_of(kernel.out) == "float32"
        packed = in_pairs(kernel.project.conv, self.graph)
        return BlockArithmetic(
            None if head is None else first,
            replace(first, unpacked=False, packed=False),
            replace(first, unpacked=unpacked, packed=packed),
        )

    def _apart(self, kernel: InvertedResidual) -> None:
        """The same as separate convolutions."""
        join = kernel.join
        for part in (kernel.stem or kernel.expand, kernel.depthwise):
            if part is not None:
                own = tuple(each for each in kernel.operators if self._belongs(each, part.conv))
                quantization = part.quantization
                self.convolution(
                    ConvKernel(own, join, part.conv, None, part.activation, quantization)
                )
                join = None
        project = kernel.project
        conv, quantization = project.conv, project.quantization
        last = tuple(each for each in kernel.operators if each is conv or isinstance(each, Add))
        self.convolution(
            ConvKernel(last, None, conv, kernel.residual, Activation.NONE, quantization)
        )

    @staticmethod
    def _belongs(operator: Operator, conv: Conv) -> bool:
        """Whether it is the convolution or its activation."""
        return operator is conv or (
            isinstance(operator, Activate) and operator.inputs == (conv.out,)
        )

    def tail(self, kernel: Tail) -> None:
        """[Shift and] pointwise, mean, dense."""
        conv, dense = kernel.pointwise.conv, kernel.dense
        height, width, _ = self.map_of(conv.out)
        quantization = kernel.pointwise.quantization
        if quantization is not None and (
            quantization.zero_point or 255 * height * width >= 1 << 24
        ):
            self._tail_apart(kernel)
            return
        shift, _, inputs = self.shift(kernel.join, conv.inputs[0])
        unit = self.target.unit
        counted, factor = (
            ConvConstants(self.bf16_arithmetic(conv, conv.out, unpacked=True), conv.bias),
            None,
        )
        if conv.quantized_weight is not None and quantization is not None:
            (average,) = (each for each in kernel.operators if isinstance(each, Mean))
            constants = mean_constants(average, quantization, height * width)
            source = self.graph.quantization[conv.inputs[0]]
            counted = count(kernel.pointwise, source, self.dot(), unpacked=True)
            factor = float(constants.scale)
        shape = pointwise.Pointwise(
            height * width,
            int(conv.weight.shape[1]),
            int(conv.weight.shape[0]),
            shift=shift,
            activation=kernel.pointwise.activation,
            arithmetic=counted.arithmetic,
        )
        tiles = choose.tail(shape, self.target)
        name = self.name("tail")
        packed = self.pack_pointwise(conv, counted, tiles, shift)
        mean = Argument(Memory.WORKSPACE, f"{name}.mean")
        self.call(
            tail.schedule(name, shape, tiles, unit, factor=factor),
            {**inputs, **self.pack(name, packed), "out": mean},
            "tail",
            conv.name,
        )
        self.dense(dense, mean)

    def _tail_apart(self, kernel: Tail) -> None:
        """The same as a convolution, a mean and a dense layer."""
        point, dense = kernel.pointwise, kernel.dense
        *own, average, _ = kernel.operators
        if not isinstance(average, Mean):
            raise ValueError(f"{kernel.name}: a tail without a mean before its dense layer")
        self.convolution(
            ConvKernel(
                tuple(own), kernel.join, point.conv, None, point.activation, point.quantization
            )
        )
        self.mean(average)
        self.dense(dense, self.value(dense.inputs[0]))
