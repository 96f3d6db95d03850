"""The command line: parsing and messages here, the work in the packages."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from shiftedge import __version__
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.signals import exit_status, interrupted, interrupts
from shiftedge.runtime.process.streams import ReaderGoneError, own_streams
from shiftedge.runtime.words import plain, say

EPILOG = """\
examples:
  shiftedge demo                                     the bundled model on a rendered person
  shiftedge run --source 0                           camera 0 in, one JSON line per gesture out
  shiftedge export --checkpoint my.pth --output my.onnx
  shiftedge run my.onnx --source clip.mp4
  shiftedge quantize my.onnx --calibration my_clips --output my-int8.onnx
  shiftedge compile my.onnx                          one small library, faster than the .onnx file
  shiftedge bench my.onnx                            how much faster, on this machine
  shiftedge deploy my-rpi4 pi@board:my-rpi4          put what was compiled for it on a board

exit status: 0 done, 1 the work failed (a sentence says why), 2 wrong usage; 130, 143 or 129 ended
by Ctrl-C, SIGTERM or SIGHUP; run and demo, which have no other end, answer Ctrl-C with 0
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they are written; what is one line is wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        kind = argparse.HelpFormatter if "\n" not in text else argparse.RawDescriptionHelpFormatter
        return kind._fill_text(self, text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Of every command: argparse makes sub-parsers of the class of their parent."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **settings})

    def error(self, message: str) -> NoReturn:
        """A complaint that quotes what was typed, or pasted, or made by a script."""
        super().error(plain(message, lines=True))


def parser() -> argparse.ArgumentParser:
    """The parser of every command; each sub-parser names its ``handler``."""
    # Imported here, so that `import shiftedge.__main__` stays cheap; none imports torch or cv2.
    from shiftedge.benchmarks.commands import add_commands as add_benchmarks
    from shiftedge.demos.commands import add_commands as add_demos
    from shiftedge.export.commands import add_commands as add_export
    from shiftedge.runtime.commands import add_commands as add_runtime

    top = _Parser(
        prog="shiftedge",
        description="Stream a camera through a temporal shift model, one small step a frame.",
        epilog=EPILOG,
    )
    top.add_argument("--version", action="version", version=f"shiftedge {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    add_runtime(commands)
    add_demos(commands)
    add_export(commands)
    add_benchmarks(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: None takes the process's own, and the process is ours then: its standard streams
            and its signals too, see :mod:`~shiftedge.runtime.process.streams` and
            :mod:`~shiftedge.runtime.process.signals`.
    """
    if arguments is not None:
        return _answer(arguments)
    with own_streams(), interrupts(last=True):
        try:
            status = _answer(None)
        except SystemExit as end:  # argparse's, after help or a complaint
            status = end.code if isinstance(end.code, int) else 1
    _end_threads(status)
    return status


def _answer(arguments: Sequence[str] | None) -> int:
    """Run the command, and say in a sentence what kept it from its end."""
    endless = False
    try:
        try:
            options = parser().parse_args(arguments)
            endless = getattr(options, "endless", False)
            status: int = options.handler(options)
        except KeyboardInterrupt:  # perhaps while nobody reads what is still to be written
            raise
        except BaseException:
            sys.stdout.flush()
            raise
        if not interrupted():
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        say("shiftedge: interrupted")
        return exit_status(error, endless=endless)
    except ReaderGoneError:  # nothing is wrong, and nothing is left to say
        return 0
    except ShiftedgeError as error:
        say(f"shiftedge: {error}")
    except OSError as error:  # of a disk, a permission, a network: the machine's fault, not ours
        say(f"shiftedge: {_sentence(error)}")
    except MemoryError:
        say("shiftedge: There is not enough memory for this; give it less to do at once.")
    except RecursionError as error:
        say(f"shiftedge: Something is nested too deeply ({error}); is a file damaged?")
    else:
        return status
    return 1


def _sentence(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return plain(f"The work could not go on: {reason}.")
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return plain(f"{name}: {reason}; check the path, its permissions and the room on its disk.")


def _end_threads(status: int) -> None:
    """End here and now if a thread still waits for a device that does not answer.

    Python ends such threads when they come back, by unwinding their stack, and C++ on it that may
    not be unwound (numpy's, OpenCV's) ends the process with SIGABRT instead of its status.
    """
    main_thread = threading.main_thread()
    if any(thread.daemon and thread is not main_thread for thread in threading.enumerate()):
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
