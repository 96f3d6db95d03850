"""live.h against the LiveStream that it is the twin of: the same frames, the same answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.fake_bundle import write_bundle
from kit.fake_library import Fake
from kit.live_library import FORMATS, FULL_RANGE, ONE_SCENE, LiveLibrary
from numpy.typing import NDArray

from shiftedge.runtime.capture.rawvideo import RawVideo, to_bgr
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.live.stream import LiveStream
from shiftedge.runtime.loading import load

pytestmark = pytest.mark.timeout(120, method="thread")

WIDE, TALL = 96, 64
ARGUMENT, KERNEL = 1, 7


@pytest.fixture(scope="module")
def calm(calm_path: Path) -> Iterator[LiveLibrary]:
    library = LiveLibrary(calm_path)
    yield library
    library.close()


@pytest.fixture(scope="module")
def python(calm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LiveStream]:
    """Makes streams of the same library."""
    model = load(write_bundle(tmp_path_factory.mktemp("live") / "calm", calm_path))
    return lambda **options: LiveStream(model, on_note=lambda note: None, **options)


def film(seed: int, count: int = 150) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """(frame, time): sides that grow bright in turns, scene cuts, pauses, bursts, a clock that goes
    back, at an uneven rate."""
    generator = np.random.default_rng(seed)
    place, time_s = np.linspace(0, 3, WIDE), 100 * generator.random()
    scene, period = np.zeros((TALL, WIDE)), generator.uniform(5, 15)
    rate_hz = generator.choice([5, 12, 15, 30, 60])
    for i in range(count):
        if i == 0 or generator.random() < 0.03:
            cells = generator.integers(60, 190, (TALL // 4, WIDE // 4))
            scene = cells.repeat(4, 0).repeat(4, 1)
        level = 60 * np.sin(i / period + place)
        grey = np.clip(scene + level + generator.normal(0, 5, (TALL, WIDE)), 0, 255)
        yield (grey[..., None] * (1, 0.9, 0.8)).astype(np.uint8), time_s
        event = generator.random()
        time_s += generator.uniform(0.5, 1.5) / rate_hz
        time_s += 3 if event < 0.01 else -7 if event < 0.02 else 0


def expected(stream: LiveStream, frame: NDArray[np.uint8], time_s: float) -> dict[str, Any]:
    result = stream.feed(frame, time_s)
    event = result.event
    return {
        "steps": result.steps,
        "reset": result.reset,
        "logits": None if result.logits is None else result.logits.tolist(),
        "event": event
        and (event.time_s, event.label, event.index, event.confidence, event.start_s),
    }


def check(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """To the bit, but for the confidence, whose exponentials are another library's."""
    if theirs["event"] is not None:
        assert ours["event"] is not None
        assert ours["event"][3] == pytest.approx(theirs["event"][3], abs=1e-12)
        ours["event"] = (*ours["event"][:3], theirs["event"][3], ours["event"][4])
    assert ours == theirs


@pytest.mark.parametrize("seed", range(12))
def test_what_python_answers(
    calm: LiveLibrary, python: Callable[..., LiveStream], seed: int
) -> None:
    pytest.importorskip("cv2", reason="the library repeats OpenCV's numbers")
    ours, theirs = calm.stream(width=WIDE, height=TALL), python()
    seen = []
    for i, (frame, time_s) in enumerate(film(seed)):
        got = ours.feed(frame, time_s)
        check(got, expected(theirs, frame, time_s))
        seen.append(got)
        if i == 75:
            ours.reset()
            theirs.reset()
    ours.close()
    assert any(each["event"] for each in seen)
    assert any(each["steps"] != 1 for each in seen)


def test_the_films_have_it_all(python: Callable[..., LiveStream]) -> None:
    results = [
        expected(stream, *each)
        for stream, seed in zip([python() for _ in range(12)], range(12), strict=True)
        for each in film(seed)
    ]
    assert {each["reset"] for each in results} == {None, "gap", "clock", "cut"}
    assert {each["steps"] for each in results} >= {0, 1, 2}
    assert {each["event"][1] for each in results if each["event"]} == {"Left", "Right", "Stop"}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("padding", [0, 32])
def test_every_format(
    calm: LiveLibrary, python: Callable[..., LiveStream], form: str, full_range: bool, padding: int
) -> None:
    pytest.importorskip("cv2", reason="the library repeats OpenCV's numbers")
    if full_range and form not in ("yuv420p", "nv12"):
        return
    stride = RawVideo(WIDE, TALL, form).row_bytes + padding if padding else 0
    video = RawVideo(WIDE, TALL, form, full_range, stride)
    ours = calm.stream(
        format=FORMATS.index(form), stride_bytes=stride, flags=FULL_RANGE if full_range else 0
    )
    assert ours.frame_bytes == video.frame_bytes
    theirs, generator = python(), np.random.default_rng(1)
    for i in range(10):
        data = generator.integers(0, 256, video.frame_bytes, np.uint8).tobytes()
        check(ours.feed(data, i / 12), expected(theirs, to_bgr(video, data), i / 12))
    ours.close()


def test_one_scene(calm: LiveLibrary, python: Callable[..., LiveStream]) -> None:
    pytest.importorskip("cv2", reason="the library repeats OpenCV's numbers")
    ours, theirs = calm.stream(flags=ONE_SCENE), python(detect_cuts=False)
    for frame, time_s in film(3):
        got = ours.feed(frame, time_s)
        check(got, expected(theirs, frame, time_s))
        assert got["reset"] != "cut"
    ours.close()


def test_several_streams_of_one_model(calm: LiveLibrary) -> None:
    """Fed in turns as if each were alone."""
    alone = []
    for seed in range(3):
        stream = calm.stream()
        alone.append([stream.feed(*each) for each in film(seed, 60)])
        stream.close()
    streams = [calm.stream() for _ in range(3)]
    films = [film(seed, 60) for seed in range(3)]
    together: list[list[Any]] = [[], [], []]
    for _, i in itertools.product(range(60), range(3)):
        together[i].append(streams[i].feed(*next(films[i])))
    assert together == alone
    for stream in streams:
        stream.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "options.size is 0; set it to sizeof(shiftedge_live_options), 24"),
        ({"size": 20}, "options.size is 20"),
        ({"width": 0}, "options.width is 0; expected pixels from 1 to 16384"),
        ({"height": 16385}, "options.height is 16385"),
        ({"format": 7}, "options.format is 7; expected a shiftedge_format"),
        ({"format": 6, "width": 95}, "options.width is 95; expected even pixels from 2"),
        ({"format": 5, "height": 63}, "options.height is 63; expected even pixels"),
        ({"flags": 4}, "options.flags is 4"),
        ({"flags": FULL_RANGE}, "expected no SHIFTEDGE_LIVE_FULL_RANGE but for YUV"),
        ({"stride_bytes": 287}, "options.stride_bytes is 287; expected 0, or the bytes of a row"),
        ({"stride_bytes": -1}, "options.stride_bytes is -1"),
        ({"stride_bytes": 131073}, "options.stride_bytes is 131073"),
        ({"format": 6, "stride_bytes": 97}, "for YUV an even number"),
    ],
)
def test_options_that_are_wrong(calm: LiveLibrary, options: dict[str, int], message: str) -> None:
    assert calm.try_open(**options) == (ARGUMENT, None)
    assert message in calm.error()


def test_calls_that_are_wrong(calm: LiveLibrary) -> None:
    library = calm.library
    stream = calm.stream()
    frame = bytes(stream.frame_bytes)
    assert stream.feed(frame, 1.0)["steps"] == 1
    for time_s in (math.nan, math.inf):
        assert stream.try_feed(frame, time_s) == (ARGUMENT, None)
        assert "expected a finite number of seconds" in calm.error()
    assert stream.feed(frame, 1 + 1 / 12)["reset"] is None  # nothing has changed
    assert library.shiftedge_live_open(calm.model, None, None) == ARGUMENT
    assert "was given no options (NULL)" in calm.error()
    assert library.shiftedge_live_feed(stream.handle, None, 2.0, None) == ARGUMENT
    assert "was given no frame (NULL)" in calm.error()
    assert library.shiftedge_live_frame_bytes(None) == 0
    library.shiftedge_live_reset(None)
    library.shiftedge_live_close(None)
    stream.close()


def test_a_step_that_fails(fake_path: Path) -> None:
    """The stream starts anew with the next frame, as Python's does."""
    library, fake = LiveLibrary(fake_path), Fake(fake_path)
    stream = library.stream()
    frames = list(film(5, 8))
    first = stream.feed(frames[0][0], 0.0)
    stream.feed(frames[1][0], 1 / 12)
    fake.switch(fail=2, unit=1)
    assert stream.try_feed(frames[2][0].tobytes(), 2 / 12) == (KERNEL, None)
    assert library.error() == "Kernel columns failed with code 42; the state is as it was."
    fake.switch()
    assert stream.feed(frames[0][0], 3 / 12)["logits"] == first["logits"]
    stream.close()
    library.close()


@pytest.mark.parametrize("name", ["calm_path", "fake_path"])
def test_the_spec_in_c_is_that_in_json(name: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    library, spec = LiveLibrary(path), NativeEngine(path).spec
    assert library.spec == spec_fields(spec)
    library.close()


def spec_fields(spec: Any) -> dict[str, Any]:
    names = ("name", "precision", "height", "width", "resize_short_side", "frame_rate_hz")
    fields = {key: getattr(spec, key) for key in (*names, "max_gap_s", "labels", "silent_labels")}
    return {**fields, "decoder": tuple(vars(spec.decoder).values())}


def test_logits_that_are_not_finite(build_fake: Callable[..., Path]) -> None:
    path = build_fake("-DFAKE_NOT_FINITE")
    library = LiveLibrary(path)
    stream = library.stream()
    status, result = stream.try_feed(bytes(stream.frame_bytes), 0.0)
    assert (status, result) == (10, None)
    assert "The model fake gave logits that are not finite; its weights or" in library.error()
    stream.close()
    library.close()
    with pytest.raises(ShiftedgeError, match="not finite"):
        load(write_bundle(path.parent / "b", path)).stream().step(np.zeros((24, 32, 3), np.uint8))
