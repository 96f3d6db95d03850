"""The workstation's commands ``export``, ``train`` and ``models``; ``quantize``, ``score``,
``compile`` and ``deploy`` are beside what they do."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from pathlib import Path
from typing import Any

from shiftedge.export.compiler.commands import add_commands as add_compile
from shiftedge.export.deploy.commands import add_commands as add_deploy
from shiftedge.export.quantize.commands import add_commands as add_quantize
from shiftedge.export.score.commands import add_commands as add_score
from shiftedge.runtime.commands import number, positive
from shiftedge.runtime.process.cpu import usable_cores
from shiftedge.runtime.process.files import cache_folder
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import note, shown

WIDTH_MOST = 8.0
"""Of MobileNetV2's channels: 64 times the work of the whole network."""

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

TRAIN_EXAMPLES = """\
examples:
  shiftedge train synthetic: --output out/gestures
  shiftedge train my_clips --output out/mine --start gestures.pt
  shiftedge train my_clips --output out/tsm --start ckpt.best.pth.tar --read-as two-way
  shiftedge train my_clips --output out/int8 --start out/mine/checkpoint.pt --quantize

DATA is `synthetic:` for rendered clips, or your own, a clip being a video or a folder of pictures:

  my_clips/Swiping Left/0001.mp4        one folder for each label; a fifth is checked with
  my_clips/train/Swiping Left/0001.mp4  and my_clips/val/..., as you split them; test is not read
  my_clips/train.csv                    path,label lines (or ; or tabs), val.csv beside it
  jester                                20bn-jester-v1 with jester-v1-train.csv and the others
  train_videofolder.txt                 the official TSM code's and mmaction2's lists, category.txt

docs/formats.md has more of it. A label such as no_gesture, none or background is silent: it never
becomes an event. Ctrl-C keeps the checkpoint of the last whole epoch.

With --quantize nothing new is learned: a trained model gets used to int8, for when `shiftedge
quantize` costs too much accuracy. Export and quantise the checkpoint as any other.
"""

MODELS_EXAMPLES = """\
examples:
  shiftedge models list
  shiftedge models fetch jester
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parsers of this module to ``commands`` (argparse's special object)."""
    _add_export(commands)
    _add_train(commands)
    _add_models(commands)
    add_quantize(commands)
    add_score(commands)
    add_compile(commands)
    add_deploy(commands)


def _parser(commands: Any, name: str, text: str, description: str, epilog: str) -> Any:
    return commands.add_parser(
        name,
        help=text,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_export(commands: Any) -> None:
    parser = _parser(
        commands,
        "export",
        "turn a checkpoint into a verified ONNX file with explicit states",
        "Write the one-frame step of a network as ONNX, its states as inputs and outputs.",
        EXPORT_EXAMPLES,
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
        type=_size,
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
        type=_width,
        default=1.0,
        help="of an untrained MobileNetV2 (default: %(default)s)",
    )
    _add_silent(parser)
    _add_reading(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(handler=_export)


def _add_reading(parser: Any) -> None:
    """How to read a checkpoint that does not say it."""
    parser.add_argument(
        "--read-as",
        choices=("one-way", "two-way"),
        help="how the shift of an official or mmaction2 training checkpoint was trained, which the "
        "file does not say; of two-way weights the channels that learned on the frame before get "
        "it, and those that learned on the next frame do without",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="which weights of a checkpoint that holds several, such as state_dict_ema",
    )
    parser.add_argument(
        "--shift-div",
        type=number("a whole number from 2 to 64", int, lambda value: 2 <= value <= 64),
        metavar="N",
        help="that a training checkpoint was made with, which the file does not say: one channel "
        "in N is shifted from each side (default: 8)",
    )


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of ``load_checkpoint``."""
    return {
        "read_as": options.read_as,
        "weights": options.weights,
        "shift_div": options.shift_div,
    }


def _add_silent(parser: Any) -> None:
    parser.add_argument(
        "--silent",
        metavar="LABEL",
        action="append",
        default=[],
        help="a label of a person who shows no gesture, which never becomes an event; may be given "
        "several times. Usual names, such as no_gesture, none or background, are known",
    )
    parser.add_argument(
        "--no-silent",
        dest="usual_silent",
        action="store_false",
        help="take no label for silent by its name",
    )


_width = number(
    f"a width above 0 and up to {WIDTH_MOST:g}, such as 0.5",
    float,
    lambda width: 0.0 < width <= WIDTH_MOST,
)


_share = number("a number above 0", float, lambda share: 0.0 < share < math.inf)


def _rate(text: str) -> float:
    from shiftedge.runtime.capture.options import rate

    try:
        return rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {error}") from None


def _size(text: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    try:
        width, height = int(first), int(second or first)
    except ValueError:
        width = height = 0
    if not (8 <= width <= 4096 and 8 <= height <= 4096):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a size such as 224 or 128x96")
    return width, height


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
        checkpoint = load_checkpoint(options.checkpoint, **_reading(options))
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


def _add_train(commands: Any) -> None:
    parser = _parser(
        commands,
        "train",
        "train an online model on rendered or your own clips",
        "Train a one-way model and write a checkpoint that `shiftedge export` takes.",
        TRAIN_EXAMPLES,
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="+",
        help="synthetic:, or a folder or list of labelled clips; several are mixed",
    )
    parser.add_argument(
        "--freeze",
        metavar="N",
        type=positive,
        default=0,
        help="hold the first N parts of the network as they start (of MobileNetV2 18 at most, of "
        "EfficientNet-Lite0 17), and keep what they give of your clips",
    )
    parser.add_argument(
        "--share",
        metavar="S",
        nargs="+",
        type=_share,
        help="how often the clips of each DATA are drawn, in their order, such as 1 3 (default: "
        "each clip once an epoch)",
    )
    parser.add_argument("--output", metavar="FOLDER", required=True)
    parser.add_argument(
        "--start",
        metavar="FILE",
        help="go on from a checkpoint of any known kind; a two-way one (--read-as) learns to do "
        "without the frames of the future; imagenet: from ImageNet weights, for efficientnet_lite0",
    )
    _add_reading(parser)
    parser.add_argument(
        "--quantize",
        action="store_true",
        help="fine-tune --start (default: the bundled model) for int8, at a low rate",
    )
    parser.add_argument("--epochs", type=positive, help="default: 9, or 2 with --quantize")
    parser.add_argument(
        "--clips",
        type=positive,
        help="rendered clips in an epoch (default: 10000, or 1200 with --quantize)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=2, help="default: %(default)s")
    parser.add_argument(
        "--size",
        type=_size,
        help="of the model's frame: 224, or WIDTHxHEIGHT (default: the start's, or 128x96)",
    )
    parser.add_argument(
        "--width", type=_width, help="of MobileNetV2's channels (default: the start's, or 0.35)"
    )
    parser.add_argument(
        "--architecture",
        choices=("mobilenet_v2", "efficientnet_lite0"),
        help="default: the start's, or mobilenet_v2",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="names of the classes that a list gives by number, one a line",
    )
    parser.add_argument(
        "--fps",
        type=_rate,
        help="of clips that do not say it: folders of pictures (default: 12), raw .h264 (25)",
    )
    _add_silent(parser)
    parser.add_argument(
        "--no-mirror",
        dest="mirror",
        action="store_false",
        help="do not show clips mirrored as well",
    )
    parser.add_argument(
        "--no-reverse",
        dest="reverse",
        action="store_false",
        help="do not play clips backwards as well, which is done where the labels are Jester's and "
        "have an opposite",
    )
    parser.add_argument(
        "--pictures",
        metavar="FOLDER",
        help="of real hands and rooms to use in rendered clips: hands/open/*.jpg, rooms/*.jpg",
    )
    parser.add_argument(
        "--cache",
        metavar="FOLDER",
        help="keep the rendered clips there, the same ones for each epoch and the next run "
        "(default: others in each epoch)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        help="processes that render (default: one fewer than there are cores, at least one)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    parser.add_argument(
        "--mixed",
        action=argparse.BooleanOptionalAction,
        help="compute in bfloat16 where it serves (default: on GPUs that have it)",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="begin anew where --output holds a training that was stopped; without it the same "
        "command goes on from there, to the same bytes",
    )
    parser.add_argument("--logs", metavar="FOLDER", help="write logs for TensorBoard there")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.set_defaults(handler=_train)


@working("training")
def _train(options: argparse.Namespace) -> int:
    from shiftedge.runtime.errors import DataError
    from shiftedge.runtime.process.extras import require

    imagenet = options.start == "imagenet"
    if imagenet:
        options.start = None
        options.architecture = options.architecture or "efficientnet_lite0"
    other = (options.size, options.width, options.architecture, options.freeze or None)
    if options.quantize and any(value is not None for value in other):
        raise DataError(
            "--quantize fine-tunes a network as it is, so it takes no --size, --width, "
            "--architecture or --freeze; train one like that first and give it with --start."
        )
    if options.quantize and (options.silent or not options.usual_silent):
        raise DataError(
            "--quantize keeps the labels of its start, silent ones too, so it takes no --silent "
            "and no --no-silent; give them to `shiftedge export` afterwards."
        )

    if options.start is None and any(_reading(options).values()):
        raise DataError(
            "--read-as, --weights and --shift-div say how to read the checkpoint of --start; give "
            "it too, or leave them out."
        )

    for package in ("torch", "cv2"):
        require(package)
    from shiftedge.export.training import CHECKPOINT, Job, fine_tune, train
    from shiftedge.export.training.data import SYNTHETIC
    from shiftedge.export.training.device import on_device

    words = ["shiftedge", "train", *options.data, "--seed", str(options.seed)]
    if options.share is not None:
        if len(options.share) != len(options.data):
            raise DataError(
                f"--share has {len(options.share)} numbers for {len(options.data)} DATA; give one "
                "for each, in their order."
            )
        words += ["--share", *(f"{share:g}" for share in options.share)]
    if options.quantize:
        words.append("--quantize")
    for key in ("epochs", "clips"):
        if getattr(options, key) is not None:
            words += [f"--{key}", str(getattr(options, key))]
    if options.fps is not None:
        words += ["--fps", f"{options.fps:g}"]
    for label in options.silent:
        words += ["--silent", label]
    words += [] if options.pictures is None else ["--pictures", options.pictures]
    words += [] if options.usual_silent else ["--no-silent"]
    words += [] if options.mirror else ["--no-mirror"]
    words += [] if options.reverse else ["--no-reverse"]
    words += ["--freeze", str(options.freeze)] if options.freeze else []
    start, cache, classes, pictures = (
        None if name is None else Path(name)
        for name in (options.start, options.cache, options.labels, options.pictures)
    )
    if pictures is not None and SYNTHETIC not in options.data:
        raise DataError(
            f"--pictures is for rendered clips, and {options.data[0]} is your own; leave it out, "
            f"or train on {SYNTHETIC}"
        )
    device, mixed = on_device(options.device, options.mixed)
    job = Job(
        data=tuple(options.data),
        shares=None if options.share is None else tuple(options.share),
        output=Path(options.output),
        epochs=options.epochs,
        clips=options.clips,
        seed=options.seed,
        threads=options.threads,
        start=start,
        imagenet=imagenet,
        reading=_reading(options),
        pictures=pictures,
        workers=options.workers or max(1, usable_cores() - 1),
        cache=cache,
        classes=classes,
        clip_rate_hz=options.fps,
        mirror=options.mirror,
        reverse=options.reverse,
        freeze=options.freeze,
        device=device,
        mixed=mixed,
        fresh=options.fresh,
        logs=None if options.logs is None else Path(options.logs),
        command=shlex.join(words),
        say=note,
    )
    if options.quantize:
        scores = fine_tune(job)
    else:
        scores = train(
            job,
            size=options.size,
            multiplier=options.width,
            architecture=options.architecture,
            silent=options.silent,
            usual_silent=options.usual_silent,
        )
    if options.json:
        print(json.dumps(scores))
        return 0
    print(
        f"clips   {scores['clip']['accuracy']:.1%} of {scores['clip']['clips']} unseen ones right"
    )
    if options.quantize:
        _print_quantised(scores["quantised"])
    if "films" in scores:
        from shiftedge.export.score.text import notes, tables
        from shiftedge.runtime.process.tables import print_tables

        print_tables(tables(scores["films"]), notes(scores["films"]))
    note(f"next: shiftedge export --checkpoint {job.output / CHECKPOINT} --output my.onnx")
    return 0


def _print_quantised(compared: dict[str, Any]) -> None:
    print(f"float   {compared['float']:.1%} before the fine-tune")
    for name, title in (("before", "before it"), ("after", "after it")):
        part = compared[name]
        print(
            f"int8    {part['accuracy']:.1%} {title}: {part['lost']} clips lost and {part['won']} "
            f"won against float, standard error {100.0 * part['standard_error']:.1f} points"
        )


def _add_models(commands: Any) -> None:
    parser = _parser(
        commands,
        "models",
        "list the models known by name, or fetch one",
        "The bundled model and those that can be fetched.",
        MODELS_EXAMPLES,
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
