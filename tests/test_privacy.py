"""Nothing leaves this machine: no command sends anything or leaves files outside our cache."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kit.mosquitto import free_port, wait_until
from kit.outgoing import ROOT, Run, Tracer, preloaded, strace

from shiftedge.runtime.process import extras
from shiftedge.runtime.process.telemetry import (
    SENDERS,
    SENDS_SINCE,
    SWITCHES,
    keep_out_senders,
    switch_off,
)

GESTURES = ROOT / "runtime" / "assets" / "gestures.onnx"
SENDS_UNTIL = (1, 32)
"""The last onnxruntime that is known to send."""
SEND_S = 90.0
"""It sends nine seconds after it was imported, on an idle machine."""
SHIFTEDGE = (sys.executable, "-m", "shiftedge")


@pytest.fixture(scope="module")
def tracers(tmp_path_factory: pytest.TempPathFactory) -> list[Tracer | str]:
    """Each way to see what is sent, or why there is not."""
    return [strace(), preloaded(tmp_path_factory.mktemp("library"))]


@pytest.fixture(scope="module")
def tracer(tracers: list[Tracer | str]) -> Tracer:
    """The first that there is."""
    for found in tracers:
        if isinstance(found, Tracer):
            return found
    pytest.skip("; ".join(map(str, tracers)))


@pytest.fixture(scope="module")
def long_run(tracer: Tracer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of ``shiftedge`` that lasts longer than onnxruntime waits before it sends. It goes on
    beside other tests."""
    pytest.importorskip("onnxruntime", reason="the onnx extra (onnxruntime) is not installed")
    pytest.importorskip("cv2", reason="the camera extra (opencv-python) is not installed")
    command = [*SHIFTEDGE, "run", "--source", "synthetic:still?seconds=20&size=160x120&fps=12"]
    with Run(tracer, command, tmp_path_factory.mktemp("long") / "run") as run:
        yield run


@pytest.fixture(scope="module")
def unswitched(tracer: Tracer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The same library, by somebody who wants it to send."""
    pytest.importorskip("onnxruntime", reason="the onnx extra (onnxruntime) is not installed")
    program = f"import shiftedge, time; shiftedge.load({str(GESTURES)!r}); time.sleep({SEND_S})"
    command = [sys.executable, "-c", program]
    folder = tmp_path_factory.mktemp("unswitched") / "run"
    with Run(tracer, command, folder, {"ORT_DISABLE_TELEMETRY": "0"}) as run:
        yield run


@pytest.mark.parametrize("index", [0, 1], ids=["strace", "preloaded"])
def test_the_tracers_see_what_is_sent(
    tracers: list[Tracer | str], index: int, tmp_path: Path
) -> None:
    found = tracers[index]
    if isinstance(found, str):
        pytest.skip(found)
    silent = "import socket, pathlib; socket.socket(socket.AF_UNIX)"
    with Run(found, [sys.executable, "-c", silent], tmp_path / "silent") as run:
        assert run.wait() == 0, run.said
        assert run.sent() == run.left() == []
    program = (
        "import pathlib, socket, subprocess, sys\n"
        "(pathlib.Path.home() / 'id').touch()\n"
        "inner = 'import socket; socket.socket().connect_ex((\"127.0.0.1\", 9))'\n"
        "subprocess.run([sys.executable, '-c', inner], check=True)\n"
    )
    with Run(found, [sys.executable, "-c", program], tmp_path / "open") as run:
        assert run.wait() == 0, run.said
        assert any("connect" in line for line in run.sent())
        assert run.left() == ["home/id"]


def answers(url: str) -> bool:
    """Whether somebody does, and well."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=20) as answer:
        return bool(answer.status == 200)
    return False


@pytest.mark.usefixtures("long_run", "unswitched")  # they begin here, and others go on meanwhile
class TestCommands:
    """Each command, in a home of its own."""

    @pytest.fixture
    def check(self, tracer: Tracer, tmp_path: Path) -> Callable[..., None]:
        def check(*words: object, program: str | None = None) -> None:
            command = [*SHIFTEDGE, *map(str, words)]
            if program is not None:
                command = [sys.executable, "-c", program]
            with Run(tracer, command, tmp_path / "run") as run:
                assert run.wait() == 0, run.said
                assert run.sent() == []
                assert run.left() == []

        return check

    def test_library(self, check: Callable[..., None]) -> None:
        pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
        check(program=f"import shiftedge; shiftedge.load({str(GESTURES)!r}).stream()")

    def test_demo(self, check: Callable[..., None]) -> None:
        pytest.importorskip("cv2", reason="the camera extra is not installed")
        check("demo", "--seconds", "1", "--film", "film.mp4")

    def test_page(self, tracer: Tracer, tmp_path: Path) -> None:
        """It listens where it was told to, answers who asks, and asks nobody."""
        for package in ("cv2", "onnxruntime", "aiohttp", "segno"):
            pytest.importorskip(package, reason=f"needs {package}")
        port = free_port()
        where = f"127.0.0.1:{port}"
        command = [*SHIFTEDGE, "demo", "--web", where, "--source", "synthetic:still?seconds=600"]
        with Run(tracer, command, tmp_path / "run") as run:
            for path in ("/", "/page.js", "/readyz"):
                wait_until(lambda path=path: answers(f"http://{where}{path}") or run.ended)
            assert not run.ended, run.said
            sent = run.sent()
            assert run.left() == []
        # To make a socket of the internet, which is listened on, is no sending.
        assert [line for line in sent if not re.search(r"\bsocket\(", line)] == []

    def test_inspect(self, check: Callable[..., None]) -> None:
        check("inspect", GESTURES)

    def test_models(self, check: Callable[..., None]) -> None:
        check("models", "list")

    @pytest.mark.long
    def test_quantize(self, check: Callable[..., None], tiny_onnx: Path, clips: Path) -> None:
        check("quantize", tiny_onnx, "--calibration", clips, "--frames", 64,
              "--max-accuracy-drop", 100, "--output", "int8.onnx")  # fmt: skip

    @pytest.mark.long
    def test_compile(self, check: Callable[..., None], tiny_onnx: Path) -> None:
        pytest.importorskip("ziglang", reason="the compile extra is not installed")
        check("compile", tiny_onnx, "--output", "bundle")

    def test_record(self, check: Callable[..., None]) -> None:
        pytest.importorskip("cv2", reason="the camera extra is not installed")
        check("record", "--label", "Wave", "--data", "mine", "--yes", "--count", 1, "--seconds", 1,
              "--source", "synthetic:moving?seconds=3&size=64x64")  # fmt: skip

    def test_bench(self, check: Callable[..., None], tiny_onnx: Path) -> None:
        """OpenVINO among them where it is installed: importing that sends."""
        check("bench", tiny_onnx, "--engines", "onnxruntime,openvino", "--frames", 4,
              "--starts", 1, "--json", "bench.json")  # fmt: skip

    @pytest.mark.long
    def test_train_and_export(self, check: Callable[..., None], clips: Path) -> None:
        """torch is imported once for both."""
        pytest.importorskip("onnxscript", reason="the export extra is not installed")
        words = [
            ["train", str(clips), "--epochs", "1", "--threads", "1", "--size", "32x32",
             "--output", "trained"],
            ["export", "--checkpoint", "trained/checkpoint.pt", "--output", "my.onnx"],
        ]  # fmt: skip
        check(
            program=f"from shiftedge.__main__ import main\nfor line in {words!r}:\n"
            "    status = main(line)\n    if status: raise SystemExit(status)"
        )

    def test_a_long_run(self, long_run: Run) -> None:
        assert long_run.wait() == 0, long_run.said
        assert long_run.sent() == []
        assert long_run.left() == []

    def test_without_the_switch_it_would_send(self, unswitched: Run) -> None:
        """So the tests above would have seen it: the same process with the switch undone."""
        onnxruntime = pytest.importorskip("onnxruntime")
        version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
        if version < SENDS_SINCE:
            pytest.skip(f"onnxruntime {onnxruntime.__version__} does not send")
        end_s = time.monotonic() + SEND_S
        while not unswitched.sent() and not unswitched.ended and time.monotonic() < end_s:
            time.sleep(0.1)
        if version > SENDS_UNTIL and not unswitched.sent():
            pytest.skip(f"onnxruntime {onnxruntime.__version__} does not seem to send any more")
        assert unswitched.sent()
        assert any("Microsoft" in path for path in unswitched.left())


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels with two short clips each, as folders of pictures."""
    cv2 = pytest.importorskip("cv2", reason="the camera extra is not installed")
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("clips")
    for label in ("No gesture", "Swiping Left"):
        for number in range(2):
            clip = folder / label / f"{number}"
            clip.mkdir(parents=True)
            for index in range(20):
                image = generator.integers(0, 256, (32, 32, 3), np.uint8)
                cv2.imwrite(str(clip / f"{index:03}.png"), image)
    return folder


def test_switches_are_set_and_what_the_user_set_is_left() -> None:
    found: dict[str, str] = {}
    switch_off(found)
    assert found == SWITCHES
    for given, after in (("0", "0"), ("", "1"), ("yes", "yes")):
        found = {"ORT_DISABLE_TELEMETRY": given}
        switch_off(found)
        assert found == {"ORT_DISABLE_TELEMETRY": after}
    assert os.environ["ORT_DISABLE_TELEMETRY"]  # of this process, by the import above


def python(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT / "src"), **variables}
    line = [sys.executable, "-c", program]
    return subprocess.run(line, capture_output=True, text=True, check=True, env=environment)


LATE = """
import sys, types
stub = types.ModuleType("onnxruntime")
stub.__version__ = "{version}"
stub.disable_telemetry_events = lambda: print("stopped")
sys.modules["onnxruntime"] = stub
import shiftedge
"""


@pytest.mark.parametrize(
    ("version", "variables", "stopped", "warned"),
    [
        ("1.32.0", {}, True, True),
        ("1.29.1", {}, True, True),
        ("2.0.0", {}, True, True),
        ("1.28.0", {}, True, False),
        ("odd", {}, True, False),
        ("1.32.0", {"ORT_DISABLE_TELEMETRY": "1"}, False, False),
        ("1.32.0", {"ORT_DISABLE_TELEMETRY": "0"}, False, False),
    ],
)
def test_onnxruntime_that_was_imported_before(
    version: str, variables: dict[str, str], stopped: bool, warned: bool
) -> None:
    done = python(LATE.format(version=version), **variables)
    assert ("stopped" in done.stdout) is stopped
    assert ("import shiftedge first" in done.stderr) is warned
    if warned:
        assert "<string>:7: UserWarning: onnxruntime" in done.stderr


def test_importing_shiftedge_first_is_in_time() -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    done = python("import shiftedge, onnxruntime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])")
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_senders_are_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SENDERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    keep_out_senders()
    for name in SENDERS:
        with pytest.raises(ImportError):
            __import__(name)
        monkeypatch.delitem(sys.modules, name)


def test_caches_of_packages_are_in_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "matplotlib.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    extras.require("matplotlib")
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "cache" / "shiftedge" / "matplotlib")
    assert not (tmp_path / "cache").exists()  # made by who needs it
    monkeypatch.setenv("MPLCONFIGDIR", "elsewhere")
    extras.require("matplotlib")
    assert os.environ["MPLCONFIGDIR"] == "elsewhere"
    monkeypatch.setenv("MPLCONFIGDIR", "")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    extras.require("matplotlib")
    assert os.environ["MPLCONFIGDIR"] == ""
    monkeypatch.delitem(sys.modules, "matplotlib")
