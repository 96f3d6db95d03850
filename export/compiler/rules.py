"""Which schedule makes which kernel, and what each of its buffers is.

One method a family. What a family's schedule does not take (a depthwise window with an uneven
border inside an inverted residual, a join that is no shift) is made of smaller kernels here, so
that every graph the frontend reads can be lowered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler import choose
from shiftedge.export.compiler.builder import Builder
from shiftedge.export.compiler.calls import Argument, Memory, Step
from shiftedge.export.compiler.fusion import (
    ConvKernel,
    InvertedResidual,
    Kernel,
    Tail,
    fuse,
)
from shiftedge.export.compiler.graph import (
    Activate,
    Activation,
    Add,
    Conv,
    Dense,
    Graph,
    Join,
    KeepState,
    Mean,
    Mul,
    Operator,
    Pool,
)
from shiftedge.export.compiler.schedules import (
    dense_conv,
    depthwise,
    elementwise,
    grouped_conv,
    inverted_residual,
    padding,
    pointwise,
    pool,
    tail,
)
from shiftedge.export.compiler.schedules.elementwise import Elementwise, Operation
from shiftedge.export.compiler.schedules.padding import Padding
from shiftedge.export.compiler.schedules.window import Window
from shiftedge.export.compiler.targets import Target
from shiftedge.export.compiler.tir_kernel import Kernel as Scheduled
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["lower"]

Array = NDArray[np.float32]


def lower(graph: Graph, spec: ModelSpec, target: Target) -> Step:
    """Choose a schedule, tiles and buffers for every kernel of ``graph``.

    Raises:
        CompileError: an operator has no rule; the message names its node.
    """
    return _Lowering(graph, spec, target).step()


class _Lowering(Builder):
    def step(self) -> Step:
        kernels, kept = fuse(self.graph)
        if self._frame_is_a_map(kernels, kept):
            self.normalise()
        for kernel in kernels:
            self._kernel(kernel)
        for state in kept:
            self.keep(state)
        return self.finish()

    # The frame.

    def _frame_is_a_map(self, kernels: Sequence[Kernel], kept: Sequence[KeepState]) -> bool:
        """Whether anything but one first convolution reads the frame."""
        frame = self.graph.frame
        first = [kernel for kernel in kernels if frame in kernel.reads]
        kept_of_frame = any(frame in state.inputs for state in kept)
        return kept_of_frame or not all(self._reads_bytes(kernel) for kernel in first)

    def _reads_bytes(self, kernel: Kernel) -> bool:
        if isinstance(kernel, InvertedResidual):
            return kernel.stem is not None and kernel.residual != self.graph.frame
        return (
            isinstance(kernel, ConvKernel)
            and kernel.join is None
            and kernel.conv.groups == 1
            and kernel.residual != self.graph.frame
        )

    # Families.

    def _kernel(self, kernel: Kernel) -> None:
        if isinstance(kernel, InvertedResidual):
            self._inverted_residual(kernel)
        elif isinstance(kernel, Tail):
            self._tail(kernel)
        elif isinstance(kernel, ConvKernel):
            self._convolution(kernel)
        else:
            self._single(kernel)

    def _shift(
        self, join: Join | None, source: str, *, any_join: bool = False
    ) -> tuple[int, str, dict[str, Argument]]:
        """Channels of the state, the map behind them, and both as arguments.

        A join that drops other channels than it brings is made as a map first, but for who takes
        ``any_join``.
        """
        if join is None:
            return 0, source, {"x": self.value(source)}
        state, features = join.inputs
        channels = self.map_of(state)[2]
        if join.begin != channels and not any_join:
            self._join(join)
            return 0, join.out, {"x": self.value(join.out)}
        arguments = {"x": self.value(features), "state": self.value(state)}
        return channels, features, arguments

    def _join(self, join: Join) -> None:
        height, width, channels = self.map_of(join.out)
        state = self.map_of(join.inputs[0])[2]
        shape = Padding(height, width, channels, (0, 0, 0, 0), shift=state, begin=join.begin)
        arguments = {
            "x": self.value(join.inputs[1]),
            "state": self.value(join.inputs[0]),
            "padded": self.value(join.out),
        }
        self.call(padding.schedule(self.name("join"), shape), arguments, "join", join.name)

    def _inverted_residual(self, kernel: InvertedResidual) -> None:
        conv = kernel.depthwise.conv
        size, pad = conv.kernel[0], conv.kernel[0] // 2
        regular = (
            conv.kernel == (size, size)
            and size % 2
            and size >= 3
            and conv.stride[0] == conv.stride[1]
            and conv.padding == (pad,) * 4
        )
        if not regular:
            self._apart(kernel)
            return
        head = kernel.stem or kernel.expand
        first = (head or kernel.depthwise).conv
        shift, _, inputs = self._shift(kernel.join, first.inputs[0])
        height, width, _ = self.map_of(conv.inputs[0])
        project = kernel.project.conv
        stem = None
        if kernel.stem is not None:
            frame = not self.has_frame_map()
            stem = self._dense_shape(kernel.stem.conv, 0, frame=frame)
            if frame:
                inputs = {"x": Argument(Memory.FRAME), **self.normalisation(stem.padded)}
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
        )
        weights = {
            "depthwise_weight": conv.weight[:, 0],
            "depthwise_bias": conv.bias,
            "project_weight": project.weight[:, :, 0, 0],
            "project_bias": project.bias,
        }
        if head is not None:
            stem_weight = head.conv.weight
            weights["expand_weight"] = stem_weight if stem else stem_weight[:, :, 0, 0]
            weights["expand_bias"] = head.conv.bias
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
            arguments["residual"] = self.value(kernel.residual)
        family = "first convolution and block" if stem else "inverted residual"
        self.call_all(scheduled, arguments, family, kernel.name)

    def _apart(self, kernel: InvertedResidual) -> None:
        """The same as separate convolutions."""
        join = kernel.join
        for part in (kernel.stem or kernel.expand, kernel.depthwise):
            if part is not None:
                own = tuple(each for each in kernel.operators if self._belongs(each, part.conv))
                self._convolution(ConvKernel(own, join, part.conv, None, part.activation))
                join = None
        conv = kernel.project.conv
        last = tuple(each for each in kernel.operators if each is conv or isinstance(each, Add))
        self._convolution(ConvKernel(last, None, conv, kernel.residual, Activation.NONE))

    @staticmethod
    def _belongs(operator: Operator, conv: Conv) -> bool:
        """Whether it is the convolution or its activation."""
        return operator is conv or (
            isinstance(operator, Activate) and operator.inputs == (conv.out,)
        )

    def _tail(self, kernel: Tail) -> None:
        conv, dense = kernel.pointwise.conv, kernel.dense
        shift, source, inputs = self._shift(kernel.join, conv.inputs[0])
        height, width, _ = self.map_of(source)
        unit = self.target.unit
        shape = pointwise.Pointwise(
            height * width,
            int(conv.weight.shape[1]),
            int(conv.weight.shape[0]),
            shift=shift,
            activation=kernel.pointwise.activation,
        )
        tiles = choose.tail(shape, self.target)
        name = self.name("tail")
        packed = pointwise.pack(conv.weight[:, :, 0, 0], conv.bias, tiles, unit)
        mean = Argument(Memory.WORKSPACE, f"{name}.mean")
        self.call(
            tail.schedule(name, shape, tiles, unit),
            {**inputs, **self.pack(name, packed), "out": mean},
            "tail",
            conv.name,
        )
        self._dense(dense, mean)

    def _dense(self, dense: Dense, source: Argument) -> None:
        unit = self.target.unit
        outputs, inputs = (int(size) for size in dense.weight.shape)
        shape = pointwise.Pointwise(1, inputs, outputs)
        tiles = choose.pointwise(shape, self.target)
        name = self.name("dense")
        packed = pointwise.pack(dense.weight, dense.bias, tiles, unit)
        self.call(
            pointwise.schedule(name, shape, tiles, unit),
            {"x": source, **self.pack(name, packed), "out": self.value(dense.out)},
            "dense",
            dense.name,
        )

    def _dense_shape(self, conv: Conv, shift: int, *, frame: bool) -> dense_conv.DenseConv:
        height, width, channels = self.map_of(conv.inputs[0])
        return dense_conv.DenseConv(
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

    def _convolution(self, kernel: ConvKernel) -> None:
        conv, unit = kernel.conv, self.target.unit
        padded = conv.groups == 1 and not conv.pointwise
        shift, _, arguments = self._shift(kernel.join, conv.inputs[0], any_join=padded)
        has_residual = kernel.residual is not None
        if kernel.residual is not None:
            arguments["residual"] = self.value(kernel.residual)
        arguments["out"] = self.value(kernel.out)
        kind = kernel.activation
        height, width, channels = self.map_of(conv.inputs[0])
        frame = conv.inputs[0] == self.graph.frame and not self.has_frame_map()
        if conv.pointwise and not frame:
            point = pointwise.Pointwise(
                height * width, channels, int(conv.weight.shape[0]), shift, has_residual, kind
            )
            tiles = choose.pointwise(point, self.target)
            name = self.name("pointwise")
            scheduled: tuple[Scheduled, ...] = (pointwise.schedule(name, point, tiles, unit),)
            packed = pointwise.pack(conv.weight[:, :, 0, 0], conv.bias, tiles, unit)
        elif conv.groups == 1:
            dense = replace(
                self._dense_shape(conv, shift, frame=frame),
                begin=kernel.join.begin if kernel.join else None,
                residual=has_residual,
                activation=kind,
            )
            tiles = choose.dense_conv(dense, self.target)
            name = self.name("convolution")
            scheduled = dense_conv.schedule(name, dense, tiles, unit)
            packed = dense_conv.pack(conv.weight, conv.bias, dense, tiles, unit)
            if frame:
                arguments["x"] = Argument(Memory.FRAME)
                arguments.update(self.normalisation(dense.padded))
        elif conv.depthwise:
            window = Window(height, width, channels, conv.kernel, conv.stride, conv.padding, shift)
            name = self.name("depthwise")
            scheduled = depthwise.schedule(name, window, unit, kind, has_residual)
            packed = depthwise.pack(conv.weight, conv.bias)
        else:
            name, scheduled, packed = self._grouped(kernel, shift)
        arguments.update(self.pack(name, packed))
        family = scheduled[-1].note.split(",")[0]
        self.call_all(scheduled, arguments, family, kernel.name)

    def _grouped(
        self, kernel: ConvKernel, shift: int
    ) -> tuple[str, tuple[Scheduled, ...], dict[str, Array]]:
        conv, unit = kernel.conv, self.target.unit
        height, width, channels = self.map_of(conv.inputs[0])
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
        )
        tiles = grouped_conv.tiles_for(shape, unit)
        name = self.name("grouped")
        scheduled = grouped_conv.schedule(name, shape, tiles, unit)
        return name, scheduled, grouped_conv.pack(conv.weight, conv.bias, shape, tiles, unit)

    # Operators by themselves.

    def _single(self, kernel: Kernel) -> None:
        (operator,) = kernel.operators
        match operator:
            case Activate():
                self._activate(operator)
            case Add():
                self._add(operator)
            case Dense():
                self._dense(operator, self.value(operator.inputs[0]))
            case Join():
                self._join(operator)
            case Mean():
                self._mean(operator)
            case Mul():
                self._mul(operator)
            case Pool():
                self._pool(operator)
            case _:
                raise CompileError(
                    f"{type(operator).__name__} (node {operator.name!r}) has no schedule; "
                    "engine='onnxruntime' runs the model meanwhile."
                )

    def _elementwise(
        self, shape: Elementwise, inputs: Mapping[str, str], out: str, source: str
    ) -> None:
        name = self.name("elementwise")
        arguments = {key: self.value(value) for key, value in inputs.items()}
        arguments["out"] = self.value(out)
        scheduled = elementwise.schedule(name, shape, self.target.unit)
        self.call(scheduled, arguments, "elementwise", source)

    def _activate(self, operator: Activate) -> None:
        height, width, channels = self.map_of(operator.out)
        shape = Elementwise(height * width, channels, activation=operator.kind)
        self._elementwise(shape, {"x": operator.inputs[0]}, operator.out, operator.name)

    def _add(self, operator: Add) -> None:
        height, width, channels = self.map_of(operator.out)
        shape = Elementwise(height * width, channels, Operation.ADD)
        inputs = {"x": operator.inputs[0], "y": operator.inputs[1]}
        self._elementwise(shape, inputs, operator.out, operator.name)

    def _mul(self, operator: Mul) -> None:
        height, width, channels = self.map_of(operator.out)
        x, y = operator.inputs
        gate = self.map_of(y) != self.map_of(x)
        shape = Elementwise(height * width, channels, Operation.MULTIPLY, by_channel=gate)
        self._elementwise(shape, {"x": x, "y": y}, operator.out, operator.name)

    def _pool(self, operator: Pool) -> None:
        height, width, channels = self.map_of(operator.inputs[0])
        shape = Window(height, width, channels, operator.kernel, operator.stride, operator.padding)
        self._window(shape, operator.inputs[0], operator.out, operator.largest, operator.name)

    def _mean(self, operator: Mean) -> None:
        height, width, channels = self.map_of(operator.inputs[0])
        shape = Window(height, width, channels, (height, width))
        self._window(shape, operator.inputs[0], operator.out, False, operator.name)

    def _window(self, shape: Window, x: str, out: str, largest: bool, source: str) -> None:
        name = self.name("pool")
        scheduled = pool.schedule(name, shape, self.target.unit, largest=largest)
        arguments = {"x": self.value(x), "out": self.value(out)}
        arguments.update(self.pack(name, pool.pack(shape, largest=largest)))
        self.call_all(scheduled, arguments, "pool", source)
