"""The kinds of host that the tests can be run as: ``pytest --host avx2`` on a machine with more.

A mask takes features away from this machine's processor (``runtime.process.cpu.WITHOUT``), for the
tests and for every program that they start, so that nobody needs four machines to see that a
change is green on all. What an x86-64 processor without AVX2 or an ARM board would say is tested
with features made up for it.

No test is left out for what the processor cannot do, but through :func:`only_where` or
:func:`leave_out`: code for instructions that it lacks is generated for those that it has, or runs
on an emulated processor. tests/test_hosts.py sees to that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from shiftedge.runtime.process.cpu import CPUINFO, KNOWN, WITHOUT, cpu_features

__all__ = ["HOSTS", "Ran", "environment", "leave_out", "only_where", "possible", "problem"]

_AVX2 = ("avx", "avx2", "fma")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_VNNI = (*_AVX512, "avx512_vnni", "avx512_vbmi2")

HOSTS: Mapping[str, tuple[str, ...]] = {
    "avx2": _AVX2,
    "avx512": _AVX512,
    "vnni": _VNNI,
    "bf16": (*_VNNI, "avx512_bf16"),
}
"""What a kind of host has of the vector extensions: Haswell and Zen 2, Skylake-SP, Ice Lake, Zen 4.
The features of the first x86-64 processors and those that we never ask for stay as they are."""


def environment(host: str) -> dict[str, str]:
    """Makes programs take this machine for a kind of host, one of :data:`HOSTS`."""
    gone = (name for name in KNOWN["x86_64"] if name.startswith("avx"))
    return {WITHOUT: " ".join(name for name in gone if name not in HOSTS[host])}


def lacking(host: str) -> list[str]:
    """What this machine, whatever it is taken for, has not of a kind of host."""
    has = cpu_features(CPUINFO)
    return [name for name in HOSTS[host] if name not in has]


def possible() -> list[str]:
    """The kinds of host that this machine can be taken for."""
    return [host for host in HOSTS if not lacking(host)]


def problem(host: str) -> str:
    """Why it cannot be taken for one, or nothing."""
    if not lacking(host):
        return ""
    return (
        f"This machine cannot be tested as {host}: its processor has no "
        f"{', '.join(lacking(host))}; choose {' or '.join(possible()) or 'another machine'}."
    )


def only_where(there: bool, reason: str) -> pytest.MarkDecorator:
    """For tests of what a few kinds of processor have nothing of; ``reason`` names them."""
    return pytest.mark.skipif(not there, reason=reason)


def leave_out(reason: str) -> NoReturn:
    """The same, from inside of a test."""
    pytest.skip(reason)


class Ran:
    """Writes what a run of pytest collected, before a marker chose of it, and what passed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: dict[str, list[str]] = {"collected": [], "passed": [], "others": []}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._found["collected"] = sorted(item.nodeid for item in items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._found["passed"].append(report.nodeid)
        elif not report.passed:
            self._found["others"].append(f"{report.nodeid}: {report.outcome}")

    def pytest_sessionfinish(self) -> None:
        self._file.write_text(json.dumps(self._found))
