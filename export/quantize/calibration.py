"""Calibration: every clip from a fresh stream, frame after frame, states as they really arise.

There is no other form of it. Scales of states that were drawn at random are 18 to 700 times too
coarse (measured on MobileNetV2), and of states held at zero they are too fine for what comes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from shiftedge.export.quantize.graph import OnnxGraph
from shiftedge.export.quantize.plan import Plan
from shiftedge.export.quantize.ranges import (
    LEVELS,
    Affine,
    Choice,
    Histogram,
    choose_range,
    mean_squared,
)
from shiftedge.export.quantize.source import Clips
from shiftedge.export.stepper import Stepper
from shiftedge.runtime.errors import ModelError, NumericsError
from shiftedge.runtime.process.progress import progress
from shiftedge.runtime.spec import ModelSpec

RANGES_KEY = "shiftedge.ranges"
"""Of the metadata: a JSON object of module name -> [scale, zero point], from a fine-tune for int8.

A network that learned in certain ranges does best with those; ranges found again fit its float
values, which the fine-tune let grow past what int8 can hold. The names are those of torch's
modules: of a convolution (its output, after the activation that follows) or of a block (the sum of
its residual)."""
PREFIX = "net."
"""Of the modules' names in an exported file."""


def gather(
    graph: OnnxGraph,
    plan: Plan,
    spec: ModelSpec,
    clips: Clips,
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
    with progress("calibrating", clips.frames, "frames") as advance:
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


def every_pixel(histogram: Histogram, spec: ModelSpec) -> Choice:
    """The range of the frame is known: what pixels of 0 and 255 become. A brighter day than any in
    the clips must not saturate."""
    pairs = list(zip(spec.mean, spec.std, strict=True))
    low = min(histogram.low, *(-mean / std for mean, std in pairs))
    high = max(histogram.high, *((1.0 - mean) / std for mean, std in pairs))
    affine = Affine.over(low, high)
    error = mean_squared(histogram, affine)
    return Choice(affine, "every pixel", error, histogram.low, histogram.high)


def _with_outputs(graph: OnnxGraph, tensors: list[str]) -> bytes:
    watched = OnnxGraph(graph.model.clone())
    for tensor in tensors:
        if not watched.values[tensor].is_graph_output():
            watched.model.graph.outputs.append(watched.values[tensor])
    return watched.serialised()


def read_ranges(graph: OnnxGraph) -> dict[str, Affine]:
    """Range of each group of tensors that the file carries one for; none in most files.

    Raises:
        ModelError: they are malformed, or of modules that the graph does not have.
    """
    text = graph.model.metadata_props.get(RANGES_KEY)
    if text is None:
        return {}
    try:
        named = {str(name): _affine(*pair) for name, pair in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The ranges in the file's metadata are malformed ({error}); export its checkpoint "
            "again."
        ) from error
    results = {layer.name.removeprefix(PREFIX): layer.result for layer in graph.layers}
    found = {}
    for name, affine in named.items():
        tensor = results.get(name) or _sum(graph, results, name)
        if tensor is None:
            raise ModelError(
                f"The file's metadata has a range for {name}, which is not among its layers; "
                "export its checkpoint again."
            )
        found[graph.group(tensor)] = affine
    return found


def _affine(scale: float, zero_point: int) -> Affine:
    if not (math.isfinite(scale) and scale > 0.0):
        raise ValueError(f"a scale of {scale!r}")
    if not (isinstance(zero_point, int) and 0 <= zero_point <= LEVELS):
        raise ValueError(f"a zero point of {zero_point!r}")
    return Affine(float(scale), zero_point)


def _sum(graph: OnnxGraph, results: Mapping[str, str], block: str) -> str | None:
    """What the addition gives that reads the last convolution of ``block``."""
    last = [result for name, result in results.items() if name.startswith(f"{block}.")]
    readers = graph.values[last[-1]].consumers() if last else ()
    sums = [node.outputs[0].name for node in readers if node.op_type == "Add"]
    return sums[0] if len(sums) == 1 else None
