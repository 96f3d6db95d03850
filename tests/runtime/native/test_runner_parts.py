"""The runner's parts against the Python they repeat: bits where bits are promised."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.fake_library import LIBRARY
from kit.runner import Probe, build_probe
from numpy.typing import NDArray

from shiftedge.runtime.capture.rawvideo import FORMATS, HALVED, RawVideo, to_bgr, what_fits
from shiftedge.runtime.live.clock import FrameClock
from shiftedge.runtime.live.cuts import CutDetector
from shiftedge.runtime.live.decode import GestureDecoder
from shiftedge.runtime.preprocess import Preprocessor, crop_box
from shiftedge.runtime.spec import DecoderSettings, ModelSpec, StateSpec
from shiftedge.runtime.words import json_text

CAMERAS = [
    (480, 640), (720, 1280), (1080, 1920), (1280, 720), (240, 320), (96, 128), (128, 96),
    (97, 131), (50, 60), (24, 32), (1, 1), (1, 500), (500, 1), (3, 2), (225, 223), (448, 449),
    (1000, 37), (101, 999),
]  # fmt: skip
"""(height, width): usual ones, portrait, smaller than the model, odd, absurd."""
MODELS = [(224, 224, 256), (224, 224, 224), (96, 128, 96), (24, 32, 28), (37, 91, 50), (1, 1, 1)]
"""(height, width, short side)"""
LEVELS = 0 if importlib.util.find_spec("cv2") is not None else 1
"""How far two implementations of the resize may differ: the runner repeats OpenCV's."""


@pytest.fixture(scope="module")
def probe(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Probe:
    path = tmp_path_factory.mktemp("probe") / "libprobe.so"
    return Probe(build_probe(compiler, path, *LIBRARY))


def spec_of(height: int = 24, width: int = 32, short: int = 24, **changes: object) -> ModelSpec:
    fields: dict[str, object] = {
        "name": "probe",
        "labels": ("No gesture", "Left", "Right", "Stop"),
        "height": height,
        "width": width,
        "resize_short_side": short,
        "states": (StateSpec("first", (1, 1)),),
        "receptive_field": 3,
        "silent_labels": ("No gesture",),
    }
    return ModelSpec(**{**fields, **changes})  # type: ignore[arg-type]


def near(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> bool:
    return bool(np.abs(ours.astype(int) - theirs.astype(int)).max() <= LEVELS)


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("camera", CAMERAS)
def test_a_fitted_frame(probe: Probe, camera: tuple[int, int], model: tuple[int, int, int]) -> None:
    image = np.frombuffer(noise(camera[0] * camera[1] * 3), np.uint8).reshape(*camera, 3)
    theirs = Preprocessor(spec_of(*model)).fit(image)
    assert near(probe.fit(image.tobytes(), "bgr24", camera, model[:2], model[2]), theirs)


@settings(max_examples=300)
@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.integers(1, 200),
    st.integers(0, 99),
)
def test_a_fitted_frame_of_any_size(
    probe: Probe, camera: tuple[int, int], model: tuple[int, int], short: int, seed: int
) -> None:
    image = np.frombuffer(noise(camera[0] * camera[1] * 3, seed), np.uint8).reshape(*camera, 3)
    theirs = Preprocessor(spec_of(*model, short)).fit(image)
    assert near(probe.fit(image.tobytes(), "bgr24", camera, model, short), theirs)


@settings(max_examples=500)
@given(*[st.integers(1, 16384)] * 2, *[st.integers(1, 8192)] * 3)
def test_the_crop(probe: Probe, a: int, b: int, c: int, d: int, e: int) -> None:
    assert probe.crop(a, b, c, d, e) == crop_box(a, b, c, d, e)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("camera", [(480, 640), (98, 62), (24, 32), (2, 2), (130, 24), (302, 404)])
def test_every_format(probe: Probe, form: str, camera: tuple[int, int]) -> None:
    video = RawVideo(camera[1], camera[0], form)
    data = noise(video.frame_bytes)
    theirs = Preprocessor(spec_of(24, 32, 26)).fit(to_bgr(video, data))
    assert near(probe.fit(data, form, camera, (24, 32), 26), theirs)
    # Untouched by any scaling, every pixel:
    assert near(probe.fit(data, form, camera, camera, 9), to_bgr(video, data))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("camera", [(48, 64), (98, 62), (2, 2), (30, 24)])
@pytest.mark.parametrize("padding", [0, 2, 62])
def test_every_format_of_full_range_and_with_padded_rows(
    probe: Probe, form: str, camera: tuple[int, int], padding: int
) -> None:
    video = RawVideo(camera[1], camera[0], form, full_range=form in HALVED)
    if padding:
        video = dataclasses.replace(video, stride=video.row_bytes + padding)
    data = noise(video.frame_bytes)
    options = {"full_range": video.full_range, "stride": video.stride}
    theirs = Preprocessor(spec_of(24, 32, 26)).fit(to_bgr(video, data))
    assert near(probe.fit(data, form, camera, (24, 32), 26, **options), theirs)
    assert near(probe.fit(data, form, camera, camera, 9, **options), to_bgr(video, data))


@settings(max_examples=300)
@given(
    st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
    st.sampled_from(FORMATS),
    st.sampled_from([0, 0, 2, 32, 256]),
    st.integers(1, 400),
    st.sampled_from(FORMATS),
    st.integers(0, 1),
)
def test_the_words_about_the_bytes_are_pythons(
    probe: Probe,
    size: tuple[int, int],
    form: str,
    padding: int,
    frames: int,
    sent: str,
    more: int,
) -> None:
    even = (2 * size[0], 2 * size[1])
    video = RawVideo(*even, form)
    if padding:
        video = dataclasses.replace(video, stride=video.row_bytes + padding)
    total = frames * RawVideo(*even, sent).frame_bytes + more
    assert probe.fitting(video, total) == what_fits(video, total)


@pytest.mark.parametrize("full_range", [False, True])
def test_every_colour_of_yuv(probe: Probe, full_range: bool) -> None:
    """Each of 64 levels of Y, U and V with each."""
    levels = np.linspace(0, 255, 64).astype(np.uint8)
    luma, blue, red = (a.ravel() for a in np.meshgrid(levels, levels, levels))
    video = RawVideo(2 * 64, 2 * 64 * 64, "yuv420p", full_range)
    data = luma.reshape(64 * 64, 64).repeat(2, 0).repeat(2, 1).tobytes()
    data += blue.tobytes() + red.tobytes()
    size = (video.height, video.width)
    # Too large for a spec, not for the functions.
    ours = probe.fit(data, "yuv420p", size, size, 9, full_range=full_range)
    assert near(ours, to_bgr(video, data))


@settings(max_examples=200)
@given(
    st.sampled_from([0.5, 7.0, 12.0, 29.97, 30.0, 1000.0]),
    st.floats(1.0, 3.0),
    st.lists(st.floats(-0.1, 2.5) | st.sampled_from([0.0, 1 / 30, 1 / 12, 0.04]), max_size=60),
)
def test_the_clock(probe: Probe, rate_hz: float, gap_steps: float, intervals: list[float]) -> None:
    max_gap_s = gap_steps / rate_hz
    times = [100.0, *(100.0 + np.cumsum(intervals))]
    clock = FrameClock(rate_hz, max_gap_s)
    ticks = [clock.tick(time_s) for time_s in times]
    assert probe.clock(rate_hz, max_gap_s, times) == [(tick.steps, tick.reset) for tick in ticks]


@pytest.mark.parametrize("size", [(224, 224), (96, 128), (24, 32), (29, 100), (3, 3), (128, 171)])
def test_cuts(probe: Probe, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(3)
    frames: list[NDArray[np.uint8]] = []
    for scene in range(8):
        cells = generator.integers(0, 256, (15, 19, 3))
        rows = np.arange(size[0]) * 15 // size[0]
        columns = np.arange(size[1]) * 19 // size[1]
        picture = cells[rows][:, columns]
        for _ in range(3):
            blank = scene == 4
            moved = np.roll(picture, generator.integers(0, 3), axis=1) // (9 if blank else 1)
            frame = np.clip(moved + generator.normal(0, 9, (*size, 3)), 0, 255)
            frames.append((frame * (0 if blank else 1)).astype(np.uint8))
    detector = CutDetector()
    expected = [detector.update(frame) for frame in frames]
    assert probe.cuts(frames) == expected
    assert any(expected) or min(size) < 24


DECODERS = st.builds(
    DecoderSettings,
    smoothing_s=st.sampled_from([0.0, 0.05, 0.15, 1.0]),
    enter=st.sampled_from([0.3, 0.6, 0.9]),
    exit=st.sampled_from([0.1, 0.3]),
    min_duration_s=st.sampled_from([0.0, 0.08, 0.2]),
    rearm_s=st.sampled_from([0.0, 0.5]),
)


@settings(max_examples=200)
@given(DECODERS, st.integers(0, 9999), st.sampled_from([1 / 12, 1 / 30, 0.0, 0.3]))
def test_the_decoder(probe: Probe, decoder: DecoderSettings, seed: int, interval_s: float) -> None:
    generator = np.random.default_rng(seed)
    spec = spec_of(decoder=decoder)
    # Gestures that last: the same logits for several frames, with noise.
    logits = generator.normal(0, 3, (20, 4)).repeat(10, axis=0) + generator.normal(0, 1, (200, 4))
    logits = logits.astype(np.float32)
    times = [interval_s * i for i in range(200)]
    resets = [bool(value) for value in generator.random(200) < 0.01]
    python, expected = GestureDecoder(spec), []
    for row, time_s, reset in zip(logits, times, resets, strict=True):
        if reset:
            python.reset()
        if event := python.update(row, time_s):
            expected.append((event.time_s, event.start_s, event.confidence, event.index))
    found = probe.decode(spec, logits, times, resets)
    assert [(*event[:2], event[3]) for event in found] == [(*e[:2], e[3]) for e in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[2] == pytest.approx(theirs[2], abs=1e-12)


@given(
    st.floats(0, 1e9),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=100),
    st.floats(0, 1),
    st.booleans(),
)
@settings(max_examples=500)
def test_a_line(probe: Probe, time_s: float, label: str, confidence: float, step: bool) -> None:
    document: dict[str, object] = {
        "time_s": round(time_s, 4),
        "label": label,
        "confidence": round(confidence, 4),
    }
    more = {"step": True} if step else {}
    expected = json_text({**document, **more}) + "\n"
    assert probe.line(time_s, label, confidence, step) == expected


Digest = Callable[[bytes, int], bytes]
"""(data, bytes of the pieces that it is given in) -> its SHA-256."""


@pytest.fixture(scope="module", params=["portable", "chosen"])
def digest(probe: Probe, request: pytest.FixtureRequest) -> Digest:
    """In C alone, and as the runner chooses: by the CPU's instructions for it if it has any."""
    portable = request.param == "portable"
    return functools.partial(probe.sha256, portable=portable)


def test_sha256_of_the_standard(digest: Digest) -> None:
    """FIPS 180-4's examples, of one block, of two, and of many."""
    for data, expected in (
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (b"a" * 10**6, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ):
        assert digest(data, len(data)).hex() == expected


def test_sha256_of_every_length(digest: Digest) -> None:
    """Whatever pieces it comes in."""
    data = noise(520)
    for length in range(len(data)):
        expected = hashlib.sha256(data[:length]).digest()
        for piece in (1, 63, 64, 65, 520):
            assert digest(data[:length], piece) == expected, (length, piece)


@settings(max_examples=100)
@given(st.integers(0, 1 << 20), st.integers(1, 1 << 17), st.integers(0, 99))
def test_sha256_of_anything(digest: Digest, length: int, piece: int, seed: int) -> None:
    data = noise(length, seed)
    assert digest(data, piece) == hashlib.sha256(data).digest()
