"""Ranges to begin a fine-tune with: those that ``shiftedge quantize`` would choose.

Calibrated as there: each clip from a fresh stream, frame after frame, states as they arise, and the
range of least error of each tensor. Here the tensors are torch's, so that no file is in between.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from shiftedge.export.models import MobileNetV2, StreamingModel
from shiftedge.export.quantize.fold import one_std
from shiftedge.export.quantize.ranges import Affine, Histogram, choose_range
from shiftedge.export.quantize.source import Clips
from shiftedge.export.quantize.statistics import every_pixel
from shiftedge.export.training.fake import FRAME, FakeQuantised, Watch
from shiftedge.runtime.errors import NumericsError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

__all__ = ["stream_ranges"]


@torch.inference_mode()
def stream_ranges(
    net: MobileNetV2, spec: ModelSpec, clips: Clips, bar: ProgressFactory = progress
) -> dict[str, Affine]:
    """The range of least error of each place of ``net`` (see ``fake``).

    Args:
        net: in float; put into evaluation mode.
        spec: its frame, mean and std.
        clips: of the spec's size.
        bar: shows progress.

    Raises:
        NumericsError: a tensor takes a value that is not finite.
    """
    watch = Watch()
    model = StreamingModel(FakeQuantised(net, watch))
    normalise = Preprocessor(spec).normalise
    frame = np.zeros((1, 3, spec.height, spec.width), np.float32)
    with bar("calibrating", clips.frames, "frames") as advance:
        for number, clip in enumerate(clips.clips):
            states = None
            for index, image in enumerate(clip):
                normalise(image, frame)
                _, states = model.step(torch.from_numpy(frame), states)
                if watch.infinite is not None:
                    raise NumericsError(
                        f"{watch.infinite} gives NaN or infinity at frame {index} of clip "
                        f"{number}; the weights are damaged or overflow: start from another "
                        "checkpoint."
                    )
                advance(1)
    std = one_std(spec.std)
    frames = every_pixel(Histogram(), dataclasses.replace(spec, std=(std, std, std)))
    chosen = {place: choose_range(histogram) for place, histogram in watch.histograms.items()}
    return {FRAME: frames.affine, **{place: choice.affine for place, choice in chosen.items()}}
