"""The command ``service``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from shiftedge.runtime.errors import SettingError
from shiftedge.runtime.words import json_text, plain, say

EXAMPLES = """examples:
  shiftedge service install actions.toml --print     the unit, to be looked at; nothing is changed
  sudo shiftedge service install /etc/shiftedge/actions.toml
  sudo shiftedge service install actions.toml --run-as pi    where the files are in pi's home
  shiftedge service install actions.toml --user      a service of yours alone, without root
  shiftedge service status
  sudo systemctl reload shiftedge                    the file has changed: it is read again
  journalctl -u shiftedge                            what it says

docs/live.md tells of the unit, and of containers.
"""
DEFAULT_NAME = "shiftedge"


def add_commands(commands: Any) -> None:
    """Add the sub-parser of ``service`` to ``commands`` (argparse's special object)."""
    service = commands.add_parser(
        "service",
        help="have systemd run a file of settings",
        description="Write, look at or remove a unit of systemd that runs `shiftedge run "
        "--actions FILE`, starts it again when it fails or hangs, and lets it do no more than it "
        "needs.",
        epilog=EXAMPLES,
    )
    does = service.add_subparsers(metavar="DOES", required=True)
    install = does.add_parser("install", help="write the unit and start it")
    install.add_argument("file", type=Path, metavar="FILE", help="of settings, see docs/live.md")
    install.add_argument(
        "--print",
        "--dry-run",
        dest="show",
        action="store_true",
        help="print the unit and change nothing",
    )
    install.add_argument(
        "--run-as",
        metavar="USER",
        help="run as this user (default: a user of its own, which exists while it runs)",
    )
    install.set_defaults(handler=_install)
    status = does.add_parser("status", help="how it is; exit status 1 if it does not run")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.set_defaults(handler=_status)
    uninstall = does.add_parser("uninstall", help="stop it and remove the unit")
    uninstall.set_defaults(handler=_uninstall)
    for each in (install, status, uninstall):
        each.add_argument(
            "--name", default=DEFAULT_NAME, help="of the service (default: %(default)s)"
        )
        each.add_argument(
            "--user", action="store_true", help="a service of yours alone, without root"
        )


def _install(options: argparse.Namespace) -> int:
    from shiftedge.demos.actions import sinks_of, sources_of
    from shiftedge.demos.service.manager import Manager
    from shiftedge.demos.service.unit import Service
    from shiftedge.demos.settings import RunSettings
    from shiftedge.runtime.loading import load

    settings = RunSettings(options.file)
    sources = sources_of(settings)
    if not sources:
        raise SettingError(f"{options.file} has no [[source]]; a service needs a camera to watch.")
    if options.user and options.run_as:
        raise SettingError("--user runs as you; --run-as is for a service of the system.")
    service = Service(options.name, settings, sources, user=options.user, run_as=options.run_as)
    # What is wrong is told now, not in a log tomorrow.
    table = settings.table("model") or {}
    path = table.get("path")
    model = load(None if path is None else settings.beside(path), engine=table.get("engine"))
    for sink in sinks_of(settings, model.spec, [each.camera for each in sources]).values():
        sink.close()
    hidden = service.unreadable()
    if options.show:
        print(service.text(), end="")
    if hidden:
        sentence = (
            f"The service's own user may not read {plain(hidden[0])}: name a user who may with "
            "--run-as, or take --user, or put it, if it is no secret, where everybody may (a file "
            "into /etc/shiftedge, a virtual environment into /opt)."
        )
        if not options.show:
            raise SettingError(sentence)
        say(f"shiftedge: {sentence}")
    if not options.show:
        written = Manager(user=options.user).install(service)
        say(f"{written} is written, and the service {service.name} runs", sys.stdout)
        if options.user:
            say("It ends with your session; `loginctl enable-linger` has it stay.", sys.stdout)
    return 0


def _status(options: argparse.Namespace) -> int:
    from shiftedge.demos.service.manager import Manager

    told = Manager(user=options.user).status(options.name)
    if options.json:
        print(json_text(told, indent=2))
    else:
        words = (
            f"{options.name}: {told['ActiveState']} ({told['SubState']})",
            told["ActiveEnterTimestamp"] and f"since {told['ActiveEnterTimestamp']}",
            told["StatusText"],
            f"started again {told['NRestarts']} times",
        )
        say(", ".join(filter(None, words)), sys.stdout)
    return 0 if told["ActiveState"] in ("active", "reloading") else 1


def _uninstall(options: argparse.Namespace) -> int:
    from shiftedge.demos.service.manager import Manager

    path = Manager(user=options.user).uninstall(options.name)
    say(f"{path} is removed, and the service {options.name} has ended", sys.stdout)
    return 0
