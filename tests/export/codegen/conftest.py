"""Tests that generate code, in a process without torch: torch and TVM each bring an LLVM, and two
of them in one process end it. `pytest tests/export/codegen` runs them; a wider run says that it
leaves them out.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from compile_kit import GESTURES, NETWORKS, environment

from shiftedge.export.compiler.targets import find_target
from shiftedge.runtime.errors import CompileError

HERE = Path(__file__).parent
REASON = "torch and TVM cannot be in one process: run  pytest tests/export/codegen  by itself"


def meets_torch(config: pytest.Config) -> bool:
    """Whether this process has imported torch, or tests from elsewhere will."""
    if "torch" in sys.modules:
        return True
    paths = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    elsewhere = any(not path.resolve().is_relative_to(HERE) for path in paths)
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
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(folder / "zig"))
        yield folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """A function that gives the ONNX file of one of NETWORKS, or of ``gestures``.

    torch writes them in another process, while tests that come first run.
    """
    folder = tmp_path_factory.mktemp("networks")
    said, process = folder / "stderr", None
    if importlib.util.find_spec("torch") is not None:
        line = [sys.executable, str(HERE / "export_networks.py"), str(folder), *NETWORKS]
        with said.open("wb") as file:
            process = subprocess.Popen(line, stderr=file, env=environment())

    def get(name: str) -> Path:
        if name == "gestures":
            return GESTURES
        if process is None:
            pytest.skip("the export extra (torch) is not installed")
        path = folder / f"{name}.onnx"
        while not path.exists():
            if process.poll() is not None and not path.exists():
                pytest.fail(f"export_networks.py ended without {name}: {said.read_text()}")
            time.sleep(0.05)
        return path

    yield get
    if process is not None:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def bundles(
    exported: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that gives the bundle of one of NETWORKS for this machine, compiled once."""
    folder = tmp_path_factory.mktemp("bundles")

    def get(name: str) -> Path:
        from shiftedge.export.compiler.compile import compile_model

        path = folder / name
        if not path.exists():
            compile_model(exported(name), path, use_cache=False)
        return path

    return get
