"""Writes networks as ONNX files, in a process of its own: torch must not meet TVM in one.

python export_networks.py FOLDER NAME...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from kit.networks import Own, trained
from shiftedge.export.models import EfficientNetLite0, MobileNetV2, ResNet, insert_shift
from shiftedge.export.to_onnx import describe, to_onnx

LABELS = ("Nichts", "Daumen hoch 👍", 'a "quoted" ??/ \\n label')


def network(name: str) -> torch.nn.Module:
    """``mobilenet-WIDTH``, ``lite0``, ``resnet`` or ``own``, with some classes."""
    kind, _, width = name.partition("-")
    if kind == "mobilenet":
        return MobileNetV2(3, width=float(width))
    if kind == "lite0":
        return EfficientNetLite0(3)
    if kind == "resnet":
        return ResNet(3)
    return insert_shift(Own(), ["b", "c"])


def main(folder: str, *names: str) -> None:
    """Each name is NETWORK@WIDTHxHEIGHT; a file appears when it is whole."""
    for name in names:
        kind, _, size = name.partition("@")
        width, height = map(int, size.split("x"))
        torch.manual_seed(0)
        net = trained(network(kind))
        spec = describe(net, name=f"{kind} é", labels=LABELS, height=height, width=width)
        path = Path(folder) / f"{name}.onnx"
        whole = path.with_suffix(".part")
        whole.write_bytes(to_onnx(net, spec))
        os.replace(whole, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
