"""Calibration: every clip from a fresh stream, frame after frame, states as they really arise.

There is no other form of it. Scales of states that were drawn at random are 18 to 700 times too
coarse (measured on MobileNetV2), and of states held at zero they are too fine for what comes.
"""

from __future__ import annotations

from collections.abc import Mapping

from shiftedge.export.quantize.graph import Graph
from shiftedge.export.quantize.plan import Plan
from shiftedge.export.quantize.ranges import Affine, Choice, Histogram, choose_range, mean_squared
from shiftedge.export.quantize.source import Clips
from shiftedge.export.quantize.stream import Stepper
from shiftedge.runtime.errors import NumericsError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.progress import ProgressFactory, progress
from shiftedge.runtime.spec import ModelSpec

__all__ = ["affine_of", "every_pixel", "gather"]


def gather(
    graph: Graph,
    plan: Plan,
    spec: ModelSpec,
    clips: Clips,
    bar: ProgressFactory = progress,
    held: Mapping[str, Affine] | None = None,
) -> dict[str, Choice]:
    """The best range of each quantised group, from streaming ``clips`` through the float model.

    Groups in ``held`` take the range there, which was trained with; the clips say what error it
    makes.

    Memory is one histogram for each group and one frame's tensors, whatever the clips' length.

    Raises:
        NumericsError: a tensor takes a value that is not finite.
    """
    roots = plan.roots(graph)
    watched = [tensor for tensors in roots.values() for tensor in tensors if tensor != "frame"]
    stepper = Stepper(_with_outputs(graph, watched), spec, watched)
    histograms = {group: Histogram() for group in roots}
    with bar("calibrating", clips.frames, "frames") as advance:
        for number, clip in enumerate(clips.clips):
            stepper.reset()
            for index, image in enumerate(clip):
                values = stepper.run(image)
                for group, tensors in roots.items():
                    for tensor in tensors:
                        if not histograms[group].add(values[tensor]):
                            raise NumericsError(
                                f"The tensor {tensor} holds NaN or infinity at frame {index} of "
                                f"clip {number}; the float model's weights are damaged or "
                                "overflow: check it with `shiftedge export`."
                            )
                advance(1)
    held = held or {}
    choices = {}
    for group, histogram in histograms.items():
        if "frame" in roots[group]:
            choices[group] = every_pixel(histogram, spec)
        elif group in held:
            error = mean_squared(histogram, held[group])
            choices[group] = Choice(held[group], "trained", error, histogram.low, histogram.high)
        else:
            choices[group] = choose_range(histogram)
    for group in plan.ties:
        source = group
        while source in plan.ties:
            source = plan.ties[source]
        choices[group] = choices[source]
    return choices


def affine_of(choices: Mapping[str, Choice]) -> dict[str, Affine]:
    """Scale and zero point of each group."""
    return {group: choice.affine for group, choice in choices.items()}


def every_pixel(histogram: Histogram, spec: ModelSpec) -> Choice:
    """The range of the frame is known: what pixels of 0 and 255 become. A brighter day than any in
    the clips must not saturate."""
    pairs = list(zip(spec.mean, spec.std, strict=True))
    low = min(histogram.low, *(-mean / std for mean, std in pairs))
    high = max(histogram.high, *((1.0 - mean) / std for mean, std in pairs))
    affine = Affine.over(low, high)
    error = mean_squared(histogram, affine)
    return Choice(affine, "every pixel", error, histogram.low, histogram.high)


def _with_outputs(graph: Graph, tensors: list[str]) -> bytes:
    onnx = require("onnx")
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    present = {entry.name for entry in model.graph.output}
    for tensor in tensors:
        if tensor not in present:
            model.graph.output.append(
                onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None)
            )
    serialised: bytes = model.SerializeToString()
    return serialised
