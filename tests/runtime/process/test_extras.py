"""What is said where an optional package is absent, broken, or interrupted as it loads."""

from __future__ import annotations

import importlib
import signal
from typing import NoReturn

import pytest

from shiftedge.runtime.errors import MissingExtraError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.signals import Interrupted


def fails_with(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    def load(name: str) -> NoReturn:
        raise error

    monkeypatch.setattr(importlib, "import_module", load)


def test_what_is_absent_has_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, ModuleNotFoundError("No module named 'cv2'", name="cv2"))
    with pytest.raises(MissingExtraError, match=r"cv2, which is not installed.*\[camera\]"):
        require("cv2")


@pytest.mark.parametrize("name", ["cv2", None])
def test_what_is_there_and_broken_is_not_called_absent(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "libGL.so.1: cannot open shared object file: No such file or directory"
    fails_with(monkeypatch, ImportError(why, name=name))
    with pytest.raises(MissingExtraError, match=r"installed, but it cannot be loaded \(libGL\.so"):
        require("cv2")


def test_an_interrupt_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ImportError("initialization failed", name="onnxruntime")
    error.__cause__ = Interrupted(signal.SIGTERM)
    fails_with(monkeypatch, error)
    with pytest.raises(Interrupted) as caught:
        require("onnxruntime")
    assert caught.value.number == signal.SIGTERM
