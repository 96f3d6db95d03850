"""The container's files, as far as they can be looked at without building them."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from shiftedge.__main__ import parser

ROOT = Path(__file__).parents[3]
FILE = ROOT / "demos" / "container" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in whole.splitlines())
        if rest
    ]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def test_it_runs_a_command_that_there_is() -> None:
    command = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    assert command[0] == "shiftedge"
    options = parser().parse_args(command[1:])
    assert options.service
    assert options.retry.service
    assert str(options.actions) == "/etc/shiftedge/actions.toml"


def test_it_installs_extras_that_there_are() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    found = re.search(r"/source\[([a-z,]+)\]", FILE.read_text())
    assert found is not None
    assert set(found[1].split(",")) <= set(setup["options.extras_require"])


def test_it_runs_as_nobody_and_is_looked_at() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    check = last("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    compile(command[2], "check", "exec")
    assert "/healthz" in command[2]


def test_compose_gives_it_nothing() -> None:
    text = (FILE.parent / "compose.yaml").read_text()
    for line in ("read_only: true", "cap_drop: [ALL]", f'user: "{last("USER")}"'):
        assert f"    {line}\n" in text


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint")
def test_a_linter_takes_it() -> None:
    done = subprocess.run(["hadolint", str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
