"""Training: the data is what it says, learning lowers the loss, and files come out whole."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")

import torch
from kit.clips import frame_spec, no_bar
from kit.networks import train

from shiftedge.export.checkpoint import load_checkpoint
from shiftedge.export.data.clip_set import IGNORED, ClipSet
from shiftedge.export.data.rendered import synthetic_clips
from shiftedge.export.models import MobileNetV2, StreamingModel
from shiftedge.export.to_onnx import describe
from shiftedge.export.training import CHECKPOINT, Settings, Shape
from shiftedge.export.training.augment import make_batch, mirror_table
from shiftedge.export.training.hands import HandLesson
from shiftedge.export.training.loop import TrainingStep, clip_logits, fit
from shiftedge.export.training.score import score_clips, stream_film
from shiftedge.export.training.supply import KeptClips, Mixture
from shiftedge.runtime.capture.synthetic import LABELS, SWIPE_LABELS
from shiftedge.runtime.capture.synthetic.hand import HAND_FIELDS
from shiftedge.runtime.errors import DataError, NumericsError
from shiftedge.runtime.spec import IMAGENET_MEAN, IMAGENET_STD

SMALL = frame_spec(32, 32, 6.0)
SHAPE = Shape(multiplier=0.25, height=32, width=32, rate_hz=6.0, dropout=0.0)
LEFT, RIGHT, UP = (LABELS.index(f"Swiping {way}") for way in ("Left", "Right", "Up"))
STILL = LABELS.index("No gesture")


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    return synthetic_clips(8, SMALL, seed=1, split="train", frames=8)


def net_for(names: tuple[str, ...]) -> MobileNetV2:
    torch.manual_seed(0)
    return MobileNetV2(len(names), width=0.25, previous_frame=True)


# --- rendered clips


def test_a_clip_depends_on_its_number_and_not_on_the_others(clips: ClipSet) -> None:
    fewer = synthetic_clips(3, SMALL, seed=1, split="train", frames=8)
    np.testing.assert_array_equal(fewer.frames, clips.frames[:3])
    np.testing.assert_array_equal(fewer.labels, clips.labels[:3])


def test_several_processes_render_the_same_clips(clips: ClipSet) -> None:
    shared = synthetic_clips(8, SMALL, seed=1, split="train", frames=8, workers=2)
    np.testing.assert_array_equal(shared.frames, clips.frames)
    np.testing.assert_array_equal(shared.frame_labels, clips.frame_labels)


def test_a_model_of_swipes_gets_clips_of_its_labels() -> None:
    spec = frame_spec(32, 32, 6.0, labels=SWIPE_LABELS)
    made = synthetic_clips(12, spec, seed=1, split="train", frames=8)
    assert made.names == SWIPE_LABELS
    assert made.frame_labels.max() < len(SWIPE_LABELS)
    assert set(made.labels.tolist()) <= set(range(len(SWIPE_LABELS)))


def test_splits_and_seeds_share_no_clip(clips: ClipSet) -> None:
    check = synthetic_clips(8, SMALL, seed=1, split="validation", frames=8)
    other = synthetic_clips(8, SMALL, seed=2, split="train", frames=8)
    everything = [c.tobytes() for s in (clips, check, other) for c in s.frames]
    assert len(set(everything)) == 24


def test_the_cache_is_used_and_progress_is_told(tmp_path: Path) -> None:
    told: list[int] = []
    first = synthetic_clips(
        2, SMALL, seed=3, split="t", frames=8, cache=tmp_path, advance=told.append
    )
    assert sum(told) == 2
    again = synthetic_clips(
        2, SMALL, seed=3, split="t", frames=8, cache=tmp_path, advance=told.append
    )
    assert sum(told) == 2
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.frame_labels, again.frame_labels)
    assert not list(tmp_path.glob("*.part"))


def test_no_clips_are_refused() -> None:
    with pytest.raises(DataError, match="at least 1"):
        synthetic_clips(0, SMALL, seed=0, split="train")


# --- batches


def tiny_set(label: int, truth: list[int]) -> ClipSet:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, len(truth), 32, 32, 3), dtype=np.uint8)
    return ClipSet(frames, np.array([label]), np.array([truth], np.int8), LABELS)


def batch_of(clips: ClipSet, rng: np.random.Generator | None, frames: int, **more: Any) -> Any:
    return make_batch(
        clips,
        np.arange(len(clips)),
        rng,
        frames=frames,
        height=32,
        width=32,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        **more,
    )


def test_without_variation_a_batch_is_normalised_rgb() -> None:
    clips = tiny_set(LEFT, [IGNORED, LEFT, LEFT, STILL])
    batch = batch_of(clips, None, 4)
    expected = (clips.frames[0, ..., ::-1] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(batch.frames, expected, atol=1e-5)
    assert batch.labels.tolist() == [LEFT]
    assert batch.frame_labels.tolist() == [IGNORED, LEFT, LEFT, STILL]


def test_mirroring_swaps_left_and_right_and_nothing_else() -> None:
    mirror = mirror_table(LABELS)
    assert mirror[LEFT] == RIGHT
    assert mirror[RIGHT] == LEFT
    assert mirror[UP] == UP
    seen = set()
    for seed in range(12):
        batch = batch_of(
            tiny_set(LEFT, [IGNORED, LEFT, STILL]), np.random.default_rng(seed), 3, mirror=mirror
        )
        assert batch.frame_labels.tolist() in ([IGNORED, LEFT, STILL], [IGNORED, RIGHT, STILL])
        assert batch.frame_labels[1] == batch.labels[0]
        seen.add(int(batch.labels[0]))
    assert seen == {LEFT, RIGHT}


def test_a_gesture_without_its_mirror_image_is_not_mirrored() -> None:
    names = ("No gesture", "Swiping Left")
    mirror = mirror_table(names)
    assert mirror.tolist() == [0, -1]
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, 3, 32, 32, 3), dtype=np.uint8)
    for truth in ([IGNORED] * 3, [1, 1, 0]):
        clips = ClipSet(frames, np.array([1]), np.array([truth], np.int8), names)
        for seed in range(8):
            batch = batch_of(clips, np.random.default_rng(seed), 3, mirror=mirror)
            assert batch.labels.tolist() == [1]
            assert batch.frame_labels.tolist() == truth


def test_a_cut_forgets_gestures_whose_stroke_it_took_away() -> None:
    clips = tiny_set(LEFT, [IGNORED] * 2 + [LEFT] * 6 + [STILL] * 12)
    steady = frozenset({STILL})
    for seed in range(20):
        batch = batch_of(clips, np.random.default_rng(seed), 12, steady=steady)
        kept = int((batch.frame_labels == LEFT).sum())
        assert kept in (0, 1, 2, 6)
        assert batch.labels.tolist() == ([LEFT] if kept >= 2 else [IGNORED])


def test_hands_move_with_the_picture() -> None:
    clips = tiny_set(STILL, [STILL] * 2)
    frames = np.zeros_like(clips.frames)
    frames[:, :, 10:13, 20:23] = 255
    hands = np.full((1, 2, 2, len(HAND_FIELDS)), 0.0, np.float32)
    hands[..., 0], hands[..., 1] = 21.5 / 32.0, 11.5 / 32.0
    clips = ClipSet(frames, clips.labels, clips.frame_labels, LABELS, hands)
    mirror = mirror_table(LABELS)
    seen = 0
    for seed, cut in itertools.product(range(10), (1.0, 0.5)):
        batch = batch_of(clips, np.random.default_rng(seed), 2, mirror=mirror, cut=cut)
        side = round(32 * cut)
        assert batch.frames.shape == (2, side, side, 3)
        assert batch.cut == cut
        if not 0.1 < batch.hands[0, 0, :2].min() <= batch.hands[0, 0, :2].max() < 0.9:
            continue  # not all of the spot is seen
        seen += 1
        light = batch.frames[0].sum(-1)
        light = light - light.min()
        y, x = np.mgrid[:side, :side] + 0.5
        spot = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
        np.testing.assert_allclose(batch.hands[0, 0, :2] * side, spot, atol=1.1)
    assert seen > 12  # cuts are mostly made where a hand is


def test_a_cut_in_space_is_one_in_time_too() -> None:
    """Mostly the gesture is in its second half, so that its stroke is seen."""
    clips = tiny_set(LEFT, [STILL] * 8 + [IGNORED] * 2 + [LEFT] * 4 + [STILL] * 10)
    hands = np.full((1, 24, 2, len(HAND_FIELDS)), np.nan, np.float32)
    clips = dataclasses.replace(clips, hands=hands)
    steady = frozenset({STILL})
    shown = {
        cut: sum(
            LEFT
            in batch_of(
                clips, np.random.default_rng(seed), 8, cut=cut, steady=steady
            ).frame_labels.tolist()
            for seed in range(60)
        )
        for cut in (1.0, 0.5)
    }
    # Of the first six frames after a cut no gesture counts; by chance 5 of 17 cuts show it.
    assert shown[0.5] > 30 > shown[1.0]


def test_the_lesson_sees_a_hand_alike_in_any_cut() -> None:
    net = net_for(LABELS)
    lesson = HandLesson(net, 1.0)
    whole = torch.full((1, 2, len(HAND_FIELDS)), torch.nan)
    whole[0, 0, :3] = torch.tensor((0.4, 0.4, 0.2))
    cut = whole.clone()
    cut[0, 0, :3] = torch.tensor((0.8, 0.8, 0.4))  # of the upper left quarter
    large, small = (lesson._near(w * s, n, n, s) for w, n, s in ((whole, 8, 1.0), (cut, 4, 0.5)))
    torch.testing.assert_close(large[:, :, :4, :4], small)


def test_a_mirror_changes_what_points_sideways() -> None:
    clips = tiny_set(STILL, [STILL] * 2)
    hands = np.linspace(0.1, 5.0, 4 * len(HAND_FIELDS), dtype=np.float32)
    hands = hands.reshape(1, 2, 2, len(HAND_FIELDS))
    clips = ClipSet(clips.frames, clips.labels, clips.frame_labels, LABELS, hands)
    seen = set()
    for seed in range(10):
        batch = batch_of(clips, np.random.default_rng(seed), 2, mirror=mirror_table(LABELS))
        assert batch.hands is not None
        ratio = batch.hands / hands[0]
        for column, name in enumerate(HAND_FIELDS):
            if name.endswith(" x"):
                seen.add(float(ratio[0, 0, column]))
            elif name not in ("x", "y", "size"):
                np.testing.assert_allclose(ratio[:, :, column], 1.0)
    assert seen == {1.0, -1.0}


def test_the_lesson_is_learned_from_what_is_known() -> None:
    """By heads alone, over features that show it: a hand nobody sees asks nothing, a far one
    nothing of its fingers."""
    net = net_for(LABELS).eval()
    lesson = HandLesson(net, 1.0)
    rng = np.random.default_rng(0)
    held = rng.uniform(0.2, 0.8, (6, 2, len(HAND_FIELDS))).astype(np.float32)
    held[:, 1] = np.nan
    frames = torch.from_numpy(rng.normal(size=(6, 3, 64, 64)).astype(np.float32))
    with lesson, torch.no_grad():
        clip_logits(StreamingModel(net), frames, 6)
        known = lesson.loss(torch.from_numpy(held), 6)
        far = held.copy()
        far[:, 0, 2] = 0.03
        other = far.copy()
        other[:, 0, HAND_FIELDS.index("fingers x") : HAND_FIELDS.index("palm")] += 1.0
        one, two = (lesson.loss(torch.from_numpy(x), 6) for x in (far, other))
        away = lesson.loss(torch.full((6, 2, len(HAND_FIELDS)), torch.nan), 6)
    assert torch.isfinite(torch.stack([known, one, away])).all()
    assert torch.equal(one, two)
    assert away < known


# --- learning


def mixture(clips: ClipSet) -> Mixture:
    return Mixture((KeptClips(clips),), clips.names, 0)


def dark_and_bright() -> ClipSet:
    rng = np.random.default_rng(0)
    labels = np.arange(8) % 2
    frames = rng.integers(0, 60, (8, 6, 32, 32, 3)) + 170 * labels[:, None, None, None, None]
    truth = np.repeat(labels[:, None], 6, axis=1).astype(np.int8)
    hands = rng.uniform(0.0, 1.0, (8, 6, 2, len(HAND_FIELDS))).astype(np.float32)
    return ClipSet(frames.astype(np.uint8), labels, truth, ("dark", "bright"), hands)


def test_some_steps_lower_the_loss() -> None:
    """By half: enough steps that the rounding of one processor or another does not decide."""
    clips = dark_and_bright()
    net = net_for(clips.names)
    steps = 36
    wanted = Settings(epochs=steps, batch=8, frames=6, rate=4e-3, threads=1, cuts=())
    seen: list[int] = []
    losses: list[float] = []

    def after_step(step: TrainingStep) -> None:
        losses.append(step.loss)

    fit(
        net,
        mixture(clips),
        wanted,
        (32, 32),
        after_epoch=lambda epoch: seen.append(epoch.number),
        after_step=after_step,
    )
    assert seen == list(range(1, steps + 1))
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])
    assert not any(module._forward_hooks for module in net.modules()), "the lesson's hooks stay"


def test_training_repeats_itself(clips: ClipSet) -> None:
    rates = Settings(epochs=1, batch=4, frames=8, threads=1)
    results = []
    for _ in range(2):
        net = net_for(clips.names)
        fit(net, mixture(clips), rates, (32, 32))
        results.append(net.classifier.weight.detach().clone())
    assert torch.equal(results[0], results[1])


def test_a_streamed_film_gives_the_logits_of_the_clip_form(clips: ClipSet) -> None:
    net = net_for(clips.names).eval()
    spec = describe(net, name="t", labels=clips.names, height=32, width=32)
    streamed = stream_film(net, list(clips.frames[0]), spec)
    batch = batch_of(clips, None, 8)
    with torch.no_grad():
        frames = torch.from_numpy(batch.frames[:8]).permute(0, 3, 1, 2)[None]
        whole = StreamingModel(net).clip(frames)[0].numpy()
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_clip_scores_add_up(clips: ClipSet) -> None:
    net = net_for(clips.names)
    spec = describe(net, name="t", labels=clips.names, height=32, width=32)
    score = score_clips(net, clips, spec)
    table = np.array(score.confusion)
    assert table.sum() == score.clips == 8
    assert score.accuracy == pytest.approx(np.trace(table) / 8)


# --- the whole


def test_train_on_rendered_clips_and_its_film_scores(tmp_path: Path) -> None:
    scores = train(
        "synthetic:",
        tmp_path,
        epochs=1,
        clips=4,
        check_clips=2,
        films=0.005,
        threads=1,
        seed=5,
        shape=SHAPE,
        bar=no_bar,
    )
    kinds = {row["kind"]: row for row in scores["films"]["films"]}
    assert kinds["gestures"]["events"] > 0
    assert kinds["still"]["events"] == 0
    assert set(scores["calibration"]["bias"]) == set(LABELS)
    checkpoint = load_checkpoint(tmp_path / CHECKPOINT)
    assert checkpoint.labels == LABELS
    assert checkpoint.training["seed"] == 5
    assert checkpoint.training["epochs"] == 1
    document = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert (document["format"], document["version"]) == ("shiftedge.checkpoint", 1)


def test_a_training_that_diverges_is_ended_with_a_sentence() -> None:
    clips = dark_and_bright()
    net = net_for(clips.names)
    torch.nn.init.constant_(net.classifier.weight, torch.nan)
    kept: list[int] = []
    with pytest.raises(NumericsError, match="no longer a number in step 1, epoch 1"):
        fit(
            net,
            mixture(clips),
            Settings(epochs=2, batch=8, frames=6, threads=1),
            (32, 32),
            after_epoch=lambda epoch: kept.append(epoch.number),
        )
    assert not kept
