"""The commands ``run`` and ``demo``, which watch for gestures, and ``record``, to film them."""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shiftedge.demos.service.commands import add_commands as add_service
from shiftedge.runtime.capture.options import add_source_options
from shiftedge.runtime.commands import add_model_options, load_chosen, number, positive
from shiftedge.runtime.errors import SettingError
from shiftedge.runtime.process.files import expanded
from shiftedge.runtime.process.streams import need_stdout
from shiftedge.runtime.words import json_text, note, plain, say

if TYPE_CHECKING:
    from shiftedge.demos.plan import RunPlan
    from shiftedge.demos.settings import RunSettings
    from shiftedge.demos.show import Watched
    from shiftedge.demos.sinks import Sink
    from shiftedge.demos.sinks.web.sink import WebSink
    from shiftedge.runtime.model import Model

RUN_EXAMPLES = """examples:
  shiftedge run                                      the bundled model on a rendered person
  shiftedge run --source 0                           camera 0
  shiftedge run my.onnx --source clip.mp4 > events.jsonl
  shiftedge run my-x86-64-v3 --threads 1             a compiled bundle
  shiftedge run my-jetson-nano --device cuda         on its GPU, or not at all
  shiftedge run --source rtsp://camera/x --live      a service: waits for its camera for ever
  shiftedge run --source rpicam: --size 1280x720     a Raspberry Pi's camera on its ribbon cable
  shiftedge run --source 0 --source 2 --live         two cameras: events say which
  shiftedge run --actions actions.toml               keys, commands, webhooks, MQTT on a gesture

Each gesture is one line on stdout: {"time_s": 4.25, "label": "Swiping Left", "confidence": 0.93}.
Of several cameras, a line begins with "camera": its name. docs/live.md tells of --actions.
Everything meant for people goes to stderr. Ctrl-C, SIGTERM and SIGHUP end it in order, the source
stopped and the summary written, with exit status 0, 143 and 129.
"""

RECORD_EXAMPLES = """\
examples:
  shiftedge record --label "Finger Snap"             ten clips of 3 s from camera 0
  shiftedge record --label "Finger Snap" --window    the same with a window; k keeps, d discards
  shiftedge record --label "No gesture" --count 5    sitting still, reading, looking about
  shiftedge record --label "Doing other things"      drinking, scratching, typing, leaving
  shiftedge record --label wave --source film.mp4 --seconds 2 --yes     cut from a film
  shiftedge personalise --data my_gestures --output mine.onnx           what the clips are for

Each clip is looked over: too short, too dark or bright, nothing moves, nearly the same as one
before. What is kept is on the disk at once, so a camera that is lost later costs nothing. A label
that is there already gets more clips. docs/own-gestures.md shows the whole way.
"""

DEFAULT_SOURCE = "synthetic:gestures"
BROWSER = "browser:"
"""The source of `demo --web` where browsers alone have cameras."""
DEFAULT_FILM = Path("out") / "demo.mp4"
DEFAULT_DATA = "my_gestures"
CHOOSING = ("model", "engine", "threads", "precision", "device", "provider", "trusted_key")
"""Options that a model is loaded by."""
BACKGROUND = {"No gesture": 5, "Doing other things": 10}
"""Clips of a person who shows no gesture that are asked for: the second are those that a model
takes for gestures, so there are more of them."""

EXAMPLES = """\
examples:
  shiftedge demo                                     a rendered person; the film is out/demo.mp4
  shiftedge demo --source 0 --window                 camera 0, in a window; q ends
  shiftedge demo --source 0 --seconds 60 --film me.mp4
  shiftedge demo --source 0 --window --actions actions.toml    with keys pressed, and so on
  shiftedge demo --source 0 --web                    a page at http://127.0.0.1:8765
  shiftedge demo --source browser: --web             the browser's own camera, none of this machine
  shiftedge demo --source 0 --web 0.0.0.0:8765       for other machines too, by a link with a token
  shiftedge demo my.onnx --source clip.mp4 --json > summary.json

Cameras and files are filmed only where --film names a file. Ctrl-C, SIGTERM and SIGHUP end the demo
with exit status 0, 143 and 129; the film is finished and the summary printed all the same.
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parsers of this module to ``commands`` (argparse's special object)."""
    run = commands.add_parser(
        "run",
        help="recognise gestures in a source, one JSON line each",
        description="Stream sources through a model, print each gesture when it happens, and have "
        "things happen.",
        epilog=RUN_EXAMPLES,
    )
    add_model_options(run)
    add_source_options(run, DEFAULT_SOURCE, several=True)
    run.add_argument(
        "--steps",
        action="store_true",
        help='print a line for every model step too, marked "step": true, with its best label',
    )
    _add_actions(run)
    run.add_argument(
        "--service",
        action="store_true",
        help="as a service of systemd or a container: with --live, it is up before its cameras "
        "are, tells systemd how it is, and SIGHUP has it read the file of --actions again",
    )
    run.set_defaults(handler=_run, endless=True)

    demo = commands.add_parser(
        "demo",
        help="watch gestures being recognised, as a film or in a window",
        description="Stream a source through a model in real time, print each gesture when it "
        "happens, and draw what the model sees and thinks into a film or a window.",
        epilog=EXAMPLES,
    )
    add_model_options(demo)
    add_source_options(demo, DEFAULT_SOURCE, several=True)
    _add_actions(demo)
    film = demo.add_mutually_exclusive_group()
    film.add_argument(
        "--film",
        type=Path,
        metavar="FILE",
        help=f"write the annotated film there, .mp4 or .avi (default: {DEFAULT_FILM} for a "
        "synthetic source, no film for others)",
    )
    film.add_argument("--no-film", action="store_true", help="write no film")
    demo.add_argument("--window", action="store_true", help="show a window; needs a screen")
    web = demo.add_argument_group("a page in the browser")
    web.add_argument(
        "--web",
        nargs="?",
        const="",
        metavar="HOST:PORT",
        help="serve a page that shows it live (default: 127.0.0.1:8765, for this machine alone; "
        "any other address asks for a token, which is printed)",
    )
    web.add_argument("--cert", type=Path, metavar="FILE", help="PEM certificate, for https")
    web.add_argument("--key", type=Path, metavar="FILE", help="its key, where it is not in there")
    web.add_argument(
        "--data",
        type=Path,
        default=Path(DEFAULT_DATA),
        metavar="DIR",
        help="folder of the clips that people record on the page (default: %(default)s)",
    )
    demo.add_argument(
        "--seconds", type=_seconds, metavar="N", help="end after N seconds of the source"
    )
    demo.add_argument(
        "--json",
        action="store_true",
        help="print the summary as JSON on stdout, and what people read on stderr",
    )
    demo.set_defaults(handler=_demo, endless=True)
    _add_record(commands)
    add_service(commands)


def _add_actions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--actions",
        type=Path,
        metavar="FILE",
        help="TOML file of what happens on a gesture; it may name the sources and the model too",
    )


_seconds = number("a number of seconds above 0", float, lambda value: 0.0 < value < float("inf"))


def _run(options: argparse.Namespace) -> int:
    from shiftedge.demos.plan import Reload
    from shiftedge.demos.show import RELOAD, show
    from shiftedge.runtime.process.notify import Notifier
    from shiftedge.runtime.process.signals import hangups, interrupts

    if not options.service:
        plan = _plan(options)
        report = show(
            plan.model, plan.sources, list(plan.sinks.values()), on_note=note, realtime=False
        )
    else:
        if options.actions is None:
            raise SettingError("--service is for a file of --actions; give that too.")
        manager = Notifier()
        with interrupts(), hangups() as asked:
            reload = Reload(
                _plan(options), asked, lambda before: _plan(options, before), manager, note
            )
            while True:
                plan = reload.plan
                sinks = list(plan.sinks.values())
                report = show(
                    plan.model,
                    plan.sources,
                    sinks,
                    on_note=note,
                    renewal=reload,
                    manager=manager,
                )
                if report.ended != RELOAD:
                    break
    if report.ended == "interrupted":
        note("interrupted")
    for line in report.lines():
        note(line)
    if report.error is not None:
        raise report.error
    return report.status


def _plan(given: argparse.Namespace, before: RunPlan | None = None) -> RunPlan:
    """What the options and their file want.

    Args:
        before: what is the same as there is taken from it.
    """
    from shiftedge.demos.plan import RunPlan, changed_at
    from shiftedge.demos.sinks.lines import JsonLines
    from shiftedge.runtime.capture.retry import Retry

    options = copy.copy(given)
    if options.service:
        options.retry = options.retry or Retry.for_service()
    settings = _settings(options)
    lines: JsonLines | None = JsonLines(steps=options.steps)
    if settings is not None:
        from shiftedge.demos.actions import json_lines

        lines = json_lines(settings, steps=options.steps)
    if lines is not None:
        need_stdout()
    sources = tuple(_sources(options, settings))
    chosen = *(getattr(options, name) for name in CHOOSING), changed_at(options.model)
    same = before is not None and before.chosen == chosen
    model = before.model if before is not None and same else load_chosen(options)
    plan = RunPlan(model, chosen, sources, {})
    held = before.sinks if before is not None and before.goes_on(plan) else {}
    if lines is not None:
        key = f"lines {lines.wants}"
        plan.sinks[key] = held.get(key, lines)
    plan.sinks.update(_actions(settings, model, sources, held))
    return plan


def _settings(options: argparse.Namespace) -> RunSettings | None:
    """The file of ``--actions``; its model becomes options, where none were given."""
    if options.actions is None:
        return None
    from shiftedge.demos.settings import RunSettings

    settings = RunSettings(options.actions)
    for name, value in (settings.table("model") or {}).items():
        key, chosen = ("model", str(settings.beside(value))) if name == "path" else (name, value)
        if getattr(options, key) is None:
            setattr(options, key, chosen)
    return settings


def _actions(
    settings: RunSettings | None,
    model: Model,
    sources: Sequence[Watched],
    held: Mapping[str, Sink] | None = None,
) -> Mapping[str, Sink]:
    if settings is None:
        return {}
    from shiftedge.demos.actions import sinks_of  # and with it HTTP and TLS, which take their time

    return sinks_of(settings, model.spec, [each.camera for each in sources], held)


def _sources(options: argparse.Namespace, settings: RunSettings | None) -> list[Watched]:
    """Those of the command line, or else of the file, or else the default."""
    named = []
    if settings is not None and not options.source:
        from shiftedge.demos.actions import sources_of

        named = sources_of(settings)
    if not named:
        return _watched(options.source or [DEFAULT_SOURCE], options)
    if options.size or options.fps or options.fourcc:
        raise SettingError(
            "--size, --fps and --fourcc are for --source; of the file's sources, write them beside "
            "their from."
        )
    return [replace(each, retry=each.retry or options.retry) for each in named]


def _watched(texts: Sequence[str], options: argparse.Namespace) -> list[Watched]:
    """The sources of the command line; of two that are called the same, the second has a number."""
    from shiftedge.demos.show import Watched
    from shiftedge.runtime.capture.source import with_settings

    found: list[Watched] = []
    for text in texts:
        if text == BROWSER and getattr(options, "web", None) is not None:
            from shiftedge.demos.sinks.web.sink import NoCamera

            return [Watched(text, opener=NoCamera)]
        set_text = with_settings(text, size=options.size, fps=options.fps, fourcc=options.fourcc)
        called = Watched(set_text).camera
        names = [each.camera for each in found]
        same = (f"{called} ({number})" for number in range(2, len(texts) + 1))
        name = next((each for each in same if each not in names), None) if called in names else None
        found.append(Watched(set_text, name, options.retry))
    return found


def _demo(options: argparse.Namespace) -> int:
    from shiftedge.demos.show import show
    from shiftedge.demos.sinks.film import FilmSink
    from shiftedge.demos.sinks.lines import TextLines
    from shiftedge.demos.sinks.screen import Screen, WindowSink
    from shiftedge.runtime.process.files import output_folder

    for_people = sys.stderr if options.json else sys.stdout
    settings = _settings(options)
    sources = _sources(options, settings)
    if len(sources) > 1:
        raise SettingError("demo shows one source; `shiftedge run` watches several.")
    film = _film(options, sources[0].text)
    page = _page(options, for_people)
    if film is not None and film == DEFAULT_FILM:
        output_folder(film.parent)
    model = load_chosen(options)
    spec = model.spec
    say(
        f"{plain(spec.name)} ({spec.classes} labels, {model.engine.name} {model.engine.version}) "
        f"on {plain(sources[0].camera)}; Ctrl-C ends",
        for_people,
    )

    sinks: list[Sink] = [TextLines(for_people, needed=not (film or options.window or page))]
    if film is not None:
        sinks.append(FilmSink(film))
    if options.window:
        sinks.append(WindowSink(Screen()))
    if page is not None:
        sinks.append(page)
    sinks += _actions(settings, model, sources).values()
    report = show(model, sources, sinks, on_note=note, limit_s=options.seconds)
    if (
        film is not None
        and report.numbers.frames
        and not any(sink.name == "film" and sink.error for sink in report.sinks)
    ):
        report = replace(report, film=film)
    say(report.text(), for_people)
    if options.json:
        print(json_text(report.to_dict(), indent=2))
    if report.error is not None:
        raise report.error
    return report.status


def _film(options: argparse.Namespace, source: str) -> Path | None:
    """Where the film goes. People before a camera are filmed only where somebody asked for it."""
    if options.no_film:
        return None
    if options.film is not None:
        return Path(options.film)
    return DEFAULT_FILM if source.startswith("synthetic:") and options.web is None else None


def _page(options: argparse.Namespace, for_people: IO[str]) -> WebSink | None:
    """The sink of ``--web``."""
    if options.web is None:
        if options.cert or options.key:
            raise SettingError("--cert and --key are for the page of --web; give that too.")
        return None
    if options.key and not options.cert:
        raise SettingError("--key belongs to a certificate; name that with --cert.")
    from shiftedge.demos.settings import address
    from shiftedge.demos.sinks.web.server import Certificate
    from shiftedge.demos.sinks.web.sink import DEFAULT_ADDRESS, WebSink

    where = DEFAULT_ADDRESS
    if options.web:
        try:
            where = address(DEFAULT_ADDRESS[1])(options.web)
        except ValueError as error:
            raise SettingError(f"--web is {plain(options.web)}; expected {error}.") from error
    certificate = None
    if options.cert is not None:
        key = None if options.key is None else expanded(options.key)
        certificate = Certificate(expanded(options.cert), key)
    data = expanded(options.data)
    return WebSink(where, lambda text: say(text, for_people), certificate, data)


def _add_record(commands: Any) -> None:
    parser = commands.add_parser(
        "record",
        help="film clips of a gesture of your own",
        description="Film clips of one label: countdown, clip, replay, keep or discard.",
        epilog=RECORD_EXAMPLES,
    )
    parser.add_argument("--label", required=True, metavar="NAME", help="of the gesture")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(DEFAULT_DATA),
        metavar="DIR",
        help="folder of all labels (default: %(default)s)",
    )
    add_source_options(parser, "0")
    parser.add_argument(
        "--count", type=positive, default=10, metavar="N", help="clips to keep (default: 10)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, metavar="S", help="of a clip (default: 3)"
    )
    parser.add_argument(
        "--countdown",
        type=number("a number of seconds from 0 to 60", float, lambda value: 0.0 <= value <= 60.0),
        metavar="S",
        help="before each clip (default: 3 before a camera, 0 in a recording)",
    )
    parser.add_argument("--window", action="store_true", help="show a window; needs a screen")
    parser.add_argument(
        "--yes", action="store_true", help="ask nothing, and keep the clips that pass the checks"
    )
    parser.add_argument("--json", action="store_true", help="print what was kept as JSON on stdout")
    parser.set_defaults(handler=_record)


def _record(options: argparse.Namespace) -> int:
    from shiftedge.demos.record import RecordSettings, record, somebody_answers
    from shiftedge.export.data import looks_silent
    from shiftedge.runtime.capture.recording import Recorder, labels_of

    if not (options.yes or options.window or somebody_answers()):
        raise SettingError(
            "Nobody is there to say which clips to keep (stdin is no terminal); give --yes to keep "
            "those that pass the checks, or --window to ask in a window."
        )
    data = expanded(options.data)
    silent = looks_silent(options.label)
    recorder = Recorder(data, options.label, still=silent)
    before = labels_of(data).get(options.label, 0)
    if before:
        say(f"{data} has {before} clips of {plain(options.label)} already; these are added")
    settings = RecordSettings(
        options.count, options.seconds, options.countdown, options.window, not options.yes
    )
    (source,) = _watched([options.source], options)
    kept = record(recorder, source.text, settings, say=say, retry=source.retry)
    counts = labels_of(data)
    if options.json:
        print(json_text({"kept": [str(path) for path in recorder.kept], "clips": counts}, indent=2))
    for label, count in counts.items():
        say(f"{count:5}  {plain(label)}")
    gestures = [label for label in counts if not looks_silent(label)]
    for label, wanted in BACKGROUND.items() if gestures else ():
        found = sum(n for name, n in counts.items() if name.casefold() == label.casefold())
        if found < wanted:
            say(
                f'{wanted - found} clips of "{label}" would keep false events away: shiftedge '
                f'record --label "{label}" --count {wanted - found} --data {plain(data)}'
            )
    return 0 if kept else 1
