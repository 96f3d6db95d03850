"""The steps of a deployment: look, copy beside, check, test, put in place; and back if one fails.

On the board a bundle is copied to ``PATH.uploading-XXXXXXXX``, and only when its checksums and its
self-test were right there is the former bundle renamed away, the new one renamed to ``PATH``, and
the former one removed. So what a program on the board finds at ``PATH`` is a whole bundle, but for
the moment between two renames.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftedge.export.deploy.board import Board, fits, look
from shiftedge.export.deploy.connection import (
    Connection,
    Destination,
    last_words,
    parse_destination,
)
from shiftedge.runtime.bundle import SIGNATURE_NAME, Bundle
from shiftedge.runtime.errors import DeployError, OutputError
from shiftedge.runtime.manifest import MANIFEST_NAME, Variant
from shiftedge.runtime.process.files import sha256_of, work_folder
from shiftedge.runtime.process.progress import ProgressFactory, progress, working

BLOCK_BYTES = 4096
"""What a file takes on a disk is a multiple of it."""

NOT_STARTED = {126: "it cannot be executed there", 127: "it was not found there"}
"""A shell's exit status -> what it means."""
ILLEGAL_INSTRUCTION = 128 + 4

Tell = Callable[[str], object]
"""Takes a line for people, as soon as it is known."""


@dataclass(frozen=True)
class Deployed:
    """What :func:`deploy` did."""

    destination: Destination
    board: Board
    variant: Variant
    folder: str
    """Absolute path of the bundle on the board."""
    command: str
    """A line for the board's shell that runs the model on frames."""
    bytes: int
    copy_seconds: float
    files_checked: int | None
    """Files whose SHA-256 was right on the board; None where it has no sha256sum."""
    self_test: Mapping[str, Any] | None
    """What ``shiftedge-run --self-test`` printed; None where it was left out."""
    gpu_self_tests: Mapping[str, Mapping[str, Any]]
    """The same of each variant for a GPU that the board could use, by name."""
    replaced: bool
    """Whether a bundle stood there before."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        board = ("architecture", "cores", "model", "libc")
        return {
            "destination": str(self.destination),
            "folder": self.folder,
            "command": self.command,
            "board": {name: getattr(self.board, name) for name in board},
            "variant": self.variant.name,
            "bytes": self.bytes,
            "copy_seconds": round(self.copy_seconds, 3),
            "files_checked": self.files_checked,
            "self_test": None if self.self_test is None else dict(self.self_test),
            "gpu_self_tests": {name: dict(each) for name, each in self.gpu_self_tests.items()},
            "replaced": self.replaced,
        }


@working("deploying")
def deploy(
    bundle: str | Path,
    destination: str,
    *,
    port: int | None = None,
    identity: str | Path | None = None,
    ssh_options: Sequence[str] = (),
    wrapper: str = "",
    threads: int | None = None,
    self_test: bool = True,
    trusted_keys: Sequence[str | Path] | None = None,
    show: ProgressFactory = progress,
    tell: Tell = lambda line: None,
) -> Deployed:
    """Put a bundle on a board.

    Args:
        destination: "[USER@]HOST:PATH"; a bundle that stands there is replaced.
        port, identity: of ssh; None is what its configuration says.
        ssh_options: "Name=value" as in ssh_config.
        wrapper: words of a command in front of the self-test's program: "taskset -c 2".
        threads: of the self-test; None is the runner's choice.
        self_test: run it; without, the bundle is put in place once its checksums are right.
        trusted_keys: PEM files of public keys, one of which must have signed the bundle.
        tell: gets a line for people as soon as it is known.

    Raises:
        DeployError: a step failed; what stood there before stands there still.
        BundleError: the bundle itself is damaged, or no trusted key signed it.
    """
    where = parse_destination(destination)
    words = _words(wrapper)
    opened = Bundle.open(bundle, trusted_keys=trusted_keys)
    builds = opened.manifest.builds.values()
    if self_test and any(build.selftest is None for build in builds):
        raise DeployError(
            f"{bundle} has no recorded self-test, because it was compiled without verification or "
            "by an older version; compile it again, or pass --no-self-test."
        )
    with work_folder() as stage:
        sums = _stage(opened, stage)
        paths = sorted(stage.iterdir())
        files = [stage / path for path in sums]
        size = sum(file.stat().st_size for file in files)
        blocks = sum(math.ceil(file.stat().st_size / BLOCK_BYTES) + 1 for file in files)
        with Connection(where, port=port, identity=identity, options=ssh_options) as connection:
            board = look(connection)
            tell(f"board      {board.sentence()}")
            if board.left:
                tell(f"note       left by an earlier deployment that was cut off: {board.left}")
            variant = fits(board, opened, where, blocks * BLOCK_BYTES)
            tell(f"variant    {variant.name}")
            program = f"bin/{variant.name}/shiftedge-run"
            if self_test and program not in sums:
                raise DeployError(f"{bundle} holds no {program} to test it with; compile it again.")
            upload = _Upload(connection, tell)
            with upload.undone_on_failure():
                upload.begin()
                begin = time.perf_counter()
                connection.copy(paths, upload.folder, size, show)
                seconds = time.perf_counter() - begin
                checked = upload.check(sums) if board.sums else None
                proof = "no sha256sum there to check it with"
                if checked is not None:
                    proof = f"SHA-256 of {checked} files right there"
                tell(f"copied     {size / 1e6:.1f} MB in {seconds:.1f} s, {proof}")
                result, gpus = None, {}
                if self_test:
                    result, _ = upload.self_test(words, program, threads)
                    tell(f"self-test  {_summary(result)}")
                    for gpu in opened.gpu_variants(board.architecture):
                        own = f"bin/{gpu.name}/shiftedge-run"
                        found, said = upload.self_test(words, own, threads)
                        if found["variant"] == gpu.name:  # or the processor stood in for it
                            gpus[gpu.name] = found
                            said = _summary(found)
                        tell(f"{gpu.name:<10} {said}")
                upload.put_in_place()
    folder = f"{board.folder.rstrip('/')}/{where.name}"
    run = shlex.join([*words, f"{folder}/{program}", "--size", "640x480"])
    done = Deployed(
        destination=where,
        board=board,
        variant=variant,
        folder=folder,
        command=f"{run} < frames.bgr",
        bytes=size,
        copy_seconds=seconds,
        files_checked=checked,
        self_test=result,
        gpu_self_tests=gpus,
        replaced=board.path == "bundle",
    )
    tell(f"stands at  {where.scp_login}:{folder}{' (replaced)' if done.replaced else ''}")
    tell(f"run there  {done.command}")
    return done


def _words(wrapper: str) -> list[str]:
    try:
        return shlex.split(wrapper)
    except ValueError as error:
        raise DeployError(
            f"The wrapper {wrapper!r} is no command ({error}); expected words such as "
            "'taskset -c 2'."
        ) from error


def _stage(bundle: Bundle, folder: Path) -> dict[str, str]:
    """Copy what belongs to the bundle, and only that, into a new folder; its SHA-256 by path."""
    names = [*bundle.manifest.files, MANIFEST_NAME]
    if (bundle.folder / SIGNATURE_NAME).is_file():
        names.append(SIGNATURE_NAME)
    sums = {}
    try:
        for name in names:
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / name, copy)
            copy.chmod(0o755 if name.startswith("bin/") else 0o644)
            with copy.open("rb") as file:
                sums[name] = sha256_of(file).hex()
    except OSError as error:
        raise OutputError(
            f"Cannot copy {bundle.folder} to {folder}: {error.strerror or error}; check the free "
            "space of the temporary folder."
        ) from error
    Bundle.open(folder)  # as it will be on the board, should someone have changed it meanwhile
    return sums


class _Upload:
    """The folder on the board that becomes the bundle; a step of it that fails is a DeployError."""

    def __init__(self, connection: Connection, tell: Tell) -> None:
        mark = secrets.token_hex(4)
        path = connection.destination.path
        self.folder, self._old = f"{path}.uploading-{mark}", f"{path}.replaced-{mark}"
        self._connection, self._tell = connection, tell
        self._moving = False
        self._names = {
            "@PATH@": path,
            "@NEW@": self.folder,
            "@OLD@": self._old,
            "@RUNNING@": f"{self.folder}/.self-test",
        }

    @contextlib.contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Remove what is there of the copy if the body fails, and say so."""
        try:
            yield
        except BaseException as error:
            left = self._undo()
            if isinstance(error, DeployError):
                sentence = str(error).rstrip(".")
                raise DeployError(f"{sentence}; {left or 'nothing was changed there'}.") from error
            if left:
                self._tell(f"note       {left}")
            raise

    def begin(self) -> None:
        """Make the folder."""
        self._run("mkdir @NEW@", "make a folder")

    def check(self, sums: Mapping[str, str]) -> int:
        """Have the board compare every file with its SHA-256; their number."""
        listed = "".join(f"{digest}  {path}\n" for path, digest in sums.items())
        self._run(
            f"cd @NEW@ || exit\nfound=$(sha256sum -c - 2>&1 <<'END'\n{listed}END\n) || {{\n"
            "    printf '%s\\n' \"$found\" | grep -v ': OK$' | head -n 1 >&2\n    exit 1\n}",
            "find the copied files whole",
        )
        return len(sums)

    def self_test(
        self, wrapper: Sequence[str], program: str, threads: int | None
    ) -> tuple[Mapping[str, Any], str]:
        """Have the board run it; what it printed, and what it said for people last."""
        words = [*wrapper, f"{self.folder}/{program}", "--self-test"]
        words += [] if threads is None else ["--threads", str(threads)]
        # Its number, so that one which hangs can be ended; and it may not read the script.
        script = (
            f"{shlex.join(words)} < /dev/null &\necho $! > @RUNNING@\nwait $!\nstatus=$?\n"
            "rm -f @RUNNING@\nexit $status\n"
        )
        answer = self._connection.run(self._named(script))
        login = self._connection.destination.login
        said = last_words(answer.err, f"status {answer.status}").removeprefix("shiftedge-run: ")
        if answer.status == ILLEGAL_INSTRUCTION:
            said = "the processor does not know an instruction of it"
        elif answer.status in NOT_STARTED:
            said = f"{NOT_STARTED[answer.status]}: {said}"
        if answer.status != 0:
            raise DeployError(f"The self-test failed on {login} ({said}).")
        lines = [line for line in answer.out.splitlines() if line.startswith("{")]
        try:
            result = json.loads(lines[-1])
            if result["self_test"] != "passed":
                raise ValueError(result["self_test"])
            _summary(result)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise DeployError(
                f"The self-test on {login} printed no result ({last_words(answer.out, 'nothing')})."
            ) from error
        return dict(result), said

    def put_in_place(self) -> None:
        """Rename it to its path, and what stood there away; back, if that fails."""
        self._moving = True
        # One function, so that the shell has read it all before it begins.
        answer = self._run(
            """\
swap() {
    trap '' HUP INT TERM PIPE
    { sync -f @NEW@ || sync; } 2> /dev/null
    if [ -e @PATH@ ] || [ -L @PATH@ ]; then
        if [ -L @PATH@ ] || [ ! -f @PATH@/manifest.json ]; then
            echo 'something that is no bundle has come there meanwhile' >&2
            return 1
        fi
        mv @PATH@ @OLD@ || return 1
    fi
    if ! { mv -T @NEW@ @PATH@ 2> /dev/null || { [ ! -e @PATH@ ] && mv @NEW@ @PATH@; }; }; then
        [ ! -e @OLD@ ] || mv @OLD@ @PATH@
        return 1
    fi
    { sync -f @PATH@ || sync; } 2> /dev/null
    rm -rf @OLD@ || echo shiftedge:left
    return 0
}
swap""",
            "put the bundle in place",
        )
        if "shiftedge:left" in answer:
            self._tell(f"note       the former bundle could not be removed: {self._old}")

    def _undo(self) -> str:
        """Remove what was copied; what is not as it was, or nothing."""
        try:
            answer = self._run(
                """\
undo() {
    trap '' HUP INT TERM PIPE
    [ -e @NEW@ ] || echo shiftedge:moved
    if [ -f @RUNNING@ ]; then
        read -r running < @RUNNING@
        kill "$running"
    fi 2> /dev/null
    if [ -e @OLD@ ]; then
        if [ -e @PATH@ ]; then rm -rf @OLD@; else mv @OLD@ @PATH@ || return 1; fi
    fi
    for again in 1 2 3; do
        rm -rf @NEW@
        [ -e @NEW@ ] || return 0
        sleep 1
    done
    return 1
}
undo""",
                "remove the copy",
            )
        except DeployError:
            where = self._connection.destination
            return (
                f"the copy could not be removed, so look at {where.login} for {self.folder} and "
                f"{self._old}"
            )
        moved = self._moving and "shiftedge:moved" in answer
        return "but the new bundle was in place by then" if moved else ""

    def _named(self, script: str) -> str:
        for name, path in self._names.items():
            script = script.replace(name, shlex.quote(path))
        return script

    def _run(self, script: str, what: str) -> str:
        """Run a script in which names stand for the paths; what it printed."""
        answer = self._connection.run(self._named(f"{script}\n"))
        if answer.status != 0:
            login = self._connection.destination.login
            words = last_words(answer.err, f"status {answer.status}")
            raise DeployError(f"{login} could not {what} ({words}).")
        return answer.out


def _summary(result: Mapping[str, Any]) -> str:
    times = result["step_ms"]
    return (
        f"{result['self_test']}: {result['frames']} frames within "
        f"{result['worst_relative_error']:.1e} of ONNX Runtime's logits (accepted "
        f"{result['tolerance']:g}), step p50 {times['p50']:.2f}, p90 {times['p90']:.2f}, p99 "
        f"{times['p99']:.2f} ms over {result['steps']} with {result['threads']} "
        f"thread{'s' if result['threads'] != 1 else ''}"
    )
