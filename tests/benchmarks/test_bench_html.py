"""The page: well-formed, needs nothing from elsewhere, and comes out whatever the report lacks."""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shiftedge.benchmarks import commands
from shiftedge.benchmarks.bench import Bench
from shiftedge.benchmarks.entry import BenchSettings, Candidate
from shiftedge.benchmarks.kernels import kernel_rows
from shiftedge.benchmarks.report import document
from shiftedge.export.agreement import Comparison
from shiftedge.runtime.errors import MissingExtraError, OutputError, ShiftedgeError

pytest.importorskip("matplotlib")

from shiftedge.benchmarks.html import page

VOID = {"meta", "br", "hr", "img", "input", "link"}
ATTACK = "<script>alert('1')</script>\"&amp; $x_1$ \x00\ud800"


class Reader(HTMLParser):
    """Holds on to what a page is made of; a tag out of place is an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._take(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, tag  # HTML itself has no such thing
        self._take(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    def _take(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id" and value]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)


def check(html: str) -> Reader:
    """What every page must be."""
    html.encode("utf-8")
    found = Reader(html)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "image", "foreignobject"}
    assert len(found.ids) == len(set(found.ids))
    for tag, attributes in found.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("href", "xlink:href", "src"):
                assert (value or "").removeprefix("#") in found.ids
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("col", "row")
    targets = re.findall(r"url\(([^)]*)\)", html)
    assert all(target.startswith("#") and target[1:] in found.ids for target in targets)
    assert "@import" not in html
    assert not re.search(r"https?://", html)
    return found


def a_report(
    engines: tuple[str, ...] = ("native", "onnxruntime", "openvino"),
    threads: tuple[int, ...] = (1,),
    frames: int = 24,
    rounds: int = 4,
) -> dict[str, Any]:
    """By ``document``, of a run that was not one."""
    bench = Bench(
        [Candidate(name, "x:y", Path("m.onnx"), peer=name != "native") for name in engines],
        BenchSettings(threads, frames, rounds, min(2, rounds)),
        onnx=None,
        reference="x:y",
    )
    generator = np.random.default_rng(0)
    for index, entry in enumerate(bench.entries):
        entry.status = "ok"
        entry.ready = {
            "version": "1.2", "precision": "fp32", "checked": True, "normalises": index == 0,
            "engine_bytes": 1000 * index, "tolerance": 1e-4, "settings": {"threads": 1},
        }  # fmt: skip
        for count in bench.settings.round_frames():
            times = (1e6 * (1 + index) * generator.lognormal(0, 0.3, count)).astype(int).tolist()
            entry.rounds_ns.append(times)
            entry.frame_rounds_ns.append([time + 1000 for time in times])
        entry.load_ms, entry.first_ms, entry.rss_mb = [3.0 + index], [90.0], 50.0
        entry.agreement = [Comparison("logits", "a / b", 10.0, 1e-6, 0, True)] * 2
    found = document(bench)
    limits = {
        "peaks_gops": {"float32": 100.0},
        "steps_ms": {"fp32": 0.3},
        "l2_gb_s": 90.0,
        "memory_gb_s": 20.0,
    }
    found["roofline"] = {
        "by_threads": {str(count): dict(limits) for count in threads},
        "refused": {},
        "reason": None,
    }
    found["model"] |= {"name": "tiny", "flops": 30_000_000, "width": 32, "height": 24}
    kernels = [
        {"name": "k0_pad", "family": "pad", "flops": 0, "bytes": 9000, "operations": {}},
        {"name": "k1_conv", "family": "convolution", "flops": 4_000_000, "bytes": 50_000,
         "operations": {"float32": 4_000_000}},
        {"name": "k2_dense", "family": "dense", "flops": 20_000, "bytes": 40_000,
         "operations": {"float32": 20_000}},
    ]  # fmt: skip
    seconds = {"k0_pad": 2e-5, "k1_conv": 1e-4, "k2_dense": 3e-6, "k3_unknown": 1e-6}
    found["kernels"] = {str(count): kernel_rows(kernels, seconds, limits) for count in threads}
    found["soak"] = {
        "engine": "native", "threads": 1, "seconds": [0.0, 1.0, 2.0, 3.0],
        "p50_ms": [1.0, None, 1.2, 1.3], "cpu_mhz": [2400, 2400, 1800, None],
        "temperature_c": [None] * 4, "throttled": [False, None, True, False],
    }  # fmt: skip
    found["sensors"]["sources"]["temperature_c"] = "cpu-thermal"
    json.dumps(found, allow_nan=False)
    return found


REPORT = a_report()


@pytest.fixture(scope="module")
def html() -> str:
    """The page of :data:`REPORT`."""
    return page(REPORT)


def test_a_whole_page(html):
    found = check(html)
    for engine in ("native", "onnxruntime", "openvino"):
        assert engine in found.text
    assert found.count("svg") == 5
    rows = [attributes for tag, attributes in found.tags if tag == "th"]
    assert sum(row["scope"] == "row" for row in rows) == 3 + 4
    for words in (
        "No winner: native and onnxruntime", "k1_conv", "median", "99th percentile",
        "a process begins", "level 2 cache, 90 GB/s", "limited by memory", "throttled",
        "Not told by this machine: the temperature", "cpu-thermal",
    ):  # fmt: skip
        assert words in found.text, words


def test_the_same_report_gives_the_same_page_whatever_the_users_own_style(html):
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "path", "text.color": "red", "font.size": 30}):
        assert page(json.loads(json.dumps(REPORT))) == html


def test_two_threads_and_two_precisions_are_kept_apart():
    report = a_report(("native", "onnxruntime"), threads=(1, 2), frames=4, rounds=2)
    again = copy.deepcopy(report["results"][0])
    again["precision"] = "int8"
    report["results"].append(again)
    found = check(page(report))
    for words in ("step, 1 thread", "step, 2 threads", "native int8", "native fp32"):
        assert words in found.text
    assert "threads 2, step: No winner: native and onnxruntime" in found.text
    assert "fewer bits may exceed it" in found.text


def strings(value: Any) -> Iterator[tuple[Any, Any]]:
    """Containers and keys of all texts."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(pairs):
        if isinstance(one, str):
            yield value, key
        elif isinstance(one, dict | list):
            yield from strings(one)


def test_all_text_is_foreign():
    report = copy.deepcopy(REPORT)
    for container, key in strings(report):
        if key not in ("status", "workload"):
            container[key] = ATTACK
    report["results"][1]["status"] = ATTACK
    report["kernels"] = {ATTACK: report["kernels"]["1"]}
    report["roofline"]["by_threads"] = {ATTACK: report["roofline"]["by_threads"]["1"]}
    report["machine"][ATTACK] = ATTACK
    html = page(report)
    found = check(html)
    assert "<script" not in html
    assert "<script>alert('1')</script>" in found.text
    assert "\x00" not in html


def test_a_row_that_was_not_measured_says_why():
    report = copy.deepcopy(REPORT)
    row = report["results"][2]
    row |= {"status": "crashed", "reason": "It ended with signal 11.", "step_ms": None}
    row |= {"frame_ms": None, "rounds_us": [], "frames": 0}
    found = check(page(report))
    assert "openvino, threads 1, step: crashed. It ended with signal 11." in found.text
    assert "Without times: openvino." in found.text


def test_nothing_was_measured():
    report = copy.deepcopy(REPORT)
    for row in report["results"]:
        row |= {"status": "interrupted", "reason": "Before.", "step_ms": None, "rounds_us": []}
        row |= {"load_ms": None, "first_prediction_ms": None, "rss_mb": None, "engine_bytes": None}
    report |= {"interrupted": True, "verdicts": [], "roofline": None, "kernels": None, "soak": None}
    report["model"]["bundle_bytes"] = None
    found = check(page(report))
    assert found.count("svg") == 0
    for words in (
        "Interrupted:", "No engine was timed.", "no two engines were timed",
        "The machine's limits are not in the report.", "Not profiled",
    ):  # fmt: skip
        assert words in found.text, words


def test_what_is_no_report_is_refused():
    for found in ({}, [], {**REPORT, "results": None}):
        with pytest.raises(ShiftedgeError, match="no report of `shiftedge bench --json`"):
            page(found)
    with pytest.raises(ShiftedgeError, match="schema is 2; expected 1"):
        page({**REPORT, "schema": 2})


def test_one_frame():
    check(page(a_report(frames=1, rounds=1)))


def test_a_roofline_without_a_peak_gives_the_reason():
    report = copy.deepcopy(REPORT)
    report["roofline"]["by_threads"]["1"]["peaks_gops"] = {}
    report["roofline"]["reason"] = "There is no C compiler."
    found = check(page(report))
    assert "There is no C compiler." in found.text
    assert "threads 1: the peak is not known." in found.text


def test_a_large_page_stays_small():
    engines = ("native", "onnxruntime", *(f"engine-{index}" for index in range(7)))
    html = page(a_report(engines, frames=300, rounds=10))
    assert len(html.encode()) < 1_500_000
    check(html)


def test_long_runs_are_thinned():
    report = a_report(("native",), frames=40_000, rounds=10)
    assert len(page(report).encode()) < 500_000


# --------------------------------------------------------------------------- on the command line


def bench(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="shiftedge")
    commands.add_commands(parser.add_subparsers())
    options = parser.parse_args(["bench", *map(str, arguments)])
    return int(options.handler(options))


def test_the_command_writes_it(tiny_onnx, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("shiftedge.benchmarks.programs.compilers", list)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file, other = tmp_path / "page.html", tmp_path / "report.json"
    arguments = ("--engines", "onnxruntime", "--frames", 4, "--rounds", 2, "--json", other)
    assert bench(tiny_onnx, *arguments, "--html", file) == 0
    assert "onnxruntime" in check(file.read_text()).text
    assert page(json.loads(other.read_text())) == file.read_text()
    assert "p50 ms" in capsys.readouterr().out


def test_what_is_wrong_is_said_before_minutes_of_measuring(tiny_onnx, tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="does not exist"):
        bench(tiny_onnx, "--html", tmp_path / "nowhere" / "page.html")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[plots\]'"):
        bench(tiny_onnx, "--html", tmp_path / "page.html")
