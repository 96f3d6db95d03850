"""``shiftedge train``, outside of :mod:`shiftedge.export.training`, which imports torch."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from pathlib import Path
from typing import Any

from shiftedge.export.options import add_reading, add_silent, reading, size, width
from shiftedge.runtime.commands import number, positive
from shiftedge.runtime.process.cpu import usable_cores
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import note, shown

EXAMPLES = """\
examples:
  shiftedge train synthetic: --output out/gestures
  shiftedge train my_clips --output out/mine --start gestures.pt
  shiftedge train synthetic: my_clips --share 1 2 --output out/mixed
  shiftedge train my_clips --output out/lite --start imagenet --freeze 9
  shiftedge train my_clips --output out/tsm --start ckpt.best.pth.tar --read-as two-way
  shiftedge train my_clips --output out/int8 --start out/mine/checkpoint.pt --quantize

DATA is `synthetic:` for rendered clips, or your own, a clip being a video or a folder of pictures:

  my_clips/Swiping Left/0001.mp4        one folder for each label; a fifth is checked with
  my_clips/train/Swiping Left/0001.mp4  and my_clips/val/..., as you split them; test is not read
  my_clips/train.csv                    path,label lines (or ; or tabs), val.csv beside it
  jester                                20bn-jester-v1 with jester-v1-train.csv and the others
  train_videofolder.txt                 the official TSM code's and mmaction2's lists, category.txt

docs/formats.md has more of it. A label such as no_gesture, none or background is silent: it never
becomes an event. After Ctrl-C or a power cut the same command goes on where it was.

With --quantize nothing new is learned: a trained model gets used to int8, for when `shiftedge
quantize` costs too much accuracy. Export and quantise the checkpoint as any other.
"""


_share = number("a number above 0", float, lambda share: 0.0 < share < math.inf)


def _rate(text: str) -> float:
    from shiftedge.runtime.capture.options import rate

    try:
        return rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {error}") from None


def add_train(commands: Any) -> None:
    """Add the sub-parser to ``commands`` (argparse's special object)."""
    parser = commands.add_parser(
        "train",
        help="train an online model on rendered or your own clips",
        description="Train a one-way model and write a checkpoint that `shiftedge export` takes.",
        epilog=EXAMPLES,
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
    add_reading(parser)
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
        type=size,
        help="of the model's frame: 224, or WIDTHxHEIGHT (default: the start's, or 128x96)",
    )
    parser.add_argument(
        "--width", type=width, help="of MobileNetV2's channels (default: the start's, or 0.35)"
    )
    parser.add_argument(
        "--architecture",
        choices=("mobilenet_v2", "efficientnet_lite0"),
        help="default: the start's, or mobilenet_v2",
    )
    parser.add_argument(
        "--blocks",
        metavar="N",
        type=number("a whole number from 1 to 16", int, lambda value: 1 <= value <= 16),
        help="of EfficientNet-Lite0, the first ones; 11 keep the detail that far hands need, in "
        "two thirds of the time (default: the start's, or all 16)",
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
    add_silent(parser)
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
    other = (
        options.size,
        options.width,
        options.architecture,
        options.blocks,
        options.freeze or None,
    )
    if options.quantize and any(value is not None for value in other):
        raise DataError(
            "--quantize fine-tunes a network as it is, so it takes no --size, --width, "
            "--architecture, --blocks or --freeze; train one like that first and give it with "
            "--start."
        )
    if options.quantize and (options.silent or not options.usual_silent):
        raise DataError(
            "--quantize keeps the labels of its start, silent ones too, so it takes no --silent "
            "and no --no-silent; give them to `shiftedge export` afterwards."
        )

    if options.start is None and any(reading(options).values()):
        raise DataError(
            "--read-as, --weights and --shift-div say how to read the checkpoint of --start; give "
            "it too, or leave them out."
        )

    for package in ("torch", "cv2"):
        require(package)
    from shiftedge.export.data.rendered import SYNTHETIC
    from shiftedge.export.training import CHECKPOINT, Job, fine_tune, train
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
        reading=reading(options),
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
            blocks=options.blocks,
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
