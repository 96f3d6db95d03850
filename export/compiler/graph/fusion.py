"""Graph -> kernels: which operators run together, so that features stay in registers and cache.

Families, tried in this order at each operator (numbers in brackets say how many MobileNetV2 TSM
has):

1. **Inverted residual** [17]: [shift +] pointwise + activation, depthwise + activation, pointwise,
   [+ the block's input]. The expanded map, six times the block's input, is never written to
   memory. A depthwise convolution with a pointwise one behind it and nothing before is the same
   family without its expansion; with the network's first convolution before, that one takes the
   expansion's place.
2. **Tail** [1]: pointwise + activation, mean, dense: the widest map is summed as it is made.
3. **Convolution** [0]: [shift +] one convolution + activation, [+ a residual] [+ activation], of
   any kernel; pointwise ones are told apart by their schedule.
4. Everything else is a kernel of its own.

An operator joins the kernel before it only when nothing else reads the value between the two.
Convolutions run together only if all of them are int8 or none is, and the values between two that
are int8 are quantised, rounded as they would be in memory.
Next states are no part of a kernel: they are read from a map that exists anyway, and the memory
plan decides when.
"""

from __future__ import annotations

from dataclasses import dataclass

from shiftedge.export.compiler.graph import graph as ops
from shiftedge.export.compiler.graph.activations import Activation


@dataclass(frozen=True, eq=False)
class FusedKernel:
    """Operators that run as one."""

    operators: tuple[ops.Operator, ...]
    """In the order of the graph; the reference runs them one by one."""

    @property
    def name(self) -> str:
        """Of the last operator: what the kernel is for."""
        return self.operators[-1].name

    @property
    def out(self) -> str:
        """The value it makes."""
        return self.operators[-1].out

    @property
    def reads(self) -> tuple[str, ...]:
        """Values from outside the kernel, each once, in the order of first use."""
        inside = {operator.out for operator in self.operators}
        names = (name for operator in self.operators for name in operator.inputs)
        return tuple(dict.fromkeys(name for name in names if name not in inside))


@dataclass(frozen=True, eq=False)
class Linear:
    """A convolution with what is done to its result at once."""

    conv: ops.Conv
    activation: Activation = Activation.NONE
    quantization: ops.Quantization | None = None
    """Of the result, after the activation and a residual; None where it is float32."""


@dataclass(frozen=True, eq=False)
class InvertedResidualKernel(FusedKernel):
    """Family 1."""

    join: ops.Join | None
    stem: Linear | None
    """The first convolution of the network, over the frame, instead of an expansion."""
    expand: Linear | None
    depthwise: Linear
    project: Linear
    residual: str | None
    """The value added to the result."""


@dataclass(frozen=True, eq=False)
class Tail(FusedKernel):
    """Family 2."""

    join: ops.Join | None
    pointwise: Linear
    mean: ops.Mean
    dense: ops.Dense


@dataclass(frozen=True, eq=False)
class ConvKernel(FusedKernel):
    """Family 3. The activation comes after the residual."""

    join: ops.Join | None
    linear: Linear
    residual: str | None

    @property
    def conv(self) -> ops.Conv:
        """The convolution itself."""
        return self.linear.conv


@dataclass(frozen=True, eq=False)
class Single(FusedKernel):
    """Family 4: one operator."""


def fuse(graph: ops.Graph) -> tuple[tuple[FusedKernel, ...], tuple[ops.KeepState, ...]]:
    """Group the operators of ``graph`` into kernels, in an order in which they can run.

    Returns:
        The kernels, and the operators that keep the next states, apart.
    """
    return _Fuser(graph).fuse()


def apart(kernel: FusedKernel) -> tuple[FusedKernel, ...]:
    """The same with one convolution a kernel, in order."""
    if isinstance(kernel, Tail):
        head = _alone(kernel, kernel.pointwise, kernel.join)
        return (head, Single((kernel.mean,)), Single((kernel.dense,)))
    if not isinstance(kernel, InvertedResidualKernel):
        return (kernel,)
    result: list[FusedKernel] = []
    join = kernel.join
    for part in (kernel.stem or kernel.expand, kernel.depthwise):
        if part is not None:
            result.append(_alone(kernel, part, join))
            join = None
    return (*result, _alone(kernel, kernel.project, None, kernel.residual))


def _alone(
    kernel: FusedKernel, part: Linear, join: ops.Join | None, residual: str | None = None
) -> ConvKernel:
    """One convolution of a kernel, with the join before it, its activation, and the sum behind."""
    conv = part.conv
    own = tuple(
        each
        for each in kernel.operators
        if each in (conv, join)
        or (isinstance(each, ops.Activate) and each.inputs == (conv.out,))
        or (residual is not None and isinstance(each, ops.Add))
    )
    return ConvKernel(own, join, part, residual)


class _Fuser:
    def __init__(self, graph: ops.Graph) -> None:
        self._graph = graph
        self._uses = ops.Uses(graph.operators, graph.logits)
        self._place = self._uses.place

    def fuse(self) -> tuple[tuple[FusedKernel, ...], tuple[ops.KeepState, ...]]:
        taken: set[str] = set()
        kernels: list[FusedKernel] = []
        kept: list[ops.KeepState] = []
        for operator in self._graph.operators:
            if isinstance(operator, ops.KeepState):
                kept.append(operator)
            elif operator.out not in taken:
                kernel = self._kernel_from(operator)
                taken.update(part.out for part in kernel.operators)
                kernels.append(kernel)
        # A kernel stands where its first operator stood; a residual may be made after that.
        kernels.sort(key=lambda kernel: self._place[kernel.out])
        return tuple(kernels), tuple(kept)

    def _kernel_from(self, first: ops.Operator) -> FusedKernel:
        chain: list[ops.Operator] = []
        join = None
        head: ops.Operator | None = first
        if isinstance(first, ops.Join):
            join, head = first, self._only_reader(first.out)
            chain.append(first)
        if isinstance(head, ops.Conv):
            return (
                self._inverted_residual(chain, join, head)
                or self._tail(chain, join, head)
                or self._convolution(chain, join, head)
            )
        return Single((first,))

    def _only_reader(self, value: str) -> ops.Operator | None:
        reader = self._uses.only_reader(value)
        return None if isinstance(reader, ops.KeepState) else reader

    def _linear(self, conv: ops.Conv) -> tuple[Linear, list[ops.Operator]]:
        """A convolution with the activation that alone reads it, and the operators of both."""
        after = self._only_reader(conv.out)
        quantization = self._graph.quantization
        if isinstance(after, ops.Activate):
            return Linear(conv, after.kind, quantization.get(after.out)), [conv, after]
        return Linear(conv, quantization=quantization.get(conv.out)), [conv]

    def _together(self, first: Linear, after: ops.Conv | ops.Mean) -> bool:
        """Whether both are int8, with quantised values between, or neither is."""
        between = first.quantization is not None
        if isinstance(after, ops.Conv) and (after.quantized_weight is not None) != between:
            return False
        return (first.conv.quantized_weight is not None) == between

    def _residual(self, value: str) -> tuple[ops.Add, str] | None:
        """The sum that alone reads ``value``, and what it adds."""
        after = self._only_reader(value)
        if not isinstance(after, ops.Add) or after.inputs[0] == after.inputs[1]:
            return None
        other = after.inputs[after.inputs[0] == value]
        conv = self._graph.operators[self._place[value]]
        quantized = isinstance(conv, ops.Conv) and conv.quantized_weight is not None
        if quantized != (other in self._graph.quantization):
            return None
        # Where both sides come from a convolution, the sum belongs to the one that runs last.
        return (after, other) if self._place.get(other, -1) < self._place[value] else None

    def _inverted_residual(
        self, before: list[ops.Operator], join: ops.Join | None, head: ops.Conv
    ) -> InvertedResidualKernel | None:
        chain = list(before)
        stem = expand = None
        if not head.depthwise:
            # A strided or larger convolution expands as well, but reads a map of another size:
            # only the stem, whose input has few channels, is made anew for each band of rows.
            if not head.pointwise and (head.inputs != (self._graph.frame,) or head.groups > 1):
                return None
            first, parts = self._linear(head)
            stem, expand = (None, first) if head.pointwise else (first, None)
            chain += parts
            following = self._only_reader(chain[-1].out)
            if not isinstance(following, ops.Conv) or not following.depthwise:
                return None
            if not self._together(first, following):
                return None
            head = following
        elif join is not None:
            return None
        depthwise, parts = self._linear(head)
        chain += parts
        project = self._only_reader(chain[-1].out)
        if not isinstance(project, ops.Conv) or not project.pointwise:
            return None
        if not self._together(depthwise, project):
            return None
        if isinstance(self._only_reader(project.out), (ops.Activate, ops.Mean)):
            return None  # a separable convolution before something else: families 2 and 3
        chain.append(project)
        residual = self._residual(project.out)
        if residual is not None:
            chain.append(residual[0])
            activation = self._only_reader(chain[-1].out)
            if isinstance(activation, ops.Activate) and activation.out in self._graph.quantization:
                return None  # what makes the numbers quantises them too: family 3
        quantization = self._graph.quantization.get(chain[-1].out)
        return InvertedResidualKernel(
            tuple(chain),
            join=join,
            stem=stem,
            expand=expand,
            depthwise=depthwise,
            project=Linear(project, quantization=quantization),
            residual=None if residual is None else residual[1],
        )

    def _tail(
        self, before: list[ops.Operator], join: ops.Join | None, head: ops.Conv
    ) -> Tail | None:
        if not head.pointwise:
            return None
        pointwise, parts = self._linear(head)
        mean = self._only_reader(parts[-1].out)
        if not isinstance(mean, ops.Mean) or not self._together(pointwise, mean):
            return None
        dense = self._only_reader(mean.out)
        if not isinstance(dense, ops.Dense):
            return None
        chain = (*before, *parts, mean, dense)
        return Tail(chain, join=join, pointwise=pointwise, mean=mean, dense=dense)

    def _convolution(
        self, before: list[ops.Operator], join: ops.Join | None, head: ops.Conv
    ) -> ConvKernel:
        chain = [*before, head]
        residual = self._residual(head.out)
        if residual is not None:
            chain.append(residual[0])
        after = self._only_reader(chain[-1].out)
        kind = Activation.NONE
        if isinstance(after, ops.Activate):
            chain.append(after)
            kind = after.kind
        return ConvKernel(
            tuple(chain),
            join=join,
            linear=Linear(head, kind, self._graph.quantization.get(chain[-1].out)),
            residual=None if residual is None else residual[1],
        )
