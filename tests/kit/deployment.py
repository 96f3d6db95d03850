"""A board that is a folder: programs named ssh and scp, and bundles whose runner is a script."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shiftedge.__main__ import main
from shiftedge.runtime.manifest import MEMORY_KEYS, FileEntry, Manifest, SelfTest, Variant
from shiftedge.runtime.selftest import CLIP
from shiftedge.runtime.spec import ModelSpec, StateSpec

PASSED: dict[str, Any] = {
    "self_test": "passed",
    "variant": "plain",
    "frames": 16,
    "worst_relative_error": 1.5e-7,
    "tolerance": 1e-4,
    "threads": 2,
    "steps": 200,
    "step_ms": {"p50": 1.25, "p90": 1.5, "p99": 2.0, "max": 3.0},
}
"""What a runner prints."""

SSH = """\
#!/bin/sh
# The board's end is its folder. Connections are not shared: there is never a socket.
echo "$*" >> "$FAKE/ssh.log"
said=$(echo "$*" | grep -c -e ' -[NO] ')
[ ! -e "$FAKE/ssh.sh" ] || . "$FAKE/ssh.sh"
[ "$said" = 0 ] || exit 0
cd "$FAKE/home" && PATH="$FAKE/board:$PATH" && exec sh
"""

SCP = """\
#!/bin/sh
echo "$*" >> "$FAKE/scp.log"
while [ "$1" != -- ]; do shift; done
shift
for to; do :; done
to=${to#*:}
cd "$FAKE/home" || exit 1
[ ! -e "$FAKE/scp.sh" ] || . "$FAKE/scp.sh"
while [ $# -gt 1 ]; do cp -r "$1" "$to" || exit 1; shift; done
[ ! -e "$FAKE/after.sh" ] || . "$FAKE/after.sh"
"""


@dataclass
class FakeBoard:
    """``home`` is the board's disk; what stands in the others makes it misbehave."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> FakeBoard:
        board = cls(folder)
        for name in ("bin", "board", "home"):
            (folder / name).mkdir(parents=True)
        board._program(folder / "bin" / "ssh", SSH)
        board._program(folder / "bin" / "scp", SCP)
        return board

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"FAKE": str(self.folder), "PATH": path}

    def program(self, name: str, text: str) -> None:
        """A program that the board finds before the system's."""
        self._program(self.folder / "board" / name, f"#!/bin/sh\n{text}\n")

    def script(self, name: str, text: str) -> None:
        """Shell text that ssh.sh, scp.sh (before copying) or after.sh (behind it) runs."""
        (self.folder / name).write_text(f"{text}\n")

    def log(self, name: str) -> list[str]:
        path = self.folder / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


def runner_script(text: str | None = None) -> str:
    """A shiftedge-run that passes, or does ``text``."""
    return f"#!/bin/sh\n{text or f'echo {json.dumps(json.dumps(PASSED))}'}\n"


def write_bundle(
    folder: Path,
    *,
    runner: str | None = None,
    mark: str = "new",
    architecture: str | None = None,
    features: tuple[str, ...] = (),
    self_test: bool = True,
    gpu: str | None = None,
) -> Path:
    """A bundle of one variant, "plain"; ``mark`` is the content of its library, ``gpu`` what the
    runner of one for a GPU before it does."""
    files = {
        "lib/plain/libmodel.so": mark,
        "bin/plain/shiftedge-run": runner_script(runner),
        "LICENSE": "Yours.\n",
    }
    architecture = architecture or platform.machine()
    variants = [Variant("plain", "lib/plain/libmodel.so", architecture, features)]
    if gpu is not None:
        files |= {"lib/gpu/libmodel.so": mark, "bin/gpu/shiftedge-run": runner_script(gpu)}
        own = Variant("gpu", "lib/gpu/libmodel.so", architecture, ("cuda_sm_53",), device="cuda")
        variants.insert(0, own)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    logits = ((0.5, -1.0),)
    manifest = Manifest(
        spec=ModelSpec(
            name="tiny",
            labels=("No gesture", "Left"),
            height=24,
            width=32,
            resize_short_side=28,
            states=(StateSpec("a", (1, 2)),),
            receptive_field=3,
        ),
        target="plain",
        variants=tuple(variants),
        files={
            name: FileEntry(hashlib.sha256(text.encode()).hexdigest(), len(text.encode()))
            for name, text in files.items()
        },
        numerics={"verified": True},
        memory=dict.fromkeys(MEMORY_KEYS, 64),
        tools={},
        source_sha256="0" * 64,
        kernels=(),
        selftest=SelfTest(CLIP, 1e-4, logits) if self_test else None,
    )
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Every file and link below a folder, with its content."""
    return {
        path.relative_to(folder).as_posix(): (
            f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    } | {
        f"{path.relative_to(folder).as_posix()}/": ""
        for path in sorted(folder.rglob("*"))
        if path.is_dir() and not path.is_symlink()
    }


Captured = pytest.CaptureFixture[str]
Prepare = Callable[[FakeBoard], object]


def seen(text: str) -> Prepare:
    """The board says something else of itself than this machine would."""

    def prepare(board: FakeBoard) -> None:
        name, _, rest = text.partition(" ")
        board.program(name, rest)

    return prepare


def sentence(capsys: Captured) -> str:
    """What stood on stderr: one line, a sentence."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("shiftedge: ")
    assert lines[0].endswith((".", ")."))
    return lines[0]


def deploy(bundle: Path, *words: str) -> int:
    return main(["deploy", str(bundle), "pi@board:jester", *words])
