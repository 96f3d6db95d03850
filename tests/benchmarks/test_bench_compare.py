"""Verdicts, kernels, soaks, and a run against an earlier one."""

from __future__ import annotations

import contextlib
import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.benchmarks import bench as bench_module
from shiftedge.benchmarks.compare import check_comparable, compare, comparison_lines
from shiftedge.benchmarks.crew import Worker
from shiftedge.benchmarks.entry import BenchSettings
from shiftedge.benchmarks.kernels import kernel_rows, kernel_table, summary
from shiftedge.benchmarks.report import document, read_report
from shiftedge.benchmarks.roofline import Roofline
from shiftedge.benchmarks.sensors.energy import Energy, EnergyMeter
from shiftedge.benchmarks.sensors.gauges import Gauge, Sensors, find_sensors
from shiftedge.benchmarks.soak import Soak
from shiftedge.benchmarks.terminal import kernel_lines, markdown, table
from shiftedge.benchmarks.work import StepWork
from shiftedge.runtime.errors import ShiftedgeError

SETTINGS = BenchSettings(frames=20, rounds=10, starts=5, timeout_s=20.0)


READY = {
    "version": "1", "precision": "fp32", "tolerance": 1e-4, "checked": True, "normalises": True,
    "settings": {}, "base_rss_mb": 20.0, "engine_bytes": None, "timer_ns": 40,
}  # fmt: skip


def filled(bench, **factors):
    """A run as if it had been measured: each engine's times are 2 ms by its factor, and noise."""
    for seed, entry in enumerate(bench.entries):
        generator = np.random.default_rng(seed)
        level = 2e6 * factors[entry.candidate.engine]
        for _ in bench.round_starts:
            times = level * generator.lognormal(0.0, 0.01, 30)
            entry.rounds_ns.append(times.astype(int).tolist())
        entry.frame_rounds_ns = entry.rounds_ns
        entry.status, entry.ready = "ok", {**READY}
        entry.load_ms, entry.first_ms = [5.0] * 5, [50.0] * 5
    return document(bench)


@pytest.fixture
def report(make_bench):
    return filled(make_bench("Slower", "Slower10", settings=SETTINGS), Slower=1.0, Slower10=1.1)


def test_a_winner_and_its_interval(report):
    (verdict,) = report["verdicts"]
    assert verdict["winner"] == "Slower"
    assert verdict["low"] <= verdict["ratio"] <= verdict["high"] < 1
    assert "is quicker than Slower10" in verdict["sentence"]
    assert [row["starts"] for row in report["results"]] == [5, 5]
    assert report["protocol"]["round_starts"] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    shown, notes = table(report)
    assert "5 times" in shown.title
    assert verdict["sentence"] in notes
    text = markdown(report)
    assert text.count("| Slower10 |") == 1
    assert verdict["sentence"] in text


def test_precisions_are_not_held_against_each_other(make_bench):
    """Fewer bits win by being another computation: a verdict for each, a ratio within each."""
    names = ("Slower", "Slower10", "Good", "Many")
    bench = make_bench(*names, settings=SETTINGS)
    filled(bench, Slower=1.0, Slower10=1.1, Good=0.4, Many=0.5)
    for entry in bench.entries[2:]:
        entry.ready["precision"] = "int8"
    found = document(bench)
    winners = {verdict["precision"]: verdict["winner"] for verdict in found["verdicts"]}
    assert winners == {"fp32": "Slower", "int8": "Good"}
    rows = {row["engine"]: row for row in found["results"]}
    for row in rows.values():
        ratio = row["against_best_peer"]
        assert ratio is None or rows[ratio["peer"]]["precision"] == row["precision"]
    _, notes = table(found)
    assert any(note.startswith("int8, threads 1, step: Good is quicker") for note in notes)
    assert rows["Good"]["of_roofline"] is None, "the peak is that of float32"
    bench.entries[3].ready["precision"] = "bf16"
    assert [each["precision"] for each in document(bench)["verdicts"]] == ["fp32"]


def test_no_winner_among_equals(make_bench):
    found = filled(make_bench("Slower", "Good", settings=SETTINGS), Slower=1.0, Good=1.0)
    (verdict,) = found["verdicts"]
    assert verdict["winner"] is None
    assert verdict["sentence"].startswith("No winner")


def test_every_start_is_a_new_process(make_bench):
    bench = make_bench("Good", settings=BenchSettings(frames=6, rounds=3, starts=3, timeout_s=20.0))
    bench.run()
    (row,) = document(bench)["results"]
    assert row["starts"] == 3
    assert len(row["rounds_us"]) == 3


def test_a_leak_ends_its_engine_alone(make_bench, monkeypatch):
    monkeypatch.setattr(bench_module, "LEAK_MB", 40.0)
    bench = make_bench("Leaks", "Good", settings=BenchSettings(frames=40, rounds=4, timeout_s=20.0))
    bench.run()
    leaks, good = document(bench)["results"]
    assert leaks["status"] == "leaks"
    assert "grew by" in leaks["reason"]
    assert good["status"] == "ok"


class Meter(EnergyMeter):
    """Half a joule each time."""

    def __init__(self):
        super().__init__("meter", "the whole board")

    def measure(self, seconds, turn):
        turn(seconds)
        return Energy(0.5)


def test_energy_and_sensors_are_in_the_report(make_bench, monkeypatch):
    bench = make_bench("Good", settings=BenchSettings(frames=6, rounds=2, timeout_s=20.0))
    sample = {"throttled": [], "throttle_events": {}, "temperature_c": 50.0, "reasons": {}}
    bench.sensors = Sensors(
        {key: Gauge("a test", lambda value=value: value) for key, value in sample.items()}, Meter()
    )
    monkeypatch.setattr(bench_module, "ENERGY_S", 0.05)
    bench.run()
    found = document(bench)
    (row,) = found["results"]
    (entry,) = bench.entries
    assert entry.energy_units >= 1
    assert row["energy_j_per_frame"] == pytest.approx(0.5 / entry.energy_units)
    assert len(found["sensors"]["samples"]) == 3
    assert found["sensors"]["sources"]["energy"] == "meter: the whole board"
    text = "\n".join(table(found)[1])
    assert "50" in text
    assert "meter: the whole board" in text
    assert json.dumps(found, allow_nan=False)


def no_program(words):
    raise FileNotFoundError(words[0])


def test_no_sensor_is_said_and_never_0(make_bench, tmp_path):
    bench = make_bench("Good", settings=BenchSettings(frames=6, rounds=2, timeout_s=20.0))
    bench.sensors = find_sensors(tmp_path, run=no_program)
    bench.run()
    found = document(bench)
    (row,) = found["results"]
    assert row["energy_j_per_frame"] is None
    assert "no sensor" in row["energy_reason"]
    assert "no sensor" in table(found)[0].rows[0]


def test_what_is_not_checked_is_no_peer(make_bench):
    bench = make_bench(
        "Unchecked", "Good", settings=BenchSettings(frames=12, rounds=3, timeout_s=20.0)
    )
    bench.run()
    unchecked, good = document(bench)["results"]
    assert unchecked["status"] == "ok"
    assert unchecked["against_best_peer"] is None
    assert good["against_best_peer"]["ratio"] == 1.0
    assert document(bench)["verdicts"] == []


def test_an_engine_that_loads_slowly_is_not_started_again(make_bench, monkeypatch):
    monkeypatch.setattr(bench_module, "RESTART_S", 0.0)
    bench = make_bench("Good", settings=BenchSettings(frames=6, rounds=3, starts=3, timeout_s=20.0))
    bench.run()
    assert document(bench)["results"][0]["starts"] == 1


# Kernels

KERNELS = [
    {"name": "first", "family": "pointwise", "flops": 2_000_000, "bytes": 1000,
     "operations": {"float32": 2_000_000}},
    {"name": "second", "family": "pool", "flops": 10, "bytes": 4_000_000,
     "operations": {"float32": 10}},
]  # fmt: skip


def test_kernels_against_the_roofline():
    limits = {"peaks_gops": {"float32": 100.0}, "l2_gb_s": 50.0}
    first, second = kernel_rows(KERNELS, {"first": 25e-6, "second": 100e-6}, limits)
    assert first["bound"] == "arithmetic"
    assert first["gflops"] == pytest.approx(80.0)
    assert first["of_peak"] == pytest.approx(0.8)
    assert first["of_roofline"] == pytest.approx(1.25)
    assert second["bound"] == "memory"
    assert second["of_roofline"] == pytest.approx(1.25)
    assert first["share"] + second["share"] == pytest.approx(1.0)
    text = kernel_table([first, second]).lines()
    assert text[1].endswith("  arithmetic  float32")
    assert len({line.index("of peak") for line in text[:1]}) == 1


CODES = [
    {"name": "block", "family": "inverted residual", "bytes": 10**4, "flops": 5_000_000,
     "operations": {"packed": 4_000_000, "float32": 1_000_000}},
    {"name": "project", "family": "inverted residual", "bytes": 10**4, "flops": 8_000_000,
     "operations": {"packed": 8_000_000}},
    {"name": "tail", "family": "tail", "bytes": 10**4, "flops": 4_000_000,
     "operations": {"packed": 4_000_000}},
    {"name": "wide", "family": "convolution", "bytes": 10**4, "flops": 4_000_000,
     "operations": {"packed": 4_000_000}},
    {"name": "pool", "family": "pool", "bytes": 10**6, "flops": 0, "operations": {}},
]  # fmt: skip
CODE_SECONDS = {"block": 40e-6, "project": 25e-6, "tail": 15e-6, "wide": 10e-6, "pool": 10e-6}
CODE_LIMITS = {"peaks_gops": {"float32": 100.0, "vpdpbusd": 400.0}, "l2_gb_s": 200.0}


def test_kernels_of_codes_against_their_own_peaks():
    names = {"float32": "float32", "packed": "vpdpbusd"}
    rows = kernel_rows(CODES, CODE_SECONDS, CODE_LIMITS, names)
    found = {row["name"]: row for row in rows}
    # 10 us of words and 10 of single numbers in 40 us; 20 in 25, 10 in 15, 10 in 10.
    shares = {name: row["of_peak"] for name, row in found.items()}
    expected = {"block": 0.5, "project": 0.8, "tail": 2 / 3, "wide": 1.0, "pool": None}
    assert shares == pytest.approx(expected)
    assert found["block"]["operations"] == {"vpdpbusd": 4_000_000, "float32": 1_000_000}
    assert found["pool"]["bound"] == "memory"
    assert summary(rows) == [
        "Pointwise kernels: 75% of the vpdpbusd peak (2 of 5 kernels, 40% of the time).",
        "All kernels: 60% of the peak of vpdpbusd and float32, each for its own operations.",
    ]
    lines = kernel_table(rows).lines()
    assert lines[1].endswith("  vpdpbusd + float32")
    assert lines[2].split()[-4:] == ["80%", "1.25", "arithmetic", "vpdpbusd"]
    assert summary(json.loads(json.dumps(rows))) == summary(rows)


def test_kernels_without_a_peak_have_no_share():
    """The CPU's peak was refused, or the bundle is of a version that does not tell operations."""
    names = {"float32": "float32", "packed": "sdot"}
    rows = kernel_rows(CODES, CODE_SECONDS, CODE_LIMITS, names)
    assert [row["of_peak"] for row in rows] == [None] * 5
    assert [row["bound"] for row in rows] == [None] * 4 + ["memory"]
    assert summary(rows) == []
    older = [{**row, "operations": None} for row in CODES]
    rows = kernel_rows(older, CODE_SECONDS, CODE_LIMITS, names)
    assert [row["of_roofline"] for row in rows] == [None] * 5


def test_float32_kernels_have_one_sentence():
    limits = {"peaks_gops": {"float32": 100.0}, "l2_gb_s": 50.0}
    rows = kernel_rows(KERNELS[:1], {"first": 25e-6}, limits)
    assert summary(rows) == ["All kernels: 80% of the peak of float32."]


def test_kernels_that_nothing_is_known_of():
    (row,) = kernel_rows([], {"k": 0.0}, {"peaks_gops": {}})
    assert row["bound"] is None
    assert row["of_roofline"] is None
    assert kernel_table([row]).lines()[1].strip().startswith("k ")
    assert summary([row]) == []


def test_a_quantised_step_against_the_peak_of_its_instruction(make_bench, monkeypatch):
    bench = make_bench("Slower", "Good", settings=SETTINGS)
    filled(bench, Slower=2.0, Good=1.0)
    bench.entries[1].ready["precision"] = "int8"
    bench.work = StepWork({"int8": {"vpdpbusd": 2 * 10**8}, "fp32": {"float32": 10**8}})
    bench.roofline = Roofline([1])
    bench.roofline._peaks[1] = {"float32": 100.0, "vpdpbusd": 400.0}
    found = document(bench)
    slower, good = found["results"]
    assert slower["of_roofline"] == pytest.approx(slower["step_ms"]["p50"] / 1.0)
    assert good["of_roofline"] == pytest.approx(good["step_ms"]["p50"] / 0.5)
    _, notes = table(found)
    assert any("100.0 GFLOP/s of float32, vpdpbusd 400.0 GOP/s" in note for note in notes)
    bench.roofline.refused["sdot"] = "This CPU has no asimddp, which sdot needs."
    _, notes = table(document(bench))
    assert "Roofline: This CPU has no asimddp, which sdot needs." in notes


def test_each_precision_has_a_profile(make_bench):
    bench = make_bench("Slower", "Good", settings=SETTINGS)
    filled(bench, Slower=2.0, Good=1.0)
    bench.kernel_seconds = {(1, "fp32"): {"first": 2e-5}, (1, "bf16"): {"first": 1e-5}}
    bench.work = StepWork(
        kernels={"fp32": KERNELS, "bf16": [{**KERNELS[0], "operations": {"packed": 2_000_000}}]},
        instructions={"bf16": {"packed": "vdpbf16ps", "float32": "float32"}},
    )
    bench.roofline = Roofline([1])
    bench.roofline._peaks[1] = {"float32": 200.0, "vdpbf16ps": 400.0}
    found = document(bench)
    (single,), (half,) = found["kernels"]["1"], found["kernels"]["1 bf16"]
    assert single["of_peak"] == pytest.approx(0.5)
    assert half["of_peak"] == pytest.approx(0.5)
    lines = kernel_lines(found)
    assert "Kernels of the native engine, threads 1 bf16:" in lines
    assert (
        "Pointwise kernels: 50% of the vdpbf16ps peak (1 of 1 kernels, 100% of the time)." in lines
    )


def test_a_profile_is_in_the_report(make_bench):
    bench = make_bench("Hidden", "Good", settings=BenchSettings(frames=6, rounds=2, timeout_s=20.0))
    bench.entries[0].candidate = type(bench.entries[0].candidate)(
        "native", "kit.faulty_contenders:Many", bench.entries[0].candidate.path, peer=False
    )
    bench.profile = True
    bench.run()
    found = document(bench)
    assert [row["name"] for row in found["kernels"]["1"]] == ["first", "second"]
    assert "first" in "\n".join(kernel_lines(found))


# Soak


def answering(monkeypatch, p50_ms):
    """A worker whose turns last a second of a clock that only they move."""
    now = [0.0]
    medians = iter(p50_ms)

    def ask(worker, order, *, frames, **others):
        now[0] += 1.0
        return {"step_ns": [int(1e6 * next(medians))] * frames}

    monkeypatch.setattr(Worker, "ask", ask)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return Worker.__new__(Worker)


def test_a_soak_that_slows_down(monkeypatch):
    noise = np.random.default_rng(0).normal(1.0, 0.003, 200)
    times = [2.0 * level for level in noise[:40]] + [2.5 * level for level in noise[40:]]
    worker = answering(monkeypatch, times)
    counts = iter(range(1000))
    soak = Soak(
        "native", 1, 2.0, lambda: {
            "temperature_c": 61.0, "cpu_mhz": {"min": 600.0, "mean": 700.0, "max": 800.0},
            "throttled": ["under-voltage"], "throttle_events": {"thermal": next(counts)},
            "reasons": {"gpu_mhz": "no sensor"},
        },
    )  # fmt: skip
    soak.run(worker, 0, lambda seconds: None)
    found = soak.to_dict()
    assert len(found["seconds"]) == 120
    assert found["drift"]["low"] > 1.2
    assert found["temperature_c"] == [61.0] * 120
    assert found["cpu_mhz"] == [700.0] * 120
    assert found["throttled"][0] == ["under-voltage"]
    text = "\n".join(soak.lines())
    assert "slower" in text
    assert "throttled: " in text


def test_a_soak_that_holds(monkeypatch):
    noise = np.random.default_rng(1).normal(1.0, 0.003, 200)
    soak = Soak("native", 1, 1.0, lambda: {})
    soak.run(answering(monkeypatch, 2.0 * noise), 0, lambda seconds: None)
    assert soak.drift().spans_one
    assert "no drift" in "\n".join(soak.lines())


def test_a_soak_too_short_or_cut(monkeypatch):
    soak = Soak("native", 1, 1.0, lambda: {})
    with pytest.raises(StopIteration):
        soak.run(answering(monkeypatch, [2.0] * 5), 0, lambda seconds: None)
    assert soak.to_dict()["drift"] is None
    assert "too short" in "\n".join(soak.lines())


def test_a_soak_in_a_run(make_bench):
    bench = make_bench("Absent", "Good", settings=BenchSettings(frames=6, rounds=2, timeout_s=20.0))
    bench.soak_minutes = 0.03
    bench.run()
    found = document(bench)
    assert found["soak"]["engine"] == "Good"
    assert found["soak"]["steps"] > 0
    assert json.dumps(found, allow_nan=False)


# Against an earlier run


def scaled(report, factor):
    """The same run, but slower."""
    found = copy.deepcopy(report)
    for row in found["results"]:
        row["rounds_us"] = [[factor * time for time in times] for times in row["rounds_us"]]
        row["step_ms"] = {key: factor * value for key, value in row["step_ms"].items()}
    return found


def test_against_itself(report):
    found = compare(report, report)
    assert not found["slower"]
    assert {change["verdict"] for change in found["changes"]} == {"same"}
    assert found["missing"] == []


def test_a_slowdown_is_told(report):
    found = compare(scaled(report, 1.3), report)
    assert found["slower"]
    assert compare(report, scaled(report, 1.3))["slower"] is False
    assert "slower" in "\n".join(comparison_lines(found))
    assert json.dumps(found, allow_nan=False)


def test_what_only_one_has(report):
    now = copy.deepcopy(report)
    now["results"] = [row for row in now["results"] if row["engine"] != "Slower10"]
    found = compare(now, report)
    assert found["missing"] == ["Slower10, threads 1, step"]
    assert "measured then, not now" in "\n".join(comparison_lines(found))
    assert compare(report, now)["missing"] == []


@pytest.mark.parametrize(
    ("where", "key", "value", "text"),
    [
        (None, "schema", 2, "schema is 2"),
        ("machine", "cpu", "another", "cpu is another"),
        ("machine", "cores", 99, "cores is 99"),
        ("model", "sha256", "0" * 64, "another model"),
    ],
)
def test_what_cannot_be_compared(report, where, key, value, text):
    check_comparable(report, report)
    then = copy.deepcopy(report)
    (then if where is None else then[where])[key] = value
    with pytest.raises(ShiftedgeError, match=text) as caught:
        check_comparable(report, then)
    assert "--force" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 1}', "[" * 100_000])
def test_a_baseline_that_is_none(tmp_path, text):
    file = tmp_path / "old.json"
    file.write_text(text)
    with pytest.raises(ShiftedgeError, match="no report"):
        read_report(file)
    with pytest.raises(ShiftedgeError, match="cannot be read"):
        read_report(tmp_path / "nothing.json")


values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.just([]))


@given(key=st.sampled_from(["engine", "threads", "status", "rounds_us", "step_ms"]), value=values)
def test_a_baseline_with_anything_in_it(key, value):
    """A sentence or a comparison, no traceback."""
    row = {
        "engine": "native", "threads": 1, "workload": "step", "precision": "fp32", "status": "ok",
        "rounds_us": [[1.0, 2.0], [3.0]], "step_ms": {"p50": 1.0},
    }  # fmt: skip
    now = {"results": [row], "protocol": {"round_starts": [0, 1]}}
    then = {"results": [{**row, key: value}], "protocol": {"round_starts": [0, 1]}}
    with contextlib.suppress(ShiftedgeError):
        compare(now, then)
