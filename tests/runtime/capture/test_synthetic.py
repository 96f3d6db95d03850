"""The synthetic camera: the labels mean what Jester means, and everything follows from the seed."""

from __future__ import annotations

import hashlib
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
from shiftedge.runtime.capture.synthetic import (
    GESTURES,
    IGNORED,
    LABELS,
    MIRRORED,
    REVERSED,
    SWIPE_LABELS,
    moving_scene,
)
from shiftedge.runtime.capture.synthetic.hand import (
    HAND_FIELDS,
    POSES,
    frame_by_thumb,
    frame_of,
    joints,
    pose,
)
from shiftedge.runtime.capture.synthetic.labels import HELD, SLIDES, SWIPES

pytest.importorskip("cv2")

import cv2

from shiftedge.runtime.capture.synthetic import (
    CLEAN,
    NARROW,
    WIDE,
    Film,
    Ranges,
    RenderedClip,
    render_clip,
)
from shiftedge.runtime.capture.synthetic.acting import resting_hand
from shiftedge.runtime.capture.synthetic.camera import shown_frames
from shiftedge.runtime.capture.synthetic.gestures import ACTORS
from shiftedge.runtime.capture.synthetic.lens import (
    SEEN,
    Lens,
    draw_lens,
    hand_path,
    into_view,
    share_seen,
)
from shiftedge.runtime.capture.synthetic.motion import Act
from shiftedge.runtime.capture.synthetic.others import LIVELY, OF_HANDS
from shiftedge.runtime.capture.synthetic.pictures import Pictures
from shiftedge.runtime.capture.synthetic.ranges import Dice
from shiftedge.runtime.capture.synthetic.timeline import (
    DECIDED,
    REPORT_S,
    Timeline,
    act_out,
    visible_act,
)
from shiftedge.runtime.errors import DataError

DIRECTIONS = {
    # Jester, as seen in the image: x to the right, y down.
    **{
        name: way
        for names in (SWIPES, SLIDES)
        for name, way in zip(names, ((0, +1), (0, -1), (1, -1), (1, +1)), strict=True)
    },
}
NO_GESTURE = LABELS.index("No gesture")
OTHER = LABELS.index("Doing other things")
PRESETS = (CLEAN, NARROW, WIDE)


def dice_of(seed: int, ranges: Ranges = WIDE) -> Dice:
    return Dice(np.random.default_rng(seed), ranges)


def clip(seed: int, label: str, ranges: Ranges = WIDE, **size: int) -> RenderedClip:
    size = {"height": 48, "width": 64, **size}
    return render_clip(np.random.default_rng(seed), label, ranges=ranges, **size)


# --- clips


def test_a_clip_is_what_its_docstring_says() -> None:
    made = clip(3, "Swiping Up", frames=10)
    assert made.frames.shape == (10, 48, 64, 3)
    assert made.frames.dtype == np.uint8
    assert made.frame_labels.shape == (10,)
    assert made.frame_labels.dtype == np.int8
    assert made.hands.shape == (10, 2, len(HAND_FIELDS))
    assert made.label == "Swiping Up"
    (event, *_) = made.events
    assert event.label == "Swiping Up"
    assert event.hand == made.conditions.hand
    assert made.conditions.stroke_s == pytest.approx(event.end_s - event.start_s)


@pytest.mark.parametrize("label", LABELS)
def test_the_same_generator_gives_the_same_clip(label: str) -> None:
    first, second, other = clip(5, label), clip(5, label), clip(6, label)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.frame_labels, second.frame_labels)
    assert first.events == second.events
    assert not np.array_equal(first.frames, other.frames)


def test_a_clip_is_the_same_in_another_process() -> None:
    """Training resumes on clips that another process has rendered; caches are kept."""
    program = (
        "import hashlib, numpy as np\n"
        "from shiftedge.runtime.capture.synthetic import render_clip\n"
        "for seed, label in ((1, 'Stop Sign'), (2, 'Swiping Left'), (3, 'Doing other things')):\n"
        "    made = render_clip(np.random.default_rng(seed), label, height=48, width=64)\n"
        "    print(hashlib.sha256(made.frames.tobytes()).hexdigest())\n"
    )
    source = str(Path(__file__).parents[3] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, check=True, timeout=120, env=environment, capture_output=True)
    mine = [
        hashlib.sha256(clip(seed, label).frames.tobytes()).hexdigest()
        for seed, label in ((1, "Stop Sign"), (2, "Swiping Left"), (3, "Doing other things"))
    ]
    assert done.stdout.decode().split() == mine


def test_a_person_stays_the_same_and_acts_anew() -> None:
    def clip(seed: int, label: str, person: int) -> NDArray[np.int16]:
        rng = np.random.default_rng(seed)
        ranges = synthetic.CLEAN
        frames = synthetic.render_clip(rng, label, ranges=ranges, person=person).frames
        return np.median(frames, axis=0).astype(np.int16)

    first, again = clip(1, "Swiping Left", 5), clip(2, "Thumb Up", 5)
    other = clip(1, "Swiping Left", 6)
    assert np.median(np.abs(first - again)) <= 2
    assert np.median(np.abs(first - other)) >= 8
    moved = [
        synthetic.render_clip(np.random.default_rng(seed), "Thumb Up", person=5).hands
        for seed in (1, 2)
    ]
    assert not np.allclose(moved[0], moved[1], equal_nan=True)


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(KeyError):
        clip(0, "Juggling")


@pytest.mark.parametrize("label", DIRECTIONS)
def test_hands_travel_as_jester_names_it(label: str) -> None:
    axis, sign = DIRECTIONS[label]
    for seed in range(8):
        made = clip(seed, label, NARROW, frames=24)
        during = np.flatnonzero(made.frame_labels == LABELS.index(label))
        assert during.size >= 2, f"seed {seed}: the clip hardly shows its gesture"
        first = max(0, int(np.ceil(made.events[0].start_s * 12.0)))
        travels = made.hands[during[0] + 1] - made.hands[first : during[0] + 1]
        hand = 0 if made.conditions.hand == "right" else 1
        along = travels[:, hand, axis]
        assert np.sign(along[np.argmax(np.abs(along))]) == sign, f"seed {seed}"


@pytest.mark.parametrize(("label", "sign"), [("Pushing Hand Away", 1), ("Pulling Hand In", -1)])
def test_hands_come_nearer_or_go_away(label: str, sign: int) -> None:
    for seed in range(10):
        dice = dice_of(seed)
        act = act_out(dice, label, resting_hand(dice))
        depth = {key.time_s: key.wrist[2] for key in act.right}
        (start, stop) = act.strokes[0]
        assert sign * (depth[stop] - depth[start]) > 0.5


def held_in(label: str, seed: int) -> dict[str, float]:
    """How the acting hand is held in the middle of its gesture, near and in good light."""
    made = clip(seed, label, CLEAN, frames=24)
    during = np.flatnonzero(made.frame_labels == LABELS.index(label))
    side = 0 if made.conditions.hand == "right" else 1
    values = made.hands[during[len(during) // 2], side]
    return dict(zip(HAND_FIELDS, map(float, values), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_how_hands_are_held_is_told(seed: int) -> None:
    """By what each sign is, whichever hand shows it."""
    up, down = held_in("Thumb Up", seed), held_in("Thumb Down", seed)
    assert up["thumb side y"] < -0.3 < 0.3 < down["thumb side y"]
    stop, two = held_in("Stop Sign", seed), held_in("Sliding Two Fingers Left", seed)
    assert stop["fingers y"] < -0.5
    assert stop["palm"] > 0.5
    assert max(stop["index"], stop["others"]) < 0.3
    assert two["index"] < 0.4 < 0.7 < two["others"]
    for sign in (up, down):
        assert min(sign["index"], sign["middle"], sign["others"]) > 0.7
        assert sign["thumb"] > 0.6
    assert 0.1 < stop["size"] < 0.7


@pytest.mark.parametrize(("label", "sign"), [("Thumb Up", -1), ("Thumb Down", 1)])
def test_thumbs_point_up_or_down(label: str, sign: int) -> None:
    for seed in range(10):
        dice = dice_of(seed)
        act = act_out(dice, label, resting_hand(dice))
        (key,) = [k for k in act.right if k.time_s == pytest.approx(act.strokes[0][1] - 0.35)]
        fingers, thumb, _ = joints(key.forward[None], key.normal[None], key.pose[None])
        assert sign * (thumb[0, 3] - thumb[0, 0])[1] > 0.25
        assert np.linalg.norm(fingers[0, :, 3], axis=1).max() < 0.75, "the fingers are in the fist"


def test_zooming_in_spreads_the_fingers() -> None:
    for label, sign in (("Zooming In With Full Hand", 1), ("Zooming Out With Full Hand", -1)):
        for seed in range(10):
            dice = dice_of(seed)
            act = act_out(dice, label, resting_hand(dice))
            ends = [next(k for k in act.right if k.time_s >= t - 1e-9) for t in act.strokes[0]]
            widths = []
            for key in ends:
                fingers, thumb, _ = joints(key.forward[None], key.normal[None], key.pose[None])
                tips = np.concatenate([fingers[0, :, 3], thumb[0, 3:]])
                widths.append(np.linalg.norm(tips - tips.mean(0), axis=1).mean())
            assert sign * (widths[1] - widths[0]) > 0.08


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
    assert seen == set(SWIPES)


# --- what is true of each moment


@given(seed=st.integers(0, 2**32), label=st.sampled_from(LABELS), ranges=st.sampled_from(PRESETS))
@settings(max_examples=150)
def test_frame_labels_follow_the_strokes(seed: int, label: str, ranges: Ranges) -> None:
    dice = dice_of(seed, ranges)
    lens = draw_lens(dice, 96, 128)
    rests = (resting_hand(dice), resting_hand(dice))
    timeline, start = Timeline.around(dice, label, rests, lens, 2.0)
    times = start + np.arange(0.0, 2.0, 0.01)
    truth = timeline.labels_at(times)
    number = LABELS.index(label)
    assert set(truth.tolist()) <= {IGNORED, NO_GESTURE, OTHER, number}
    if label not in GESTURES:
        assert not timeline.events
        return
    assert {event.label for event in timeline.events} == {label}
    assert all(a.end_s < b.start_s for a, b in pairwise(timeline.events))
    inside = np.zeros(len(times), bool)
    for event in timeline.events:
        decided = event.start_s + DECIDED * (event.end_s - event.start_s)
        slack = 0.02
        reporting = (times > decided + slack) & (times < event.end_s + REPORT_S - slack)
        later = (times > event.end_s + REPORT_S - slack) & (label in HELD)
        undecided = (times > event.start_s + slack) & (times < decided - slack)
        for other in timeline.events:  # a stroke that is repeated at once ends the report before it
            if other is not event:
                reporting &= (times < other.start_s - slack) | (times > other.end_s)
        assert (truth[reporting] == number).all()
        assert (truth[undecided] == IGNORED).all()
        inside |= reporting | later | (times > decided - slack) & (times < decided + slack)
        inside |= (times > event.end_s) & (times < event.end_s + REPORT_S + slack)
    assert (truth[~inside] != number).all()
    assert (truth == number).any()


@given(seed=st.integers(0, 2**32), label=st.sampled_from(GESTURES), left=st.booleans())
@settings(max_examples=150)
def test_cameras_see_what_hands_do(seed: int, label: str, left: bool) -> None:
    """Near and far, aside and headless: of every stroke the promised share is in the image."""
    dice = dice_of(seed)
    lens = draw_lens(dice, 96, 128)
    act = visible_act(dice, label, resting_hand(dice), left, lens)
    for stroke in act.strokes:
        assert share_seen(hand_path(act, stroke, lens, left), lens) >= SEEN


@given(seed=st.integers(0, 2**32), label=st.sampled_from(SWIPES + SLIDES))
@settings(max_examples=60)
def test_bringing_a_stroke_into_view_keeps_its_direction(seed: int, label: str) -> None:
    dice = dice_of(seed)
    lens = draw_lens(dice, 96, 128)
    act = act_out(dice, label, resting_hand(dice))
    moved = into_view(act, lens, left=False)
    assert moved.strokes == act.strokes
    axis, sign = DIRECTIONS[label]
    for stroke in moved.strokes:
        path = hand_path(moved, stroke, lens, left=False)
        assert sign * (path[-1] - path[0])[axis] > 0.0
    np.testing.assert_array_equal(moved.right[0].wrist, act.right[0].wrist)


def test_strokes_last_as_long_as_the_ranges_say() -> None:
    for ranges in PRESETS:
        known = ranges["stroke_s"]
        lasted = []
        for seed in range(60):
            dice = dice_of(seed, ranges)
            act = act_out(dice, SWIPES[seed % 4], resting_hand(dice))
            lasted += [stop - start for start, stop in act.strokes]
        assert known.low <= min(lasted) < 1.3 * known.low
        assert 0.75 * known.high < max(lasted) <= known.high


def test_nobody_gestures_in_a_clip_without_gesture() -> None:
    for seed in range(12):
        made = clip(seed, "No gesture")
        assert set(made.frame_labels.tolist()) == {NO_GESTURE}
        other = clip(seed, "Doing other things")
        assert set(other.frame_labels.tolist()) <= {IGNORED, NO_GESTURE, OTHER}
        assert OTHER in other.frame_labels
        assert not made.events
        assert not other.events


def test_other_things_are_no_gestures_and_come_to_an_end() -> None:
    for track in (*OF_HANDS, *LIVELY):
        for seed in range(5):
            dice = dice_of(seed)
            act: Act = track(dice, resting_hand(dice))
            assert act.label == "Doing other things"
            assert not act.strokes
            assert 0.5 < act.end_s < 20.0
            times = [key.time_s for key in act.body]
            assert times == sorted(times)
            if act.body:  # who walked away has come back
                assert act.body[-1].shift == (0.0, 0.0)


# --- names


def test_labels_are_spelled_as_in_jester() -> None:
    pytest.importorskip("torch")
    from shiftedge.export.catalogue import JESTER_LABELS

    assert set(LABELS) <= set(JESTER_LABELS)
    assert LABELS[: len(SWIPE_LABELS)] == SWIPE_LABELS
    assert set(GESTURES) | {"No gesture", "Doing other things"} == set(LABELS)
    assert set(ACTORS) == set(LABELS) - {"Doing other things"}


def test_mirrored_and_reversed_labels_lead_back() -> None:
    for table in (MIRRORED, REVERSED):
        assert all(table[table[name]] == name for name in table)
        assert set(table) <= set(GESTURES) - set(HELD)
    assert {name for name in LABELS if "Left" in name} == {
        name for name in MIRRORED if "Left" in name
    }
    assert REVERSED["Swiping Up"] == "Swiping Down"
    assert REVERSED["Zooming In With Full Hand"] == "Zooming Out With Full Hand"
    assert REVERSED["Pushing Hand Away"] == "Pulling Hand In"
    assert REVERSED["Sliding Two Fingers Left"] == "Sliding Two Fingers Right"


def test_training_mirrors_labels_as_the_renderer_does() -> None:
    pytest.importorskip("torch")
    from shiftedge.export.training.augment import mirror_table

    for index, partner in enumerate(mirror_table(LABELS).tolist()):
        assert LABELS[partner] == MIRRORED.get(LABELS[index], LABELS[index])


@pytest.mark.parametrize("label", GESTURES)
def test_the_left_hand_mirrors_the_image_and_the_label(label: str) -> None:
    dice = dice_of(1)
    lens = Lens(20.0, 5.0, (96, 128), (64.0, 30.0))
    rest = resting_hand(dice)
    act = act_out(dice, label, rest)
    timeline = Timeline(rest, rest)
    timeline.add(act, 0.0, left=True)
    assert timeline.events[0].label == MIRRORED.get(label, label)
    assert timeline.events[0].hand == "left"
    right, left = (hand_path(act, act.strokes[0], lens, side) for side in (False, True))
    np.testing.assert_allclose(left[:, 0], 128.0 - right[:, 0])
    np.testing.assert_allclose(left[:, 1], right[:, 1])


# --- ranges


def test_every_range_says_why_and_every_preset_has_them_all() -> None:
    for ranges in PRESETS:
        assert ranges.table.keys() == WIDE.table.keys()
        for name, known in ranges.table.items():
            assert known.low <= known.high, name
            assert known.why, name
            assert known.kind in ("even", "log", "chance"), name
            assert known.kind != "log" or known.low > 0.0, name
            assert known.kind != "chance" or 0.0 <= known.low == known.high <= 1.0, name
    with pytest.raises(KeyError):
        WIDE.with_("wrong", nothing_of_this_name=1.0)


def test_heads_are_as_far_as_the_ranges_say() -> None:
    lenses = [draw_lens(dice_of(seed), 100, 133) for seed in range(300)]
    shares = np.array([lens.scale / 100.0 for lens in lenses])
    assert 0.06 <= shares.min() < 0.07
    assert 0.5 < shares.max() <= 0.60
    across = np.array([lens.head[0] / 133.0 for lens in lenses])
    assert across.min() < 0.15
    assert across.max() > 0.85
    headless = np.mean([lens.head[1] < 0.0 for lens in lenses])
    assert 0.03 < headless < 0.2


def test_slow_cameras_give_the_same_frame_again() -> None:
    ticks = np.arange(48) / 12.0
    rates = []
    for seed in range(30):
        times, numbers, rate = shown_frames(dice_of(seed), ticks)
        rates.append(rate)
        assert (np.diff(times) >= 0.0).all()
        assert (np.diff(numbers) >= 0).all()
        assert np.abs(times - ticks).max() < 2.5 / rate
        again = np.mean(np.diff(numbers) == 0)
        if rate < 7.0:
            assert again > 0.3
        if rate > 26.0:
            assert again < 0.1
    assert min(rates) < 7.0
    assert max(rates) > 25.0
    exact, numbers, _ = shown_frames(dice_of(1, CLEAN), ticks)
    np.testing.assert_array_equal(exact, ticks)
    assert numbers == list(range(48))


# --- films


@pytest.mark.parametrize("ranges", [NARROW, WIDE], ids=["narrow", "wide"])
def test_films_keep_their_word(ranges: Ranges) -> None:
    acts = SWIPES if ranges is NARROW else GESTURES
    for seed in range(12):
        film = Film(
            seed,
            seconds=60.0,
            rate_hz=12.0,
            height=48,
            width=64,
            acts=(*acts, "Doing other things"),
            ranges=ranges,
        )
        assert film.events, f"film {seed} has no gesture"
        assert all(0.0 < e.start_s < e.end_s < 60.0 for e in film.events)
        assert all(a.end_s < b.start_s for a, b in pairwise(film.events))
        assert {e.label for e in film.events} <= set(acts)


def test_a_film_of_other_things_has_no_events() -> None:
    film = Film(2, seconds=30.0, rate_hz=2.0, height=48, width=64, acts=("Doing other things",))
    assert film.events == ()
    assert (film.timeline.labels_at(np.arange(0.0, 30.0, 0.1)) == OTHER).mean() > 0.3


@pytest.mark.parametrize("ranges", [CLEAN, WIDE], ids=["clean", "wide"])
def test_a_film_is_the_same_in_any_order_and_at_any_pace(ranges: Ranges) -> None:
    def film() -> Film:
        return Film(7, seconds=2.0, rate_hz=12.0, height=48, width=64, ranges=ranges)

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
    film = Film(9, seconds=4.0, rate_hz=6.0, height=48, width=64, acts=())
    assert film.events == ()
    change = np.abs(film.frame_at(20).astype(int) - film.frame_at(0)).mean()
    assert change < 12.0


def test_an_empty_room_has_nobody_in_it() -> None:
    film = Film(9, seconds=1.0, rate_hz=6.0, height=48, width=64, empty=True)
    assert film.events == ()
    assert len(list(film)) == 6


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"rate_hz": -1.0}])
def test_films_of_no_length_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Film(0, **wrong)  # type: ignore[arg-type]


# --- real pixels


def hand_picture(path: Path) -> None:
    """A brown hand with four fingers on a plain ground."""
    picture = np.full((100, 100, 3), 230, np.uint8)
    cv2.rectangle(picture, (35, 50), (65, 99), (70, 100, 160), -1)
    for x in (36, 45, 54, 63):
        cv2.line(picture, (x, 60), (x, 22), (70, 100, 160), 6)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


def test_pictures_are_used_and_the_same_seed_gives_the_same_clip(tmp_path: Path) -> None:
    hand_picture(tmp_path / "hands" / "open" / "1.png")
    (tmp_path / "rooms").mkdir()
    photo = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    photo = cv2.resize(photo, (160, 120), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(tmp_path / "rooms" / "1.jpg"), photo)
    pictures = Pictures(tmp_path)
    always = WIDE.with_("real", photo_hand=1.0, photo_room=1.0, photo_people=0.0, head=0.3)

    def made(given: Pictures | None) -> NDArray[np.uint8]:
        rng = np.random.default_rng(4)
        return render_clip(
            rng, "Stop Sign", height=48, width=64, ranges=always, pictures=given
        ).frames

    np.testing.assert_array_equal(made(pictures), made(Pictures(tmp_path)))
    assert not np.array_equal(made(pictures), made(None))


def test_a_hand_is_cut_out_of_its_ground(tmp_path: Path) -> None:
    from shiftedge.runtime.capture.synthetic.pictures import _cutout

    path = tmp_path / "hands" / "open" / "1.png"
    hand_picture(path)
    found = _cutout(path)
    assert found is not None
    cover = found.levels[0][..., 3]
    assert cover[80, 50] > 0.95
    assert cover[40, 10] < 0.05
    assert found.foot == pytest.approx((50.0, 92.0), abs=2.0)
    assert 65.0 < found.length < 78.0


def test_unreadable_pictures_are_passed_over(tmp_path: Path) -> None:
    for place in ("hands/open", "rooms"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "broken.jpg").write_bytes(b"no picture")
    made = render_clip(
        np.random.default_rng(1), "Stop Sign", height=48, width=64, pictures=Pictures(tmp_path)
    )
    assert made.frames.any()


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected JPEG or PNG files in hands/SHAPE"):
        Pictures(tmp_path)


# --- hands, lenses


@given(seed=st.integers(0, 2**32), roll=st.floats(-4.0, 4.0))
@settings(max_examples=50)
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


def test_a_hand_is_turned_by_its_thumb() -> None:
    forward, normal = frame_by_thumb(np.array([1.0, 0.2, 0.4]), np.array([0.1, -1.0, 0.0]))
    _, _, side = joints(forward[None], normal[None], POSES["thumb"][None])
    assert side[0, 1] < -0.9
    assert abs(forward @ normal) < 1e-9


def test_every_named_shape_is_a_pose() -> None:
    for name in POSES:
        assert pose(np.random.default_rng(0), name).shape == POSES[name].shape == (12,)


def test_near_things_are_larger_and_farther_from_the_middle() -> None:
    lens = Lens(30.0, 4.0, (96, 128), (64.0, 40.0))
    points, scales = lens.project(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 2.0], [1.0, 1.0, 9.0]]))
    np.testing.assert_allclose(points[0], (94.0, 70.0))
    assert points[1, 0] > points[0, 0]
    np.testing.assert_allclose(scales, (30.0, 60.0, 90.0))


# --- the scene without OpenCV


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
