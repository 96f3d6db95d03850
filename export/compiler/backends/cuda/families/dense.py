"""A dense layer, and a convolution over a vector.

A block makes one output. Its threads sum the products of every 32nd or 128th input, so that a
warp's loads are neighbours; their sums meet in shared memory in two steps, of 8 each and of the
rest, in an order that does not depend on anything.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import ConvKernel, FusedKernel, Single
from shiftedge.export.compiler.graph.graph import Dense, is_vector
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.index import Index, Var

_FEW, _MANY = 32, 128
"""Threads of a block, for few inputs and for many."""
_MEET = 8
"""Sums that a thread adds of others'."""


def matches(kernel: FusedKernel, context: GpuContext) -> bool:
    if isinstance(kernel, Single):
        return isinstance(kernel.operators[0], Dense)
    if not isinstance(kernel, ConvKernel) or not kernel.conv.pointwise:
        return False
    return is_vector(context.graph.shapes[kernel.conv.inputs[0]])


def lower(kernel: ConvKernel | Single, context: GpuContext) -> None:
    if isinstance(kernel, Single):
        layer = cast(Dense, kernel.operators[0])
        source, weight, bias = layer.inputs[0], layer.weight, layer.bias
        arguments, kind = {"out": context.value(layer.out)}, Activation.NONE
    else:
        conv, source = kernel.conv, context.whole(kernel)
        weight, bias, kind = (
            conv.weight.reshape(len(conv.bias), -1),
            conv.bias,
            kernel.linear.activation,
        )
        arguments = context.ends(kernel)
    outputs, inputs = weight.shape
    name = context.name("dense")
    made = schedule(name, inputs, outputs, kind, residual="residual" in arguments)
    arguments |= {"x": context.value(source), **context.pack(name, pack(weight, bias))}
    context.call((made,), arguments, "dense", kernel.name)


def pack(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """As they are: (outputs, inputs)."""
    return {"weight": weight, "bias": bias}


def schedule(
    name: str,
    inputs: int,
    outputs: int,
    kind: Activation = Activation.NONE,
    *,
    residual: bool = False,
) -> ir.Kernel:
    """The kernel: parameters x, weight, bias, [residual], out."""
    threads = _FEW if inputs <= _MANY else _MANY
    x = ir.Buffer("x", inputs)
    weight, bias = (
        ir.Buffer("weight", outputs * inputs, "weight"),
        ir.Buffer("bias", outputs, "weight"),
    )
    added, out = ir.Buffer("residual", outputs), ir.Buffer("out", outputs, "output")
    own = ir.Buffer("own", 1, "register")
    sums = ir.Buffer("sums", threads, "shared")
    fewer = ir.Buffer("fewer", threads // _MEET, "shared")
    one, whole = ir.grid(1, 1, 1), inputs // threads
    step, first = Var("step"), ir.UNIT * inputs

    def summed(at: Index, count: int) -> ir.Segment:
        place = at + step * threads
        steps = (ir.SegmentLoop(step, count),)
        return ir.Segment(steps, x.at(place), weight.at(first + place))

    body: list[ir.Statement] = [ir.Fill(own.at(0), 1)]
    if whole:
        body.append(ir.Tile(one, 1, (), (summed(ir.THREAD, whole),), own.at(0)))
    if inputs % threads:
        last = ir.Tile(one, 1, (own.at(0),), (summed(ir.THREAD + whole * threads, 1),), own.at(0))
        body.append(ir.If(ir.THREAD.below(inputs % threads), (last,)))
    body += (ir.Copy(own.at(0), sums.at(ir.THREAD), 1), ir.Barrier())
    meet = ir.Segment((ir.SegmentLoop(step, _MEET),), sums.at(ir.THREAD + step * fewer.size), None)
    some = ir.Tile(one, 1, (), (meet,), fewer.at(ir.THREAD))
    body += (ir.If(ir.THREAD.below(fewer.size), (some,)), ir.Barrier())
    end = ir.Segment((ir.SegmentLoop(step, fewer.size),), fewer.at(step), None)
    start = (bias.at(ir.UNIT), *((added.at(ir.UNIT),) if residual else ()))
    finish = ir.Tile(one, 1, start, (end,), out.at(ir.UNIT), kind)
    body.append(ir.If(ir.THREAD.equals(0), (finish,)))
    return ir.Kernel(
        name, (x, weight, bias, *((added,) if residual else ()), out), outputs, tuple(body),
        threads=threads, block=(own, sums, fewer), flops=2 * inputs * outputs,
        note=f"dense, {threads} threads an output",
    )  # fmt: skip
