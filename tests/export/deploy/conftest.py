"""A board that is a folder, and bundles for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.deployment import FakeBoard, write_bundle


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    made = FakeBoard.make(tmp_path / "fake")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "tiny-plain")


@pytest.fixture
def old(board: FakeBoard) -> Path:
    """A bundle that stands on the board already, at ``jester``."""
    return write_bundle(board.home / "jester", mark="old")
