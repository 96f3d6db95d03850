"""Rewrites of a graph read from a quantised file: what is uint8, which roundings are skipped.

A quantised file writes every rounding out, as Quantise and Dequantise between float operators. In
this order:

1. **After the mean** everything is float32: vectors cost nothing, and roundings of them much.
2. **The frame** is not rounded to uint8 where convolutions alone read it: they have its bytes.
3. **Between a convolution and the sum or activation that runs in its kernel** nothing is rounded.
   Other engines need uint8 there to compute in int8; here the sum is made before the rounding.
   Of a sum of two convolutions that is the one that runs last; the other is stored, as uint8.
4. A **Quantise** becomes part of the kernel that makes its input, where that is an int8 one
   and nothing else reads the input. A **Dequantise** becomes part of the operators that read uint8.
5. Whatever is left, beside layers kept in float32, stands for itself in the graph; convolutions
   that are not int8 after all lose their int8 weights, and keep the float32 ones.

A graph of float32 alone comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from shiftedge.export.compiler.frontend.rewrites import alive
from shiftedge.export.compiler.graph import graph as ops

_MOST_TERMS = (2**31 - 1) // (255 * 128)
"""Of one sum of products of a uint8 and an int8 number: more may leave int32."""


def fold_quantization(graph: ops.Graph, *, bytes_fit: bool) -> ops.Graph:
    """Apply the rules above to a graph of which each rounding stands for itself.

    ``bytes_fit``: a kernel can count with the frame's bytes, which stand for the frame's numbers by
    one scale, so the spec's ``std`` is the same for all colours.
    """
    int8 = (isinstance(op, ops.Conv) and op.quantized_weight is not None for op in graph.operators)
    return _Folder(graph, bytes_fit).folded() if graph.quantization or any(int8) else graph


class _Folder:
    def __init__(self, graph: ops.Graph, bytes_fit: bool) -> None:
        self._graph, self._bytes_fit = graph, bytes_fit
        self._frame, self.quantization = graph.frame, graph.quantization
        self._logits = graph.logits
        self._set(graph.operators)

    def folded(self) -> ops.Graph:
        self.merge_equal()
        self.drop_after_mean()
        self.drop_of_frame()
        self.drop_before_activations()
        self.drop_before_sums()
        self.store_quantized()
        self.read_quantized()
        operators = alive(self._operators, self._logits)
        present = {name for operator in operators for name in (operator.out, *operator.inputs)}
        stored = {
            name: quantization
            for name, quantization in self.quantization.items()
            if name in present or name.startswith("state_")
        }
        return replace(
            self._graph, operators=operators, logits=self._logits, quantization=stored
        )  # fmt: skip

    # The graph as it stands.

    def _set(self, operators: Iterable[ops.Operator]) -> None:
        self._operators = tuple(operators)
        self._uses = ops.Uses(self._operators, self._logits)
        self._made, self._readers = self._uses.made, self._uses.readers
        self._place, self._count = self._uses.place, self._uses.count
        self._only_reader = self._uses.only_reader

    def _rename(self, operators: Iterable[ops.Operator], names: Mapping[str, str]) -> None:
        """Of these operators, let everything read other values."""

        def follow(name: str) -> str:
            while name in names:
                name = names[name]
            return name

        self._logits = follow(self._logits)
        self._set(replace(each, inputs=tuple(map(follow, each.inputs))) for each in operators)

    def _drop(self, rounding: Iterable[ops.Quantize]) -> None:
        """Let readers of what these stand for read what was rounded."""
        names = {}
        gone: set[int] = set()
        for quantize in rounding:
            for reader in self._readers.get(quantize.out, []):
                names[reader.out] = quantize.inputs[0]
                gone.add(id(reader))
            gone.add(id(quantize))
        if gone:
            self._rename((each for each in self._operators if id(each) not in gone), names)

    def _droppable(self, quantize: ops.Operator | None) -> bool:
        """Whether it is there for its numbers alone: no shift, no state, no pool."""
        return isinstance(quantize, ops.Quantize) and all(
            isinstance(reader, ops.Dequantize) for reader in self._readers.get(quantize.out, [])
        )

    def _rounded_once(self, value: str) -> tuple[ops.Quantize, ops.Operator] | None:
        """The rounding that alone reads ``value``, and what alone reads the numbers after it."""
        quantize = self._only_reader(value)
        if not isinstance(quantize, ops.Quantize) or not self._droppable(quantize):
            return None
        dequantize = self._only_reader(quantize.out)
        reader = None if dequantize is None else self._only_reader(dequantize.out)
        return None if reader is None else (quantize, reader)

    def _quantized_of(self, value: str) -> str | None:
        """The uint8 value that ``value`` is the numbers of."""
        maker = self._made.get(value)
        return maker.inputs[0] if isinstance(maker, ops.Dequantize) else None

    def _in_int8(self, operator: ops.Operator | None) -> bool:
        """Whether it is a convolution whose kernel is an int8 one."""
        if not isinstance(operator, ops.Conv) or operator.quantized_weight is None:
            return False
        source = operator.inputs[0]
        if operator.quantized_weight[0].size > _MOST_TERMS:
            return False
        if source == self._frame:
            return self._bytes_fit and operator.groups == 1
        return source in self.quantization or self._quantized_of(source) is not None

    # 1 to 3: roundings that no kernel makes.

    def merge_equal(self) -> None:
        """Some tools write a rounding for each reader."""
        first: dict[tuple[str, ops.Quantization], str] = {}
        names = {}
        for operator in self._operators:
            if isinstance(operator, ops.Quantize):
                kept = first.setdefault((operator.inputs[0], operator.quantization), operator.out)
                if kept != operator.out:
                    names[operator.out] = kept
        self._rename((each for each in self._operators if each.out not in names), names)

    def drop_after_mean(self) -> None:
        late: set[str] = set()
        for operator in self._operators:
            follows = isinstance(
                operator, (ops.Activate, ops.Add, ops.Conv, ops.Dequantize, ops.Mul, ops.Quantize)
            )
            if isinstance(operator, (ops.Mean, ops.Dense)) or (
                follows and all(name in late for name in operator.inputs)
            ):
                late.add(operator.out)
        self._drop(
            each
            for each in self._operators
            if isinstance(each, ops.Quantize) and each.out in late and self._droppable(each)
        )

    def drop_of_frame(self) -> None:
        self._drop(
            each
            for each in self._operators
            if isinstance(each, ops.Quantize)
            and each.inputs == (self._frame,)
            and self._droppable(each)
            and all(
                isinstance(reader, ops.Conv)
                for dequantize in self._readers[each.out]
                for reader in self._readers.get(dequantize.out, [])
            )
        )

    def drop_before_activations(self) -> None:
        for operator in self._operators:
            found = self._rounded_once(operator.out) if self._in_int8(operator) else None
            if found is not None and isinstance(found[1], ops.Activate):
                self._drop([found[0]])

    def drop_before_sums(self) -> None:
        for operator in self._operators:
            if not isinstance(operator, ops.Add):
                continue
            add = self._made[operator.out]  # as the sums before have left it
            sides = []
            for value, other in (add.inputs, add.inputs[::-1]):
                source = self._quantized_of(value)
                quantize = None if source is None else self._made.get(source)
                if not isinstance(quantize, ops.Quantize) or self._quantized_of(other) is None:
                    continue
                conv = self._made.get(quantize.inputs[0])
                found = self._rounded_once(quantize.inputs[0])
                if conv is not None and self._in_int8(conv) and found == (quantize, add):
                    sides.append((self._place[conv.out], quantize))
            if sides and add.inputs[0] != add.inputs[1]:
                last = max(sides, key=lambda side: side[0])[1]
                self._drop([last])

    # 4: what kernels round and read themselves.

    def store_quantized(self) -> None:
        """Quantise as the last act of the kernel that makes the numbers."""
        for operator in self._operators:
            quantize = self._made.get(operator.out)
            if not isinstance(quantize, ops.Quantize):
                continue
            value = quantize.inputs[0]
            maker = self._made.get(value)
            source = self._quantized_of(value)
            if source is not None and self.quantization[source] == quantize.quantization:
                kept = (each for each in self._operators if each is not quantize)
                self._rename(kept, {quantize.out: source})
            elif maker is not None and self._count[value] == 1 and self._can_store(maker, quantize):
                stored = replace(maker, out=quantize.out)
                if isinstance(maker, ops.Pool):  # moves them as they are
                    stored = replace(stored, inputs=(self._quantized_of(maker.inputs[0]) or "",))
                self._set(
                    stored if each is maker else each
                    for each in self._operators
                    if each is not quantize
                )

    def _can_store(self, maker: ops.Operator, quantize: ops.Quantize) -> bool:
        if isinstance(maker, ops.Activate):
            before = self._made.get(maker.inputs[0])
            alone = self._count[maker.inputs[0]] == 1
            return alone and (
                self._in_int8(before)
                or (isinstance(before, ops.Add) and self._sums_in_kernel(before))
            )
        if isinstance(maker, ops.Add):
            return self._sums_in_kernel(maker) or self._sums_quantized(maker)
        if isinstance(maker, ops.Pool) and maker.largest:
            source = self._quantized_of(maker.inputs[0])
            return source is not None and self.quantization[source] == quantize.quantization
        return self._in_int8(maker)

    def _sums_quantized(self, add: ops.Add) -> bool:
        return all(
            name in self.quantization or self._quantized_of(name) is not None for name in add.inputs
        )

    def _sums_in_kernel(self, add: ops.Add) -> bool:
        """Whether it runs in the kernel of an int8 convolution, and adds uint8."""
        for value, other in (add.inputs, add.inputs[::-1]):
            source = other if other in self.quantization else self._quantized_of(other)
            conv = self._made.get(value)
            if source is None or conv is None or not self._in_int8(conv):
                continue
            if self._count[value] == 1 and self._place.get(source, -1) < self._place[value]:
                return True
        return False

    def read_quantized(self) -> None:
        """Operators that read uint8 read that; the others keep their Dequantise."""
        changed = []
        for operator in self._operators:
            takes = (
                self._in_int8(operator)
                or isinstance(operator, ops.Mean)
                or (
                    isinstance(operator, ops.Add)
                    and (self._sums_in_kernel(operator) or self._sums_quantized(operator))
                )
            )
            current = operator
            if takes:
                inputs = tuple(self._quantized_of(name) or name for name in operator.inputs)
                current = replace(operator, inputs=inputs)
            elif isinstance(operator, ops.Conv) and operator.quantized_weight is not None:
                current = replace(operator, quantized_weight=None, weight_scale=None)
            changed.append(current)
        self._set(changed)
