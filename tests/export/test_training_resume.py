"""Trainings that are stopped go on to the same bytes, and clips are drawn by their step alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("cv2")

import cv2
import torch
from kit.clips import frame_spec
from kit.networks import train

from shiftedge.export import training
from shiftedge.export.checkpoint import load_checkpoint
from shiftedge.export.data.clip_set import IGNORED, ClipSet, joined
from shiftedge.export.data.rendered import FreshClips, synthetic_clips
from shiftedge.export.training import CHECKPOINT, SCORES, Shape, frozen, resume
from shiftedge.export.training.augment import make_batch, reverse_table
from shiftedge.export.training.data import name_data
from shiftedge.export.training.resume import UNFINISHED
from shiftedge.export.training.supply import KeptClips, Mixture, turns
from shiftedge.runtime.capture.synthetic import LABELS, REVERSED
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.spec import IMAGENET_MEAN, IMAGENET_STD

SMALL = frame_spec(32, 32, 6.0)
SHAPE = Shape(multiplier=0.25, height=32, width=32, rate_hz=6.0, dropout=0.2)
SHORT: dict[str, Any] = {
    "clips": 26,
    "check_clips": 3,
    "films": 0,
    "epochs": 2,
    "threads": 1,
    "seed": 4,
    "shape": SHAPE,
}
"""Two epochs of three steps, the last of an epoch of two clips."""


# --- stopped and going on


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a training that nobody stops ends with."""
    output = tmp_path_factory.mktemp("whole")
    train("synthetic:", output, **SHORT)
    assert not (output / UNFINISHED).exists(), "nothing to go on from"
    return (output / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 6])
def test_a_training_that_is_stopped_ends_with_the_same_bytes(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """After ``steps``, before what is left to do after the last of them."""
    with monkeypatch.context() as patch:
        patch.setattr(resume, "KEEP_EVERY_S", 0.0)
        patch.setattr(resume, "_SHARE", 1e9)
        keep = resume.Unfinished.keep

        def keep_and_stop(self: resume.Unfinished, state: Any, *, now: bool = False) -> None:
            keep(self, state, now=now)
            if state()["done"] == steps:
                raise KeyboardInterrupt

        patch.setattr(resume.Unfinished, "keep", keep_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train("synthetic:", tmp_path, **SHORT)
    assert not (tmp_path / SCORES).exists()
    said: list[str] = []
    train("synthetic:", tmp_path, say=said.append, **SHORT)
    assert f"going on after step {steps} of 6, where it was stopped" in said
    assert (tmp_path / CHECKPOINT).read_bytes() == whole
    assert not (tmp_path / UNFINISHED).exists()


def test_a_training_that_is_killed_ends_with_the_same_bytes(tmp_path: Path, whole: bytes) -> None:
    """By SIGKILL, at moments of chance, with processes that render."""
    code = f"""
import sys
from pathlib import Path
from shiftedge.export.training import Job, Shape, train, resume
if __name__ == "__main__":
    resume.KEEP_EVERY_S, resume._SHARE = 0.0, 1e9
    more = {{k: v for k, v in {SHORT!r}.items() if k != "shape"}}
    train(Job(("synthetic:",), Path(sys.argv[1]), workers=1, **more), shape={SHAPE!r})
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    output = tmp_path / "out"
    chance = random.Random(1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(5):
        with subprocess.Popen([sys.executable, script, output], env=environment) as process:
            before = _modified(output)
            while process.poll() is None and _modified(output) == before:
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 0.2))
            process.send_signal(signal.SIGKILL)
        if (output / SCORES).exists():
            break
    subprocess.run([sys.executable, script, output], env=environment, check=True)
    assert (output / CHECKPOINT).read_bytes() == whole


def _modified(output: Path) -> int:
    try:
        return (output / UNFINISHED).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def test_a_training_may_start_from_a_trainers_folder(tmp_path: Path, whole: bytes) -> None:
    """As ``load_checkpoint`` takes one; what it started from is told by its weights."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pytorch_model.bin").write_bytes(whole)
    (tmp_path / "file.pt").write_bytes(whole)
    more = {**SHORT, "epochs": 1, "shape": None}
    train("synthetic:", tmp_path / "a", **more, start=tmp_path / "run")
    train("synthetic:", tmp_path / "b", **more, start=tmp_path / "file.pt")
    one, two = ((tmp_path / name / CHECKPOINT).read_bytes() for name in "ab")
    assert one == two


def test_what_is_of_another_training_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume, "KEEP_EVERY_S", 0.0)
        patch.setattr("shiftedge.export.training.session.Session._after_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train("synthetic:", tmp_path, **SHORT)
    kept = (tmp_path / UNFINISHED).read_bytes()
    with pytest.raises(DataError, match=r"other seed, 4 and not 5: give the same .*--fresh"):
        train("synthetic:", tmp_path, **{**SHORT, "seed": 5})
    with pytest.raises(DataError, match=r"other settings, epochs 2 and not 3"):
        train("synthetic:", tmp_path, **{**SHORT, "epochs": 3})
    assert (tmp_path / UNFINISHED).read_bytes() == kept
    (tmp_path / UNFINISHED).write_bytes(kept[: len(kept) // 2])
    with pytest.raises(DataError, match="is no training that can go on: give --fresh"):
        train("synthetic:", tmp_path, **SHORT)
    train("synthetic:", tmp_path, fresh=True, **SHORT)
    assert not (tmp_path / UNFINISHED).exists()


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    unfinished = resume.Unfinished(tmp_path, {}, said.append)
    unfinished.keep(lambda: {"done": 1}, now=True)

    def full(self: Path, content: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for done in (2, 3):
        unfinished.keep(lambda done=done: {"done": done}, now=True)  # type: ignore[misc]
    assert unfinished.load() == {"done": 1}
    assert len(said) == 1
    assert "No space left" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [UNFINISHED]


# --- clips by their step


def numbered(count: int, names: tuple[str, ...] = ("a", "b"), first: int = 0) -> ClipSet:
    """Clips whose pixels say which they are."""
    frames = np.empty((count, 4, 2, 2, 3), np.uint8)
    frames[:] = (first + np.arange(count))[:, None, None, None, None]
    truth = np.full((count, 4), IGNORED, np.int8)
    return ClipSet(frames, np.arange(count) % len(names), truth, names)


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    shares=st.none() | st.lists(st.floats(0.1, 9.0), min_size=3, max_size=3),
    batch=st.integers(1, 7),
    passes=st.integers(1, 3),
    seed=st.integers(0, 9),
    data=st.data(),
)
@settings(max_examples=60)
def test_a_step_draws_the_same_wherever_a_training_begins(
    counts: list[int],
    shares: list[float] | None,
    batch: int,
    passes: int,
    seed: int,
    data: st.DataObject,
) -> None:
    parts = tuple(KeptClips(numbered(n, first=20 * i)) for i, n in enumerate(counts))
    given_shares = None if shares is None else tuple(shares[: len(counts)])
    mixed = Mixture(parts, ("a", "b"), seed, given_shares)

    def drawn(first: int) -> list[tuple[int, int, bool, list[int]]]:
        return [
            (turn.step, turn.passed, turn.last, turn.ready)
            for turn in turns(
                mixed, batch, first, passes, lambda *of: of[3].frames[:, 0, 0, 0, 0].tolist()
            )
        ]

    everything = drawn(0)
    first = data.draw(st.integers(0, len(everything)))
    assert drawn(first) == everything[first:]
    assert [last for *_, last, _ in everything].count(True) == passes
    if given_shares is None:
        for passed in range(passes):
            seen = [clip for _, p, _, clips in everything if p == passed for clip in clips]
            assert sorted(seen) == sorted(
                20 * i + n for i, count in enumerate(counts) for n in range(count)
            )


def test_clips_are_drawn_in_proportion_to_their_share() -> None:
    mixed = Mixture(
        (KeptClips(numbered(10)), KeptClips(numbered(30, first=50))), ("a", "b"), 0, (3.0, 1.0)
    )
    plan = mixed.plan(0)
    assert np.bincount(plan[:, 0]).tolist() == [30, 10]
    few = plan[plan[:, 0] == 0]
    for over in range(3):
        assert sorted(few[few[:, 1] == over, 2]) == list(range(10)), "each once before any twice"


def test_fresh_clips_are_those_of_a_set_and_then_others() -> None:
    fresh = FreshClips(4, SMALL, seed=1, frames=8)
    kept = synthetic_clips(8, SMALL, seed=1, split="train", frames=8)
    for passed in (0, 1):
        rows = np.array([2, 0])
        clips = fresh.begin(passed, rows)()
        of_set = kept.take(4 * passed + rows)
        np.testing.assert_array_equal(clips.frames, of_set.frames)
        np.testing.assert_array_equal(clips.frame_labels, of_set.frame_labels)
        assert clips.labels.tolist() == of_set.labels.tolist()


def test_fresh_clips_of_other_processes_are_the_same() -> None:
    rows = np.array([3, 1, 0])
    here = FreshClips(4, SMALL, seed=1, frames=8).begin(0, rows)()
    with FreshClips(4, SMALL, seed=1, frames=8, workers=2) as shared:
        there = shared.begin(0, rows)()
    np.testing.assert_array_equal(here.frames, there.frames)
    assert here.labels.tolist() == there.labels.tolist()


def test_sets_with_and_without_hands_are_joined_under_all_labels() -> None:
    rendered = synthetic_clips(3, SMALL, seed=1, split="train", frames=8)
    own = numbered(2)
    own = ClipSet(
        np.zeros((2, 8, 32, 32, 3), np.uint8), own.labels, np.full((2, 8), -1, np.int8), ("z", "a")
    )
    names = ("a", *LABELS, "z")
    both = joined([rendered.renamed(names), own.renamed(names)])
    assert [names[i] for i in both.labels[:3]] == [LABELS[i] for i in rendered.labels]
    assert [names[i] for i in both.labels[3:]] == ["z", "a"]
    assert both.hands is not None
    assert np.isnan(both.hands[3:]).all()
    named = [LABELS[i] if i >= 0 else "" for i in rendered.frame_labels.ravel()]
    assert [names[i] if i >= 0 else "" for i in both.frame_labels[:3].ravel()] == named


# --- several DATA


def write_clips(data: Path, counts: dict[str, int]) -> Path:
    """Folders of pictures; no two clips are alike."""
    for label, count in counts.items():
        for number in range(count):
            folder = data / label / str(number)
            folder.mkdir(parents=True)
            rng = np.random.default_rng((len(label), number))
            for index in range(8):
                image = rng.integers(0, 256, (36, 64, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{index:03d}.png"), image)
    return data


def test_labels_that_differ_in_case_between_two_data_are_refused(tmp_path: Path) -> None:
    own = write_clips(tmp_path / "own", {"swiping left": 2, "wink": 2})
    with pytest.raises(DataError, match="'Swiping Left' and 'swiping left', which are spelled al"):
        name_data(("synthetic:", str(own)))
    with pytest.raises(DataError, match="is named twice; name each once, and --share"):
        name_data(("synthetic:", "synthetic:"))


def test_own_clips_are_mixed_with_rendered_ones(tmp_path: Path) -> None:
    own = write_clips(tmp_path / "own", {"wink": 3, "Swiping Left": 3})
    said: list[str] = []
    short = {key: value for key, value in SHORT.items() if key != "shape"}
    job = training.Job(
        ("synthetic:", str(own)),
        tmp_path / "out",
        **{**short, "epochs": 1, "clips": 4},
        shares=(1.0, 1.0),
        say=said.append,
    )
    scores = training.train(job, shape=SHAPE)
    assert scores["clip"]["labels"] == [*LABELS, "wink"]
    assert scores["clip"]["clips"] == 3 + 2
    assert scores["data"] == ["synthetic:", "folder"]
    assert "films" not in scores


# --- backwards


def test_opposites_change_places_when_played_backwards() -> None:
    table = reverse_table(LABELS, frozenset({LABELS.index("No gesture")}))
    pairs = {LABELS[a]: LABELS[b] for a, b in enumerate(table) if b >= 0}
    assert pairs == {"No gesture": "No gesture", **REVERSED}
    assert (reverse_table(("Swiping Left", "wink", "Thumb Up", "Thumb Down")) == -1).all()


def test_a_clip_played_backwards_has_the_other_label() -> None:
    count = 60
    frames = np.empty((count, 4, 8, 8, 3), np.uint8)
    frames[:] = np.array([40, 90, 140, 190])[None, :, None, None, None]
    names = ("Swiping Up", "Swiping Down")
    clips = ClipSet(frames, np.zeros(count, np.int64), np.full((count, 4), IGNORED, np.int8), names)
    batch = make_batch(
        clips,
        np.arange(count),
        np.random.default_rng(0),
        frames=4,
        height=8,
        width=8,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        reverse=reverse_table(names),
    )
    levels = batch.frames.reshape(count, 4, -1).mean(-1)
    falling = levels[:, 3] < levels[:, 0]
    assert 0 < falling.sum() < count
    np.testing.assert_array_equal(batch.labels, falling.astype(int))


# --- parts that are held


def test_what_is_held_stays_and_its_features_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With features computed anew each time, with kept ones, and going on after a stop: the same
    bytes; and the held parts are those of the start."""
    own = write_clips(tmp_path / "own", {"wink": 6, "No gesture": 6})
    more = {**SHORT, "epochs": 2, "freeze": 7}
    del more["clips"]
    train(str(own), tmp_path / "start", **{**more, "epochs": 1, "freeze": 0})
    start = tmp_path / "start" / CHECKPOINT
    more |= {"start": start, "shape": None}
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "MOST_BYTES", 0)
        train(str(own), tmp_path / "anew", **more)
    passes: list[int] = []
    features = frozen.Frozen.features

    def counted(self: frozen.Frozen, made: Any, device: str) -> Any:
        passes.append(sum(key not in self._seen for key, _ in made))
        return features(self, made, device)

    monkeypatch.setattr(frozen.Frozen, "features", counted)
    monkeypatch.setattr(frozen, "VARIATIONS", 1)
    train(str(own), tmp_path / "kept", **more)
    learned = 2 * (6 - round(0.2 * 6))
    assert sum(passes) == learned, "each clip once, in two epochs"
    monkeypatch.setattr(frozen, "MOST_BYTES", 0)
    train(str(own), tmp_path / "again", **more)
    assert (tmp_path / "kept" / CHECKPOINT).read_bytes() == (
        tmp_path / "again" / CHECKPOINT
    ).read_bytes()
    before, after = (load_checkpoint(path).net for path in (start, tmp_path / "anew" / CHECKPOINT))
    held = {key: value for key, value in before.state_dict().items() if _held(key)}
    assert len(held) > 30
    for key, value in after.state_dict().items():
        assert torch.equal(value, before.state_dict()[key]) == _held(key) or not value.ndim, key


def _held(key: str) -> bool:
    return key.startswith("features.") and int(key.split(".")[1]) < 7


def test_more_parts_than_there_are_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="19 parts of the network are to be held, and it has 18"):
        train("synthetic:", tmp_path, **SHORT, freeze=19)
