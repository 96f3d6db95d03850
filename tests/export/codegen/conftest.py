"""Tests that generate code, in a process without torch: torch and TVM each bring an LLVM, and two
of them in one process end it. `pytest tests/export/codegen` runs them; a wider run says that it
leaves them out.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from compile_kit import GESTURES, NETWORKS
from once import Exporter, locked, run_folder

from shiftedge.export.compiler.targets import find_target
from shiftedge.runtime.errors import CompileError

HERE = Path(__file__).parent
ARM = HERE.parents[1] / "arm"
REASON = "torch and TVM cannot be in one process: run  pytest tests/export/codegen  by itself"
EARLIER = "torch" in sys.modules
"""TVM imports it too, in its own way, as soon as tests of another folder import TVM."""


def meets_torch(config: pytest.Config) -> bool:
    """Whether this process has imported torch, or tests from elsewhere will."""
    if EARLIER:
        return True
    paths = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    elsewhere = any(
        not any(path.resolve().is_relative_to(folder) for folder in (HERE, ARM)) for path in paths
    )
    return elsewhere and importlib.util.find_spec("torch") is not None


def no_host(module: str) -> str:
    """Why this machine cannot run what the tests of the whole compiler make, or nothing."""
    if not module.startswith("test_compile") and module != "test_schedules_networks":
        return ""  # those of single kernels ask LLVM about the machine
    try:
        find_target("host")
    except CompileError as error:
        return str(error)
    return ""


class LeftOut(pytest.Module):
    """A module that is not even imported."""

    reason = REASON

    def collect(self) -> NoReturn:
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """What a module of this folder becomes; None: an ordinary one."""
    reason = REASON if meets_torch(parent.config) else no_host(module_path.stem)
    if not reason:
        return None
    module = LeftOut.from_parent(parent, path=module_path)
    module.reason = reason
    return module


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's caches."""
    folder = run_folder(tmp_path_factory, "caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(folder / "zig"))
        yield folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A function that gives the ONNX file of one of NETWORKS, or of ``gestures``.

    torch writes them in another process, while tests that come first run.
    """
    exporter = Exporter(run_folder(tmp_path_factory, "networks"), NETWORKS)
    able = importlib.util.find_spec("torch") is not None
    if able:
        exporter.start()

    def get(name: str) -> Path:
        if name == "gestures":
            return GESTURES
        if not able:
            pytest.skip("the export extra (torch) is not installed")
        return exporter.get(name)

    yield get
    exporter.close()


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
