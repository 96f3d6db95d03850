"""Tests on an emulated ARM machine, in a process without torch: torch and TVM each bring an LLVM,
and two of them in one process end it. `pytest tests/arm` runs them; a wider run says that it leaves
them out, and so does one where something is missing.

On Debian and Ubuntu: apt-get install qemu-user libc6-arm64-cross libc6-armhf-cross llvm
"""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit import generating
from kit.arm import NETWORKS
from kit.once import locked, run_folder

from shiftedge.benchmarks.emulation.python import EmulatedPython, emulated_python
from shiftedge.benchmarks.emulation.qemu import OWN, missing
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.process.files import cache_folder

HERE = Path(__file__).parent
REASON = "torch and TVM cannot be in one process: run  pytest tests/arm  by itself"
CACHE = cache_folder()
"""The user's own, where what was downloaded for the emulated machine stays."""


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """What a module of this folder becomes; None: an ordinary one."""
    if not generating.meets_torch(parent.config):
        return None
    return generating.LeftOut.because(REASON, parent, module_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.arm)
            # An emulated run is a minute of work, more where the cores are shared.
            item.add_marker(pytest.mark.timeout(900))


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
        except ShiftedgeError:
            version = importlib.metadata.version("onnxruntime")
            line = ["sh", str(OWN / "python.sh"), str(python_folder), version]
            done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)
            if done.returncode != 0:
                pytest.skip(f"No Python for aarch64 could be fetched: {done.stderr[-200:]}")
            return emulated_python(python_folder)
