"""Rules for maps: states joined, operators that run by themselves, dense layers.

Codes of a state are kept less the one that stands for 0, so a kernel that reads a state as a map,
not in a join, is given a copy as maps are stored: :meth:`Maps.source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shiftedge.export.compiler.backends.cpu import choose
from shiftedge.export.compiler.backends.cpu.builder import Builder
from shiftedge.export.compiler.backends.cpu.families import (
    elementwise,
    keep,
    padding,
    pointwise,
    pool,
    quantize_frame,
)
from shiftedge.export.compiler.backends.cpu.families.elementwise import (
    Elementwise,
    Operation,
    Rescale,
)
from shiftedge.export.compiler.backends.cpu.families.padding import Padding
from shiftedge.export.compiler.backends.cpu.families.window import Window
from shiftedge.export.compiler.graph.fusion import Kernel
from shiftedge.export.compiler.graph.graph import (
    Activate,
    Add,
    Dense,
    Dequantize,
    Join,
    Mean,
    Mul,
    Pool,
    Quantize,
)
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.kernel import Added
from shiftedge.export.compiler.numerics.requantize import (
    mean_constants,
    quantize_constant,
    quantize_frame_constants,
    requantize_sum,
    stage_of,
)
from shiftedge.runtime.errors import CompileError

__all__ = ["Maps"]


@dataclass
class Maps(Builder):
    """What any family needs of the maps around it."""

    restored: set[str] = field(default_factory=set)
    """States that a copy was made of."""

    def source(self, name: str) -> Argument:
        """A value as a kernel reads it, a state's codes as a map's."""
        value = self.value(name)
        zero = self.zero_of(name)
        if value.memory is not Memory.STATE or not zero:
            return value
        copy = Argument(Memory.WORKSPACE, f"{name} as a map")
        if name not in self.restored:
            self.restored.add(name)
            shape = self.map_of(name)
            kernel = self.name("state")
            scheduled = keep.schedule(kernel, shape, 0, shape[2], self.dtype_of(name), -zero)
            self.call(scheduled, {"x": value, "state": copy}, "state", name)
        return copy

    def window_of(self, name: str, kernel: tuple[int, int]) -> Window:
        """A window over a value, of stride 1 and without padding."""
        height, width, channels = self.map_of(name)
        quantized = name in self.graph.quantization
        return Window(
            height,
            width,
            channels,
            kernel,
            dtype=self.dtype_of(name),
            storage_offset=self.dot().storage_offset if quantized else 0,
            zero=self.zero_of(name),
        )

    def shift(
        self, join: Join | None, source: str, *, any_join: bool = False
    ) -> tuple[int, str, dict[str, Argument]]:
        """Channels of the state, the map behind them, and both as arguments.

        A join that drops other channels than it brings is made as a map first, but for who takes
        ``any_join``.
        """
        if join is None:
            return 0, source, {"x": self.source(source)}
        state, features = join.inputs
        channels = self.map_of(state)[2]
        if join.begin != channels and not any_join:
            self.join(join)
            return 0, join.out, {"x": self.value(join.out)}
        arguments = {"x": self.source(features), "state": self.value(state)}
        return channels, features, arguments

    def join(self, join: Join) -> None:
        """A join as a map of its own."""
        height, width, channels = self.map_of(join.out)
        state = self.map_of(join.inputs[0])[2]
        shape = Padding(
            height,
            width,
            channels,
            (0, 0, 0, 0),
            shift=state,
            begin=join.begin,
            dtype=self.dtype_of(join.out),
            zero=self.zero_of(join.out),
        )
        arguments = {
            "x": self.source(join.inputs[1]),
            "state": self.value(join.inputs[0]),
            "padded": self.value(join.out),
        }
        self.call(padding.schedule(self.name("join"), shape), arguments, "join", join.name)

    def dense(self, dense: Dense, source: Argument) -> None:
        """A dense layer over a vector of numbers."""
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

    def single(self, kernel: Kernel) -> None:
        """An operator that runs by itself."""
        (operator,) = kernel.operators
        match operator:
            case Activate():
                self._activate(operator)
            case Add():
                self._add(operator)
            case Dequantize():
                self._dequantize(operator)
            case Quantize() if operator.inputs[0] == self.graph.frame:
                self._quantize_frame(operator)
            case Quantize():
                self._quantize(operator)
            case Dense():
                self.dense(operator, self.value(operator.inputs[0]))
            case Join():
                self.join(operator)
            case Mean():
                self.mean(operator)
            case Mul():
                self._mul(operator)
            case Pool():
                self._pool(operator)
            case _:
                raise CompileError(
                    f"{type(operator).__name__} (node {operator.name!r}) was read and has no "
                    "schedule, which is a fault of shiftedge; please report it with the model."
                )

    def _elementwise(
        self, shape: Elementwise, inputs: Mapping[str, str], out: str, source: str
    ) -> None:
        name = self.name("elementwise")
        arguments = {key: self.source(value) for key, value in inputs.items()}
        arguments["out"] = self.value(out)
        scheduled = elementwise.schedule(name, shape, self.target.unit)
        self.call(scheduled, arguments, "elementwise", source)

    def _activate(self, operator: Activate) -> None:
        height, width, channels = self.map_of(operator.out)
        dtype = self.dtype_of(operator.out)
        shape = Elementwise(height * width, channels, activation=operator.kind, dtype=dtype)
        self._elementwise(shape, {"x": operator.inputs[0]}, operator.out, operator.name)

    def _add(self, operator: Add) -> None:
        height, width, channels = self.map_of(operator.out)
        dtype = self.dtype_of(operator.out)
        shape = Elementwise(height * width, channels, Operation.ADD, dtype=dtype)
        x, y = operator.inputs
        if x in self.graph.quantization:
            shape = replace(shape, rescale=self._quantized_sum(operator))
        self._elementwise(shape, {"x": x, "y": y}, operator.out, operator.name)

    def _quantized_sum(self, operator: Add) -> Rescale:
        quantization, dot = self.graph.quantization, self.dot()
        x, y = (quantization[name] for name in operator.inputs)
        sums = requantize_sum(operator, x, y, quantization.get(operator.out))
        return Rescale(
            sums.stage,
            float(sums.first),
            Added(float(sums.second), dot.storage_offset - y.zero_point),
            plus=dot.storage_offset - x.zero_point,
            storage_offset=dot.storage_offset,
            source=dot.dtype,
            made=self.dtype_of(operator.out),
        )

    def _quantize(self, operator: Quantize) -> None:
        height, width, channels = self.map_of(operator.out)
        scale, dot = float(quantize_constant(operator.quantization)), self.dot()
        stage = stage_of(operator.quantization)
        rescale = Rescale(stage, scale, storage_offset=dot.storage_offset, made=dot.dtype)
        shape = Elementwise(height * width, channels, rescale=rescale)
        self._elementwise(shape, {"x": operator.inputs[0]}, operator.out, operator.name)

    def _dequantize(self, operator: Dequantize) -> None:
        height, width, channels = self.map_of(operator.out)
        dot, quantization = self.dot(), operator.quantization
        plus = dot.storage_offset - quantization.zero_point
        rescale = Rescale(None, quantization.scale, plus=plus, source=dot.dtype)
        shape = Elementwise(height * width, channels, rescale=rescale)
        self._elementwise(shape, {"x": operator.inputs[0]}, operator.out, operator.name)

    def _quantize_frame(self, operator: Quantize) -> None:
        height, width, _ = self.map_of(operator.out)
        unit = self.target.unit
        made = quantize_frame_constants(self.spec.mean, self.spec.std, operator.quantization)
        name = self.name("frame")
        arguments = {
            "x": Argument(Memory.FRAME),
            **self.pack(name, quantize_frame.pack(*made, unit)),
            "out": self.value(operator.out),
        }
        scheduled = quantize_frame.schedule(
            name, height, width, unit, self.dot(), stage_of(operator.quantization)
        )
        self.call(scheduled, arguments, "quantise", operator.name)

    def _mul(self, operator: Mul) -> None:
        height, width, channels = self.map_of(operator.out)
        x, y = operator.inputs
        gate = self.map_of(y) != self.map_of(x)
        dtype = self.dtype_of(operator.out)
        shape = Elementwise(
            height * width, channels, Operation.MULTIPLY, by_channel=gate, dtype=dtype
        )
        self._elementwise(shape, {"x": x, "y": y}, operator.out, operator.name)

    def _pool(self, operator: Pool) -> None:
        shape = self.window_of(operator.inputs[0], operator.kernel)
        shape = replace(shape, stride=operator.stride, padding=operator.padding)
        self._window(shape, operator.inputs[0], operator.out, operator.largest, operator.name)

    def mean(self, operator: Mean) -> None:
        """A mean over height and width."""
        (x,) = operator.inputs
        height, width, _ = self.map_of(x)
        shape = self.window_of(x, (height, width))
        if x not in self.graph.quantization:
            self._window(shape, x, operator.out, False, operator.name)
            return
        name = self.name("mean")
        made = mean_constants(operator, self.graph.quantization[x], height * width)
        zero = made.zeros // (height * width) - shape.storage_offset
        factor = float(made.scale)
        scheduled = pool.quantized_mean(name, shape, self.target.unit, zero, factor)
        arguments = {"x": self.source(x), "out": self.value(operator.out)}
        self.call_all(scheduled, arguments, "pool", operator.name)

    def _window(self, shape: Window, x: str, out: str, largest: bool, source: str) -> None:
        name = self.name("pool")
        made = self.dtype_of(out)
        scheduled = pool.schedule(name, shape, self.target.unit, largest=largest, made=made)
        arguments = {"x": self.source(x), "out": self.value(out)}
        arguments.update(self.pack(name, pool.pack(shape, largest=largest)))
        self.call_all(scheduled, arguments, "pool", source)
