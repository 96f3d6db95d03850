"""A whole run with contenders that work and others that do not: rows, order, document."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from shiftedge.benchmarks import bench as bench_module
from shiftedge.benchmarks.bench import Bench
from shiftedge.benchmarks.counter import counter
from shiftedge.benchmarks.crew import Worker
from shiftedge.benchmarks.entry import BenchSettings, Candidate, Entry
from shiftedge.benchmarks.report import document
from shiftedge.benchmarks.terminal import print_report
from shiftedge.runtime.errors import NumericsError, ShiftedgeError

RESULT = {
    "engine": str,
    "version": str,
    "precision": str,
    "threads": int,
    "frames": int,
    "step_ms": dict,
    "rss_mb": float,
    "first_prediction_ms": float,
    "max_abs_error": float,
}


def rows(bench: Bench) -> dict[str, dict]:
    bench.run()
    assert all(entry.worker is None for entry in bench.entries)
    report = document(bench)
    json.dumps(report, allow_nan=False)
    return {row["engine"]: row for row in report["results"]}


def test_the_document(make_bench):
    bench = make_bench("Good", "Hidden")
    bench.run()
    report = document(bench)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["schema"] == 1
    assert {"machine", "model", "roofline", "results"} <= set(report)
    assert report["machine"]["cores"] >= 1
    assert report["model"]["name"] == "tiny"
    assert report["roofline"]["by_threads"]["1"]["peaks_gops"] == {}
    assert "no C compiler" in report["roofline"]["reason"]
    for row in report["results"]:
        assert row["status"] == "ok"
        for key, kind in RESULT.items():
            assert isinstance(row[key], kind), key
        assert row["frames"] == 12
        assert set(row["step_ms"]) == {"p50", "p90", "p99", "max"}
        assert len(row["rounds_us"]) == 3
        assert row["max_abs_error"] == 0.0
    good, hidden = report["results"]
    assert good["agreement"]["states_compared"]
    assert not hidden["agreement"]["states_compared"]
    assert good["against_best_peer"]["ratio"] == 1.0
    assert hidden["against_best_peer"]["peer"] == "Good"


def test_one_that_fails_costs_its_row_and_no_other(make_bench):
    names = ("Absent", "Refuses", "Broken", "Off", "NotNumbers", "Crashes", "Hangs", "Good")
    # For loading too, on a machine that may be busy.
    settings = BenchSettings(frames=12, rounds=3, timeout_s=8.0)
    found = rows(make_bench(*names, settings=settings))
    assert {name: row["status"] for name, row in found.items()} == {
        "Absent": "unavailable",
        "Refuses": "failed",
        "Broken": "crashed",
        "Off": "disagrees",
        "NotNumbers": "disagrees",
        "Crashes": "crashed",
        "Hangs": "timeout",
        "Good": "ok",
    }
    for row in found.values():
        if row["status"] != "ok":
            assert row["reason"]
            assert row["step_ms"] is None
            assert row["against_best_peer"] is None
    assert "next_state_1" in found["Off"]["reason"]
    assert found["Good"]["frames"] == 12


def test_nan_from_the_start_is_a_disagreement(make_bench):
    assert rows(make_bench("AlwaysNan"))["AlwaysNan"]["status"] == "disagrees"


def test_another_model_is_a_disagreement(make_bench, spec, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(replace(spec, labels=("No gesture", "b", "c", "d")).to_json())
    bench = make_bench("Good")
    candidate = Candidate("other", "kit.faulty_contenders:Good", other)
    bench.entries.append(Entry(candidate, 1))
    found = rows(bench)
    assert found["other"]["status"] == "disagrees"
    assert "another model" in found["other"]["reason"]


def test_a_reference_that_gives_nan_or_does_not_load_ends_the_run(make_bench):
    with pytest.raises(NumericsError, match="NaN"):
        make_bench("Good", reference="AlwaysNan").run()
    with pytest.raises(ShiftedgeError, match="not for me"):
        make_bench("Good", reference="Refuses").run()


def test_a_bundle_alone_is_timed_unchecked(make_bench, spec_file):
    bench = make_bench("Good")
    bench.onnx = None
    row = rows(bench)["Good"]
    assert row["status"] == "ok"
    assert row["max_abs_error"] is None
    assert any("Not checked" in note for note in bench.notes)
    assert bench.spec is not None


def test_nothing_to_load(make_bench):
    bench = make_bench("Good")
    bench.entries[0].candidate = Candidate("Good", "x:y", None, "There is no bundle.")
    assert rows(bench)["Good"]["reason"] == "There is no bundle."


def test_turns_are_interleaved_and_the_stream_goes_on(make_bench, monkeypatch):
    asked: list[tuple[int, int, int]] = []
    numbers: dict[int, int] = {}
    ask = Worker.ask

    def record(worker, order, **arguments):
        if order == "turn":
            number = numbers.setdefault(worker.pid, len(numbers))
            asked.append((number, arguments["begin"], arguments["frames"]))
        return ask(worker, order, **arguments)

    monkeypatch.setattr(Worker, "ask", record)
    settings = BenchSettings(threads=(1, 2), frames=7, rounds=3)
    make_bench("Good", "Hidden", settings=settings).run()
    turns = asked
    rounds = [turns[i : i + 4] for i in range(0, 12, 4)]
    assert [sorted(number for number, *_ in turn) for turn in rounds] == [[0, 1, 2, 3]] * 3
    assert len({tuple(number for number, *_ in turn) for turn in rounds}) == 3
    begin = bench_module.WARM_UP_MOST
    for turn, frames in zip(rounds, (3, 2, 2), strict=True):
        assert {row[1:] for row in turn} == {(begin, frames)}
        begin += bench_module.LEAD_IN + frames


def test_an_interrupt_keeps_what_was_measured(make_bench, monkeypatch, capsys):
    bench = make_bench("Good", "Hidden", settings=BenchSettings(frames=12, rounds=4))
    ask = Worker.ask
    turns = []

    def interrupt(worker, order, **arguments):
        if order == "turn":
            turns.append(order)
        if len(turns) == 2 + 1:  # a round, half of the next
            raise KeyboardInterrupt
        return ask(worker, order, **arguments)

    monkeypatch.setattr(Worker, "ask", interrupt)
    bench.run()
    report = document(bench)
    assert report["interrupted"] is True
    assert sorted(row["frames"] for row in report["results"]) == [3, 3]
    print_report(report)
    assert "Good" in capsys.readouterr().out


def test_an_interrupt_before_the_first_round(make_bench, monkeypatch):
    def interrupt(worker):
        raise KeyboardInterrupt

    bench = make_bench("Good")
    monkeypatch.setattr(Worker, "ready", interrupt)
    found = rows(bench)["Good"]
    assert found["status"] == "interrupted"
    assert found["step_ms"] is None


def test_progress_is_for_terminals(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False), (None, False)):
        monkeypatch.setattr("sys.stderr", stream)
        with counter("measuring", 60, "frames") as advance:
            advance(30)
        if stream is not None:
            assert ("measuring: 30 of 60 frames" in stream.getvalue()) is shown


def test_settings():
    assert BenchSettings(frames=10, rounds=3).round_frames() == [4, 3, 3]


def test_no_files_are_left(make_bench, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    make_bench("Good", "Crashes").run()
    assert list(Path(scratch).iterdir()) == []


def test_a_slow_engine_sits_out_rounds(make_bench, monkeypatch):
    bench = make_bench("Good", settings=BenchSettings(frames=40, rounds=40, starts=2))
    monkeypatch.setattr(bench_module, "SHARE_S", 1e-9)
    bench.run()
    (entry,) = bench.entries
    assert entry.status == "ok"
    assert [len(times) for times in entry.rounds_ns] == [1, *[0] * 19] * 2
    assert any("one of 20 rounds" in note for note in bench.notes)
