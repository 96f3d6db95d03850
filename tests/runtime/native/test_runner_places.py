"""shiftedge-run where files change under it, code may not run, or nobody takes its lines."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.damage import LIBRARY_NAME
from kit.fake_bundle import recorded, write_bundle
from kit.fake_library import HERE, LIBRARY, build
from kit.runner import Runners

pytestmark = pytest.mark.timeout(120, method="thread")

SIZE = 16
FRAME_BYTES = 3 * SIZE * SIZE
FRAMES = np.random.default_rng(8).integers(0, 256, 12 * FRAME_BYTES, np.uint8).tobytes()
CLOSED = b"shiftedge-run: Standard output is closed, so every event would be lost; send it"


@pytest.fixture
def runner(runners: Runners, folder: Path) -> Path:
    return runners.of(folder)


@pytest.fixture(scope="module")
def no_memory(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("preload") / "no_memory.so"
    return build(compiler, path, [HERE / "no_memory.c"], *LIBRARY)


@pytest.fixture
def folder(small_path: Path, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small-plain", small_path)


def line(runner: Path, model: Path) -> list[str]:
    size = f"{SIZE}x{SIZE}"
    return [str(runner), "--model", str(model), "--size", size, "--fps", "12", "--steps"]


def run(words: list[str], **more: object) -> subprocess.CompletedProcess[bytes]:
    pipe = subprocess.PIPE
    given = {"input": FRAMES, "stdout": pipe, "stderr": pipe, "check": False, "timeout": 60}
    return subprocess.run(words, **{**given, **more})  # type: ignore[call-overload, no-any-return]


# The library.


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:  # as cp, scp and rsync --inplace do
        file.write(bytes(path.stat().st_size))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "overwritten": overwrite,
    "cut to nothing": lambda path: os.truncate(path, 0),
    "deleted": lambda path: shutil.rmtree(path.parents[2]),
}


@pytest.mark.parametrize("by", ["bundle", "library", "bare library"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("memory", [True, False], ids=["memory", "file"])
def test_it_goes_on_whatever_becomes_of_the_file(
    runner: Path, folder: Path, no_memory: Path, by: str, damage: str, memory: bool
) -> None:
    """The second half of the frames comes when the file is spoilt: the same lines."""
    library = folder / LIBRARY_NAME
    if by == "bare library":
        (folder / "manifest.json").unlink()
    words = line(runner, folder if by == "bundle" else library)
    expected = run(words).stdout.splitlines()
    assert len(expected) == 12
    own = os.environ if memory else {**os.environ, "LD_PRELOAD": str(no_memory)}
    pipe = subprocess.PIPE
    half = len(FRAMES) // 2
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=own) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(FRAMES[:half])
        process.stdin.flush()
        first = [process.stdout.readline().rstrip(b"\n") for _ in range(6)]
        DAMAGES[damage](library)
        out, said = process.communicate(FRAMES[half:])
    assert process.returncode == 0, said
    assert first + out.splitlines() == expected


def test_without_memory_a_file_that_does_not_stay(
    runner: Path, folder: Path, no_memory: Path, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    own = {**os.environ, "LD_PRELOAD": str(no_memory), "TMPDIR": str(tmp_path / "tmp")}
    done = run(line(runner, folder), env=own)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 12), done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_system_that_runs_no_code_says_so(
    runner: Path, folder: Path, no_memory: Path, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    own = {**os.environ, "LD_PRELOAD": str(no_memory), "NO_CODE": "1"}
    done = run(line(runner, folder), env={**own, "TMPDIR": str(tmp_path / "tmp")})
    assert (done.returncode, done.stdout) == (1, b"")
    (said,) = done.stderr.decode().splitlines()
    assert f"{LIBRARY_NAME} cannot be loaded, since this system runs no code from memory (" in said
    assert f"{tmp_path / 'tmp'} (Operation not permitted)" in said
    assert said.endswith("is not mounted noexec.")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_bundle_on_a_mount_from_which_nothing_runs(
    runner: Path, folder: Path, tmp_path: Path
) -> None:
    """Really mounted noexec, where this user may mount."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to mount a folder with")
    (tmp_path / "mounted").mkdir()
    script = 'mount -t tmpfs -o noexec tmpfs "$1" || exit 77\ncp -r "$2" "$1/b"\nshift 2\nexec "$@"'
    words = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    words += [str(tmp_path / "mounted"), str(folder)]
    done = run([*words, *line(runner, tmp_path / "mounted" / "b")])
    if done.returncode != 0 and b"shiftedge-run" not in done.stderr:
        pytest.skip(f"this user may not mount a folder here: {done.stderr.decode().strip()[:100]}")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 12), done.stderr


# Standard output, and the others.


def shell(words: list[str], redirection: str) -> list[str]:
    return ["sh", "-c", f'"$@" {redirection}', "sh", *words]


def test_a_closed_standard_output_is_told_before_the_work(runner: Path, folder: Path) -> None:
    for redirection in (">&-", "1< /dev/null"):
        done = run(shell(line(runner, folder), redirection))
        assert done.returncode == 1
        assert done.stderr.startswith(CLOSED), done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = run(shell([*line(runner, folder), "--logits", "/dev/null"], "> /dev/null"))
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("redirection", "why"), [(">&-", "Bad file descriptor"), ("> /dev/full", "No space left")]
)
@pytest.mark.parametrize("what", ["--self-test", "--help", "--version"])
def test_whatever_is_printed_is_printed_or_told(
    runners: Runners, small_path: Path, tmp_path: Path, what: str, redirection: str, why: str
) -> None:
    model = write_bundle(tmp_path / "b", small_path, selftest=recorded(small_path))
    runner = runners.of(model)
    more = ["--frames", "1", "--model", str(model)] if what == "--self-test" else []
    done = run(shell([str(runner), what, *more], redirection))
    assert done.returncode == 1
    (said,) = done.stderr.decode().splitlines()
    assert said.startswith(f"shiftedge-run: Cannot write to standard output: {why}")


def test_a_file_at_its_limit(runner: Path, folder: Path, tmp_path: Path) -> None:
    """`ulimit -f` ends a program by a signal, unless it is told by write."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    (tmp_path / "out").touch()
    with (tmp_path / "out").open("wb") as out:
        words = line(runner, folder)
        # The library's copy has the limit too, so the limit comes first for it.
        done = run(words, stdout=out, preexec_fn=limit)
    assert done.returncode == 1
    assert b"File too large" in done.stderr


def test_without_standard_input_or_error(runner: Path, folder: Path) -> None:
    done = run(shell(line(runner, folder), "<&-"))
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Cannot read frames: Bad file descriptor." in done.stderr
    done = run(shell(line(runner, folder), "2>&-"))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 12)
    assert done.stderr == b""


def test_a_pipe_that_does_not_block(runner: Path, folder: Path, tmp_path: Path) -> None:
    """It is full again and again (EAGAIN) and read in small pieces: every line, whole."""
    words, many = line(runner, folder), 20
    expected = run(words).stdout
    (tmp_path / "frames").write_bytes(FRAMES * many)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with subprocess.Popen([*words, "--input", str(tmp_path / "frames")], stdout=writing) as process:
        os.close(writing)
        got = b""
        while part := os.read(reading, 61):
            got += part
    os.close(reading)
    assert process.returncode == 0
    lines = got.splitlines(keepends=True)
    assert len(lines) == 12 * many
    assert lines[:12] == expected.splitlines(keepends=True)
    assert all(json.loads(text)["step"] for text in lines)


def test_the_reader_went_away(runner: Path, folder: Path) -> None:
    """`| head -1`: no mistake, as with the command."""
    reading, writing = os.pipe()
    os.close(reading)
    done = run(line(runner, folder), stdout=writing)
    os.close(writing)
    assert done.returncode == 0
    assert b"1 frames, 1 steps" in done.stderr
