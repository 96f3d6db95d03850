"""The self-test's clip: busy, moving, and the same for ever, since bundles have its logits."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from shiftedge.runtime.selftest import CLIP, FRAMES, self_test_clip


def test_the_bytes_are_those_of_the_name() -> None:
    """Whoever changes the formula gives it another name: recorded logits belong to it."""
    digests = {
        size: hashlib.sha256(self_test_clip(*size).tobytes()).hexdigest()[:16]
        for size in ((24, 32), (96, 128), (224, 224), (1, 1))
    }
    assert CLIP == "drift-1"
    assert digests == EXPECTED


EXPECTED = {
    (24, 32): "7996b6368a6b6a62",
    (96, 128): "15657feb2f706c4d",
    (224, 224): "1c0fa9513d3d0a7b",
    (1, 1): "b3380ff0108b2d4e",
}


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (224, 224), (128, 96)])
def test_every_grey_level_is_used(size: tuple[int, int]) -> None:
    clip = self_test_clip(*size)
    assert clip.shape == (FRAMES, *size, 3)
    counts = np.stack([np.bincount(clip[..., c].ravel(), minlength=256) for c in range(3)])
    assert counts.min() > 0.1 * counts.mean()
    assert counts.max() < 4 * counts.mean()
    assert abs(np.corrcoef(clip[..., 0].ravel(), clip[..., 1].ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("size", [(24, 32), (96, 128), (224, 224)])
def test_frames_differ_and_move(size: tuple[int, int]) -> None:
    """The ground goes up and to the left, by the same step each frame; over it, the square."""
    clip = self_test_clip(*size).astype(int)
    for before, after in itertools.pairwise(clip):
        assert (before != after).mean() > 0.5
    pace = 1 + max(size) // 12 // 4
    still = clip[1][:-pace, :-pace] == clip[0][pace:, pace:]
    assert 0.6 < still.mean() < 0.98


def test_a_longer_clip_begins_alike() -> None:
    assert np.array_equal(self_test_clip(9, 7, 40)[:16], self_test_clip(9, 7))


@pytest.mark.parametrize("wrong", [(0, 4, 1), (4, 0, 1), (4, 4, 0), (8193, 4, 1), (4, 8193, 1)])
def test_sizes_that_cannot_be(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected sizes from 1 to 8192"):
        self_test_clip(*wrong)
