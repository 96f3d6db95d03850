"""Next states: some channels of a map, copied by a kernel that reads the map anyway, each of its
threads a share; by a kernel of its own where none does. States are read from one block and written
to another, so the order does not matter.
"""

from __future__ import annotations

from dataclasses import replace

from shiftedge.export.compiler.backends.cuda.context import GpuContext
from shiftedge.export.compiler.backends.cuda.families.threads import Body, flat, up, vector_of
from shiftedge.export.compiler.graph.graph import KeepState
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.calls import Argument, Memory
from shiftedge.export.compiler.kernel_ir.index import Index


def lower(keep: KeepState, context: GpuContext) -> None:
    """Add the copy to the first kernel that reads all of the map."""
    (source,) = keep.inputs
    height, width, channels = context.map_of(source)
    value, target = context.value(source), Argument(Memory.NEXT_STATE, str(keep.state))
    dtype, count = context.dtype_of(source), keep.end - keep.begin
    vector = vector_of(channels, count, keep.begin)
    groups = count // vector
    total = height * width * groups

    def copy(x: ir.Buffer, state: ir.Buffer, number: Index) -> Body:
        read = x.at(number // groups * channels + (number % groups * vector + keep.begin))
        return (ir.Copy(read, state.at(number * vector), vector),)

    for place, call in enumerate(context.calls):
        for x in call.kernel.buffers:
            whole = x.role == "input" and x.size == height * width * channels
            if not whole or call.arguments[x.name] != value:
                continue
            kernel = call.kernel
            name = f"next_state_{sum(each.name.startswith('next') for each in kernel.buffers)}"
            state = ir.Buffer(name, total * vector, "output", dtype)
            threads = kernel.units * kernel.threads
            body: Body = ()
            for turn in range(up(total, threads)):
                number = ir.UNIT * kernel.threads + ir.THREAD + turn * threads
                work = copy(x, state, number)
                last = (turn + 1) * threads > total
                body += (ir.If(number.below(total), work),) if last else work
            made = replace(kernel, buffers=(*kernel.buffers, state), body=(*body, *kernel.body))
            arguments = {**call.arguments, name: target}
            context.calls[place] = replace(call, kernel=made, arguments=arguments)
            return
    x = ir.Buffer("x", height * width * channels, dtype=dtype)
    state = ir.Buffer("state", total * vector, "output", dtype)
    kernel = flat(
        context.name("keep"), (x, state), total, lambda number: copy(x, state, number), "keep state"
    )
    context.call((kernel,), {"x": value, "state": target}, "state", keep.name)
