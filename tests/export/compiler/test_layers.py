"""Read from the sources: who imports whom, in arrows that run one way and in no circle; and that no
two classes share a name."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOP = ("runtime", "export", "demos", "benchmarks")
COMPILER = "export.compiler"
MAY_IMPORT = {
    "runtime": (),
    "export": ("runtime",),
    "demos": ("runtime", "export"),
    "benchmarks": ("runtime", "export", "demos"),
}
"""Of the folders at the top."""
ORDER = (
    ("graph", "c_text"),
    ("numerics",),
    ("kernel_ir",),
    ("backends.base",),
    ("backends.builder", "backends.tir"),
    ("backends.cpu", "backends.cuda"),
    ("frontend", "targets", "link", "sources", "package"),
    ("targets_file", "cache", "verify", "dump"),
    ("compile",),
    ("commands",),
)
"""Of the compiler's parts, the lowest first: a part imports its own, and lower rows."""
NO_BACKEND = ("link", "verify")
"""Parts that know of the backends ``base`` alone."""


def modules() -> dict[str, Path]:
    """Every module of the product, as ``runtime.spec``."""
    found = {}
    for top in TOP:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, *, at_once: bool) -> Iterator[str]:
    """Modules that one imports, ours without ``shiftedge.``; ``at_once``: as it is imported itself,
    not inside a function or for types alone."""
    waiting: list[ast.AST] = [ast.parse(MODULES[name].read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and at_once:
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("shiftedge.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.removeprefix("shiftedge.")
            for alias in node.names:
                inner = alias.name if module == "shiftedge" else f"{module}.{alias.name}"
                yield inner if inner in MODULES else module
        waiting.extend(ast.iter_child_nodes(node))


def below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


@pytest.mark.parametrize("top", TOP)
def test_arrows_between_the_folders(top: str) -> None:
    allowed = (top, *MAY_IMPORT[top])
    for name in (each for each in MODULES if below(each, top)):
        for used in imports(name, at_once=False):
            if used.split(".")[0] in TOP:
                assert used.split(".")[0] in allowed, f"{name} imports {used}"


def test_the_runtime_needs_numpy_alone() -> None:
    for name in (each for each in MODULES if below(each, "runtime")):
        for used in imports(name, at_once=False):
            assert used.split(".")[0] not in ("torch", "onnx", "tvm"), f"{name} imports {used}"


def test_tvm_is_imported_under_backends_alone() -> None:
    for name in (each for each in MODULES if below(each, "export")):
        if not below(name, f"{COMPILER}.backends"):
            used = {each.split(".")[0] for each in imports(name, at_once=False)}
            assert "tvm" not in used, name


def row_of(name: str) -> int:
    part = name.removeprefix(f"{COMPILER}.")
    return next(row for row, parts in enumerate(ORDER) if any(below(part, each) for each in parts))


def test_arrows_inside_the_compiler() -> None:
    inside = [name for name in MODULES if name.startswith(f"{COMPILER}.")]
    parts = [name for name in inside if MODULES[name].name != "__init__.py"]
    for name in parts:
        for used in imports(name, at_once=False):
            if used not in parts:
                continue
            row, lower = row_of(name), row_of(used)
            same = any(
                below(name, f"{COMPILER}.{each}") and below(used, f"{COMPILER}.{each}")
                for each in ORDER[row]
            )
            assert lower < row or same, f"{name} imports {used}"
            if any(below(name, f"{COMPILER}.{part}") for part in NO_BACKEND):
                inside = below(used, f"{COMPILER}.backends")
                assert not inside or used.endswith("backends.base"), f"{name} imports {used}"


def test_no_module_leads_to_itself() -> None:
    """``graphlib`` names the circle."""
    graph = {name: [*imports(name, at_once=True)] for name in MODULES}
    graphlib.TopologicalSorter(graph).prepare()


def test_no_two_classes_of_one_name() -> None:
    places: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    assert {each: found for each, found in places.items() if len(found) > 1} == {}
