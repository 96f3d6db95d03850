"""The command ``personalise``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftedge.runtime.commands import positive
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import json_text, note, plain

if TYPE_CHECKING:
    from shiftedge.export.personalise.job import PersonalReport

EXAMPLES = """\
examples:
  shiftedge personalise --data my_gestures --output mine.onnx
  shiftedge run mine.onnx --source 0                       and try it
  shiftedge personalise --data more --model mine.onnx --output mine2.onnx      adds further labels
  shiftedge personalise --data my_gestures --no-mirror --output mine.onnx
  shiftedge compile mine.onnx --output mine-host           where there is a compiler

DIR holds a folder of clips for each label, as `shiftedge record` writes it: ten clips of each
gesture, and some of "No gesture" and "Doing other things". A label that the model has already gets
these clips as further examples. numpy and ONNX Runtime do the work, on this machine, without torch.

A gesture is learned mirrored too, as the other hand does it, unless its name has left or right in
it; --no-mirror is for those that mean something else then, such as circles.

Beside MODEL.onnx lies MODEL.memory.npz: what the model is to remember when it is taught again. A
model without one is kept in practice by rendered clips. docs/own-gestures.md explains all of it.
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parser to ``commands`` (argparse's special object)."""
    parser = commands.add_parser(
        "personalise",
        help="teach a model gestures of your own, from ten clips of each",
        description="Teach a model the labels of a folder of clips; the old ones stay.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="of labels")
    parser.add_argument("--model", metavar="M.onnx", type=Path, help="left out: the bundled model")
    parser.add_argument("--output", metavar="OUT.onnx", type=Path, required=True)
    parser.add_argument(
        "--memory",
        metavar="FILE",
        type=Path,
        help="what the model is to remember (default: the file beside it, or rendered clips)",
    )
    parser.add_argument(
        "--no-mirror",
        dest="mirror",
        action="store_false",
        help="do not learn the gestures mirrored as well",
    )
    parser.add_argument("--threads", type=positive, help="for one step of the model")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(handler=_personalise)


@working("personalising")
def _personalise(options: argparse.Namespace) -> int:
    from shiftedge.export.personalise.job import PersonalJob, personalise
    from shiftedge.runtime.process.extras import require

    for package in ("cv2", "onnxruntime"):
        require(package)
    report = personalise(
        PersonalJob(
            options.data,
            options.output,
            model=options.model,
            memory=options.memory,
            mirror=options.mirror,
            threads=options.threads,
        )
    )
    for sentence in (*report.unusable, *report.remarks):
        note(sentence)
    if options.json:
        print(json_text(report.to_dict(), indent=2))
        return 0
    print(_text(report))
    note(f"next: shiftedge run {report.output} --source 0")
    return 0


def most_often(counts: dict[str, int]) -> list[tuple[str, int]]:
    """The most frequent first."""
    return sorted(counts.items(), key=lambda item: -item[1])


def _text(report: PersonalReport) -> str:
    lines = [f"clips left out of the learning, {report.folds} times in turn:"]
    for label, score in report.scores.items():
        taken = ", ".join(f"{count} {plain(name)}" for name, count in most_often(score.called))
        wrong = f"   taken for: {taken}" if taken else ""
        lines.append(f"  {plain(label):<28} {score.right:>3} of {score.clips:<3} right{wrong}")
    lines.append(
        f"what it knew before: {report.kept} of {report.asked} clips are called as they were "
        f"({report.memory})"
    )
    size = report.output.stat().st_size if report.output.is_file() else 0
    lines.append(f"{report.output}: {size:,} bytes, {len(report.labels)} labels")
    return "\n".join(lines)
