"""The kernel IR: loops over tiles, as data that can be printed, tested and lowered.

    Kernel                 buffers, work units, what one unit does
      Loop, If             control
      Fill, Copy           runs of elements
      Tile                 where the time goes: a block of accumulators held in registers

On a device whose work units are run by several threads (a GPU's blocks), all of them run the body,
``THREAD`` says which, and ``Barrier`` waits for all. Buffers of the role "shared" are one a unit,
those of the role "register" one a thread; what a thread sums over several tiles stands in these.

A tile is ``rows`` pixels by some channels, each accumulator one vector of ``lanes`` channels:

    accumulator[row, column]  = sum of start[row, column]            bias, residual
    for each segment, each step of its loops:
        accumulator[row, column] += source[row] * weight[column]     or source[row, column]
    target[row, column] = activation(accumulator[row, column])

In int8, source and weight are packed, several quantised values in a 32-bit lane, accumulators are
int32, and the tile ends with an :class:`Epilogue`. Of bfloat16 (:data:`BF16`) two are packed, and
accumulators are float32, as is what the tile begins and ends with.

Addresses are expressions over the loops around, and over an accumulator's ``ROW`` and ``COLUMN``:
a tile is unrolled completely, its segments are loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.kernel_ir.index import Const, Index, IndexLike, Var, index
from shiftedge.export.compiler.numerics.precision import NARROW
from shiftedge.export.compiler.numerics.requantize import OutputStage

ROW = Var("row")
COLUMN = Var("column")
TERM = Var("term")
"""Which of the terms that a step of a segment adds."""
BEGIN = Var("begin")
"""First work unit of this call."""
END = Var("end")
"""Work unit after the last of this call."""
UNIT = Var("unit")
THREAD = Var("thread")
"""Which of a work unit's threads, from 0 on."""
LOWEST = -3.4028234663852886e38
"""The lowest float32: what the largest of nothing is."""

BF16 = "uint16"
"""Type of a buffer of bfloat16 numbers, as their bits. What reads one computes with float32, and
what is written to one is rounded to the nearest, halves to even; packed loads and copies take the
bits. A buffer of float16 is read and written alike."""


@dataclass(frozen=True)
class Dot:
    """How a processor multiplies packed values: several in each 32-bit lane, their products
    summed."""

    kind: str
    """The instruction; the same sums are made without it where the processor lacks it."""
    terms: int
    """Values packed in a lane, which are multiplied with as many weights."""
    dtype: str
    """In which values are stored, in maps and states."""
    storage_offset: int = 0
    """Subtracted from a uint8 value to store it: 128 where bytes are signed."""
    accumulator_dtype: str = "int32"
    """Type of the sums of products."""
    unpacked_dtype: str = "float32"
    """In which a stage that treats channels apart keeps values: one a lane, without the offset."""
    pairs: bool = False
    """NEON without a dot product: sums by pairs of values, weights as in ``families.pairs``."""
    slots: float = 1.0
    """What a step takes of the units that multiply, in multiply-adds of float32."""
    instructions: int = 1
    """Of a step, for each vector of sums."""

    @property
    def packed_dtype(self) -> str:
        """Type of as many weights as a lane has values: of bfloat16 as wide, otherwise of 8
        bits."""
        return "int32" if self.dtype == BF16 else f"int{8 * self.terms}"


@dataclass(frozen=True)
class Added:
    """How a quantised residual is added: (value + plus) * factor."""

    factor: float = 0.0
    plus: int = 0
    """Of values as they are stored, which makes them steps above their zero point."""


NOT_ADDED = Added()


@dataclass(frozen=True)
class Epilogue:
    """The end of a tile of int8: from accumulators to quantised values, or to numbers.

    y = sum * scale, or fma(sum, scale, offset) with an offset; with a residual, that is added
    times its factor; then ``stage``, see :mod:`shiftedge.export.compiler.numerics.requantize`.
    """

    scale: Access | float
    """Over COLUMN, or one number for all; only valid columns are read."""
    offset: Access | None
    """Over ROW and COLUMN."""
    stage: OutputStage
    residual: Access | None = None
    """Over ROW and COLUMN; quantised."""
    added: Added = NOT_ADDED
    """How the residual is."""
    storage_offset: int = 0
    """Of the target, see :class:`Dot`."""


@dataclass(frozen=True)
class Buffer:
    """Elements in a row. ``role``: input, weight, output, or scratch (private to one call); of
    kernels with threads shared (by a unit's) and register (private to a thread; every place in it
    is a number once tiles are unrolled)."""

    name: str
    size: int
    """In elements."""
    role: str = "input"
    dtype: str = "float32"

    def at(self, position: IndexLike) -> Access:
        """The element at ``position``."""
        return Access(self, index(position))

    @property
    def bytes(self) -> int:
        """Of all elements; of narrow ones and 16 more: a vector may begin at the last lane."""
        itemsize = np.dtype(self.dtype).itemsize
        return self.size * itemsize + (16 if itemsize < 4 else 0)


@dataclass(frozen=True)
class Access:
    buffer: Buffer
    position: Index

    def __str__(self) -> str:
        return f"{self.buffer.name}[{self.position}]"


@dataclass(frozen=True)
class Loop:
    """``for variable in range(begin, end)``, one after the other."""

    variable: Var
    begin: Index
    end: Index
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class If:
    """Chooses between two bodies; the condition is 0 or 1."""

    condition: Index
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Fill:
    """Sets ``count`` elements to ``value``."""

    target: Access
    count: int
    value: float = 0.0


@dataclass(frozen=True)
class Copy:
    """Copies ``count`` elements, converted to the target's type.

    With ``scale`` and ``shift``, which hold ``count`` numbers each, x becomes x * scale + shift.
    ``plus`` is added to integers, and wraps; ``before`` is added before the conversion, and wraps
    in the source's type.
    """

    source: Access
    target: Access
    count: int
    scale: Access | None = None
    shift: Access | None = None
    plus: int = 0
    before: int = 0


@dataclass(frozen=True)
class Part:
    """An accumulator: ``lanes`` columns from ``column`` on of one row."""

    row: int
    column: int
    lanes: int
    folded: bool = False
    """Half as many columns: the even lanes sum the first term of each step, the odd lanes the
    second, and their sums are added at the end. So no lane is idle with 24 channels on 16 lanes."""

    @property
    def width(self) -> int:
        """Columns."""
        return self.lanes // 2 if self.folded else self.lanes


@dataclass(frozen=True)
class SegmentLoop:
    """A loop of a segment."""

    variable: Var
    extent: int
    unrolled: bool = False


@dataclass(frozen=True)
class Gather:
    """Lanes packed from neighbours of 32 bits each: a row of the tile takes ``taps``, TERM 0 and so
    on of its source, the next row's begin ``stride`` further. They fill lanes from the last on."""

    taps: int
    stride: int


@dataclass(frozen=True)
class Segment:
    """One stretch of the sum: a range of input channels from one buffer, or a window's taps."""

    steps: tuple[SegmentLoop, ...]
    """Outermost first."""
    source: Access
    """Over ROW and the steps; over COLUMN too where each channel has its own source."""
    weight: Access | None
    """Over COLUMN and the steps; None sums (or takes the largest of) the source itself. Integers
    are summed as int32, their largest is of their type; times a weight they are what that is, or
    int32."""
    by_column: bool = False
    """The source differs from column to column (depthwise, pooling); otherwise it is one number
    for all columns (a matrix product)."""
    terms: int = 1
    """A step adds so many terms, whose addresses are over TERM; the source's numbers are
    neighbours. With two, an accumulator that is folded reads both at once, and its weights, at
    TERM 1, are those of both terms in turn, column by column."""
    by_lane: bool = False
    """The source's numbers of a step are loaded as one vector, and each multiply-add takes its own
    from a lane of it, as NEON's can; otherwise each number is loaded and broadcast."""
    prefetch: Access | None = None
    """Brought into the first-level cache at each step: what the next tiles will read."""
    largest: bool = False
    """Keep the larger of accumulator and source, rather than their sum."""
    dot: Dot | None = None
    """A step takes a packed lane of the source, and one of each column's weights."""
    reverse: int = 0
    """So many columns at a time are read in the other order: a camera's B, G, R as R, G, B."""
    plus: int = 0
    """Added to each packed value of the source, where it wraps: the zero point that a state's lack;
    without a dot, to the value as int32."""
    gather: Gather | None = None
    """With a dot and by column: lanes are put together; a row has ``terms``, weights at TERM."""


@dataclass(frozen=True)
class Tile:
    """A block of accumulators; see the module's docstring."""

    vectors: tuple[Part, ...]
    """The accumulators."""
    columns: int
    """Valid columns: beyond them start is not read and target not written."""
    start: tuple[Access, ...]
    """Summed as the first value, over ROW and COLUMN. Those of role weight are padded to whole
    vectors and read as such; others only where columns are valid. None: 0 (-inf for largest)."""
    segments: tuple[Segment, ...]
    target: Access
    activation: Activation = Activation.NONE
    scale: float = 1.0
    """Multiplies the sum before the activation: a mean's 1 / count."""
    epilogue: Epilogue | None = None
    """How it ends, instead of ``activation`` and ``scale``; ``start`` is then int32 if sums are."""
    half: bool = False
    """Sums are float16, and each product is added to them with one rounding."""

    @property
    def accumulator_dtype(self) -> str:
        """Type of the accumulators; see ``Segment``."""
        if self.half:
            return "float16"
        for segment in self.segments:
            if segment.dot:
                return segment.dot.accumulator_dtype
            source = segment.source.buffer.dtype
            weight = segment.weight.buffer.dtype if segment.weight else source
            if not {source, weight} & {"float32", *NARROW}:
                return source if segment.largest else "int32"
        return "float32"

    @property
    def rows(self) -> int:
        """Pixels of the tile."""
        return 1 + max(part.row for part in self.vectors)


@dataclass(frozen=True)
class Barrier:
    """All threads of a unit come here before one goes on, and see what the others wrote. Not where
    only some of them come."""


@dataclass(frozen=True)
class MatrixProduct:
    """Of each warp of 32 threads: sums += a * b, matrices whose elements lie in its threads'
    registers as ``fragments`` says of the shape; products of half precision, added in the order of
    the depth and rounded to float32 once. All of a warp must come here together."""

    shape: str
    """One of ``fragments.FRAGMENTS``."""
    sums: Access
    """Over ``fragments.ELEMENT``, as are the others."""
    a: Access
    b: Access

    @property
    def target(self) -> Access:
        """What is written."""
        return self.sums


Statement = Loop | If | Fill | Copy | Tile | MatrixProduct | Barrier


@dataclass(frozen=True)
class Kernel:
    """``void name(buffers..., scratch, int32 begin, int32 end)``: does units begin to end - 1.

    Units may be done in any order and split, with one scratch block a thread: each output element
    is made by one unit, always by the same arithmetic.
    """

    name: str
    buffers: tuple[Buffer, ...]
    """Parameters, in order, without scratch."""
    units: int
    body: tuple[Statement, ...]
    """What the unit ``UNIT`` does."""
    prologue: tuple[Statement, ...] = ()
    """Once a call, before its first unit."""
    scratch: tuple[Buffer, ...] = ()
    threads: int = 1
    """Of a unit."""
    block: tuple[Buffer, ...] = ()
    """Shared buffers and registers."""
    neighbours: bool = False
    """A call's first unit repeats work of the unit before: cut it into few calls."""
    flops: int = 0
    """Of all units, without what overlapping bands repeat."""
    single_flops: int = 0
    """Of ``flops``, where some tiles multiply packed values: those of tiles that multiply single
    ones."""
    note: str = ""
    """One line for people: family and tiles."""
    offsets: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        offsets, end = {}, 0
        for buffer in self.scratch:
            offsets[buffer.name] = end // np.dtype(buffer.dtype).itemsize
            end += _lines(buffer.bytes)
        object.__setattr__(self, "offsets", offsets)

    @property
    def scratch_size(self) -> int:
        """float32 elements of the scratch block that each call needs."""
        return sum(_lines(buffer.bytes) for buffer in self.scratch) // 4

    def prototype(self) -> str:
        """The C declaration. Parameters must not overlap, but those that are only read may."""
        parameters = [
            f"{'' if buffer.role == 'output' else 'const '}{_C[buffer.dtype]} *{buffer.name}"
            for buffer in self.buffers
        ]
        parameters += ["float *scratch", "int32_t begin", "int32_t end"]
        return f"void {self.name}({', '.join(parameters)});"

    def text(self) -> str:
        """The kernel as an indented text."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        names = ", ".join(f"{each.role} {each.name}[{each.size}]" for each in self.buffers)
        yield f"kernel {self.name}({names})" + (f"  # {self.note}" if self.note else "")
        for buffer in (*self.scratch, *self.block):
            yield f"  {buffer.role} {buffer.name}[{buffer.size}]"
        for statement in self.prologue:
            yield from _text(statement, "  ")
        threads = f", {self.threads} threads each" if self.threads > 1 else ""
        yield f"  for unit in begin .. end of {self.units}{threads}:"
        for statement in self.body:
            yield from _text(statement, "    ")

    def tiles(self) -> Iterator[Tile]:
        every = walk((*self.prologue, *self.body))
        return (each for each in every if isinstance(each, Tile))


_C = {"float32": "float", "float16": "_Float16"} | {
    each: f"{each}_t" for each in ("uint8", "int8", "int16", "int32", "uint16")
}


def _lines(size: int) -> int:
    """Bytes in whole cache lines of 64, which are whole vectors too."""
    return -(-size // 64) * 64


def grid(rows: int, columns: int, lanes: int) -> tuple[Part, ...]:
    """Accumulators for ``rows`` x ``columns``, columns padded to whole vectors."""
    return tuple(
        Part(row, column, lanes) for row in range(rows) for column in range(0, columns, lanes)
    )


def folded_grid(rows: int, columns: int, lanes: int) -> tuple[Part, ...]:
    """The same for some whole vectors and half a one of columns, the half folded."""
    whole = columns - lanes // 2
    parts = []
    for row in range(rows):
        parts += [Part(row, column, lanes) for column in range(0, whole, lanes)]
        parts.append(Part(row, whole, lanes, folded=True))
    return tuple(parts)


def pieces(count: int, lanes: int) -> list[tuple[int, int]]:
    """``count`` elements as (first, length) of vectors, lengths a power of two up to ``lanes``."""
    result, first = [], 0
    while first < count:
        length = lanes
        while length > count - first:
            length //= 2
        result.append((first, length))
        first += length
    return result


def in_vectors(
    count: int, lanes: int, make: Callable[[Index, int], Statement]
) -> tuple[Statement, ...]:
    """``make(first, length)`` over ``count`` columns: a loop of whole vectors, then narrower
    ones."""
    vector, full = Var("vector"), count // lanes
    loop = Loop(vector, Const(0), Const(full), (make(vector * lanes, lanes),)) if full else None
    rest = pieces(count - full * lanes, lanes)
    narrow = (make(index(full * lanes + first), length) for first, length in rest)
    return (*((loop,) if loop else ()), *narrow)


def walk(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Every statement, in the order of the text."""
    for each in statements:
        yield each
        if isinstance(each, Loop):
            yield from walk(each.body)
        elif isinstance(each, If):
            yield from walk((*each.then, *each.otherwise))


def _text(statement: Statement, indent: str) -> Iterator[str]:
    deeper = indent + "  "
    if isinstance(statement, Loop):
        yield f"{indent}for {statement.variable} in {statement.begin} .. {statement.end}:"
        for inner in statement.body:
            yield from _text(inner, deeper)
    elif isinstance(statement, If):
        yield f"{indent}if {statement.condition}:"
        for inner in statement.then:
            yield from _text(inner, deeper)
        if statement.otherwise:
            yield f"{indent}else:"
            for inner in statement.otherwise:
                yield from _text(inner, deeper)
    elif isinstance(statement, Barrier):
        yield f"{indent}barrier"
    elif isinstance(statement, Fill):
        yield f"{indent}fill {statement.target} .. +{statement.count} = {statement.value}"
    elif isinstance(statement, Copy):
        scaled = " * scale + shift" if statement.scale else ""
        source = f"{statement.source} .. +{statement.count}"
        yield f"{indent}copy {statement.target} = {source}{scaled}"
    elif isinstance(statement, MatrixProduct):
        yield f"{indent}{statement.shape} {statement.sums} += {statement.a} * {statement.b}"
    else:
        shape = f"{statement.rows} rows x {statement.columns} columns"
        yield f"{indent}tile of {shape}, {len(statement.vectors)} accumulators:"
        start = " + ".join(map(str, statement.start)) or "0"
        yield f"{deeper}start {start}"
        for segment in statement.segments:
            steps = ", ".join(
                f"{step.variable} < {step.extent}" + (" unrolled" if step.unrolled else "")
                for step in segment.steps
            )
            product = str(segment.source) + (f" * {segment.weight}" if segment.weight else "")
            if segment.dot:
                product += f" by {segment.dot.kind}"
            verb = "largest" if segment.largest else "add"
            ahead = f"  (prefetch {segment.prefetch})" if segment.prefetch else ""
            yield f"{deeper}{verb} {product} for {steps}{ahead}"
        if statement.epilogue:
            ends = statement.epilogue
            yield f"{deeper}times {ends.scale}" + (f" plus {ends.offset}" if ends.offset else "")
            if ends.residual:
                yield f"{deeper}plus ({ends.residual} + {ends.added.plus}) * {ends.added.factor}"
            rounded = "rounded to " if ends.stage.rounded else ""
            yield f"{deeper}store {statement.target} = {rounded}{ends.stage.low}..{ends.stage.high}"
            return
        function = statement.activation.name.lower()
        yield f"{deeper}store {statement.target} = {function}(sum)"
