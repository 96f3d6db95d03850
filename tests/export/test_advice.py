"""What is said of people's data before and after a training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")
pytest.importorskip("cv2", reason="the camera extra (opencv) is not installed")

import numpy as np

from shiftedge.export.data.clip_set import IGNORED, ClipSet
from shiftedge.export.training import Settings
from shiftedge.export.training.advice import after, before
from shiftedge.export.training.score import ClipScore
from shiftedge.export.training.supply import KeptClips, Mixture
from shiftedge.runtime.spec import ModelSpec, StateSpec


def clips(names: tuple[str, ...], counts: list[int], seed: int = 0, length: int = 36) -> ClipSet:
    total = sum(counts)
    rng = np.random.default_rng(seed)
    return ClipSet(
        rng.integers(0, 256, (total, 2, 2, 2, 3), dtype=np.uint8),
        np.repeat(np.arange(len(names)), counts),
        np.full((total, 2), IGNORED, np.int16),
        names,
        lengths=np.full(total, length),
        paths=tuple(Path(f"{seed}-{number}.mp4") for number in range(total)),
    )


def spec(names: tuple[str, ...], silent: tuple[str, ...] = ()) -> ModelSpec:
    return ModelSpec(
        name="m", labels=names, height=2, width=2, resize_short_side=2,
        states=(StateSpec("state_0", (1, 1, 1, 1)),), receptive_field=12, silent_labels=silent,
    )  # fmt: skip


def mixed(clips: ClipSet) -> Mixture:
    return Mixture((KeptClips(clips),), clips.names, 0)


def said(
    counts: list[int],
    checks: list[int],
    names: tuple[str, ...] = ("left", "right", "none"),
    silent: tuple[str, ...] = ("none",),
    length: int = 36,
    **settings: Any,
) -> str:
    learn, check = clips(names, counts, length=length), clips(names, checks, 1)
    fresh = settings.pop("fresh", True)
    return "\n".join(
        before(mixed(learn), check, spec(names, silent), Settings(**settings), fresh=fresh)
    )


def test_data_that_is_enough_is_said_in_three_lines() -> None:
    text = said([400, 400, 800], [50, 50, 100])
    assert text.splitlines() == [
        "1600 clips of 3 labels to learn from, 200 to check with",
        "silent, never an event: 'none'",
        "clips are also shown mirrored, 'left' and 'right' changing places; --no-mirror if that "
        "changes what they mean",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"silent": ()}, "no label is silent, so whatever is before the camera becomes an event"),
        ({"silent": ()}, "--silent LABEL (such as 'none'?)"),
        ({"counts": [400, 400, 20]}, "with 20 clips they are fewer than those of a gesture (400)"),
        ({"counts": [400, 12, 400]}, "few clips to learn from: right 12; under 50 of a label"),
        ({"counts": [4000, 60, 4000]}, "'left' has 4000 clips and 'right' 60; the rare one"),
        ({"counts": [60, 60, 60], "epochs": 9}, "these clips make 135 steps with --epochs 9"),
        ({"counts": [60, 60, 60], "epochs": 9}, "--epochs 20 or more"),
        ({"checks": [50, 0, 50]}, "no clip to check with: 'right'"),
        ({"length": 8}, "1600 of 1700 clips are shorter than the 12 frames (1.0 s)"),
        ({"names": ("Thumb Up", "thumb_up", "none")}, "'Thumb Up' and 'thumb_up' are two labels"),
        ({"names": ("left", "up", "none")}, "but not those of 'left'"),
    ],
)
def test_what_is_known_to_go_wrong_is_said(arguments: dict[str, Any], words: str) -> None:
    given = {"counts": [400, 400, 800], "checks": [25, 25, 50], **arguments}
    assert words in said(**given)


def test_a_start_needs_fewer_steps_and_no_mirror_is_not_mentioned() -> None:
    text = said([60, 60, 60], [20, 20, 20], fresh=False, mirror=False)
    assert "steps" not in text
    assert "mirrored" not in text


def test_clips_on_both_sides_are_found_by_their_pictures() -> None:
    names = ("left", "none")
    learn = clips(names, [60, 60])
    frames = clips(names, [2, 2], 1).frames.copy()
    frames[3] = learn.frames[7]
    check = dataclasses.replace(clips(names, [2, 2], 1), frames=frames)
    text = "\n".join(before(mixed(learn), check, spec(names), Settings(), fresh=False))
    assert "1 of 4 clips to check with are also learned from (1-3.mp4 is 0-7.mp4)" in text


def reached(confusion: list[list[int]], names: tuple[str, ...], silent: tuple[str, ...]) -> str:
    table = np.array(confusion)
    right = int(np.trace(table))
    recall = {name: table[i, i] / table[i].sum() for i, name in enumerate(names)}
    score = ClipScore(
        int(table.sum()), right / table.sum(), 0.0, recall, confusion, np.zeros(1, bool)
    )
    check = clips(names, table.sum(1).tolist())
    return "\n".join(after(score, check, spec(names, silent)))


def test_what_was_reached_is_put_in_its_place() -> None:
    names, silent = ("left", "none"), ("none",)
    assert reached([[90, 10], [5, 95]], names, silent) == ""
    text = reached([[0, 10], [0, 20]], names, silent)
    assert (
        "has not learned to tell the labels apart: always saying 'none' would be right in 67%"
        in text
    )
    assert "never recognised: 'left'" in text
    assert "standard error is 8 points" in reached([[9, 1], [2, 8]], names, silent)
    assert "no label is silent" in reached([[90, 10], [5, 95]], names, ())
