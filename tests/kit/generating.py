"""What the folders share whose tests generate code, in a process without torch: torch and TVM each
bring an LLVM, and two of them in one process end it. A wider run says that it leaves them out.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from kit.once import HERE, Exporter, run_folder

FOLDERS = (HERE / "arm", HERE / "export" / "codegen")
GESTURES = HERE.parent / "runtime" / "assets" / "gestures.onnx"
CACHES = "SHIFTEDGE_TESTS_CACHES"
"""The environment variable with the folder of caches that runs of the tests inside of one share."""
EARLIER = "torch" in sys.modules
"""TVM imports it too, in its own way, as soon as tests of another folder import TVM."""


def meets_torch(config: pytest.Config) -> bool:
    """Whether this process has imported torch, or tests from elsewhere will."""
    if EARLIER:
        return True
    paths = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    elsewhere = any(
        not any(path.resolve().is_relative_to(folder) for folder in FOLDERS) for path in paths
    )
    return elsewhere and importlib.util.find_spec("torch") is not None


class LeftOut(pytest.Module):
    """A module that is not even imported."""

    reason = ""

    @classmethod
    def because(cls, reason: str, parent: pytest.Collector, path: Path) -> LeftOut:
        module: LeftOut = cls.from_parent(parent, path=path)
        module.reason = reason
        return module

    def collect(self) -> NoReturn:
        pytest.skip(self.reason, allow_module_level=True)


def own_caches(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or fills the user's caches meanwhile."""
    folder = Path(os.environ.get(CACHES) or run_folder(factory, "caches"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        if CACHES not in os.environ:  # Zig's of a run inside of a run is that of the outer one
            patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(folder / "zig"))
        yield folder


def exported_networks(
    factory: pytest.TempPathFactory, names: Sequence[str]
) -> Iterator[Callable[[str], Path]]:
    """A function that gives the ONNX file of one of the names, or of ``gestures``.

    torch writes them in another process, while tests that come first run.
    """
    exporter = Exporter(run_folder(factory, "networks"), names)
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
