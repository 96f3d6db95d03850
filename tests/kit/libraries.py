"""Steps as machine code, run from numpy between guard pages: a kernel that reads or writes outside
a buffer ends the process here, rather than passing.

Each call is cut into pieces of which the last runs first, as threads would. Units whose
instructions this machine lacks go by the plain lowering, which makes the same sums.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")

from kit.compiled import prepared
from kit.layers import UNITS, Made, Unit, read, stored
from shiftedge.export.agreement import (
    Outputs,
    compare,
    moving_images,
    normalised,
    onnx_outputs,
)
from shiftedge.export.compiler.backends.builder import FRAME_MAP
from shiftedge.export.compiler.backends.cpu.families.tiles import AVX2, AVX512, VectorUnit
from shiftedge.export.compiler.backends.cpu.llvm import lower as tir
from shiftedge.export.compiler.backends.cpu.llvm import run as tir_run
from shiftedge.export.compiler.compile import build_library
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import Activate, Graph
from shiftedge.export.compiler.kernel_ir.calls import Argument, Call, Memory, Step
from shiftedge.export.compiler.kernel_ir.kernel import BF16, Buffer
from shiftedge.export.compiler.numerics.bf16 import bits_of, numbers_of
from shiftedge.export.compiler.numerics.precision import INT8, PRECISIONS
from shiftedge.export.compiler.targets import find_variant
from shiftedge.export.compiler.verify.agreement import (
    check,
    check_kernels,
    interpreted_outputs,
    quantized_tolerance,
)
from shiftedge.export.compiler.verify.evaluate import Evaluator
from shiftedge.export.compiler.verify.proof import multiplied
from shiftedge.runtime.spec import ModelSpec

X86_64_V3 = {"kind": "llvm", "mcpu": "x86-64-v3"}
_LIBC = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0


def host_unit() -> VectorUnit:
    """The vector unit of this machine."""
    return find_variant("host").unit


def every_unit() -> list[VectorUnit]:
    """All of this architecture, widest first: wider ones than this machine's are generated for its
    own instructions, two for one."""
    unit = host_unit()
    return [AVX512, AVX2] if unit in (AVX512, AVX2) else [unit]


class Guarded:
    """An array whose last byte is the last before memory that must not be touched.

    Before the array stands a pattern that must not change, and before that another guard.
    """

    def __init__(self, array: np.ndarray) -> None:
        page = mmap.PAGESIZE
        inner = -(-max(array.nbytes, 1) // page) * page
        self._memory = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for address in (start, start + page + inner):
            if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), _PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")
        body = np.frombuffer(self._memory, np.uint8)[page : page + inner]
        body[:] = 0xA5
        self._before = body[: inner - array.nbytes]
        self.array = body[inner - array.nbytes :].view(array.dtype).reshape(array.shape)
        self.array[...] = array

    def intact(self) -> bool:
        return bool((self._before == 0xA5).all())


class Compiled:
    """A step of a graph for a unit."""

    def __init__(self, graph: Graph, unit: Unit, step: Step) -> None:
        self.graph, self.unit, self.step = graph, unit, step
        own = unit.unit is AVX2 and host_unit().lanes >= AVX2.lanes
        target = X86_64_V3 if own else find_variant("host").llvm()
        dots = ("pmaddwd",) if own else ()
        code = tir.compile_kernels(step.kernels, target, unit.unit.lanes, dots)
        self._library = tir_run.Library(code)

    def run(
        self,
        given: dict[str, np.ndarray],
        states: Sequence[np.ndarray] = (),
        image: np.ndarray | None = None,
        cuts: Sequence[int] = (),
    ) -> Made:
        """One frame; ``given`` are values from outside, ``states`` and they as the graph has
        them; ``image`` is uint8 (height, width, 3), BGR."""
        memory: dict[Argument, Guarded] = {}
        for name, value in given.items():
            memory[Argument(Memory.WORKSPACE, name)] = self._given(name, value)
        for number, state in enumerate(states):
            name = f"state_{number}"
            memory[Argument(Memory.STATE, str(number))] = self._given(name, state)
        if image is not None:
            memory[Argument(Memory.FRAME)] = Guarded(image.reshape(-1))
        for name, constant in self.step.constants.items():
            memory[Argument(Memory.WEIGHTS, name)] = _with_slack(constant)
        for call in self.step.calls:
            self._call(call, memory, cuts)
        for argument, block in memory.items():
            assert block.intact(), f"wrote before {argument}"
        return self._read(memory)

    def _given(self, name: str, value: np.ndarray) -> Guarded:
        kept = stored(self.graph, self.unit, name, value)
        if name.startswith("state_"):
            dtype = self.step.stored[int(name[6:])]
        else:
            dtype = next(
                buffer.dtype
                for call in self.step.calls
                for buffer in call.kernel.buffers
                if call.arguments[buffer.name] == Argument(Memory.WORKSPACE, name)
            )
        return _with_slack(bits_of(kept) if dtype == BF16 else kept)

    def _call(self, call: Call, memory: dict[Argument, Guarded], cuts: Sequence[int]) -> None:
        kernel = call.kernel
        views = {}
        for buffer in kernel.buffers:
            argument = call.arguments[buffer.name]
            if argument not in memory:
                assert buffer.role == "output", f"{call.name} reads {argument} before it is made"
                memory[argument] = _with_slack(_garbage(buffer))
            views[buffer.name] = memory[argument].array[: buffer.size]
        edges = sorted({0, kernel.units, *(cut % (kernel.units + 1) for cut in cuts)})
        for begin, end in reversed(list(itertools.pairwise(edges))):
            scratch = Guarded(np.full(kernel.scratch_size, np.nan, np.float32))
            self._library.prepare(kernel, views, scratch.array)(begin, end)
            assert scratch.intact(), f"{call.name} wrote before its scratch"

    def _read(self, memory: dict[Argument, Guarded]) -> Made:
        made = Made({}, {}, np.zeros(0, np.float32))
        for argument, block in memory.items():
            kept = block.array
            kept = numbers_of(kept) if kept.dtype == np.uint16 else kept.copy()
            if argument.memory is Memory.LOGITS:
                made = Made(made.values, made.states, kept)
            elif argument.memory is Memory.NEXT_STATE:
                name = f"state_{argument.name}"
                made.states[int(argument.name)] = read(self.graph, self.unit, name, kept)
            elif argument.memory is Memory.WORKSPACE and argument.name in self.graph.shapes:
                made.values[argument.name] = read(self.graph, self.unit, argument.name, kept)
        return made


def _with_slack(array: np.ndarray) -> Guarded:
    """As much as the memory plan gives, so that a word may begin at the last element."""
    buffer = Buffer("", array.size, dtype=str(array.dtype))
    more = buffer.bytes // array.itemsize - array.size
    return Guarded(np.pad(array.reshape(-1), (0, more)))


def _garbage(buffer: Buffer) -> np.ndarray:
    dtype = np.dtype(buffer.dtype)
    value = np.nan if dtype.kind == "f" else np.iinfo(dtype).max - 3
    return np.full(buffer.size, value, dtype)


FRAMES = 3
LOGITS = 2e-5
"""Of a difference, relative to the largest: what float32 kernels behind quantised ones may do."""


def agree(data: bytes, spec: ModelSpec, precision: str, library: Path) -> Step:
    """A step built for this machine: with 1 to 3 threads what the interpreter computes, bit for
    bit, and that what the graph says."""
    variant = find_variant("host")
    if precision == "bf16":
        variant = replace(variant.using(unit=UNITS["vdpbf16ps"].unit), precision="bf16")
    graph = read_onnx(data, spec)
    step, places = prepared(data, spec, variant)
    build_library(step, places, spec, variant, library)
    images = moving_images(spec, FRAMES)
    expected = list(interpreted_outputs(step, images))
    kinds = [each.kind for each in graph.operators if isinstance(each, Activate)]
    curved = any(not kind.value.exact and kind not in FUSED for kind in kinds)
    # Where LLVM packs a frame's scalars into vectors it does not fuse all of their products.
    framed = any(
        argument.name == FRAME_MAP for call in step.calls for argument in call.arguments.values()
    )
    loosely = 2e-5 if framed and precision == "fp32" else 0.0
    accepted = dict.fromkeys(expected[0], 0.02 if curved else loosely)
    report, _ = check(
        library, images, expected, step, places, reference="interpreted", accepted=accepted
    )
    assert report.passed, report.table()
    if precision == "int8":
        _agree_with_the_graph(graph, spec, images, expected)
        return step
    check_kernels(graph, spec, step, images, multiplied(graph, step, PRECISIONS[precision]))
    if precision == "fp32":
        theirs = list(onnx_outputs(data, spec, normalised(images, spec)))
        rows = compare("ONNX Runtime / interpreted", theirs, expected, tolerance=1e-4)
        assert all(row.passed for row in rows), rows
    return step


FUSED = (Activation.SIGMOID, Activation.SWISH)
"""With an exponential, and still to the bit what LLVM makes of it on every processor so far."""


def _agree_with_the_graph(
    graph: Graph, spec: ModelSpec, images: np.ndarray, expected: Sequence[Outputs]
) -> None:
    """Quantised values are the evaluated graph's but where a number of float32 lies in the middle
    between two steps."""
    evaluator, exact = Evaluator(graph, spec, INT8), quantized_tolerance(graph) == 0
    most, bound = (0, LOGITS) if exact else (1, 0.02)
    for ours, image in zip(expected, images, strict=True):
        made = evaluator.step(image)
        wrong = total = 0
        for number, theirs in enumerate(made.states):
            state = ours[f"next_state_{number}"][0].transpose(1, 2, 0)
            if theirs.dtype == np.uint8:
                difference = np.abs(state - theirs.astype(np.int64))
                assert difference.max(initial=0) <= most, f"state {number}"
                wrong, total = wrong + np.count_nonzero(difference), total + difference.size
            else:
                near(state, theirs, bound)
        assert wrong <= 0.01 * total
        near(ours["logits"][0], made.logits, bound)


def near(ours: np.ndarray, theirs: np.ndarray, bound: float) -> None:
    atol = bound * max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)
