"""Which schedule makes which kernel, and what each of its buffers is.

One method a family. What a family's schedule does not take (a depthwise window with an uneven
border inside an inverted residual, a join that is no shift) is made of smaller kernels here, so
that every graph the frontend reads can be lowered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler import choose
from shiftedge.export.compiler.builder import Builder
from shiftedge.export.compiler.calls import Argument, Memory, Step
from shiftedge.export.compiler.counting import count, count_frame, weights_of
from shiftedge.export.compiler.fusion import (
    ConvKernel,
    InvertedResidual,
    Kernel,
    Linear,
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
from shiftedge.export.compiler.requantise import mean_constants
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
from shiftedge.export.compiler.schedules.codes import Counting
from shiftedge.export.compiler.schedules.dense_conv import DenseConv
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
                inputs = {"x": Argument(Memory.FRAME)}
        counting, constants = self._count_block(kernel, stem)
        if stem is not None and counting is not None:
            stem = replace(stem, counting=counting.expand)
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
            counting=counting,
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
            arguments["residual"] = self.value(kernel.residual)
        family = "first convolution and block" if stem else "inverted residual"
        self.call_all(scheduled, arguments, family, kernel.name)

    def _count_block(
        self, kernel: InvertedResidual, stem: DenseConv | None
    ) -> tuple[inverted_residual.BlockCounting | None, dict[str, Array]]:
        """How a block counts, and its scales and offsets; None and none where it does not."""
        depthwise, project = kernel.depthwise, kernel.project
        if depthwise.conv.codes is None or depthwise.quantised is None:
            return None, {}
        codes, dot = self.graph.quantised, self.dot()
        head = kernel.stem or kernel.expand
        constants: dict[str, Array] = {}
        expand, source = None, None
        if head is None:
            source = codes[depthwise.conv.inputs[0]]
        elif stem is not None and stem.frame:
            expand = self._count_frame(head, stem, whole=True)
        else:
            expand = count(head, codes[head.conv.inputs[0]], dot, whole=True)
        if head is not None:
            source = head.quantised
        if source is None:
            raise ValueError(f"{kernel.name}: a depthwise convolution of codes without codes")
        residual = None if kernel.residual is None else codes[kernel.residual]
        stages = {
            "depthwise": count(depthwise, source, dot, whole_source=True),
            "project": count(project, depthwise.quantised, dot, residual=residual),
        }
        if expand is not None:
            stages["expand"] = expand
        for name, (_, scale, offset) in stages.items():
            constants |= {f"{name}_scale": scale, f"{name}_bias": offset}
        found = inverted_residual.BlockCounting(
            None if expand is None else expand[0], stages["depthwise"][0], stages["project"][0]
        )
        return found, constants

    def _count_frame(
        self, linear: Linear, shape: DenseConv, *, whole: bool = False
    ) -> tuple[Counting, Array, Array]:
        std = self.spec.std
        if len(set(std)) > 1:
            raise CompileError(
                f"The model's standard deviations differ between colours ({std}), and its first "
                "convolution counts in integers; quantise the model with `shiftedge quantize`."
            )
        return count_frame(linear, shape, self.spec.mean, std[0], self.dot(), whole=whole)

    def _apart(self, kernel: InvertedResidual) -> None:
        """The same as separate convolutions."""
        join = kernel.join
        for part in (kernel.stem or kernel.expand, kernel.depthwise):
            if part is not None:
                own = tuple(each for each in kernel.operators if self._belongs(each, part.conv))
                codes = part.quantised
                self._convolution(ConvKernel(own, join, part.conv, None, part.activation, codes))
                join = None
        project = kernel.project
        conv, codes = project.conv, project.quantised
        last = tuple(each for each in kernel.operators if each is conv or isinstance(each, Add))
        self._convolution(ConvKernel(last, None, conv, kernel.residual, Activation.NONE, codes))

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
        unit, codes = self.target.unit, kernel.pointwise.quantised
        counting, scale, offset, factor = None, None, conv.bias, None
        if conv.codes is not None and codes is not None:
            (average,) = (each for each in kernel.operators if isinstance(each, Mean))
            constants = mean_constants(average, codes, height * width)
            source_codes = self.graph.quantised[conv.inputs[0]]
            counted = count(kernel.pointwise, source_codes, self.dot(), whole=True)
            counting, scale, offset = counted
            factor = float(constants.scale)
        shape = pointwise.Pointwise(
            height * width,
            int(conv.weight.shape[1]),
            int(conv.weight.shape[0]),
            shift=shift,
            activation=kernel.pointwise.activation,
            counting=counting,
        )
        tiles = choose.tail(shape, self.target)
        name = self.name("tail")
        weight = weights_of(conv)[:, :, 0, 0]
        packed = pointwise.pack(
            weight, offset, tiles, unit, shift=shift, counting=counting, scale=scale
        )
        mean = Argument(Memory.WORKSPACE, f"{name}.mean")
        self.call(
            tail.schedule(name, shape, tiles, unit, factor=factor),
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
            counting, scale, offset = self._count(kernel)
            point = pointwise.Pointwise(
                height * width,
                channels,
                int(conv.weight.shape[0]),
                shift,
                has_residual,
                kind,
                counting,
            )
            tiles = choose.pointwise(point, self.target)
            name = self.name("pointwise")
            scheduled: tuple[Scheduled, ...] = (pointwise.schedule(name, point, tiles, unit),)
            weight = weights_of(conv)[:, :, 0, 0]
            packed = pointwise.pack(
                weight, offset, tiles, unit, shift=shift, counting=counting, scale=scale
            )
        elif conv.groups == 1:
            dense = replace(
                self._dense_shape(conv, shift, frame=frame),
                begin=kernel.join.begin if kernel.join else None,
                residual=has_residual,
                activation=kind,
            )
            counting, scale, offset = self._count(kernel, dense if frame else None)
            dense = replace(dense, counting=counting)
            tiles = choose.dense_conv(dense, self.target)
            name = self.name("convolution")
            scheduled = dense_conv.schedule(name, dense, tiles, unit)
            packed = dense_conv.pack(weights_of(conv), offset, dense, tiles, unit, scale)
            if frame:
                arguments["x"] = Argument(Memory.FRAME)
            if dense.padded.tables:
                arguments.update(self.normalisation(dense.padded))
        elif conv.codes is not None:
            raise CompileError(
                f"{conv.name!r} is a grouped convolution of codes, which has no schedule; keep it "
                "in float32 (shiftedge quantize --keep), or use engine='onnxruntime'."
            )
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

    def _count(
        self, kernel: ConvKernel, frame: DenseConv | None = None
    ) -> tuple[Counting | None, Array | None, Array]:
        """How a convolution counts, its scale, and its offset; or None, None and its bias."""
        conv = kernel.conv
        if conv.codes is None:
            return None, None, conv.bias
        linear = Linear(conv, kernel.activation, kernel.quantised)
        if frame is not None:
            return self._count_frame(linear, frame)
        codes = self.graph.quantised
        residual = None if kernel.residual is None else codes[kernel.residual]
        return count(linear, codes[conv.inputs[0]], self.dot(), residual=residual)

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
