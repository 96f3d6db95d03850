"""The same tests run, and pass, whatever the processor has: by their text, and as each host."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from kit import hosts
from kit.generating import CACHES

from shiftedge.runtime.process.cpu import CPUINFO, KNOWN, WITHOUT, cpu_features

HERE = Path(__file__).parent
GROUPS: Mapping[str, Sequence[str]] = {
    "alone": ("export/codegen",),  # torch and TVM each bring an LLVM
    "others": (
        "runtime/native/test_native_cpu.py",
        "runtime/process/test_cpu.py",
        "runtime/engines/test_engine_onnxruntime.py",
        "benchmarks/test_bench_roofline.py",
    ),
}
"""Where the tests that are marked ``hosts`` stand, by the process that they run in."""
SKIPS = ("skip", "skipif", "xfail", "importorskip")
OF_THE_PROCESSOR = re.compile(
    r"cpu_?features|cpuinfo|runs_here|find_target\('host'|precisions_of|variants_of|host_unit|llvm_get"
    r"|avx|vnni|bf16|\bsse|sha_ni|asimd|neon|processor|this cpu",
    re.IGNORECASE,
)


def skips(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of all that decides on each way to leave a test out: the call, the conditions
    around it, and what an exception came from that it answers."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in SKIPS:
            continue
        deciding: list[ast.AST] = [node]
        inner: ast.AST = node
        while (outer := parents.get(inner)) is not None and not isinstance(outer, ast.FunctionDef):
            if isinstance(outer, (ast.If, ast.IfExp)):
                deciding.append(outer.test)
            if isinstance(outer, ast.Try) and inner in outer.handlers:
                deciding.extend(outer.body)
            inner = outer
        yield node.lineno, "; ".join(ast.unparse(each) for each in deciding)


def test_what_counts_as_depending_on_the_processor() -> None:
    source = """
@pytest.mark.skipif("int8" not in precisions_of(host), reason="no code")
def test_a():
    try:
        find_target("host")
    except CompileError as error:
        pytest.skip(str(error))
    if not found:
        pytest.skip("this CPU has no instructions")
    if shutil.which("gcc") is None:
        pytest.skip("no compiler")
    pytest.importorskip("tvm")
"""
    found = [bool(OF_THE_PROCESSOR.search(text)) for _, text in skips(source)]
    assert sorted(found) == [False, False, True, True, True]


def test_no_test_is_left_out_for_what_the_processor_lacks() -> None:
    """But through hosts.only_where and hosts.leave_out, whose uses are few."""
    said = [
        f"{path.relative_to(HERE)}:{line}: {text}"
        for path in sorted(HERE.rglob("*.py"))
        if path.name not in ("hosts.py", Path(__file__).name)
        for line, text in skips(path.read_text())
        if OF_THE_PROCESSOR.search(text)
    ]
    assert said == []


def test_no_name_of_a_test_is_made_of_what_the_processor_has() -> None:
    """Parameters are the same everywhere; those of tests/export/codegen are compared as each host
    too, which finds what is behind a name."""
    asked = re.compile(r"(cpu_features|runs_here|precisions_of|host_unit)\(|find_target\('host'")
    said = [
        f"{path.relative_to(HERE)}:{node.lineno}"
        for path in sorted(HERE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("parametrize", "fixture")
        and asked.search(ast.unparse(node))
    ]
    assert said == []


def test_every_host_is_what_it_says() -> None:
    """A mask leaves what the host has, and of the vector extensions that we know nothing else."""
    richer: set[str] = set()
    for host, features in hosts.HOSTS.items():
        gone = set(hosts.environment(host)[WITHOUT].split())
        vectors = {name for name in KNOWN["x86_64"] if name.startswith("avx")}
        assert vectors - gone == {name for name in features if name.startswith("avx")}
        assert set(features) > richer, "each has more than the one before"
        richer = set(features)


def test_a_host_that_this_one_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, which says what is missing and which there are."""
    path = tmp_path / "cpuinfo"
    path.write_text("flags : fpu avx avx2 fma avx512f\n")
    monkeypatch.setattr(hosts, "CPUINFO", path)
    assert hosts.possible() == ["avx2"]
    assert hosts.problem("vnni") == (
        "This machine cannot be tested as vnni: its processor has no avx512bw, avx512cd, avx512dq, "
        "avx512vl, avx512_vnni, avx512_vbmi2; choose avx2."
    )
    path.write_text("Features : fp asimd\n")
    assert hosts.possible() == []
    assert hosts.problem("avx2").endswith("has no avx, avx2, fma; choose another machine.")


def ran(words: Sequence[str], host: str | None, folder: Path) -> dict[str, list[str]]:
    """What a run of pytest collected and passed, see :class:`hosts.Ran`. Runs share their caches,
    and Zig's with the tests around them: its first program takes longer than all that they do."""
    file = folder / f"{host}.json"
    line = [sys.executable, "-m", "pytest", "-q", "-m", "hosts", "-p", "no:cacheprovider"]
    line += ["--basetemp", str(folder / f"{host}"), "--ran", str(file), "--timeout", "800"]
    line += ["--host", host] if host else []
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    own[CACHES] = str(folder / "caches")
    done = subprocess.run(
        [*line, *(str(HERE / word) for word in words)],
        capture_output=True, text=True, check=False, cwd=HERE.parent, env=own,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found: dict[str, list[str]] = json.loads(file.read_text())
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("group", GROUPS)
def test_the_same_tests_pass_on_each_host(group: str, tmp_path: Path) -> None:
    """All that is collected is the same, and of it those that ask about the processor pass."""
    if group == "alone" and importlib.util.find_spec("tvm") is None:
        pytest.skip("the compile extra (apache-tvm) is not installed")
    runs = {host: ran(GROUPS[group], host, tmp_path) for host in hosts.possible() or [None]}
    assert runs, cpu_features(CPUINFO)
    first = next(iter(runs.values()))
    assert len(first["collected"]) > len(first["passed"]) > 0
    for host, found in runs.items():
        assert found["others"] == [], host
        for key in ("collected", "passed"):
            assert found[key] == first[key], f"{key} as {host}"
