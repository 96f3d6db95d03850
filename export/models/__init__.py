"""Networks with temporal shifts, and the means to run them as a clip or frame by frame."""

from shiftedge.export.models.build import ARCHITECTURES, build
from shiftedge.export.models.channel_order import past_first
from shiftedge.export.models.inverted_residual import (
    EfficientNetLite0,
    InvertedResidualNet,
    MobileNetV2,
)
from shiftedge.export.models.resnet import ResNet
from shiftedge.export.models.shift import PreviousFrame, TemporalShift, insert_shift
from shiftedge.export.models.streaming import StreamingModel

__all__ = [
    "ARCHITECTURES",
    "EfficientNetLite0",
    "InvertedResidualNet",
    "MobileNetV2",
    "PreviousFrame",
    "ResNet",
    "StreamingModel",
    "TemporalShift",
    "build",
    "insert_shift",
    "past_first",
]
