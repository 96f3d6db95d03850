"""The command ``deploy``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any

from shiftedge.runtime.commands import add_trusted_key, positive
from shiftedge.runtime.process.progress import working
from shiftedge.runtime.words import say, shown

EXAMPLES = """\
examples:
  shiftedge deploy jester-rpi4 pi@board:jester                  below the home of pi
  shiftedge deploy jester-rpi4 pi@board:/opt/jester --threads 2
  shiftedge deploy jester-rpi4 pi@board:jester --wrapper 'taskset -c 2'
  shiftedge deploy jester-rpi4 root@[fe80::1%eth0]:/opt/jester --port 2222 --identity key

The bundle is checked here, the board is asked what it is, and what does not fit is refused before
anything is copied. The copy goes beside PATH; its checksums are compared there, and a self-test
compares the logits of a clip with those of ONNX Runtime, recorded when the model was compiled, and
times some steps. Only then is it renamed to PATH, and a bundle that stood there removed. If a step
fails, or on Ctrl-C, the copy is removed and what stood at PATH stays.

PATH is the bundle's own folder, not the one to copy it into. ssh and scp are the system's, so
~/.ssh/config counts; a password is asked for once.
"""


def add_commands(commands: Any) -> None:
    """Add the sub-parser to ``commands`` (argparse's special object)."""
    parser = commands.add_parser(
        "deploy",
        help="put a compiled bundle on a board over ssh, tested there before it is used",
        description="Copy a bundle to a board, test it there, and put it in place.",
        epilog=EXAMPLES,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="from `shiftedge compile`")
    parser.add_argument("destination", metavar="[USER@]HOST:PATH", help="where it is to stand")
    parser.add_argument("--port", type=_port, metavar="N", help="of the board's ssh")
    parser.add_argument("--identity", metavar="FILE", help="private key for ssh")
    parser.add_argument(
        "--ssh-option",
        action="append",
        type=_option,
        default=[],
        metavar="NAME=VALUE",
        help="as in ssh_config; may be repeated",
    )
    parser.add_argument(
        "--wrapper",
        default="",
        metavar="COMMAND",
        help="words in front of the self-test's program, such as 'taskset -c 2'",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="of the self-test")
    parser.add_argument(
        "--no-self-test", action="store_true", help="put it in place once it is copied whole"
    )
    add_trusted_key(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(handler=_deploy)


def _port(text: str) -> int:
    value = positive(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no port; they end at 65535")
    return value


def _option(text: str) -> str:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*=[^\n]*", text) is None:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not an option such as ConnectTimeout=5")
    return text


@working("deploying")
def _deploy(options: argparse.Namespace) -> int:
    from shiftedge.export.deploy import deploy

    def tell(line: str) -> None:
        if not options.json:
            say(line, sys.stdout)

    done = deploy(
        options.bundle,
        options.destination,
        port=options.port,
        identity=options.identity,
        ssh_options=options.ssh_option,
        wrapper=options.wrapper,
        threads=options.threads,
        self_test=not options.no_self_test,
        trusted_keys=options.trusted_key,
        tell=tell,
    )
    if options.json:
        print(json.dumps(done.to_dict()))
    return 0
