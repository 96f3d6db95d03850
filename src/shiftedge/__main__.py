"""The command line: parsing and messages here, the work in the packages."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from shiftedge import __version__
from shiftedge.runtime.errors import ShiftedgeError

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

exit status: 0 done, 1 the work failed (a sentence says why), 2 wrong usage
"""


def parser() -> argparse.ArgumentParser:
    """The parser of every command; each sub-parser names its ``handler``."""
    # Imported here, so that `import shiftedge.__main__` stays cheap; none imports torch or cv2.
    from shiftedge.benchmarks.commands import add_commands as add_benchmarks
    from shiftedge.demos.commands import add_commands as add_demos
    from shiftedge.export.commands import add_commands as add_export
    from shiftedge.runtime.commands import add_commands as add_runtime

    top = argparse.ArgumentParser(
        prog="shiftedge",
        description="Stream a camera through a temporal shift model, one small step a frame.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"shiftedge {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    add_runtime(commands)
    add_demos(commands)
    add_export(commands)
    add_benchmarks(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.handler(options)
        sys.stdout.flush()
    except ShiftedgeError as error:
        print(f"shiftedge: {error}", file=sys.stderr)  # noqa: T201 - this is the command line
        return 1
    except KeyboardInterrupt:
        print("shiftedge: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader went away (`shiftedge run | head`): nothing is wrong, and nothing is left to
        # say. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
