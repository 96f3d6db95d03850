"""The synthetic webcam: the labels mean what Jester means, and everything follows from the seed."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shiftedge.runtime.capture import synthetic
from shiftedge.runtime.capture.synthetic import IGNORED, LABELS, MIRRORED, moving_scene
from shiftedge.runtime.capture.synthetic.motion import frame_of, joints, pose

pytest.importorskip("cv2")

from shiftedge.runtime.capture.synthetic import Clip, Film, render_clip
from shiftedge.runtime.capture.synthetic.acts import ACTORS, act_out, resting_hand
from shiftedge.runtime.capture.synthetic.motion import Lens, draw_lens
from shiftedge.runtime.capture.synthetic.timeline import DECIDED, REPORT_S, Timeline

DIRECTIONS = {
    # Jester, as seen in the image: x to the right, y down.
    "Swiping Left": (0, +1),
    "Swiping Right": (0, -1),
    "Swiping Up": (1, -1),
    "Swiping Down": (1, +1),
}
NO_GESTURE = LABELS.index("No gesture")
OTHER = LABELS.index("Doing other things")


def clip(seed: int, label: str, **size: int) -> Clip:
    size = {"height": 48, "width": 64, **size}
    return render_clip(np.random.default_rng(seed), label, **size)


def test_a_clip_is_what_its_docstring_says() -> None:
    made = clip(3, "Swiping Up", frames=10)
    assert made.frames.shape == (10, 48, 64, 3)
    assert made.frames.dtype == np.uint8
    assert made.frame_labels.shape == (10,)
    assert made.frame_labels.dtype == np.int8
    assert made.hands.shape == (10, 2, 2)
    assert made.label == "Swiping Up"


@pytest.mark.parametrize("label", LABELS)
def test_the_same_generator_gives_the_same_clip(label: str) -> None:
    first, second, other = clip(5, label), clip(5, label), clip(6, label)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.frame_labels, second.frame_labels)
    assert not np.array_equal(first.frames, other.frames)


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(KeyError):
        clip(0, "Juggling")


@pytest.mark.parametrize("label", DIRECTIONS)
def test_hands_travel_as_jester_names_it(label: str) -> None:
    axis, sign = DIRECTIONS[label]
    for seed in range(8):
        made = clip(seed, label, frames=24)
        during = np.flatnonzero(made.frame_labels == LABELS.index(label))
        assert during.size >= 2, f"seed {seed}: the clip hardly shows its gesture"
        first = max(0, during[0] - 10)
        travels = made.hands[during[0] + 1] - made.hands[first : during[0] + 1]
        far = np.abs(travels[..., axis]).max(axis=0)
        hand = int(np.argmax(far))
        along = travels[:, hand, axis]
        assert np.sign(along[np.argmax(np.abs(along))]) == sign, f"seed {seed}"


def _moving_point(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Centroid (x, y) of what differs between two frames, noise left out."""
    change = np.abs(after.astype(float) - before).max(axis=-1)
    change[change < 25.0] = 0.0
    y, x = np.mgrid[: change.shape[0], : change.shape[1]]
    total = max(float(change.sum()), 1e-9)
    return np.array([(change * x).sum() / total, (change * y).sum() / total])


def test_pixels_move_as_the_truth_says() -> None:
    seen = set()
    for seed in range(4):
        film = Film(seed, seconds=25.0, rate_hz=30.0, height=96, width=128)
        for event in film.events:
            first = int(np.ceil(event.start_s * 30.0))
            last = int(event.end_s * 30.0)
            quarter = max(2, (last - first) // 4)
            early = _moving_point(film.frame_at(first), film.frame_at(first + quarter))
            late = _moving_point(film.frame_at(last - quarter), film.frame_at(last))
            axis, sign = DIRECTIONS[event.label]
            assert sign * (late - early)[axis] > 3.0, f"film {seed}: {event}"
            seen.add(event.label)
    assert seen == set(DIRECTIONS)


@given(seed=st.integers(0, 2**32), label=st.sampled_from(LABELS))
@settings(max_examples=60, deadline=None)
def test_frame_labels_follow_the_stroke(seed: int, label: str) -> None:
    rng = np.random.default_rng(seed)
    lens = draw_lens(rng, 96, 128, clean=False)
    rests = (resting_hand(rng), resting_hand(rng))
    timeline, start = Timeline.around(rng, label, rests, lens, 2.0)
    times = start + np.arange(0.0, 2.0, 0.01)
    truth = timeline.labels_at(times)
    assert set(truth.tolist()) <= {IGNORED, NO_GESTURE, OTHER, LABELS.index(label)}
    if label not in DIRECTIONS:
        assert not timeline.events
        return
    (event,) = timeline.events
    assert event.label == label
    decided = event.start_s + DECIDED * (event.end_s - event.start_s)
    slack = 0.02
    reporting = (times > decided + slack) & (times < event.end_s + REPORT_S - slack)
    assert reporting.any()
    assert (truth[reporting] == LABELS.index(label)).all()
    undecided = (times > event.start_s + slack) & (times < decided - slack)
    assert (truth[undecided] == IGNORED).all()
    outside = (times < decided - slack) | (times > event.end_s + REPORT_S + slack)
    assert (truth[outside] != LABELS.index(label)).all()


def test_nobody_gestures_in_a_clip_without_gesture() -> None:
    for seed in range(6):
        assert set(clip(seed, "No gesture").frame_labels.tolist()) == {NO_GESTURE}
        labels = set(clip(seed, "Doing other things").frame_labels.tolist())
        assert labels <= {IGNORED, NO_GESTURE, OTHER}
        assert OTHER in labels


def test_the_left_hand_mirrors_horizontal_swipes() -> None:
    rng = np.random.default_rng(1)
    for label in DIRECTIONS:
        timeline = Timeline(resting_hand(rng), resting_hand(rng))
        timeline.add(act_out(rng, label, resting_hand(rng)), 0.0, left=True)
        assert timeline.events[0].label == MIRRORED.get(label, label)


def test_every_label_has_tracks() -> None:
    assert set(ACTORS) == set(LABELS)


def test_films_keep_their_word() -> None:
    for seed in range(20):
        film = Film(seed, seconds=40.0, rate_hz=12.0, height=48, width=64, clean=False)
        assert film.events, f"film {seed} has no gesture"
        assert all(0.0 < e.start_s < e.end_s < 40.0 for e in film.events)
        assert all(a.end_s < b.start_s for a, b in pairwise(film.events))
        assert {e.label for e in film.events} <= set(DIRECTIONS)


def test_a_film_is_the_same_in_any_order_and_at_any_pace() -> None:
    def film() -> Film:
        return Film(7, seconds=2.0, rate_hz=12.0, height=48, width=64)

    in_order = list(film())
    assert len(in_order) == len(film()) == 24
    for index in (23, 0, 11, 12, 5):
        np.testing.assert_array_equal(film().frame_at(index), in_order[index])
    for outside in (-1, 24):
        with pytest.raises(IndexError):
            film().frame_at(outside)


def test_what_happens_does_not_depend_on_the_size_of_the_picture() -> None:
    small = Film(3, seconds=30.0, rate_hz=12.0, height=96, width=128)
    large = Film(3, seconds=30.0, rate_hz=30.0, height=192, width=256)
    assert small.events == large.events


def test_a_film_without_gestures_has_no_events_and_hardly_moves() -> None:
    film = Film(9, seconds=4.0, rate_hz=6.0, height=48, width=64, gestures=False)
    assert film.events == ()
    change = np.abs(film.frame_at(20).astype(int) - film.frame_at(0)).mean()
    assert change < 12.0


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"rate_hz": -1.0}])
def test_films_of_no_length_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Film(0, **wrong)  # type: ignore[arg-type]


@given(seed=st.integers(0, 2**32), roll=st.floats(-4.0, 4.0))
@settings(max_examples=50, deadline=None)
def test_bones_keep_their_lengths(seed: int, roll: float) -> None:
    rng = np.random.default_rng(seed)
    poses = np.stack([pose(rng, name) for name in ("open", "fist", "point")])
    axes = [frame_of(rng.normal(0.0, 1.0, 3), roll) for _ in range(3)]
    forward, normal = (np.stack(parts) for parts in zip(*axes, strict=True))
    fingers, thumb, side = joints(forward, normal, poses)
    bones = np.linalg.norm(np.diff(fingers, axis=2), axis=-1)
    np.testing.assert_allclose(bones, np.broadcast_to(bones[:1], bones.shape), rtol=1e-6)
    assert thumb.shape == (3, 4, 3)
    np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose((side * forward).sum(1), 0.0, atol=1e-6)


def test_near_things_are_larger_and_farther_from_the_middle() -> None:
    lens = Lens(30.0, 4.0, (96, 128), (64.0, 40.0))
    points, scales = lens.project(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 2.0], [1.0, 1.0, 9.0]]))
    np.testing.assert_allclose(points[0], (94.0, 70.0))
    assert points[1, 0] > points[0, 0]
    np.testing.assert_allclose(scales, (30.0, 60.0, 90.0))


def test_moving_scene_moves_and_repeats() -> None:
    first = moving_scene(1, frames=5, height=40, width=56)
    assert first.shape == (5, 40, 56, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, moving_scene(1, frames=5, height=40, width=56))
    assert not np.array_equal(first[0], first[4])
    assert first.std() > 20.0


def test_moving_scene_refuses_sizes_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least"):
        moving_scene(0, frames=0, height=40, width=40)


def test_moving_scene_needs_no_opencv() -> None:
    program = (
        "import sys; sys.modules['cv2'] = None\n"
        "from shiftedge.runtime.capture.synthetic import moving_scene\n"
        "assert moving_scene(0, frames=1, height=8, width=8).shape == (1, 8, 8, 3)\n"
    )
    source = str(Path(__file__).parents[3] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)


def test_public_names_are_there() -> None:
    for name in synthetic.__all__:
        assert getattr(synthetic, name) is not None
    with pytest.raises(AttributeError):
        synthetic.nothing_of_this_name  # noqa: B018
