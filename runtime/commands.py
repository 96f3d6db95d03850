"""The commands that need a model or a camera and nothing else: ``inspect``, ``selftest`` and
``cameras``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shiftedge.runtime.process.files import atomic_path, require_folder_of
from shiftedge.runtime.process.progress import progress, working
from shiftedge.runtime.words import escaped, json_text, say, shown

if TYPE_CHECKING:
    from shiftedge.runtime.model import Model

T = TypeVar("T", int, float)

MODEL_HELP = "an .onnx file or the folder of a compiled bundle; left out: the bundled model"


def add_commands(commands: Any) -> None:
    """Add the sub-parsers of this module to ``commands`` (argparse's special object)."""
    inspect = commands.add_parser(
        "inspect",
        help="show what a model file or a bundle holds",
        description="Show a model's labels, frame, states and decoder settings, after checking "
        "that it is what its spec says; of a compiled bundle, for any machine, also its target, "
        "variants, memory, numerics, tools and kernels, after checking every file.",
        epilog="examples:\n  shiftedge inspect my.onnx\n  shiftedge inspect --json my.onnx\n"
        "  shiftedge inspect my-x86-64-v3",
    )
    inspect.add_argument("model", nargs="?", help=MODEL_HELP)
    inspect.add_argument(
        "--json", action="store_true", help="print the spec, or the bundle's manifest, as JSON"
    )
    inspect.set_defaults(handler=_inspect)

    selftest = commands.add_parser(
        "selftest",
        help="check a compiled bundle on this machine: its numbers, its times, its predictions",
        description="Open each variant of a bundle that this machine can run, compare its logits "
        "with those recorded when it was compiled, time steps and each kernel, and print which "
        "kernels are not as the compiler predicted. Exit status 1 where one fails.",
        epilog="examples:\n  shiftedge selftest my-jetson-nano --device cuda --report report.json"
        "\n  shiftedge selftest my-host --steps 500 --json",
    )
    selftest.add_argument("bundle", help="the folder of a compiled bundle")
    selftest.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="cpu, cuda (cuda:1 the second GPU), or auto, all that there is (default: auto)",
    )
    selftest.add_argument(
        "--steps", type=positive, default=200, metavar="N", help="that are timed (default: 200)"
    )
    selftest.add_argument("--threads", type=positive, help="threads for one step")
    selftest.add_argument("--report", metavar="FILE.json", help="write all that was measured")
    selftest.add_argument("--json", action="store_true", help="print that instead of the summary")
    add_trusted_key(selftest)
    selftest.set_defaults(handler=_selftest)

    cameras = commands.add_parser(
        "cameras",
        help="list the cameras of this machine",
        description="List cameras with their formats, sizes and rates, and what --source takes for "
        "each: those of V4L2, and those of libcamera where rpicam-hello is installed.",
        epilog="examples:\n  shiftedge cameras\n  shiftedge cameras --json",
    )
    cameras.add_argument("--json", action="store_true", help="print them as JSON")
    cameras.set_defaults(handler=_cameras)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options that choose a model and an engine, the same in every command that runs one."""
    parser.add_argument("model", nargs="?", help=MODEL_HELP)
    parser.add_argument(
        "--engine", help="native for a bundle or onnxruntime for a file (default: by the model)"
    )
    parser.add_argument("--threads", type=positive, help="threads for one step")
    parser.add_argument(
        "--precision",
        metavar="NAME",
        help="fp32, bf16, fp16 or int8, of a bundle that holds several (default: the first that "
        "this machine can run)",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="of a bundle: cpu, cuda (an NVIDIA GPU, cuda:1 the second) or auto, the GPU where "
        "there is code and a driver for it (default: auto)",
    )
    add_trusted_key(parser)
    parser.add_argument(
        "--provider",
        action="append",
        metavar="NAME",
        help="ONNX Runtime provider: cpu, cuda or tensorrt; repeat in order of preference",
    )


def add_trusted_key(parser: argparse.ArgumentParser) -> None:
    """Of every command that opens a bundle to have its code run."""
    parser.add_argument(
        "--trusted-key",
        action="append",
        metavar="FILE",
        help="PEM file of a public key: take only a bundle that it, or another one given, signed",
    )


def number(
    expected: str, convert: Callable[[str], T], holds: Callable[[T], bool]
) -> Callable[[str], T]:
    """What argparse takes as ``type``: a number for which ``holds``; ``expected`` names it."""

    def read(text: str) -> T:
        with contextlib.suppress(ValueError):
            if holds(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {expected}")

    return read


positive = number("a whole number from 1", int, lambda value: value >= 1)


def load_chosen(options: argparse.Namespace) -> Model:
    """Load the model that :func:`add_model_options` let the user choose."""
    from shiftedge.runtime.loading import load

    return load(
        options.model,
        engine=options.engine,
        threads=options.threads,
        providers=options.provider,
        trusted_keys=options.trusted_key,
        precision=options.precision,
        device=options.device or "auto",
    )


def _inspect(options: argparse.Namespace) -> int:
    from shiftedge.runtime import inspection

    if options.model is not None and Path(options.model).is_dir():
        from shiftedge.runtime.bundle import Bundle

        bundle = Bundle.open(options.model)
        text = bundle.manifest.to_json() if options.json else inspection.bundle_text(bundle)
    else:
        from shiftedge.runtime.loading import load

        spec = load(options.model).spec
        text = spec.to_json(indent=2) if options.json else inspection.spec_text(spec)
    print(escaped(text).rstrip())
    return 0


@working("testing")
def _selftest(options: argparse.Namespace) -> int:
    from shiftedge.runtime import selftest_report
    from shiftedge.runtime.bundle import Bundle

    require_folder_of(options.report)
    bundle = Bundle.open(options.bundle, trusted_keys=options.trusted_key)
    count = len(selftest_report.variants_here(bundle, options.device))
    with progress(f"testing {bundle.manifest.spec.name}", count, "variants") as advance:
        report = selftest_report.report_on(
            bundle, options.device, steps=options.steps, threads=options.threads, advance=advance
        )
    text = json_text(report, indent=1)
    if options.report:
        with atomic_path(options.report) as path:
            path.write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(text)
    else:
        say(selftest_report.report_text(report), sys.stdout)
    return 0 if report["passed"] else 1


def _cameras(options: argparse.Namespace) -> int:
    from shiftedge.runtime.capture import listing

    found = listing.cameras()
    if options.json:
        print(json_text([asdict(camera) for camera in found], indent=2))
    else:
        say(listing.text(found), sys.stdout)
    return 0
