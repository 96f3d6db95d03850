"""``shiftedge deploy`` when a step fails: it says which, and the board is as it was before."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.deployment import (
    Captured,
    FakeBoard,
    Prepare,
    deploy,
    seen,
    sentence,
    tree,
    write_bundle,
)

ROOT = Path(__file__).parents[3]

COPY_CUT = """\
cp -r "$1" "$to"
printf '%s' half > "$to/lib.part"
echo 'client_loop: send disconnect: Broken pipe' >&2
echo 'scp: Connection closed' >&2
exit 255
"""
READ_ONLY = 'echo "mv: cannot move: Read-only file system" >&2; exit 1'
FAILING: dict[str, tuple[Prepare, str]] = {
    "mkdir": (
        seen("mkdir echo 'mkdir: Read-only file system' >&2; exit 1"),
        "could not make a folder (mkdir: Read-only file system)",
    ),
    "the copy, cut": (
        lambda board: board.script("scp.sh", COPY_CUT),
        "The copy to pi@board failed (client_loop: send disconnect: Broken pipe)",
    ),
    "the copy, no space": (
        lambda board: board.script(
            "after.sh",
            "echo 'scp: write remote \"libmodel.so\": No space left on device' >&2; exit 1",
        ),
        "No space left on device",
    ),
    "a byte": (
        lambda board: board.script("after.sh", 'echo >> "$to/lib/plain/libmodel.so"'),
        "could not find the copied files whole (lib/plain/libmodel.so: FAILED)",
    ),
    "a file that is not there": (
        lambda board: board.script("after.sh", 'rm "$to/LICENSE"'),
        "LICENSE",
    ),
    "moving the former one": (
        seen("mv echo 'mv: Permission denied' >&2; exit 1"),
        "could not put the bundle in place (mv: Permission denied)",
    ),
    "moving the new one": (
        seen(f'mv case "$*" in *uploading*) {READ_ONLY};; esac; exec {shutil.which("mv")} "$@"'),
        "could not put the bundle in place (mv: cannot move: Read-only file system)",
    ),
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.parametrize("before", ["bundle", "nothing"])
def test_a_step_that_fails_changes_nothing(
    case: str, before: str, board: FakeBoard, bundle: Path, capsys: Captured
) -> None:
    prepare, message = FAILING[case]
    if before == "bundle":
        write_bundle(board.home / "jester", mark="old")
    prepare(board)
    kept = tree(board.home)
    assert deploy(bundle) == 1
    said = sentence(capsys)
    assert message in said
    assert said.endswith("; nothing was changed there.")
    assert tree(board.home) == kept
    assert list((board.folder.parent / "tmp").iterdir()) == []


RUNNERS = {
    "logits": (
        'echo \'{"self_test": "failed"}\'; echo \'shiftedge-run: The self-test failed: logits of '
        "frame 3 differ.' >&2; exit 1",
        "The self-test failed on pi@board (The self-test failed: logits of frame 3 differ)",
    ),
    "an instruction": ("kill -ILL $$", "the processor does not know an instruction of it"),
    "no words": ("exit 3", "(status 3)"),
    "the loader": ("exec ./nothing", "it was not found there: "),
    "no result": ("echo hello", "printed no result (hello)"),
    "half a result": ('echo \'{"self_test": "passed"}\'', "printed no result"),
    "another result": ('echo \'{"self_test": "skipped"}\'', "printed no result"),
}


@pytest.mark.parametrize("case", RUNNERS)
def test_a_self_test_that_fails_changes_nothing(
    case: str, board: FakeBoard, old: Path, tmp_path: Path, capsys: Captured
) -> None:
    text, message = RUNNERS[case]
    bundle = write_bundle(tmp_path / "b", runner=text)
    kept = tree(board.home)
    assert deploy(bundle) == 1
    assert message in sentence(capsys)
    assert tree(board.home) == kept
    assert old.is_dir()


def test_something_else_comes_there_meanwhile(
    board: FakeBoard, bundle: Path, capsys: Captured
) -> None:
    board.script("after.sh", "mkdir jester && echo mine > jester/thesis.txt")
    assert deploy(bundle) == 1
    assert "something that is no bundle has come there meanwhile" in sentence(capsys)
    assert tree(board.home) == {"jester/": "", "jester/thesis.txt": "mine\n"}


LOST = """\
if [ "$said" = 0 ]; then
    echo x >> "$FAKE/count"
    if [ "$(wc -l < "$FAKE/count")" -ge %d ]; then
        echo 'ssh: connect to host board port 22: No route to host' >&2
        exit 255
    fi
fi
"""


@pytest.mark.parametrize("after", [2, 3, 4, 5])
def test_a_connection_that_is_lost_for_good(
    after: int, board: FakeBoard, bundle: Path, old: Path, capsys: Captured
) -> None:
    """From the n-th script on: where to look is said, and what stood there stands."""
    kept = tree(old)
    board.script("ssh.sh", LOST % after)
    assert deploy(bundle) == 1
    said = sentence(capsys)
    assert "No route to host" in said
    assert "the copy could not be removed, so look at pi@board for ./jester.uploading-" in said
    assert tree(old) == kept


def test_a_connection_that_ends_without_a_word(
    board: FakeBoard, bundle: Path, old: Path, capsys: Captured
) -> None:
    """What the board's login shell says is no reason."""
    kept = tree(board.home)
    silent = (LOST % 4).replace("-ge", "-eq")
    silent = silent.replace("ssh: connect to host board port 22: No route to host", ".bashrc: hm?")
    board.script("ssh.sh", silent)
    assert deploy(bundle) == 1
    said = sentence(capsys)
    assert "The connection to pi@board failed (it was closed); check it with  ssh pi@board" in said
    assert said.endswith("; nothing was changed there.")
    assert tree(board.home) == kept
    assert old.is_dir()


def test_a_connection_that_is_lost_between_the_renames(
    board: FakeBoard, bundle: Path, old: Path, capsys: Captured
) -> None:
    """The board's shell died there; the next one puts the former bundle back."""
    kept = tree(board.home)
    mv = shutil.which("mv")
    board.program("mv", f'case "$*" in *uploading*) kill -KILL $PPID;; *) exec {mv} "$@";; esac')
    assert deploy(bundle) == 1
    assert "could not put the bundle in place" in sentence(capsys)
    assert tree(board.home) == kept
    assert old.is_dir()


def test_a_connection_that_is_lost_behind_the_renames(
    board: FakeBoard, bundle: Path, old: Path, capsys: Captured
) -> None:
    """Nobody can tell any more that it worked, but for the board."""
    lost = (LOST % 5).replace("exit 255", '(cd "$FAKE/home"; sh); exit 255').replace("-ge", "-eq")
    board.script("ssh.sh", lost)
    assert deploy(bundle) == 1
    said = sentence(capsys)
    assert "No route to host" in said
    assert said.endswith("; but the new bundle was in place by then.")
    assert tree(old) == tree(bundle)
    assert [path.name for path in board.home.iterdir()] == ["jester"]


def test_the_former_bundle_cannot_be_removed(
    board: FakeBoard, bundle: Path, old: Path, capsys: Captured
) -> None:
    rm = shutil.which("rm")
    board.program("rm", f'case "$*" in *replaced*) exit 1;; *) exec {rm} "$@";; esac')
    assert deploy(bundle) == 0
    assert "the former bundle could not be removed: ./jester.replaced-" in capsys.readouterr().out
    assert tree(old) == tree(bundle)


def test_what_an_earlier_one_left_is_told(board: FakeBoard, bundle: Path, capsys: Captured) -> None:
    for name in ("jester.uploading-0123abcd", "jester.replaced-0123abcd"):
        (board.home / name).mkdir()
    assert deploy(bundle) == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert told == (
        "note       left by an earlier deployment that was cut off: ./jester.replaced-0123abcd "
        "./jester.uploading-0123abcd"
    )


def has_ended(number: int) -> bool:
    """Whether a process is gone, or only waits for its parent to notice, within 20 seconds."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("where", ["the copy", "the self-test"])
def test_ctrl_c(where: str, board: FakeBoard, old: Path, tmp_path: Path) -> None:
    """While scp, or the runner, is at it: the copy goes, the former bundle stays."""
    interrupt = 'kill -INT "$(cat "$FAKE/pid")"; exec tail -f /dev/null'
    if where == "the copy":
        board.script("scp.sh", f'cp -r "$1" "$to"; {interrupt}')
    runner = f'echo $$ > "$FAKE/runner"; {interrupt}' if where == "the self-test" else None
    bundle = write_bundle(tmp_path / "b", runner=runner)
    kept = tree(board.home)
    program = (
        "import os, signal, sys; from pathlib import Path; from shiftedge.__main__ import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "Path(os.environ['FAKE'], 'pid').write_text(str(os.getpid()))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "deploy", str(bundle), "pi@board:jester"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **board.environment, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    ended = None
    try:
        _, err = process.communicate(timeout=120)
        ended = runner is None or has_ended(int((board.folder / "runner").read_text()))
    finally:
        with contextlib.suppress(ProcessLookupError):  # what the board was at goes on there
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 130, err
    assert err.splitlines() == ["shiftedge: interrupted"]
    assert ended, "the runner goes on"
    assert tree(board.home) == kept
    assert old.is_dir()
