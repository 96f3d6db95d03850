"""The command line as a user meets it: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shiftedge import __version__
from shiftedge.__main__ import main

COMMANDS = (
    "inspect",
    "selftest",
    "cameras",
    "run",
    "demo",
    "record",
    "export",
    "train",
    "models",
    "score",
    "calibrate",
    "personalise",
    "compile",
    "deploy",
    "bench",
)


def sentence(capsys) -> str:
    """What stood on stderr: one line, from us, no traceback."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines, "a failure must say something"
    assert lines[-1].startswith("shiftedge: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


SECOND_WORDS = (("models", "fetch"), ("bench", "complexity"))


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), *SECOND_WORDS])
def test_help_has_text_and_costs_no_heavy_import(command):
    script = (
        "import sys\n"
        "from shiftedge.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print('exit', end.code)\n"
        "heavy = {'torch', 'tvm', 'cv2', 'onnx', 'onnxruntime', 'rich'} & set(sys.modules)\n"
        "print('heavy', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--help"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent / "src")},
    )  # fmt: skip
    assert "usage: shiftedge" in done.stdout
    assert "exit 0" in done.stdout
    assert "heavy []" in done.stdout
    if command and command != ("models", "fetch"):
        assert "examples:" in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == f"shiftedge {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["run", "--threads", "0"],
        ["export", "--output", "x.onnx"],
        ["export", "--model", "mobilenet_v2", "--checkpoint", "x", "--output", "y"],
        ["export", "--model", "mobilenet_v2", "--size", "big", "--output", "y"],
        ["export", "--model", "mobilenet_v2", "--size", "4", "--output", "y"],
        ["export", "--model", "mobilenet_v2", "--width", "0", "--output", "y"],
        ["export", "--model", "mobilenet_v2", "--width", "nan", "--output", "y"],
        ["train", "synthetic:", "--width", "-1", "--output", "y"],
        ["demo", "--seconds", "-1"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_inspect(tiny_onnx, capsys):
    assert main(["inspect", str(tiny_onnx)]) == 0
    text = capsys.readouterr().out
    assert "32x24" in text
    assert "No gesture  (never an event)" in text
    assert main(["inspect", "--json", str(tiny_onnx)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"


def test_run_prints_json_lines_on_stdout_and_the_rest_on_stderr(tiny_onnx, capsys):
    source = "synthetic:moving?seconds=2&fps=24&size=64x48"
    assert main(["run", str(tiny_onnx), "--source", source, "--steps"]) == 0
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    steps = [line for line in lines if line.get("step")]
    assert len(steps) == 24, "two seconds at the model's 12 Hz, whatever the camera's rate"
    assert all(0 < line["confidence"] <= 1 for line in lines)
    assert [line["time_s"] for line in lines] == sorted(line["time_s"] for line in lines)
    assert "48 frames, 24 steps" in captured.err


def test_run_twice_gives_the_same(tiny_onnx, capsys):
    arguments = ["run", str(tiny_onnx), "--source", "synthetic:moving?seconds=1&size=64x48"]
    main([*arguments, "--steps"])
    first = capsys.readouterr().out
    main([*arguments, "--steps"])
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent.onnx"], "no model file absent.onnx"),
        (["inspect", "absent.onnx"], "no model file absent.onnx"),
        (["run", "MODEL", "--engine", "fast"], "no engine 'fast'"),
        (["run", "MODEL", "--provider", "abacus"], "abacus is not in this onnxruntime"),
        (["run", "MODEL", "--source", "absent.mp4"], "absent.mp4"),
        (["run", "MODEL", "--source", "synthetic:dance"], "synthetic:dance is not known"),
        (["run", "MODEL", "--source", "99"], "99"),
        (["demo", "MODEL", "--source", "absent.mp4", "--no-film"], "absent.mp4"),
        (["models", "fetch", "nothing"], "no model named 'nothing'"),
    ],
)
def test_failures_are_one_sentence_and_exit_1(arguments, message, tiny_onnx, capsys, monkeypatch):
    monkeypatch.chdir(tiny_onnx.parent)
    arguments = [str(tiny_onnx) if word == "MODEL" else word for word in arguments]
    assert main(arguments) == 1
    assert message in sentence(capsys)


def test_models_list(capsys):
    assert main(["models", "list"]) == 0
    assert "jester" in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} >= {"jester"}


def test_the_bundled_model_is_not_fetched(capsys):
    assert main(["models", "fetch", "gestures"]) == 0
    assert "part of the installation" in capsys.readouterr().out


def shell(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "shiftedge", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent / "src")}, **options,
    )  # fmt: skip


def test_ctrl_c_ends_a_run_with_its_summary(tiny_onnx):
    source = "synthetic:moving?seconds=3000&size=64x48"
    run = shell("run", str(tiny_onnx), "--source", source, "--steps")
    assert run.stdout is not None
    for _ in range(5):
        assert json.loads(run.stdout.readline())
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 0
    assert "interrupted" in err
    assert "steps" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_error(tiny_onnx):
    source = "synthetic:moving?seconds=3000&size=64x48"
    run = shell("run", str(tiny_onnx), "--source", source, "--steps")
    assert run.stdout is not None
    run.stdout.readline()
    run.stdout.close()
    assert run.stderr is not None
    err = run.stderr.read()
    assert run.wait(timeout=60) == 0
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_export_inspect_run(tmp_path, capsys):
    pytest.importorskip("torch", reason="the export extra (torch) is not installed")
    model = str(tmp_path / "untrained.onnx")
    labels = tmp_path / "labels.txt"
    labels.write_text("No gesture\nWaving\n\n")
    arguments = ["export", "--model", "mobilenet_v2", "--width", "0.35", "--size", "96x64"]
    assert main([*arguments, "--labels", str(labels), "--output", model, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert {row["forms"] for row in report["comparisons"]} == {
        "clip / online", "online / ONNX Runtime"
    }  # fmt: skip
    assert main(["inspect", "--json", model]) == 0
    spec = json.loads(capsys.readouterr().out)
    assert (spec["width"], spec["height"]) == (96, 64)
    assert spec["labels"] == ["No gesture", "Waving"]
    assert spec["silent_labels"] == ["No gesture"]
    assert main(["run", model, "--source", "synthetic:moving?seconds=1&size=96x64"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "absent.pth"], "No such file"),
        (["--checkpoint", "garbage.pth"], "not a whole torch checkpoint"),
        (["--model", "vgg"], "no architecture 'vgg'"),
        (["--model", "no_such_module:make"], "gave no network"),
        (["--model", "mobilenet_v2", "--labels", "twice.txt"], "each name once"),
        (["--model", "mobilenet_v2", "--labels", "absent.txt"], "Cannot read the labels"),
        (["--model", "mobilenet_v2", "--labels", "empty.txt"], "holds no labels"),
        (["--model", "mobilenet_v2", "--labels", "latin.txt"], "no text in UTF-8"),
    ],
)
def test_export_failures_leave_no_file(arguments, message, tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch", reason="the export extra (torch) is not installed")
    monkeypatch.chdir(tmp_path)
    Path("garbage.pth").write_bytes(b"garbage")
    Path("twice.txt").write_text("a\na\n")
    Path("empty.txt").write_text("\n")
    Path("latin.txt").write_bytes(b"\xe9\n")
    before = sorted(tmp_path.iterdir())
    assert main(["export", *arguments, "--size", "64", "--output", "m.onnx"]) == 1
    assert message in sentence(capsys)
    assert sorted(tmp_path.iterdir()) == before


def test_labels_that_do_not_match_the_classes(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")
    from shiftedge.export.models import MobileNetV2

    torch.save(MobileNetV2(3, width=0.35).state_dict(), tmp_path / "c.pth")
    (tmp_path / "two.txt").write_text("a\nb\n")
    arguments = ["export", "--checkpoint", str(tmp_path / "c.pth"), "--size", "64"]
    arguments += ["--labels", str(tmp_path / "two.txt"), "--output", str(tmp_path / "m.onnx")]
    assert main(arguments) == 1
    assert "2 labels and the network has 3 classes" in sentence(capsys)
