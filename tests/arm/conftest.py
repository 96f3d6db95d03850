"""Tests on an emulated ARM machine, in a process without torch: torch and TVM each bring an LLVM,
and two of them in one process end it. `pytest tests/arm` runs them; a wider run says that it leaves
them out, and so does one where something is missing.

On Debian and Ubuntu: apt-get install qemu-user libc6-arm64-cross libc6-armhf-cross llvm
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from arm_kit import GESTURES, NETWORKS, ROOT
from once import Exporter, locked, run_folder

from shiftedge.benchmarks.emulate import missing
from shiftedge.benchmarks.emulate_python import EmulatedPython, emulated_python
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.files import cache_folder

HERE = Path(__file__).parent
CODEGEN = ROOT / "tests" / "export" / "codegen"
REASON = "torch and TVM cannot be in one process: run  pytest tests/arm  by itself"
EARLIER = "torch" in sys.modules
"""TVM imports it too, in its own way, as soon as tests of another folder import TVM."""
CACHE = cache_folder()
"""The user's own, where what was downloaded for the emulated machine stays."""


def meets_torch(config: pytest.Config) -> bool:
    """Whether this process has imported torch, or tests from elsewhere will."""
    if EARLIER:
        return True
    paths = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    elsewhere = any(
        not any(path.resolve().is_relative_to(folder) for folder in (HERE, CODEGEN))
        for path in paths
    )
    return elsewhere and importlib.util.find_spec("torch") is not None


class LeftOut(pytest.Module):
    """A module that is not even imported."""

    def collect(self) -> NoReturn:
        pytest.skip(REASON, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """What a module of this folder becomes; None: an ordinary one."""
    return LeftOut.from_parent(parent, path=module_path) if meets_torch(parent.config) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.arm)
            # An emulated run is a minute of work, more where the cores are shared.
            item.add_marker(pytest.mark.timeout(900))


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
) -> Callable[[str, str], Path]:
    """A function that gives the bundle of a network for a target, compiled once."""
    folder = run_folder(tmp_path_factory, "arm-bundles")

    def get(name: str, target: str) -> Path:
        from shiftedge.export.compiler.compile import compile_model

        path, model = folder / f"{name}-{target}", exported(name)
        with locked(folder / f"{path.name}.lock"):
            if not path.exists():
                compile_model(model, path, target=target, verify=False, use_cache=False)
        return path

    return get


@pytest.fixture(scope="session")
def python_folder() -> Path:
    """Where the emulated Python is kept between runs."""
    return CACHE / "emulated-python"


@pytest.fixture(scope="session")
def python(python_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> EmulatedPython:
    """The emulated Python, fetched by one process of this run if it is not there."""
    if why := missing("aarch64"):
        pytest.skip(why)
    with locked(run_folder(tmp_path_factory, "arm-python") / "lock"):
        try:
            return emulated_python(python_folder)
        except ShiftedgeError as error:
            pytest.skip(str(error))
