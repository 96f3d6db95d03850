"""The command ``bench``: one step's latency, compiled and on the peers."""

from __future__ import annotations

import argparse
import importlib.resources
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shiftedge.benchmarks.complexity.commands import add_command as add_complexity
from shiftedge.benchmarks.engines import ENGINES, HARNESS, ON_GPU, REFERENCE, by_default
from shiftedge.benchmarks.live.commands import add_command as add_live
from shiftedge.benchmarks.output import tell, write
from shiftedge.runtime.commands import number, positive
from shiftedge.runtime.errors import ModelError, ShiftedgeError
from shiftedge.runtime.process.cpu import chosen_threads, usable_cores
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import require_folder_of
from shiftedge.runtime.words import note, shown

if TYPE_CHECKING:
    from shiftedge.benchmarks.entry import Candidate

EXAMPLES = """\
examples:
  shiftedge bench                                    the bundled model on all engines, one thread
  shiftedge bench my.onnx --threads 1,2 --json out.json
  shiftedge bench my.onnx --bundle my-cortex-a76     the compiled model that is at hand already
  shiftedge bench my-cortex-a76 --engines native     on a board without onnxruntime
  shiftedge bench --engines onnxruntime,openvino --frames 60 --json -
  shiftedge bench my.onnx --bundle my-cuda-sm_86 --device cuda
                                                     on an NVIDIA GPU of this machine
  shiftedge bench --target rpi4 --emulate my.onnx    instructions, and cycles by a model
  shiftedge bench --target jetson-nano --emulate --device cuda my.onnx
                                                     the same of its GPU, kernel by kernel
  shiftedge bench complexity                         the TSM paper's networks: their cost, counted
  shiftedge bench live                               camera to event and to a page, eight cameras

Times are of one step, batch 1, float32, in milliseconds. Engines run in turns in processes of their
own, on the same frames, after their logits and states have been compared with a reference. The
native engine's time includes normalising the frame; the peers get theirs normalised already. An
engine that cannot be measured is a row that says why. Ctrl-C prints what has been measured so far.

With --emulate nothing is timed: guest instructions of a step are counted (qemu-user), of the model
compiled for --target and, in a Python for aarch64 that its row says how to get, of ONNX Runtime's
build for it, with one thread each. Where llvm-mca is installed (Debian: llvm), cycles on the
target's core are predicted from them. With --device cuda the target's GPU is emulated instead:
each kernel's instructions, wavefronts and bytes are counted, and its microseconds predicted.
"""
_EVERY = {**ENGINES, **ON_GPU, **HARNESS}
WORKLOADS = ("step", "loop", "clip")
TIMED_FRAMES = 300
COUNTED_FRAMES = 1
"""The count does not vary."""
STARTS = 5
STREAMS = number("a number of streams up to 256", int, lambda count: 1 <= count <= 256)
"""Each is a thread, with an engine's states."""
MINUTES = number("a number of minutes up to a day", float, lambda found: 0.0 < found <= 24 * 60)


def add_commands(commands: Any) -> None:
    """Add the sub-parser of this module to ``commands`` (argparse's special object)."""
    bench = commands.add_parser(
        "bench",
        help="measure one step against ONNX Runtime, OpenVINO and the machine's limit",
        description="Measure the latency of one step: the compiled model, ONNX Runtime, OpenVINO, "
        "and the time that the machine's peak would allow.",
        epilog=EXAMPLES,
    )
    engine = _one_of(_EVERY, "engine {}", {**ENGINES, **ON_GPU})
    workload = _one_of(WORKLOADS, "{} to run", WORKLOADS)
    # fmt: off
    add = bench.add_argument
    add("model", nargs="?", type=Path,
        help="an .onnx file or a compiled bundle; left out: the bundled model")
    add("--bundle", type=Path, metavar="FOLDER",
        help="the compiled model for the engine native (default: compiled from MODEL, and kept)")
    add("--engines", type=_list_of(engine), metavar="A,B",
        help=f"of {', '.join({**ENGINES, **ON_GPU})} (default: those that are installed and load "
        "quickly)")
    add("--threads", type=_list_of(positive), default=[1], metavar="N,N",
        help="thread counts for one step (default: 1)")
    add("--frames", type=positive,
        help=f"timed steps each (default: {TIMED_FRAMES}), or counted ones ({COUNTED_FRAMES})")
    add("--rounds", type=positive,
        help="turns that the frames are spread over (default: one for each frame)")
    add("--starts", type=positive,
        help=f"how often each engine's process begins anew, over the rounds (default: {STARTS})")
    add("--runs", type=_list_of(workload), default=["step"], metavar="A,B",
        help=f"what is timed, of {', '.join(WORKLOADS)} (default: step)")
    add("--streams", type=_list_of(STREAMS), default=[], metavar="N,N",
        help="a frame for each of N streams at once, too")
    add("--source", metavar="SOURCE",
        help="take the frames from a file, folder, camera or URL, as `shiftedge run` does "
        "(default: a rendered scene that moves)")
    add("--profile", action="store_true",
        help="each kernel's time, operations and bytes against the roofline, for native")
    add("--timeout", type=positive, default=120, metavar="SECONDS",
        help="for loading and for each turn (default: %(default)s)")
    add("--json", metavar="FILE",
        help="write all figures there; - is stdout, without the table")
    add("--soak", type=MINUTES, default=0.0, metavar="MINUTES",
        help="afterwards, steps without a pause for so long: drift and throttling")
    add("--compare", type=Path, metavar="OLD.json",
        help="an earlier run's --json; exit 1 where something became slower beyond the noise")
    add("--force", action="store_true",
        help="compare with a run of another machine, model or version too")
    add("--markdown", type=Path, metavar="FILE", help="write the table there, for a README")
    add("--html", type=Path, metavar="FILE", help="write a page with tables and plots there")
    add("--target", metavar="NAME",
        help="with --emulate: the board, of `shiftedge compile --list-targets` (default: a "
        "bundle's own)")
    add("--emulate", action="store_true",
        help="count the instructions of a step on an emulated ARM machine and predict its cycles; "
        "no times")
    add("--device", choices=("cpu", "cuda"), default="cpu",
        help="cuda: engines on an NVIDIA GPU of this machine, each with a row; with --emulate the "
        "target's GPU (default: cpu)")
    # fmt: on
    bench.set_defaults(handler=_bench, usage_error=bench.error)
    add_complexity(bench)
    add_live(bench)


def _bench(options: argparse.Namespace) -> int:
    left_out: list[str] = []
    named = options.engines is not None
    if not named and options.device == "cuda":
        options.engines = list(ON_GPU)
    elif not named:
        options.engines, left_out = by_default()
    if options.emulate:
        return _emulate(options)
    if options.target is not None:
        options.usage_error("--target needs --emulate: times are only taken on this machine")
    frames = options.frames or TIMED_FRAMES
    rounds = options.rounds or frames
    if rounds > frames:
        options.usage_error(f"--rounds {rounds} is more than --frames {frames}")
    starts = options.starts or min(STARTS, rounds)
    if starts > rounds:
        options.usage_error(f"--starts {starts} is more than the {rounds} rounds")
    if options.bundle is not None and options.model is not None and _is_bundle(options.model):
        options.usage_error("MODEL is a bundle already: give the .onnx file, or leave --bundle out")
    require_folder_of(options.json, options.markdown, options.html)
    for package in ("scipy", *(() if options.html is None else ("matplotlib", "jinja2"))):
        require(package)
    from shiftedge.benchmarks.bench import Bench
    from shiftedge.benchmarks.compare import check_comparable, compare, comparison_lines
    from shiftedge.benchmarks.entry import BenchSettings
    from shiftedge.benchmarks.report import describe_file, document, read_report
    from shiftedge.benchmarks.terminal import markdown, print_report

    threads = tuple(dict.fromkeys(chosen_threads(count) for count in options.threads))
    workloads = (*options.runs, *(f"streams-{count}" for count in options.streams))
    baseline = None if options.compare is None else read_report(options.compare)
    onnx, bundle = _model_files(options.model, options.bundle)
    if not named and options.device == "cpu":
        options.engines[1:1] = _more_of(bundle)
    candidates, bundle = _candidates(options.engines, onnx, bundle)
    bench = Bench(
        candidates,
        BenchSettings(
            threads, frames, rounds, starts, tuple(dict.fromkeys(workloads)), options.timeout
        ),
        onnx=onnx,
        bundle=bundle,
        reference=REFERENCE,
        source=options.source,
        profile=options.profile,
        soak_minutes=options.soak,
    )
    if baseline is not None and not options.force:
        check_comparable({"machine": bench.machine, "model": describe_file(onnx)}, baseline)
    bench.notes += left_out
    if len(threads) < len(options.threads) or max(options.threads) > max(threads):
        bench.notes.append(
            f"Thread counts above the {usable_cores()} cores that this process may use were "
            "lowered to them."
        )
    bench.run()
    report = document(bench)
    comparison = report["comparison"] = None if baseline is None else compare(report, baseline)
    tell(options.json, report, lambda: print_report(report))
    if options.markdown is not None:
        write(options.markdown, markdown(report))
    if options.html is not None:
        from shiftedge.benchmarks.html import page

        write(options.html, page(report))
    slower = comparison is not None and comparison["slower"]
    if comparison is not None and options.json != "-":
        print("\n".join(comparison_lines(comparison)))
    if slower:
        note("slower than the earlier run, beyond the noise of both")
    return bench.exit_status or _status(report) or int(slower)


def _emulate(options: argparse.Namespace) -> int:
    from shiftedge.benchmarks.emulation import report as emulation_report

    if options.threads != [1]:
        options.usage_error("--emulate counts with one thread: leave --threads out")
    require_folder_of(options.json)
    onnx, bundle = _model_files(options.model, options.bundle)
    if options.target is None and bundle is None:
        options.usage_error("--emulate needs --target, such as --target rpi4")
    if options.device == "cuda":
        from shiftedge.benchmarks.emulation import gpu

        if onnx is not None and options.target is not None:
            counted = gpu.document(onnx, options.target)
            tell(options.json, counted, lambda: print(gpu.table(counted)))
            return 0
        options.usage_error("--device cuda takes an .onnx file and a --target")
    report = emulation_report.document(
        onnx,
        bundle,
        options.target,
        options.frames or COUNTED_FRAMES,
        peer="onnxruntime" in options.engines,
    )
    tell(options.json, report, lambda: print(emulation_report.table(report)))
    return 0


def _status(report: dict[str, Any]) -> int:
    """The exit status, and the sentence that goes with a failure."""
    if report["interrupted"]:
        note("interrupted; the figures are of what was measured until then")
        return 130
    found = [row["status"] for row in report["results"]]
    broken = [status for status in found if status in ("disagrees", "crashed", "timeout")]
    if broken:
        note(f"{len(broken)} of {len(found)} engines did not do what they should; see the reasons")
        return 1
    if "ok" not in found:
        reasons = "; ".join(dict.fromkeys(row["reason"] for row in report["results"]))
        note(f"no engine could be measured: {reasons}")
        return 1
    return 0


def _candidates(
    engines: list[str], onnx: Path | None, bundle: Path | None
) -> tuple[list[Candidate], Path | None]:
    """What to measure, and the bundle, which is compiled first where there is none."""
    from shiftedge.benchmarks.bench import spec_by_onnx
    from shiftedge.benchmarks.entry import Candidate

    found = []
    spec = None if onnx is None else spec_by_onnx(onnx)
    int8 = spec is not None and spec.precision == "int8"
    for name in engines:
        engine = _EVERY[name]
        path, reason = onnx, None
        if name == "native":
            if bundle is None and onnx is not None:
                bundle, reason = _compile(onnx)
            path = bundle
        elif engine.ours:
            path = bundle if name in _more_of(bundle) else None
            if path is None:
                what, how = _MORE[name]
                reason = (
                    f"It runs a bundle that holds {what}, given with --bundle: `shiftedge compile "
                    f"MODEL.onnx {how}`."
                )
        elif name in HARNESS:
            path = onnx or bundle
        elif onnx is None:
            reason = "It runs .onnx files: name that, and the bundle with --bundle."
        elif int8 and engine.not_int8:
            path, reason = None, f"It has no int8 here: {engine.not_int8}."
        peer = not engine.ours and name not in HARNESS
        found.append(Candidate(name, engine.factory, path, reason, peer))
    return found, bundle


_MORE = {
    "native-bf16": ("bf16", "--precision bf16,fp32"),
    "native-cuda": ("code for a GPU of this machine", "--target cuda-sm_86"),
    "native-cuda-fp16": (
        "code of half precision for a GPU of this machine",
        "--target cuda-sm_86 --precision fp16,fp32",
    ),
}
"""Engines that run other variants of a bundle than ``native`` does: what it must hold, and how it
comes to."""


def _more_of(bundle: Path | None) -> list[str]:
    """Which of them a bundle has something for; none of what is no bundle, which its reader will
    say."""
    if bundle is None or not bundle.is_dir():
        return []
    from shiftedge.runtime.bundle import Bundle

    try:
        opened = Bundle.open(bundle)
    except ShiftedgeError:
        return []
    found = ["native-bf16"] if "bf16" in opened.manifest.builds else []
    gpus = {each.precision for each in opened.gpu_variants()}
    found += ["native-cuda"] if gpus else []
    return found + (["native-cuda-fp16"] if "fp16" in gpus else [])


def _compile(onnx: Path) -> tuple[Path | None, str | None]:
    """The bundle for this machine, or the reason why there is none."""
    if sys.stderr is not None and sys.stderr.isatty():
        note(f"compiling {onnx.name} for this machine")
    try:
        from shiftedge.export.compiler.compile import compile_cached

        return compile_cached(onnx, target="host"), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the peers can be measured
        said = str(error).strip().splitlines()
        return None, f"The model was not compiled: {said[0] if said else type(error).__name__}"


def _model_files(model: Path | None, bundle: Path | None) -> tuple[Path | None, Path | None]:
    """The .onnx file and the bundle that were named; at least one of them."""
    if bundle is not None and not bundle.exists():
        raise ModelError(f"There is no bundle {bundle}; check the path.")
    if model is None:
        from shiftedge.runtime.loading import BUNDLED_NAME

        bundled = Path(str(importlib.resources.files("shiftedge.runtime.assets") / BUNDLED_NAME))
        if not bundled.is_file():
            raise ModelError(
                f"This installation has no bundled model ({BUNDLED_NAME}); name a model."
            )
        return bundled, bundle
    if not model.exists():
        raise ModelError(f"There is no model file {model}; check the path.")
    if _is_bundle(model):
        return None, model
    if model.suffix != ".onnx":
        raise ModelError(f"{model} is neither an .onnx file nor a compiled bundle's folder.")
    return model, bundle


def _is_bundle(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".so"


def _list_of(one: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """A parser of comma-separated values, each once, in the order given."""

    def parse(text: str) -> list[Any]:
        return list(dict.fromkeys(one(part.strip()) for part in text.split(",")))

    return parse


def _one_of(known: Iterable[str], what: str, told: Iterable[str]) -> Callable[[str], str]:
    def parse(name: str) -> str:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"there is no {what.format(shown(name))}; known are {', '.join(told)}"
            )
        return name

    return parse
