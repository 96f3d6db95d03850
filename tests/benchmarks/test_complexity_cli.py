"""``shiftedge bench complexity`` as a user meets it."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")

import torch

from shiftedge.__main__ import main, parser
from shiftedge.benchmarks.complexity import count, latency
from shiftedge.benchmarks.complexity.nets import NETWORKS

COMMAND = ("bench", "complexity")
SMALL = (*COMMAND, "--size", "32")
COST = functools.cache(count.cost)


@pytest.fixture(autouse=True)
def count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds, and the result is the same."""
    monkeypatch.setattr(count, "cost", COST)


def test_json_of_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--no-latency", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == 1
    assert report["interrupted"] is False
    assert report["settings"]["size"] == 32
    assert report["settings"]["rounds"] == 0
    assert [row["key"] for row in report["results"]] == list(NETWORKS)
    for row in report["results"]:
        assert row["flops"] == 2 * row["macs"]
        assert row["macs_per_frame"] * row["frames"] == pytest.approx(row["macs"])
        assert row["latency_ms"] is None
        parts = row["traffic_bytes"]
        assert parts["total"] == parts["weights"] + parts["activations"] + parts["shift"]
    assert {row["network"] for row in report["online_against_window"]} == {
        "ResNet-50",
        "MobileNetV2",
    }
    assert all(row["macs"][2] == 8 for row in report["online_against_window"])


def test_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "costs.json"
    before = torch.get_num_threads()
    assert main([*SMALL, "--repeat", "2", "--json", str(file)]) == 0
    assert torch.get_num_threads() == before
    report = json.loads(file.read_text())
    for row in report["results"]:
        if not NETWORKS[row["key"]].timed:
            assert row["latency_ms"] is None
            continue
        found = row["latency_ms"]
        assert 0 < found["least"] <= found["p50"] <= found["most"]
        assert found["cpu_p50"] > 0
        assert found["predictions"] == 2 * (8 if row["key"].endswith("online") else 1)
    for row in report["online_against_window"]:
        assert row["latency"]["least"] <= row["latency"]["ratio"] <= row["latency"]["most"]
        assert row["cpu"]["ratio"] > 0
    captured = capsys.readouterr()
    assert "TSM MobileNetV2, online" in captured.out
    assert "1 thread\n" in captured.out
    assert captured.err == ""


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--no-latency", "--markdown"]) == 0
    out = capsys.readouterr().out
    tables = [line for line in out.splitlines() if line.startswith("| ---")]
    assert len(tables) == 2
    assert "| TSN ResNet-50, no shift | 8 | 24.33 | 24.3 |" in out


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def turn(network: object, size: int) -> object:
        def run() -> list[latency.Time]:
            nonlocal calls
            calls += 1
            if calls == len([one for one in NETWORKS.values() if one.timed]) + 3:
                raise KeyboardInterrupt
            return [latency.Time(2_000_000, 1_000_000)]

        return run

    monkeypatch.setattr(latency, "_turn", turn)
    assert main([*SMALL, "--json", "-"]) == 130
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["interrupted"] is True
    timed = [row["latency_ms"] for row in report["results"] if row["latency_ms"] is not None]
    assert len(timed) == 2
    assert (timed[0]["p50"], timed[0]["cpu_p50"]) == (2.0, 1.0)
    assert "interrupted" in captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--size", "16"), "argument --size: '16' is not a size from 32"),
        (("--size", "x"), "argument --size"),
        (("--repeat", "0"), "argument --repeat"),
        (("--threads", "-1"), "argument --threads"),
        (("--json", "-", "--markdown"), "both want stdout"),
        (("--frames", "9"), "--frames 9"),
        (("my.onnx",), "my.onnx"),
    ],
)
def test_wrong_usage(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*COMMAND, *arguments])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--json", str(tmp_path / "absent" / "costs.json")]) == 1
    assert "its folder does not exist" in capsys.readouterr().err


def test_without_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main([*COMMAND]) == 1
    said = capsys.readouterr().err
    assert "pip install -e '.[export]'" in said
    assert len(said.splitlines()) == 1


def test_bench_itself_is_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    options = parser().parse_args(["bench", "./complexity", "--threads", "2"])
    assert options.model == Path("complexity")
    assert options.threads == [2]
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--help"])
    assert caught.value.code == 0
    assert "shiftedge bench complexity" in capsys.readouterr().out


def test_help_is_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*COMMAND, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: shiftedge bench complexity")
    assert "--no-latency" in out
    assert "--engines" not in out
