"""Tests that generate code, in a process without torch: torch and TVM each bring an LLVM, and two
of them in one process end it. `pytest tests/export/codegen` runs them; a wider run says that it
leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import generating
from kit.compiled import NETWORKS
from kit.once import locked, run_folder

from shiftedge.export.compiler.targets import find_target
from shiftedge.runtime.errors import CompileError

REASON = "torch and TVM cannot be in one process: run  pytest tests/export/codegen  by itself"


def no_host() -> str:
    """Why this machine cannot run what these tests generate, or nothing."""
    try:
        find_target("host")
    except CompileError as error:
        return str(error)
    return ""


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """What a module of this folder becomes; None: an ordinary one."""
    reason = REASON if generating.meets_torch(parent.config) else no_host()
    return generating.LeftOut.because(reason, parent, module_path) if reason else None


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from generating.own_caches(tmp_path_factory)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A function that gives the ONNX file of one of NETWORKS, or of ``gestures``."""
    yield from generating.exported_networks(tmp_path_factory, NETWORKS)


@pytest.fixture(scope="session")
def bundles(
    exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that gives the bundle of one of NETWORKS for this machine, compiled once."""
    folder = run_folder(tmp_path_factory, "bundles")

    def get(name: str) -> Path:
        from shiftedge.export.compiler.compile import compile_model

        path, model = folder / name, exported(name)
        with locked(folder / f"{name}.lock"):
            if not path.exists():
                compile_model(model, path)  # into this run's own cache too
        return path

    return get
