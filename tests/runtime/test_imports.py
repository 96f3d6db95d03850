"""What the runtime may import, how fast it starts, and what its packages offer."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import shiftedge

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime"
MODULES = sorted(RUNTIME.rglob("*.py"))
FORBIDDEN = (
    *("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "tvm", "ziglang"),
    *("shiftedge.export", "shiftedge.demos", "shiftedge.benchmarks"),
)


def name_of(path: Path) -> str:
    parts = path.relative_to(RUNTIME).with_suffix("").parts
    return ".".join(("shiftedge", "runtime", *(part for part in parts if part != "__init__")))


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    ).stdout


def test_import_loads_the_standard_library_and_numpy_alone() -> None:
    program = (
        "import sys\nbefore = set(sys.modules)\nimport shiftedge\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = set(python(program).split())
    # numpy's compiled parts leave helper modules of Cython's behind.
    loaded = {name for name in loaded if "cython" not in name}
    assert loaded <= {*sys.stdlib_module_names, "numpy", "shiftedge"}


def test_import_is_quick() -> None:
    """Our own share, after numpy's; the best of three, as the machine may be busy."""
    program = (
        "import time, numpy, json\nbegin = time.perf_counter()\n"
        "import shiftedge\nprint(time.perf_counter() - begin)"
    )
    assert min(float(python(program)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_runtime_imports_nothing_of_the_workstation(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write shiftedge.runtime..."
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and node.args:  # require("torch"), import_module("torch")
            called = node.func
            word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            first = node.args[0]
            if word in ("require", "import_module", "__import__") and isinstance(
                first, ast.Constant
            ):
                names = [str(first.value)]
        for name in names:
            for forbidden in FORBIDDEN:
                assert name != forbidden, f"{path} imports {name}"
                assert not name.startswith(f"{forbidden}."), f"{path} imports {name}"


def test_packages_offer_what_they_have() -> None:
    for path in MODULES:
        if path.name == "__init__.py":
            module = importlib.import_module(name_of(path))
            offered = list(getattr(module, "__all__", []))
            assert len(offered) == len(set(offered))
            assert all(hasattr(module, name) for name in offered), path


def test_the_package_offers_the_documented_names() -> None:
    documented = {"GestureDecoder", "LiveStream", "Model", "ModelSpec", "Stream", "load"}
    assert documented <= set(shiftedge.__all__)
