"""docs/architecture.md against the product: what it names is there, and journeys pass the rooms in
the order in which it lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the export extra is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.quantized_files import small, spec, write
from kit.walk import JOURNEYS, PAGE, ROOT, Walk, first, journey

from shiftedge.export.quantize import QuantizeSettings, quantize
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.loading import load

PLACE = re.compile(r"\b(?:runtime|export|demos|benchmarks|tests|docs)/[\w/.]*\w")


def test_what_is_named_is_there() -> None:
    places = set(PLACE.findall(PAGE))
    assert len(places) > 60
    assert [
        p for p in places if not any((ROOT / f"{p}{end}").exists() for end in ("", ".py"))
    ] == []


def test_a_journey_names_each_room_once() -> None:
    assert len(JOURNEYS) == 6
    for heading in JOURNEYS:
        rooms = journey(heading)
        assert len(rooms) >= 5, heading
        # A backend makes kernels, and code of them once every place in memory is known.
        assert {each for each in rooms if rooms.count(each) > 1} <= {"export/compiler/backends"}


def test_a_frame_passes_each_room_once(tiny_onnx: Path) -> None:
    beyond = ("runtime/engines", "runtime/native", "demos/sinks")
    rooms = [room for room in journey("A frame to an event") if room not in beyond]
    walk = Walk("runtime/live/session", "runtime/live/stream")
    source = "synthetic:moving?size=64x48&fps=12&seconds=1"
    with LiveSession(load(tiny_onnx, threads=1), source) as session:
        frames = iter(session)
        next(frames)
        with walk.followed():
            _, result = next(frames)
    assert result.steps == 1
    assert walk.passed(rooms) == rooms


def test_clips_to_int8(tmp_path: Path) -> None:
    """Files are made again until the accuracy is right, so rooms are entered again."""
    model = write(tmp_path / "small.onnx", small, spec())
    settings = QuantizeSettings(frames=64, lengths=(40, 80), max_accuracy_drop=100.0)
    walk = Walk("export/quantize/pipeline")
    with walk.followed():
        quantize(model, "synthetic:moving?size=64x48&fps=12&seconds=6", settings)
    *rooms, last = journey("Clips to int8")
    assert first(walk.passed(rooms)) == rooms
    assert last == "export/quantize/report"  # data, of which nothing is called
