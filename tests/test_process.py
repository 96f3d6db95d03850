"""The command as a process: its standard streams, its signals, what it leaves behind."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shiftedge import __main__ as command_line
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.spec import ModelSpec

pytestmark = pytest.mark.timeout(300, method="thread")

ROOT = Path(__file__).parent.parent
LABELS = ["No gesture", "上", "Ελληνικά\x9b2J", "\u202eStop"]


def started(*arguments: str | Path, shell: str = "", **options: Any) -> subprocess.Popen[bytes]:
    """``shiftedge`` with the arguments; ``shell`` is added to its line, such as ``2>&-``."""
    line = [sys.executable, "-m", "shiftedge", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **options.pop("env", {})}
    if shell:
        line = ["sh", "-c", f'exec "$0" "$@" {shell}', *line]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(line, env=environment, **options)


def ended(*arguments: str | Path, **options: Any) -> tuple[int, bytes, str]:
    process = started(*arguments, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out or b"", (err or b"").decode()


@pytest.fixture
def many_scripts(make_onnx: Callable[..., Path], spec: ModelSpec) -> Path:
    """A model whose labels are of other scripts and hold control codes."""
    document = json.loads(spec.to_json()) | {"labels": LABELS, "name": "\x1b[2Jmodel"}
    return make_onnx(metadata=json.dumps(document))


SOURCE = "synthetic:moving?seconds=2&fps=24&size=64x48"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["models", "list", "--json"], ["run", "MODEL", "--steps"]]
)
def test_a_full_disk_behind_stdout_is_a_sentence(arguments: list[str], tiny_onnx: Path) -> None:
    arguments = [str(tiny_onnx) if word == "MODEL" else word for word in arguments]
    status, _, err = ended(*arguments, shell=">/dev/full")
    assert status == 1
    assert err.splitlines()[-1].startswith(
        ("shiftedge: Cannot write to standard output: No space left", "shiftedge: 0 frames")
    )
    assert "Cannot write to standard output: No space left on device." in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_a_closed_stdout_is_a_failure_not_a_loss() -> None:
    status, _, err = ended("models", "list", shell=">&-")
    assert status == 1
    assert err == "shiftedge: Cannot write to standard output: Bad file descriptor.\n"
    status, _, err = ended("run", "absent.onnx", shell=">&-")  # before anything is loaded
    assert status == 1
    assert err.startswith("shiftedge: Standard output is closed, so every event would be lost;")


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "LANG": "C"}],
)
def test_lines_are_utf_8_and_alone_whatever_the_locale_and_without_stderr(
    many_scripts: Path, environment: dict[str, str]
) -> None:
    arguments = ["run", many_scripts, "--source", SOURCE, "--steps"]
    status, out, _ = ended(*arguments, shell="2>&-", env=environment)
    assert status == 0
    lines = [json.loads(line) for line in out.decode().splitlines()]
    assert len([line for line in lines if "step" in line]) == 24
    assert {line["label"] for line in lines} <= set(LABELS)
    assert not set(out) & {0x1B, 0x9B, 0xAE}, "no control code of a terminal, no mark of direction"


def test_names_that_are_no_utf_8_and_control_codes(many_scripts: Path) -> None:
    status, _, err = ended("inspect", os.fsdecode(b"v\xe9\x1b[2J.onnx"), env={"LC_ALL": "C.UTF-8"})
    assert status == 1
    assert err == "shiftedge: There is no model file v\\udce9?[2J.onnx; check the path.\n"
    status, out, err = ended("inspect", many_scripts, env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert (status, err) == (0, "")
    assert "?[2Jmodel" in out.decode()
    assert "Ελληνικά?2J" in out.decode()
    assert "\x1b" not in out.decode()


STREAMS = """\
import os, sys
from shiftedge.runtime.process.streams import own_streams
with own_streams():
    opened = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    print(opened, sys.stdin.read() == "")
    print("for nobody", file=sys.stderr)
    os.write(2, b"of a library")
"""


def test_a_file_never_becomes_a_standard_stream(tmp_path: Path) -> None:
    line = [sys.executable, "-c", STREAMS, str(tmp_path / "file")]
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&- 2>&-', *line],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    number, empty = done.stdout.split()
    assert (int(number) > 2, empty) == (True, b"True")
    assert (tmp_path / "file").read_bytes() == b""


def alive(name: str) -> list[int]:
    """Processes that have this word on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_run_and_its_source(tiny_onnx: Path, number: signal.Signals) -> None:
    """The source is stalled, and a part of it has left for a session of its own."""
    seconds = f"86{400 + number}.{os.getpid()}"  # a sleep that nobody else has
    command = f"head -c 9216 /dev/zero; setsid sleep {seconds} & exec sleep {seconds}"
    source = f"pipe:[size=64x48,format=bgr24,fps=30] {command}"
    run = started("run", tiny_onnx, "--source", source, "--steps")
    assert run.stdout is not None
    assert json.loads(run.stdout.readline())["step"] is True
    wait_until(lambda: len(alive(seconds)) == 2)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    wait_until(lambda: not alive(seconds))
    if number == signal.SIGKILL:
        return  # it could say nothing
    assert run.returncode == (0 if number == signal.SIGINT else 128 + number)
    assert out == b""
    notes = err.decode().splitlines()
    assert notes[-2] == "shiftedge: interrupted"
    assert "1 frames, 1 steps" in notes[-1]


def test_hanging_up_is_ignored_where_it_was_ignored(tiny_onnx: Path) -> None:
    """As ``nohup`` does."""
    run = started(
        "run", tiny_onnx, "--source", "synthetic:moving?seconds=3000&size=64x48", "--steps",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert run.stdout is not None
    run.stdout.readline()
    run.send_signal(signal.SIGHUP)
    for _ in range(2000):  # more than a pipe holds
        assert run.stdout.readline()
    run.terminate()
    run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM


def test_a_signal_while_nobody_reads(tiny_onnx: Path) -> None:
    run = started(
        "run", tiny_onnx, "--source", "synthetic:moving?seconds=3000&size=64x48", "--steps"
    )
    assert run.stdout is not None
    fcntl.fcntl(run.stdout, 1031, 4096)  # F_SETPIPE_SZ, which Python 3.10 has no name for
    waiting = array.array("i", [0])

    def full() -> bool:
        """Lines are there, and no more come."""
        before = waiting[0]
        time.sleep(0.3)
        fcntl.ioctl(run.stdout, termios.FIONREAD, waiting)
        return waiting[0] == before > 0

    wait_until(full)
    run.terminate()
    assert run.wait(timeout=60) == 128 + signal.SIGTERM
    _, err = run.communicate()
    assert "shiftedge: interrupted" in err.decode().splitlines()


STUCK = """\
import sys, threading
from shiftedge import __main__ as line

def handler(options):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print("done")
    return 3

class Parser:
    def parse_args(self, arguments):
        import argparse
        return argparse.Namespace(handler=handler)

line.parser = Parser
import atexit
atexit.register(lambda: print("Python ended it"))
sys.exit(line.main())
"""


def test_a_thread_in_a_device_does_not_meet_the_end_of_python() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert (done.returncode, done.stdout) == (3, b"done\n")


LEFT_OPEN = """\
import itertools, sys, threading
from shiftedge.runtime.capture.reader import ReadAhead
from shiftedge.runtime.capture import LatestFrame, open_source

source = open_source(sys.argv[1])
reader = LatestFrame(source) if sys.argv[2] == "live" else ReadAhead(source)
frames = iter(reader)
next(frames), next(frames)
print("reading", any(thread.name.startswith("read") for thread in threading.enumerate()))
sys.unraisablehook = sys.excepthook = lambda *failure: print(failure)
"""


@pytest.mark.parametrize("how", ["live", "recorded"])
def test_a_reader_that_nobody_closed_is_joined_at_exit(how: str) -> None:
    """In somebody's own program; see the renderer's numpy and OpenCV at work."""
    line = [sys.executable, "-c", LEFT_OPEN, "synthetic:gestures?seconds=60", how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(line, capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"reading True\n", b"")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "out/x"), "out/x: Permission denied; check the"),
        (OSError(28, "No space left on device"), "could not go on: No space left on device."),
        (FileNotFoundError(2, "No such file", b"v\x1b"), "v?: No such file"),
        (MemoryError(), "not enough memory"),
        (RecursionError("too deep"), "nested too deeply (too deep)"),
        (ModelError("x" * 600_000), " ... "),
        (ModelError("\x1b[2J\x9b\u202e"), "?[2J??"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(options: Any) -> int:
        raise error

    monkeypatch.setattr("shiftedge.runtime.commands._inspect", fail)
    assert command_line.main(["inspect"]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err) < 2000
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "status"), [(["run"], 0), (["demo", "--no-film"], 0), (["models", "list"], 130)]
)
def test_ctrl_c_before_the_first_frame(
    words: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def interrupted(options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("shiftedge.demos.commands.load_chosen", interrupted)
    monkeypatch.setattr("shiftedge.export.commands._list", interrupted)
    assert command_line.main(words) == status
    assert "shiftedge: interrupted" in capsys.readouterr().err


def test_ctrl_c_while_the_command_is_imported(tmp_path: Path) -> None:
    """The first module that the package imports stops there until the signal is sent."""
    telling = tmp_path / "numpy.py"
    telling.write_text("print('here', flush=True)\nimport time\ntime.sleep(100)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    process = subprocess.Popen(
        [sys.executable, "-m", "shiftedge", "models", "list"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert err == b""


def test_a_program_that_imports_us_keeps_its_ctrl_c() -> None:
    program = (
        "import signal, shiftedge; "
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_a_fault_of_ours_is_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: Any) -> int:
        raise KeyError("a bug")

    monkeypatch.setattr("shiftedge.runtime.commands._inspect", fail)
    with pytest.raises(KeyError, match="a bug"):
        command_line.main(["inspect"])
