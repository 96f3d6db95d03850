"""The workstation's commands ``export`` and ``models``; the others are beside what they do."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from shiftedge.export.compiler.commands import add_commands as add_compile
from shiftedge.export.deploy.commands import add_commands as add_deploy
from shiftedge.export.options import add_reading, add_silent, reading, size, width
from shiftedge.export.personalise.commands import add_commands as add_personalise
from shiftedge.export.quantize.commands import add_commands as add_quantize
from shiftedge.export.score.commands import add_commands as add_score
from shiftedge.export.train_command import add_train
from shiftedge.runtime.commands import positive
from shiftedge.runtime.process.files import cache_folder
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import note

EXPORT_EXAMPLES = """\
examples:
  shiftedge export --checkpoint mobilenetv2_jester_online.pth.tar --output jester.onnx
  shiftedge export --checkpoint out/checkpoint.pt --output gestures.onnx
  shiftedge export --checkpoint my.pth --labels labels.txt --size 160 --output my.onnx
  shiftedge export --checkpoint ckpt.best.pth.tar --read-as two-way --output tsm.onnx
  shiftedge export --model mobilenet_v2 --output untrained.onnx        for measuring
  shiftedge export --model my_package.my_module:make_net --output my.onnx

The file is written once torch's clip form, torch's online form and ONNX Runtime have been shown to
agree on 32 frames of a moving scene, logits and every state; otherwise nothing is, and the exit
status is 1.
"""

MODELS_EXAMPLES = """\
examples:
  shiftedge models list
  shiftedge models fetch jester
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parsers of this module to ``commands`` (argparse's special object)."""
    _add_export(commands)
    add_train(commands)
    _add_models(commands)
    add_personalise(commands)
    add_quantize(commands)
    add_score(commands)
    add_compile(commands)
    add_deploy(commands)


def _add_export(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="turn a checkpoint into a verified ONNX file with explicit states",
        description="Write the one-frame step of a network as ONNX, its states as inputs and "
        "outputs.",
        epilog=EXPORT_EXAMPLES,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", metavar="FILE", help="official, mmaction2's or our own")
    source.add_argument(
        "--model",
        metavar="NAME",
        help="mobilenet_v2, efficientnet_lite0, resnet50, resnet101, resnet152 (untrained), or "
        "module:function",
    )
    parser.add_argument("--output", metavar="MODEL.onnx", required=True)
    parser.add_argument(
        "--size",
        type=size,
        help="pixels: 224, or WIDTHxHEIGHT (default: the checkpoint's, or 224)",
    )
    parser.add_argument("--labels", metavar="FILE", help="one label a line, in class order")
    parser.add_argument("--name", help="for people (default: the checkpoint's file name)")
    parser.add_argument(
        "--classes",
        type=positive,
        default=27,
        help="of an untrained network (default: %(default)s)",
    )
    parser.add_argument(
        "--width",
        type=width,
        default=1.0,
        help="of an untrained MobileNetV2 (default: %(default)s)",
    )
    add_silent(parser)
    add_reading(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(handler=_export)


@working("exporting")
def _export(options: argparse.Namespace) -> int:
    from shiftedge.runtime.process.extras import require

    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        require(package)
    from shiftedge.export.checkpoint import load_checkpoint
    from shiftedge.export.data import looks_silent
    from shiftedge.export.networks import from_name, read_labels, spec_of
    from shiftedge.export.to_onnx import export_model

    common: dict[str, Any] = {
        "labels": None if options.labels is None else read_labels(options.labels),
        "size": options.size,
        "silent": options.silent,
        "usual_silent": options.usual_silent,
    }
    ranges: dict[str, tuple[float, int]] = {}
    if options.checkpoint is not None:
        checkpoint = load_checkpoint(options.checkpoint, **reading(options))
        net, spec = checkpoint.net, spec_of(checkpoint, name=options.name, **common)
        for each in checkpoint.notes:
            note(each)
        if options.size is None:  # frames of another size have other ranges
            ranges = checkpoint.ranges
    else:
        net, spec = from_name(options.model, classes=options.classes, width=options.width, **common)
    if spec.labels[0] == "class 0":
        note("the classes have no names; give them with --labels FILE, one a line")
    if spec.silent_labels:
        note(f"silent, never an event: {', '.join(map(repr, spec.silent_labels))}")
    elif spec.labels[0] != "class 0":
        usual = [label for label in spec.labels if looks_silent(label)]
        note(
            "no label is silent, so each becomes an event; if one stands for no gesture"
            f"{f' ({usual[0]!r}?)' if usual else ''}, name it with --silent LABEL"
        )
    note(
        f"exporting {spec.name}: {spec.classes} classes, {spec.width}x{spec.height} pixels, "
        f"{len(spec.states)} states ({spec.state_bytes:,} bytes)"
    )
    report = export_model(net, spec, options.output, ranges=ranges)
    if options.json:
        print(json.dumps({"output": str(options.output), **report.to_dict()}))
        return 0
    print(report.table())
    size = Path(options.output).stat().st_size
    print(f"{options.output}: {size:,} bytes, verified over {report.frames} frames")
    return 0


def _add_models(commands: Any) -> None:
    parser = commands.add_parser(
        "models",
        help="list the models known by name, or fetch one",
        description="The bundled model and those that can be fetched.",
        epilog=MODELS_EXAMPLES,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="names, sizes and licences")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(handler=_list)
    fetch = verbs.add_parser(
        "fetch",
        help="download a model, check that it is genuine",
        description="Download a checkpoint, going on where a broken download stopped, and check "
        "its size and content before it is put in place.",
    )
    fetch.add_argument("name", metavar="NAME")
    fetch.add_argument(
        "--folder", help="where to put it (default: the user's cache, ~/.cache/shiftedge)"
    )
    fetch.set_defaults(handler=_fetch)


def _list(options: argparse.Namespace) -> int:
    from shiftedge.export.catalogue import CATALOGUE

    if options.json:
        print(json.dumps([entry.to_dict() for entry in CATALOGUE], indent=2))
        return 0
    for entry in CATALOGUE:
        size = "bundled" if entry.bundled else f"{entry.size_bytes / 1e6:.1f} MB"
        print(f"{entry.name:<10} {size:>8}  {entry.summary}")
        print(f"{'':<20} {entry.licence}")
    return 0


@working("fetching")
def _fetch(options: argparse.Namespace) -> int:
    from shiftedge.export.catalogue import find
    from shiftedge.export.fetch import fetch

    entry = find(options.name)
    if entry.bundled:
        print(f"{entry.name} is part of the installation: `shiftedge run` uses it by itself")
        return 0
    note(entry.licence)
    path = fetch(entry, options.folder or cache_folder())
    print(path)
    note(f"next: shiftedge export --checkpoint {path} --output {entry.name}.onnx")
    return 0
