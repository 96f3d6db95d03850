"""The worker process and its parent's side: answers, order, and every way to die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.fake_engine import FakeEngine

from shiftedge.benchmarks.crew import Worker, WorkerError
from shiftedge.runtime.capture.synthetic.moving import moving_scene
from shiftedge.runtime.process.progress import Lines

TURN = {"begin": 0, "lead_in": 2, "frames": 5}


@pytest.fixture
def start(spec_file: Path) -> Callable[..., Worker]:
    def make(name: str, timeout_s: float = 20.0, **changes: Any) -> Worker:
        factory = f"kit.faulty_contenders:{name}"
        return Worker(factory, spec_file, 1, timeout_s=timeout_s, **changes)

    return make


def gone(worker: Worker) -> bool:
    """Neither running nor a zombie."""
    return not Path(f"/proc/{worker.pid}").exists()


def test_ready_outputs_turn(start, spec):
    with start("Good") as worker:
        ready = worker.ready()
        assert ready["normalises"] is True
        assert 0 < ready["load_ms"] < ready["first_prediction_ms"]
        outputs = worker.ask("outputs", frames=4)
        answer = worker.ask("turn", **TURN)
        assert len(answer["step_ns"]) == 5
        assert all(isinstance(time, int) and time > 0 for time in answer["step_ns"])
        assert answer["rss_mb"] > ready["base_rss_mb"] > 1
        assert worker.ask("turn", **{**TURN, "frames": 0})["step_ns"] == []
    assert gone(worker)
    session = FakeEngine(spec).open_session()
    expected = [
        session.step(image)
        for image in moving_scene(0, frames=4, height=spec.height, width=spec.width)
    ]
    np.testing.assert_array_equal([step["logits"] for step in outputs], expected)
    assert [len(step) for step in outputs] == [1 + len(spec.states)] * 4


def test_what_libraries_print_is_no_answer(start):
    with start("Talks") as worker:
        worker.ready()
        assert len(worker.ask("turn", **TURN)["step_ns"]) == 5


def test_what_only_sends_is_kept_out(start, tmp_path, monkeypatch):
    (tmp_path / "openvino_telemetry.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    with start("Tells") as worker:
        worker.ready()


def test_a_long_answer_is_told_meanwhile(start, monkeypatch):
    """From this thread, between two looks: ten seconds, a thousandth of that here."""
    said, beats = [], []

    class Beats(Lines):
        def beat(self):
            beats.append(1)
            super().beat()

    lines = Beats(iter(range(0, 1_000_000, 10)).__next__, said.append)
    monkeypatch.setattr("shiftedge.benchmarks.crew.LINES", lines)
    monkeypatch.setattr("shiftedge.benchmarks.crew.EVERY_S", 0.01)
    monkeypatch.setattr("shiftedge.runtime.process.progress.EVERY_S", 10.0)
    with lines.item("preparing", 3, "engines", quiet=True), start("Good") as worker:
        worker.ready()
    assert len(beats) >= 2  # Python alone takes longer to start
    assert said[0].startswith("preparing: 0 of 3 engines")


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("Absent", "unavailable", "pip install nothing"),
        ("Refuses", "failed", "not for me"),
        ("Broken", "crashed", "KeyError"),
        ("NoSuchClass", "crashed", "NoSuchClass"),
    ],
)
def test_what_does_not_load(start, name, status, text):
    with start(name) as worker:
        with pytest.raises(WorkerError, match=text) as caught:
            worker.ready()
        assert caught.value.status == status
        assert gone(worker)


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("Crashes", "crashed", "SIGABRT: something is very wrong"),
        ("Hangs", "timeout", "No answer to the order 'turn' within 3 s"),
        ("NotNumbers", "disagrees", "not finite"),
    ],
)
def test_what_dies_later(start, name, status, text, monkeypatch):
    with start(name) as worker:
        worker.ready()
        monkeypatch.setattr(worker, "_timeout_s", 3.0)  # not for loading: the machine may be busy
        with pytest.raises(WorkerError, match=text) as caught:
            worker.ask("turn", **{**TURN, "frames": 100})
        assert caught.value.status == status
        assert gone(worker)
        with pytest.raises(WorkerError):
            worker.ask("turn", **TURN)


def test_killed_while_idle(start):
    with start("Good") as worker:
        worker.ready()
        os.kill(worker.pid, 9)
        with pytest.raises(WorkerError, match="SIGKILL"):
            worker.ask("turn", **TURN)
    assert gone(worker)


def test_a_worker_ends_with_its_parent(spec_file):
    """The parent is killed outright and can clean up nothing."""
    program = (
        "import os, sys\nfrom pathlib import Path\n"
        "from shiftedge.benchmarks.crew import Worker\n"
        "good = 'kit.faulty_contenders:Good'\n"
        "worker = Worker(good, Path(sys.argv[1]), 1, timeout_s=20)\n"
        "worker.ready()\nprint(worker.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program, str(spec_file)], capture_output=True, check=False
    )
    # It held the pipe of the parent's stderr no longer than its own life: run() has seen its end.
    assert parent.returncode == -9
    status = Path(f"/proc/{int(parent.stdout)}/stat")
    end = 200
    while status.exists() and status.read_text().split(") ")[1][0] not in "ZX" and end:
        end -= 1
        subprocess.run(["sleep", "0.05"], check=True)
    assert end
