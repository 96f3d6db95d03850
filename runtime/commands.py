"""The commands that need a model and nothing else: ``inspect`` and ``run``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from shiftedge.runtime.capture.options import add_source_options
from shiftedge.runtime.process.signals import ending, exit_status
from shiftedge.runtime.process.streams import need_stdout
from shiftedge.runtime.words import escaped, json_text, note, shown

if TYPE_CHECKING:
    from shiftedge.runtime.model import Model

T = TypeVar("T", int, float)

RUN_EXAMPLES = r"""examples:
  shiftedge run                                      the bundled model on a rendered person
  shiftedge run --source 0                           camera 0
  shiftedge run my.onnx --source clip.mp4 > events.jsonl
  shiftedge run my-x86-64-v3 --threads 1             a compiled bundle
  shiftedge run --source rtsp://camera/x --live      a service: waits for its camera for ever
  shiftedge run --source 'pipe:[size=640x480,format=yuv420p,fps=30] rpicam-vid -t 0 --codec \
      yuv420 --width 640 --height 480 --framerate 30 -o -'

Each gesture is one line on stdout: {"time_s": 4.25, "label": "Swiping Left", "confidence": 0.93}.
Everything meant for people goes to stderr. Ctrl-C, SIGTERM and SIGHUP end it in order, the source
stopped and the summary written, with exit status 0, 143 and 129.
"""


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

    run = commands.add_parser(
        "run",
        help="recognise gestures in a source, one JSON line each",
        description="Stream a source through a model and print each gesture when it happens.",
        epilog=RUN_EXAMPLES,
    )
    add_model_options(run)
    add_source_options(run, "synthetic:gestures")
    run.add_argument(
        "--steps",
        action="store_true",
        help='print a line for every model step too, marked "step": true, with its best label',
    )
    run.set_defaults(handler=_run, endless=True)


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
        help="fp32, bf16 or int8, of a bundle that holds several (default: the first that this CPU "
        "can run)",
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
    from shiftedge.runtime.model import load

    return load(
        options.model,
        engine=options.engine,
        threads=options.threads,
        providers=options.provider,
        trusted_keys=options.trusted_key,
        precision=options.precision,
    )


def _inspect(options: argparse.Namespace) -> int:
    from shiftedge.runtime import inspection

    if options.model is not None and Path(options.model).is_dir():
        from shiftedge.runtime.bundle import Bundle

        bundle = Bundle.open(options.model)
        text = bundle.manifest.to_json() if options.json else inspection.bundle_text(bundle)
    else:
        from shiftedge.runtime.model import load

        spec = load(options.model).spec
        text = spec.to_json(indent=2) if options.json else inspection.spec_text(spec)
    print(escaped(text).rstrip())
    return 0


def _run(options: argparse.Namespace) -> int:
    from shiftedge.runtime.live.session import LiveSession

    need_stdout()
    session, status = None, 0
    try:
        model = load_chosen(options)
        session = LiveSession(model, options.source, on_note=note, retry=options.retry)
        for frame, result in session:
            if options.steps and result.logits is not None:
                best = int(result.logits.argmax())
                shares = np.exp(result.logits - result.logits[best])
                label = model.spec.labels[best]
                _line(frame.time_s, label, float(1 / shares.sum()), step=True)
            if result.event is not None:
                event = result.event
                _line(event.time_s, event.label, event.confidence)
    except KeyboardInterrupt as error:
        status = exit_status(error, endless=True)
        note("interrupted")
    finally:
        if session is not None:
            with ending():
                session.close()
                note(session.summary().sentence())
    return status


def _line(time_s: float, label: str, confidence: float, **more: bool) -> None:
    document = {"time_s": round(time_s, 4), "label": label, "confidence": round(confidence, 4)}
    print(json_text({**document, **more}), flush=True)
