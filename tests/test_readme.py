"""What README.md shows works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import shiftedge
from shiftedge.__main__ import parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_plain_onnxruntime_script(tiny_onnx, monkeypatch, tmp_path):
    """15 lines that know nothing of this package give what our stream gives, frame by frame."""
    pytest.importorskip("onnxruntime", reason="the onnx extra (onnxruntime) is not installed")
    script = next(block for block in blocks("python") if "import numpy as np, onnxruntime" in block)
    assert "shiftedge" not in script
    assert len([line for line in script.splitlines() if line.strip()]) <= 15
    (tmp_path / "my.onnx").write_bytes(tiny_onnx.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(script, "README.md", "exec"), names)  # noqa: S102 - the README is our own
    step = names["step"]
    assert callable(step)
    stream = shiftedge.load("my.onnx").stream()
    generator = np.random.default_rng(0)
    for _ in range(8):
        image = generator.integers(0, 256, (24, 32, 3), np.uint8)
        logits = np.asarray(step(image[..., ::-1]))
        np.testing.assert_allclose(stream.step(image), logits, rtol=1e-4, atol=1e-5)


def commands() -> list[str]:
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    found = [line.split("   #")[0].strip() for line in lines]
    found += re.findall(r"`(shiftedge [^`]+)`", README)
    return [line for line in found if line.startswith("shiftedge ") and "<" not in line]


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command):
    options = parser().parse_args(shlex.split(command)[1:])
    assert callable(options.handler)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_pipe_sources_are_understood():
    from shiftedge.runtime.capture.pipe import parse_pipe

    pipes = [re.search(r"'pipe:(.*)'", command) for command in commands()]
    found = [match[1] for match in pipes if match]
    assert len(found) >= 2
    for text in found:
        video = parse_pipe(text).video
        assert video is not None
        assert (video.width, video.height) == (640, 480)
