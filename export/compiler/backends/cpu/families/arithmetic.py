"""How a convolution multiplies, and how its accumulators begin and end: an object each.

Maps of narrow values lie as maps of numbers do, (height, width, channels), so that the values
packed in a lane are neighbours. A map's lane begins at a multiple of its length, whatever channels
a shift takes from the state: weights are 0 for those, and for what lies between the last channel
and the end of a lane. With one float32 number a lane all of it is what it is without packing.

Lanes of bfloat16 never reach past a map's channels: a weight of 0 makes nothing of an integer, but
NaN of what may be NaN. Where channels are not even in number, each is multiplied by itself. A
state's last lane may reach past it, since what lies between states is 0 for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Index
from shiftedge.export.compiler.numerics.bf16 import bits_of
from shiftedge.export.compiler.numerics.precision import INT8, PRECISIONS
from shiftedge.export.compiler.numerics.requantize import OutputStage

_FMA = ir.Dot("fma", terms=1, dtype="float32", accumulator_dtype="float32")
"""A multiply-add of single numbers."""


@dataclass(frozen=True)
class Arithmetic:
    """Of one convolution: float32, int8 or bf16, which is multiplied and summed in float32."""

    instruction: ir.Dot = _FMA
    """What the target multiplies the precision with, which says how values are stored too."""
    zero: int = 0
    """The input's zero point, as it is stored: what a border holds, and what a state's values lack.
    """
    stage: OutputStage | None = None
    """Of int8; the accumulators of others begin and end as numbers."""
    added: ir.Added = ir.NOT_ADDED
    """How a residual is added."""
    unpacked: bool = False
    """The result is kept unpacked, see ``Dot``, for a stage that treats channels apart; of bf16, it
    is not rounded."""
    has_offset: bool = False
    """There is an offset beside the scale, in steps of the result."""
    packed: bool = True
    """Values are multiplied packed; otherwise one by one, as float32."""

    @property
    def dot(self) -> ir.Dot | None:
        """How packed values are multiplied; None where each is multiplied by itself."""
        return self.instruction if self.packed and self.instruction.terms > 1 else None

    @property
    def terms(self) -> int:
        """Values packed in a lane: what a step of the inner loop takes."""
        return 1 if self.dot is None else self.dot.terms

    @property
    def narrow(self) -> bool:
        """Whether values are stored in less than float32."""
        return self.instruction.dtype != "float32"

    @property
    def quantized(self) -> bool:
        """Whether it is int8: from accumulators to quantised values by a scale and an offset."""
        return self.stage is not None

    # Types of elements.

    @property
    def input_dtype(self) -> str:
        """Of an input, and of states."""
        return self.instruction.dtype

    @property
    def unpacked_dtype(self) -> str:
        """Of an input that is kept unpacked, and of the weights for it."""
        return self.instruction.unpacked_dtype

    @property
    def output_dtype(self) -> str:
        """Of the result."""
        if self.stage is not None and not self.stage.rounded:
            return "float32"
        return self.unpacked_dtype if self.unpacked else self.input_dtype

    @property
    def residual_dtype(self) -> str:
        """Of what is added, a map of the result's shape."""
        return self.input_dtype if self.quantized else self.output_dtype

    # Constants.

    def buffers(
        self,
        weights: int,
        channels: int,
        *,
        prefix: str = "",
        classes: int = 1,
        dtype: str | None = None,
    ) -> StageBuffers:
        """The constants as a kernel's parameters: so many weights, of ``dtype`` where values are
        unpacked, and for each channel a bias, a scale, and an offset for each of ``classes``."""
        sums = self.instruction.accumulator_dtype
        if dtype is not None:
            sums = "float32" if dtype == "float32" else "int32"
        lane = "float32" if self.dot is None else self.dot.packed_dtype
        weight = ir.Buffer(f"{prefix}weight", weights, "weight", dtype or lane)
        bias = ir.Buffer(f"{prefix}bias", channels, "weight", sums)
        scale = ir.Buffer(f"{prefix}scale", channels, "weight")
        offset = ir.Buffer(f"{prefix}offset", channels * classes, "weight")
        return StageBuffers(self, weight, bias, scale, offset)

    def packed_bias(self, bias: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
        """What accumulators begin at, (outputs,): the bias, and, in int8 that is multiplied packed,
        what the storage offset takes from the products. ``weight`` is (outputs, ...)."""
        if not self.quantized or self.dot is None:
            return bias
        lacking = weight.reshape(len(weight), -1).astype(np.int64).sum(1)
        total = bias + lacking * self.instruction.storage_offset
        return np.asarray(total, np.int32)

    def packed_rows(self, inputs: int, shift: int = 0) -> int:
        """Lanes of a pixel: the state's, then the map's, from the lane on that the shift ends
        in."""
        return sum(self.packed_runs(inputs, shift))

    def packed_runs(self, inputs: int, shift: int = 0) -> tuple[int, ...]:
        """The same, of the state and of the map."""
        terms = self.terms
        return -(-shift // terms), -(-inputs // terms) - shift // terms

    def packed_inputs(self, weight: NDArray[Any], shift: int = 0) -> NDArray[Any]:
        """(outputs, inputs), int8, or float32 that becomes bfloat16, as packed lanes (outputs,
        ``packed_rows``); float32 that is multiplied as such stays as it is."""
        dot = self.dot
        if dot is None:
            return weight
        if dot.dtype == ir.BF16:
            weight = bits_of(weight)
        terms = dot.terms
        state = np.pad(weight[:, :shift], ((0, 0), (0, -shift % terms)))
        begin = shift // terms * terms
        own = weight[:, begin:].copy()
        own[:, : shift - begin] = 0
        own = np.pad(own, ((0, 0), (0, -own.shape[1] % terms)))
        return np.ascontiguousarray(np.concatenate([state, own], axis=1)).view(dot.packed_dtype)


FP32 = Arithmetic()


@dataclass(frozen=True)
class StageBuffers:
    """Constants of a convolution among a kernel's parameters, and what its tiles do with them."""

    arithmetic: Arithmetic
    weight: ir.Buffer
    bias: ir.Buffer
    scale: ir.Buffer
    offset: ir.Buffer

    @property
    def parameters(self) -> tuple[ir.Buffer, ...]:
        """Those that it has, in order."""
        if not self.arithmetic.quantized:
            return self.weight, self.bias
        more = (self.offset,) if self.arithmetic.has_offset else ()
        return self.weight, self.bias, self.scale, *more

    def start(self, at: Index, residual: ir.Access | None = None) -> tuple[ir.Access, ...]:
        """First values of a tile; a quantised residual is added at its end."""
        bias = self.bias.at(at)
        return (bias,) if self.arithmetic.quantized or residual is None else (bias, residual)

    def epilogue(
        self, at: Index, residual: ir.Access | None = None, offset_at: Index | None = None
    ) -> ir.Epilogue | None:
        """The end of a tile of int8; None of others."""
        stage, arithmetic = self.arithmetic.stage, self.arithmetic
        if stage is None:
            return None
        return ir.Epilogue(
            self.scale.at(at),
            self.offset.at(at if offset_at is None else offset_at)
            if arithmetic.has_offset
            else None,
            stage,
            residual,
            arithmetic.added,
            0 if arithmetic.unpacked else arithmetic.instruction.storage_offset,
        )


def precision_of(dtype: str) -> str:
    """Name of the precision that values of a type in memory are of."""
    return next((each.name for each in PRECISIONS.values() if each.buffer == dtype), INT8.name)
