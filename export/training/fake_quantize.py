"""Fake quantization: a network that computes in floats what its int8 file will compute.

The walk over a network of inverted residual blocks below names every *place* whose tensor the file
of ``shiftedge quantize`` holds quantized: the frame, each convolution after its activation, each
sum of a residual block. Two arithmetics go along it. :class:`Observer` leaves the values alone and
gathers their histograms; :class:`Int8` rounds values and folded weights to what int8 can hold, with
gradients that pass straight through the rounding.

A block's input is rounded once, before its shift. The shift then moves numbers that are rounded
already: what clips see one frame later is what a stream has stored, and the two forms agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftedge.export.models import InvertedResidualNet, StreamingModel
from shiftedge.export.models.inverted_residual import InvertedResidual
from shiftedge.export.quantize.calibration import every_pixel
from shiftedge.export.quantize.fold import one_std
from shiftedge.export.quantize.ranges import LEVELS, Affine, Histogram, choose_range
from shiftedge.export.quantize.rewrite import BIAS_MOST, SCALE_LEAST
from shiftedge.export.quantize.source import Clips
from shiftedge.runtime.errors import NumericsError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

FRAME = "frame"
STEM = "features.0.0"
WEIGHT_MOST = 127
"""Quantized weights lie in -127..127, so that their zero point is 0."""


class ForwardArithmetic(Protocol):
    """What happens at the places, and at the convolutions between them."""

    def hold(self, place: str, x: Tensor) -> Tensor:
        """``x`` (N, C, H, W) as it is stored at ``place``."""

    def convolve(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor, source: str, place: str
    ) -> Tensor:
        """Convolution and batch norm with its running statistics; ``source`` held ``x``."""


def walk(net: InvertedResidualNet, x: Tensor, arithmetic: ForwardArithmetic) -> Tensor:
    """Logits (N, classes) of frames (N, 3, H, W), as ``net`` in evaluation mode, in ``arithmetic``.

    Mean and classifier are plain float, as in the file. Without dropout.
    """
    source = FRAME
    x = net.previous(arithmetic.hold(FRAME, x))
    for index, block in enumerate(net.features):
        residual = isinstance(block, InvertedResidual) and block.residual
        if isinstance(block, InvertedResidual):
            x = block.whole(x)
        y = block.shift(x) if isinstance(block, InvertedResidual) else x
        for place, conv, norm, activation in _layers(index, block):
            y = activation(arithmetic.convolve(conv, norm, y, source, place))
            y = arithmetic.hold(place, y)
            source = place
        if residual:
            source = f"features.{index}"
            y = arithmetic.hold(source, x + y)
        x = y
    logits: Tensor = net.classifier(torch.mean(x, dim=(2, 3)))
    return logits


def places(net: InvertedResidualNet) -> tuple[str, ...]:
    """Names of all places of ``net``: the frame, convolutions and sums by their modules."""
    found = [FRAME]
    for index, block in enumerate(net.features):
        found += [place for place, *_ in _layers(index, block)]
        if isinstance(block, InvertedResidual) and block.residual:
            found.append(f"features.{index}")
    return tuple(found)


def _layers(
    index: int, block: nn.Module
) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d, nn.Module]]:
    """Each convolution of a block with its name, its batch norm and its activation."""
    inner = isinstance(block, InvertedResidual)
    chain = list(block.conv if isinstance(block, InvertedResidual) else block.children())
    stem = f"features.{index}.conv" if inner else f"features.{index}"
    for position, module in enumerate(chain):
        if isinstance(module, nn.Conv2d):
            norm = chain[position + 1]
            assert isinstance(norm, nn.BatchNorm2d)
            after = chain[position + 2] if position + 2 < len(chain) else None
            active = after if isinstance(after, nn.ReLU6) else nn.Identity()
            yield f"{stem}.{position}", module, norm, active


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight (O, I / groups, H, W) and bias (O,) with the batch norm in them.

    Its statistics are constants and its scale and offset are learned on, in the form in which they
    will be quantised.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor


def _convolved(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    assert isinstance(conv.padding, tuple)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def rounded(weight: Tensor, bias: Tensor, input_scale: float) -> tuple[Tensor, Tensor]:
    """A layer's weight and bias as int8 and int32 hold them; gradients pass straight through.

    The numbers are those of ``shiftedge.export.quantize.rewrite.quantized_weights``, which the file
    holds. Scales are constants to the gradient.
    """
    with torch.no_grad():
        wide = weight.abs().amax(dim=(1, 2, 3)).double() / WEIGHT_MOST
        wide = torch.maximum(wide, bias.abs().double() / (input_scale * BIAS_MOST))
        wide = torch.where(wide > 0.0, wide.clamp(min=SCALE_LEAST), torch.ones_like(wide))
        scale = wide.float()
        step = (scale * input_scale).double()
        wrong = ((bias.double() / step).round() * step).to(bias.dtype) - bias
    zero = torch.zeros_like(scale, dtype=torch.int32)
    weight = torch.fake_quantize_per_channel_affine(
        weight, scale, zero, 0, -WEIGHT_MOST, WEIGHT_MOST
    )
    return weight, bias + wrong


class Observer:
    """Float arithmetic that gathers the values of every place but the frame."""

    def __init__(self) -> None:
        self.histograms: dict[str, Histogram] = {}
        self.infinite: str | None = None
        """The first place that held a value which is not finite."""

    def hold(self, place: str, x: Tensor) -> Tensor:
        """``x`` itself."""
        if place != FRAME:
            good = self.histograms.setdefault(place, Histogram()).add(x.detach().numpy())
            if not good and self.infinite is None:
                self.infinite = place
        return x

    def convolve(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor, source: str, place: str
    ) -> Tensor:
        """In float."""
        return _convolved(conv, x, *folded(conv, norm))


class Int8:
    """The number forms of the file: uint8 per tensor, int8 per output channel, int32 biases.

    Args:
        ranges: of each place.
        std: of the three colours, by which the frames are divided; the file has one for all.
    """

    def __init__(self, ranges: Mapping[str, Affine], std: tuple[float, float, float]) -> None:
        self.ranges = dict(ranges)
        self._shares = torch.tensor(np.array(std) / one_std(std), dtype=torch.float32)

    def hold(self, place: str, x: Tensor) -> Tensor:
        """``x`` rounded to its range; no gradient where it saturates."""
        if place == FRAME:
            x = x * self._shares[:, None, None]
        affine = self.ranges[place]
        return torch.fake_quantize_per_tensor_affine(x, affine.scale, affine.zero_point, 0, LEVELS)

    def convolve(
        self, conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor, source: str, place: str
    ) -> Tensor:
        """With weights and biases rounded."""
        weight, bias = folded(conv, norm)
        if place == STEM:  # the frame, and the one before, in the file's unit
            shares = self._shares.repeat(weight.shape[1] // len(self._shares))
            weight = weight / shares[:, None, None]
        input_scale = self.ranges[source].scale
        return _convolved(conv, x, *rounded(weight, bias, input_scale))


class FakeQuantized(nn.Module):
    """``net`` in the arithmetic of its int8 file, to be trained or scored like a network.

    It holds ``net`` itself and not a copy: training this trains that. Batch norm statistics and
    dropout stay as in evaluation whatever the mode.

    Args:
        net: with its shifts; the forms of :mod:`shiftedge.export.models` run it.
    """

    def __init__(self, net: InvertedResidualNet, arithmetic: ForwardArithmetic) -> None:
        super().__init__()
        self.net = net.eval()
        self.arithmetic = arithmetic

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (N, 3, H, W) to logits (N, classes)."""
        return walk(self.net, x, self.arithmetic)

    def train(self, mode: bool = True) -> FakeQuantized:
        """Only this module's own flag."""
        self.training = mode
        return self


@torch.inference_mode()
def stream_ranges(
    net: InvertedResidualNet, spec: ModelSpec, clips: Clips, bar: ProgressFactory = progress
) -> dict[str, Affine]:
    """The range of each place to begin a fine-tune with, as ``shiftedge quantize`` would choose it:
    each clip from a fresh stream, frame after frame, states as they arise, and the range of least
    error. Here the tensors are torch's, so that no file is in between.

    Args:
        net: in float; put into evaluation mode.

    Raises:
        NumericsError: a tensor takes a value that is not finite.
    """
    observer = Observer()
    model = StreamingModel(FakeQuantized(net, observer))
    normalise = Preprocessor(spec).normalise
    frame = np.zeros((1, 3, spec.height, spec.width), np.float32)
    with bar("calibrating", clips.frames, "frames") as advance:
        for number, clip in enumerate(clips.clips):
            states = None
            for index, image in enumerate(clip):
                normalise(image, frame)
                _, states = model.step(torch.from_numpy(frame), states)
                if observer.infinite is not None:
                    raise NumericsError(
                        f"{observer.infinite} gives NaN or infinity at frame {index} of clip "
                        f"{number}; the weights are damaged or overflow: start from another "
                        "checkpoint."
                    )
                advance(1)
    std = one_std(spec.std)
    frames = every_pixel(Histogram(), dataclasses.replace(spec, std=(std, std, std)))
    chosen = {place: choose_range(histogram) for place, histogram in observer.histograms.items()}
    return {FRAME: frames.affine, **{place: choice.affine for place, choice in chosen.items()}}
