"""What README.md and the pages of docs/ show works as it stands."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import shiftedge
from shiftedge.__main__ import parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {
    path.relative_to(ROOT): path.read_text(encoding="utf-8")
    for path in (*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md"))
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_plain_onnxruntime_script(tiny_onnx, monkeypatch, tmp_path):
    """15 lines that know nothing of this package give what our stream gives, frame by frame."""
    pytest.importorskip("onnxruntime", reason="the onnx extra (onnxruntime) is not installed")
    page = DOCS[Path("docs/own-models.md")]
    (script,) = (each for each in blocks("python", page) if "np, onnxruntime" in each)
    assert "shiftedge" not in script
    assert len([line for line in script.splitlines() if line.strip()]) <= 15
    (tmp_path / "my.onnx").write_bytes(tiny_onnx.read_bytes())
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(script, "own-models.md", "exec"), names)  # noqa: S102 - the page is our own
    step = names["step"]
    assert callable(step)
    stream = shiftedge.load("my.onnx").stream()
    generator = np.random.default_rng(0)
    for _ in range(8):
        image = generator.integers(0, 256, (24, 32, 3), np.uint8)
        logits = np.asarray(step(image[..., ::-1]))
        np.testing.assert_allclose(stream.step(image), logits, rtol=1e-4, atol=1e-5)


PARAGRAPH_MOST = 450
"""Characters of a paragraph, as it is read: what a screen shows of it at a glance."""


def commands(text: str = README) -> list[str]:
    found = lines_of(text)
    found += re.findall(r"`(shiftedge [^`]+)`", text)
    return [line for line in found if line.startswith("shiftedge ") and "<" not in line]


def lines_of(text: str) -> list[str]:
    """Of the blocks for a shell, without their comments."""
    every = "\n".join(blocks("sh", text)).replace("\\\n", " ").splitlines()
    return [line.split("   #")[0].strip() for line in every]


def of_docs() -> list[str]:
    """Whole commands of the other pages, where one of few words is a name."""
    found = [line for text in DOCS.values() for line in commands(text)]
    return sorted({line for line in found if len(line.split()) > 3})


@pytest.mark.parametrize("command", [*commands(), *of_docs()])
def test_commands_are_understood(command):
    options = parser().parse_args(shlex.split(command)[1:])
    assert callable(options.handler)


def test_links_lead_somewhere():
    for path, text in {Path("README.md"): README, **DOCS}.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (ROOT / path.parent / target).exists(), (path, target)


def test_what_is_installed_can_be():
    """From the clone's folder, since there are no wheels; by extras that there are."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = set(settings["options.extras_require"])
    found = re.findall(r"pip install ([^`\n]+?)(?:`|   #|\n)", README + "".join(DOCS.values()))
    assert len(found) >= 6
    for words in found:
        assert "shiftedge" not in words, words
        if match := re.fullmatch(r"-e '\.\[([a-z,]+)\]'", words.strip()):
            assert set(match[1].split(",")) <= extras, words
    for target in re.findall(r"^make (\w+)", "\n".join(lines_of(README)), re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_paragraphs_are_short():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    prose = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose)
    long = [
        f"{len(part)} characters: {part[:60]}"
        for part in re.split(r"\n\s*\n|\n(?=[-|#])", prose)
        if len(part) > PARAGRAPH_MOST
    ]
    assert long == []


def test_pipe_sources_are_understood():
    from shiftedge.runtime.capture.pipe import parse_pipe

    pipes = [re.search(r"'pipe:(.*)'", command) for command in (*commands(), *of_docs())]
    found = [match[1] for match in pipes if match]
    assert len(found) >= 2
    for text in found:
        video = parse_pipe(text).video
        assert video is not None
        assert (video.width, video.height) == (640, 480)
