"""What Prometheus is told."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from kit.playback import Frames, PlaySource, Told, film_of, shown
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment
from shiftedge.demos.sinks import board as board_module
from shiftedge.demos.sinks import metrics as module
from shiftedge.demos.sinks.board import Busy, temperatures, throttled
from shiftedge.demos.sinks.metrics import Metrics
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.model import Model

pytest.importorskip("prometheus_client", reason="the metrics extra is not installed")

ROOT = Path(__file__).parents[3]


class Asking(Told):
    """Reads the page at an event."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics
        self.page = ""
        self.well: list[str] = []

    def take(self, image: NDArray[np.uint8], moment: Moment) -> bool | None:
        url = f"http://127.0.0.1:{self._metrics.port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            self.page = answer.read().decode()
        for path in ("healthz", "readyz"):
            try:
                answer = urllib.request.urlopen(url.replace("metrics", path), timeout=20)
            except urllib.error.HTTPError as refused:  # the film has ended meanwhile
                answer = refused
            with answer:
                self.well.append(answer.read().decode())
        return super().take(image, moment)


def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = tmp_path / "thermal_zone0"
    zone.mkdir()
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("48312\n")
    (tmp_path / "thermal_zone1").mkdir()
    (tmp_path / "throttled").write_text("50005\n")
    monkeypatch.setattr(board_module, "THERMAL", tmp_path)
    monkeypatch.setattr(board_module, "THROTTLED", tmp_path / "throttled")


def test_a_board_that_is_hot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board(tmp_path, monkeypatch)
    assert list(temperatures()) == [("thermal_zone0 cpu-thermal", 48.312)]
    assert throttled() == 1
    (tmp_path / "throttled").write_text("50000\n")  # it was, and is not now
    assert throttled() == 0
    (tmp_path / "throttled").unlink()
    assert throttled() is None


def test_a_board_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(board_module, "STAT", stat)
    stat.write_text("cpu  100 0 100 700 100 0 0 0 5 5\ncpu0 1 1\n")
    busy = Busy()
    stat.write_text("cpu  130 0 130 720 120 0 0 0 5 5\ncpu0 1 1\n")
    assert busy.look()[1] == 0.6
    stat.write_text("cpu none\n")
    cores, share = busy.look()
    assert cores >= 0.0
    assert share is None


def test_the_figures_of_a_show(
    reading_model: Model, play: PlaySource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board(tmp_path, monkeypatch)
    metrics = Metrics(("127.0.0.1", 0))
    asking = Asking(metrics)
    source = play(Frames(film_of([(0, 1.0), (1, 0.7), (0, 1.0)])))
    report = shown(reading_model, source, metrics, asking, realtime=True)
    assert report.error is None
    assert asking.well[0] == "alive\n"
    assert re.fullmatch(r"[01] of 1 cameras give frames\n", asking.well[1])
    camera = 'camera="frames in memory"'
    found = dict(re.findall(r"^(shiftedge_\S+?(?:\{.*\})?) (\S+)$", asking.page, re.MULTILINE))
    frames = float(found[f"shiftedge_frames_total{{{camera}}}"])
    dropped = float(found[f"shiftedge_frames_dropped_total{{{camera}}}"])
    assert 24 < frames + dropped <= 65
    assert 5 < float(found[f"shiftedge_steps_total{{{camera}}}"]) <= 65
    assert found[f'shiftedge_events_total{{{camera},label="Stop Sign"}}'] == "0.0"
    assert found['shiftedge_temperature_celsius{zone="thermal_zone0 cpu-thermal"}'] == "48.312"
    assert found["shiftedge_throttled"] == "1.0"
    assert 'shiftedge_sink_moments_total{how="dropped",sink="told"}' in found
    assert f"shiftedge_step_seconds_count{{{camera}}}" in found


def test_an_address_that_is_taken_is_a_sentence(reading_model: Model, play: PlaySource) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        metrics = Metrics(taken.getsockname())
        with pytest.raises(OutputError, match=r"cannot be served at 127\.0\.0\.1:\d+: Address"):
            shown(reading_model, play(Frames(film_of([(0, 1.0)]))), metrics)


def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = json.loads((ROOT / "demos" / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"shiftedge_\w+", target["expr"])
    }
    source = (ROOT / "demos" / "sinks" / "metrics.py").read_text()
    offered = set(re.findall(r'"(shiftedge_[a-z_]+)"', source))
    offered |= {f"shiftedge_{name}" for name, _, _ in module.COUNTS}
    assert asked
    for name in asked:
        assert re.sub(r"_(total|bucket|count|sum)$", "", name) in offered, name
