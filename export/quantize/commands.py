"""The command ``quantize``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.resources
import json
from pathlib import Path
from typing import Any

from shiftedge.runtime.commands import number, positive
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import note

EXAMPLES = """\
examples:
  shiftedge quantize my.onnx --calibration my_clips --output my-int8.onnx
  shiftedge quantize my.onnx --calibration film.mp4 --output my-int8.onnx --report proof.json
  shiftedge quantize --calibration synthetic: --output gestures-int8.onnx     the bundled model
  shiftedge run my-int8.onnx --source 0                                       and run it

SOURCE is a folder of clips (videos or folders of pictures, in folders of labels or not), any other
layout or list of clips that `shiftedge train` takes, a film, `synthetic:` for rendered clips, or
any source that `shiftedge run` takes. Clips are streamed: each from empty states, frame after
frame, so that the states hold what they will hold. The file is written once the loss of accuracy is
within --max-accuracy-drop; layers that cost too much stay in float, and the report says which and
why. docs/quantize.md explains it.
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parser to ``commands`` (argparse's special object)."""
    parser = commands.add_parser(
        "quantize",
        help="turn a float model into an int8 one, calibrated over streams, with proof",
        description="Quantise a model to int8, states included, and measure what it costs.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL.onnx", help="left out: the bundled model"
    )
    parser.add_argument("--calibration", metavar="SOURCE", required=True)
    parser.add_argument("--output", metavar="MODEL-int8.onnx", required=True)
    parser.add_argument(
        "--max-accuracy-drop",
        type=_points,
        default=0.5,
        metavar="POINTS",
        help="of clip accuracy where the renderer knows the labels, else of top-1 agreement with "
        "the float model (default: %(default)s)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        default=480,
        help="to calibrate on, at least 64 (default: %(default)s)",
    )
    parser.add_argument("--report", metavar="FILE", help="write the whole report there, as JSON")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(handler=_quantize)


_points = number("a number of points from 0 to 100", float, lambda value: 0.0 <= value <= 100.0)


@working("quantising")
def _quantize(options: argparse.Namespace) -> int:
    from shiftedge.runtime.process.extras import require

    for package in ("onnx", "onnx_ir", "onnxruntime"):
        require(package)
    from shiftedge.export.quantize import QuantizeSettings, quantize
    from shiftedge.runtime.loading import BUNDLED_NAME
    from shiftedge.runtime.process.files import atomic_path

    settings = QuantizeSettings(frames=options.frames, max_accuracy_drop=options.max_accuracy_drop)
    assets = importlib.resources.files("shiftedge.runtime.assets")
    model = options.model or Path(str(assets / BUNDLED_NAME))
    # Asked for before the work, so that a folder that cannot be written to is said at once.
    with contextlib.ExitStack() as files:
        output = files.enter_context(atomic_path(options.output))
        report = None
        if options.report is not None:
            report = files.enter_context(atomic_path(options.report))
        result = quantize(model, options.calibration, settings)
        document = {"output": str(options.output), **result.report.to_dict()}
        if report is not None:
            report.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        output.write_bytes(result.model)
    for each in result.report.calibration["notes"]:
        note(each)
    if options.json:
        print(json.dumps(document))
        return 0
    print(result.report.table())
    note(f"{options.output}: {len(result.model):,} bytes; next: shiftedge run {options.output}")
    return 0
