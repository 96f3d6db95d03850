"""I3D-ResNet-50, the 3-D network that the TSM paper is measured against.

Which convolutions are inflated in time (Wang, Girshick, Gupta and He, "Non-local Neural Networks",
arXiv 1711.07971, and ``obtain_arc`` in ``lib/models/resnet_video.py`` of its code,
facebookresearch/video-nonlocal-net):

* the stem: 7x7 becomes 5x7x7;
* the first 1x1 of a block becomes 3x1x1, in blocks 1, 2, 3 of res2; 1, 3 of res3; 1, 3, 5 of res4;
  2 of res5; all other convolutions stay flat;
* a max pooling of 2x1x1 after res2 halves the frames. There are no other strides in time.

Ours pads the first max pooling, as ResNet does; theirs does not, which is 1% of the multiply-adds.

The TSM paper takes its I3D figures from Wang and Gupta, "Videos as Space-Time Region Graphs" (arXiv
1806.01810), whose region features want fine maps. With res5 at stride 2, as in a ResNet, 32 frames
of 224x224 cost 113.6 G multiply-adds; with res5 at stride 1, so maps of 14x14, they cost 152.5 G,
and the paper says 153 G. The parameters, 28.0 M, are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shiftedge.benchmarks.complexity.resnet3d import Plan, ResNet3d

__all__ = ["i3d_resnet50", "inflate"]


def i3d_resnet50(classes: int, *, last_stride: int = 2) -> ResNet3d:
    """The network.

    Args:
        classes: length of the logits; with 400 (Kinetics) it has 28,043,472 parameters.
        last_stride: of res5 in space: 2 as in a ResNet, 1 as the published cost implies.
    """
    plan = Plan(
        stem_time=5,
        pool_time=1,
        reduce_time=((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1)),
        conv_time=1,
        time_strides=(1, 1, 1, 1),
        pool_after_first=True,
        last_stride=last_stride,
    )
    return ResNet3d(plan, classes)


@torch.no_grad()
def inflate(flat: nn.Module, volume: ResNet3d) -> None:
    """Copy a 2-D network's weights into ``volume``, repeated along time and divided by the span.

    On a clip of equal frames, and away from its ends, each layer then gives what the 2-D one gives
    (Carreira and Zisserman, arXiv 1705.07750, section 2.3).

    Raises:
        ValueError: a parameter of ``volume`` has no counterpart in ``flat``, or another shape.
    """
    source = flat.state_dict()
    inflated: dict[str, Tensor] = {}
    for name, target in volume.state_dict().items():
        weight = source.get(name)
        if weight is None:
            raise ValueError(f"the flat network has no {name}")
        if weight.ndim == 4:
            span = target.shape[2]
            weight = weight.unsqueeze(2).repeat(1, 1, span, 1, 1) / span
        if weight.shape != target.shape:
            raise ValueError(f"{name} is {tuple(weight.shape)}; expected {tuple(target.shape)}")
        inflated[name] = weight
    volume.load_state_dict(inflated)
