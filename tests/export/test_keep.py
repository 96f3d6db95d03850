"""A training is not lost: room is asked for before it, and a failed write finds another place."""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")
pytest.importorskip("cv2", reason="the camera extra (opencv) is not installed")

import numpy as np
from kit.clips import frame_spec
from kit.networks import train

from shiftedge.export.checkpoint import load_checkpoint
from shiftedge.export.data.rendered import synthetic_clips
from shiftedge.export.training import CHECKPOINT, SCORES, Shape
from shiftedge.export.training.keep import Keeper
from shiftedge.runtime.errors import OutputError

SHAPE = Shape(multiplier=0.25, height=32, width=32, rate_hz=6.0, dropout=0.0)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within, no file grows past so many bytes: a disk that is full, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def pictures(root: Path, clips: int = 2) -> Path:
    import cv2

    rng = np.random.default_rng(0)
    for label in ("left", "none"):
        for clip in range(clips):
            folder = root / label / str(clip)
            folder.mkdir(parents=True)
            for frame in range(12):
                image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{frame}.png"), image)
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_full_disk_is_said_before_any_clip_is_read(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "data" / "left").mkdir(parents=True)
    (tmp_path / "data" / "none").mkdir()
    for label in ("left", "none"):
        for number in range(2):
            (tmp_path / "data" / label / f"{number}.mp4").write_bytes(b"never read")
    with largest_file(400_000), pytest.raises(OutputError) as caught:
        train(str(tmp_path / "data"), out, epochs=1, threads=1, shape=SHAPE)
    assert f"Cannot write into {out}: " in str(caught.value)
    assert "MB there" in str(caught.value)
    assert not list(out.iterdir())


def test_what_cannot_be_written_is_kept_elsewhere(tmp_path: Path, elsewhere: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    said: list[str] = []
    keeper = Keeper(out, lambda: b"weights", said.append)
    keeper.keep(1)
    assert (out / CHECKPOINT).read_bytes() == b"weights"
    assert keeper.interrupted().startswith(f"what was learnt in epoch 1 is in {out / CHECKPOINT}")
    shutil.rmtree(out)
    keeper.keep(2)
    (found,) = elsewhere.glob(f"*/{CHECKPOINT}")
    assert found.read_bytes() == b"weights"
    assert f"Cannot write {out / CHECKPOINT}: " in said[0]
    assert f"The checkpoint is in {found} instead." in said[0]
    assert f"in epochs 1 to 2 is in {found}" in keeper.interrupted()
    with pytest.raises(OutputError, match=f"What was learnt is not lost: it is in {found}"):
        keeper.finish({})
    out.mkdir()
    keeper.keep(3)
    keeper.finish({"seed": 1})
    assert not list(elsewhere.iterdir())
    assert sorted(path.name for path in out.iterdir()) == [CHECKPOINT, SCORES]


def test_a_training_survives_its_output_folder(tmp_path: Path, elsewhere: Path) -> None:
    out, said = tmp_path / "out", []  # type: ignore[var-annotated]

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("epoch 1 "):
            shutil.rmtree(out)

    data = pictures(tmp_path / "data")
    with pytest.raises(OutputError, match="What was learnt is not lost: it is in") as caught:
        train(str(data), out, epochs=2, threads=1, shape=SHAPE, say=say)
    (found,) = elsewhere.glob(f"*/{CHECKPOINT}")
    assert str(found) in str(caught.value)
    assert load_checkpoint(found).training["epochs"] == 2


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (2, "no checkpoint was kept, since not one epoch was whole"),
        (3, "what was learnt in epoch 1 is"),
    ],
)
def test_an_interrupted_training_says_what_is_left(tmp_path: Path, after: int, words: str) -> None:
    said: list[str] = []

    @contextlib.contextmanager
    def impatient(description: str, total: int | None, unit: str) -> Iterator[Any]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if description == "training" and done >= after:  # two clips are an epoch
                raise KeyboardInterrupt

        yield advance

    data = pictures(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        train(
            str(data), tmp_path / "out", epochs=3, threads=1, shape=SHAPE, bar=impatient,
            say=said.append,
        )  # fmt: skip
    assert words in said[-1]
    assert (tmp_path / "out" / CHECKPOINT).exists() == (after > 2)


def test_no_room_for_rendered_clips_is_a_sentence(tmp_path: Path, elsewhere: Path) -> None:
    spec = frame_spec(32, 32, 6.0)
    for cache in (None, tmp_path / "cache"):
        with largest_file(10_000), pytest.raises(OutputError, match=r"Cannot (keep|write)"):
            synthetic_clips(2, spec, seed=1, split="t", frames=8, cache=cache)
        assert not list(elsewhere.iterdir())
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("kept", [False, True])
def test_an_interrupt_leaves_no_clips_behind(tmp_path: Path, elsewhere: Path, kept: bool) -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic_clips(
            40, frame_spec(24, 32), seed=0, split="train", frames=2,
            cache=tmp_path / "cache" if kept else None, advance=interrupt,
        )  # fmt: skip
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(elsewhere.iterdir()) == []
