"""What a prediction costs, counted and not measured: parameters, multiply-adds, memory traffic, by
the conventions of docs/complexity.md, batch 1, float32.

The network runs on torch's ``meta`` device: shapes alone, no arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from shiftedge.benchmarks.complexity.nets import Network, Segments
from shiftedge.export.models import TemporalShift

BYTES = 4
"""Of a float32."""
LAYERS = frozenset((
    "convolution", "addmm", "mm", "max_pool2d_with_indices", "max_pool3d_with_indices", "mean",
    "add", "cat",
))  # fmt: skip
"""Operators (of aten, without overload) that read their inputs and write their first output."""
FREE = frozenset((
    # part of the layer before
    "native_batch_norm", "_native_batch_norm_legit_no_training", "relu", "relu_", "hardtanh",
    "hardtanh_",
    # names for what is there already
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "squeeze", "unsqueeze",
    "alias", "detach", "empty",
    # copies of the states at the end of a step, which are counted as the shift's
    "clone",
))  # fmt: skip


@dataclass(frozen=True)
class Traffic:
    """Bytes that one prediction moves, by what they are."""

    weights: int
    activations: int
    """Read and written by layers, without the shifts."""
    shift: int
    """Moved by temporal shifts."""

    @property
    def total(self) -> int:
        return self.weights + self.activations + self.shift


@dataclass(frozen=True)
class NetworkCost:
    parameters: int
    macs: int
    """Multiply-adds."""
    traffic: Traffic
    frames: int
    """New frames in it."""
    state_bytes: int
    """What is kept from frame to frame; 0 for all but online models."""

    @property
    def flops(self) -> int:
        """Floating-point operations, 2 a multiply-add."""
        return 2 * self.macs


def cost(network: Network, size: int) -> NetworkCost:
    """Count one prediction of a network on frames of ``size`` x ``size`` pixels."""
    net = network.build("meta")
    inputs = network.inputs(net, size)
    state_bytes = BYTES * sum(state.numel() for state in inputs[1:])
    counted = (parameters(net), count(net, inputs), traffic(net, inputs))
    return NetworkCost(*counted, network.frames, state_bytes)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def count(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Multiply-adds of ``net(*inputs)`` in convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        net(*inputs)
    return int(counter.get_total_flops()) // 2


@torch.no_grad()
def traffic(net: nn.Module, inputs: tuple[Tensor, ...]) -> Traffic:
    """Bytes that ``net(*inputs)`` reads and writes, layer by layer.

    Raises:
        ValueError: the network has an operator of which is not known what it moves.
    """
    meter = _Meter(net)
    with ExitStack() as hooks:
        for module in net.modules():
            if isinstance(module, TemporalShift):
                hooks.callback(module.register_forward_pre_hook(meter.enter_shift).remove)
                hooks.callback(module.register_forward_hook(meter.leave_shift).remove)
                if module.net is not None:
                    hooks.callback(module.net.register_forward_pre_hook(meter.leave_shift).remove)
        with meter:
            net(*inputs)
    return Traffic(meter.weights, meter.activations, meter.shift)


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator that runs, with its tensors."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights = self.activations = self.shift = 0
        self._parameters = {id(parameter) for parameter in net.parameters()}
        self._ways = 2 if isinstance(net, Segments) else 1
        self._in_shift = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if self._in_shift or name in FREE:
            return result
        if name not in LAYERS:
            raise ValueError(f"it is not known what the operator {name} reads and writes")
        for tensor in _tensors(args):
            # A linear layer hands over its weight transposed, which is a view of it.
            origin = tensor if tensor._base is None else tensor._base
            if id(origin) in self._parameters:
                self.weights += BYTES * tensor.numel()
            else:
                self.activations += BYTES * tensor.numel()
        output = result[0] if isinstance(result, tuple) else result
        self.activations += BYTES * output.numel()
        return result

    def enter_shift(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """From here on, operators belong to a shift; what it moves is known from its input."""
        assert isinstance(module, TemporalShift)
        x = inputs[0]
        moved = self._ways * (x.shape[1] // module.fold_div) * x.numel() // x.shape[1]
        self.shift += 2 * BYTES * moved
        self._in_shift = True

    def leave_shift(self, *_: object) -> None:
        self._in_shift = False


def _tensors(arguments: Iterable[Any]) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)
