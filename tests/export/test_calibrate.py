"""What a calibration chooses is within its limits, better than before, and always the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")

import torch
from kit.networks import save_checkpoint
from kit.streamed import SPEC, clear_film, random_film

from shiftedge.__main__ import main
from shiftedge.export.checkpoint import load_checkpoint
from shiftedge.export.models import MobileNetV2, build
from shiftedge.export.score.curve import curve_of
from shiftedge.export.score.events import event_score
from shiftedge.export.score.films import film_tasks
from shiftedge.export.score.run import chosen_models, film_set, score_models
from shiftedge.export.score.stream import Streamed
from shiftedge.export.to_onnx import describe
from shiftedge.export.training.calibrate import MARGIN, apply, calibrate_net, choose
from shiftedge.export.training.score import stream_film, watch
from shiftedge.export.training.session import stored


@pytest.fixture(scope="module")
def films() -> list[Streamed]:
    return [random_film(seed) for seed in range(12)]


def test_what_is_chosen_keeps_the_limits(films: list[Streamed]) -> None:
    hours = sum(film.seconds for film in films) / 3600.0
    limits = {("gestures",): 6 / hours}
    found = choose(SPEC, films, limits=limits)
    spec = dataclasses.replace(SPEC, decoder=found.decoder)
    bias = np.array(found.bias, np.float32)
    shifted = [dataclasses.replace(film, logits=film.logits + bias) for film in films]
    score = event_score(shifted, spec)
    assert score.false <= MARGIN * 6
    assert score.recall == pytest.approx(found.recall)
    assert found.recall >= curve_of(films, SPEC).at(MARGIN * 6 / hours).recall().value
    assert choose(SPEC, films, limits=limits) == found


def test_a_label_that_comes_too_readily_gets_a_lower_bias() -> None:
    clear = [clear_film(seed, found=3, missed=0, false=0) for seed in range(4)]
    clear = [dataclasses.replace(film, logits=np.minimum(film.logits, 11.0)) for film in clear]
    wrong = np.zeros_like(clear[0].logits)
    wrong[:, 0] = 9.0
    wrong[24:32, 3] = 11.0  # as sure and as long as a true event of the other label
    hours = sum(film.seconds for film in clear) / 3600.0
    films = [*clear, Streamed(wrong, (), len(wrong) / 12.0)]
    found = choose(SPEC, films, limits={("gestures",): 0.1 / hours})
    assert found.recall == 1.0
    assert found.false_per_hour == {"gestures": 0.0}
    assert found.bias[3] < found.bias[2]


def test_where_nothing_is_found_the_decoder_stays() -> None:
    still = [clear_film(1, found=0, missed=2, false=1, kind="gestures")]
    found = choose(SPEC, still, limits={("gestures",): 0.0})
    assert found.decoder == SPEC.decoder
    assert set(found.bias) == {0.0}


def test_a_network_is_calibrated_on_films_of_its_own() -> None:
    torch.manual_seed(0)
    net = MobileNetV2(len(SPEC.labels), width=0.25, previous_frame=True)
    spec = describe(
        net, name="t", labels=SPEC.labels, height=32, width=32, frame_rate_hz=6.0,
        silent_labels=SPEC.silent_labels,
    )  # fmt: skip
    before = net.classifier.bias.detach().clone()
    found = calibrate_net(net, spec, share=0.01, length_s=3.0)
    apply(net, found)
    after = net.classifier.bias.detach()
    assert torch.allclose(after - before, torch.tensor(found.bias))


def test_a_checkpoint_is_written_with_what_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    description = {"architecture": "mobilenet_v2", "classes": 4, "width": 0.25}
    net = build(description)
    spec = describe(
        net, name="t", labels=SPEC.labels, height=32, width=32, frame_rate_hz=6.0,
        silent_labels=SPEC.silent_labels,
    )  # fmt: skip
    before, after = tmp_path / "a.pt", tmp_path / "b.pt"
    save_checkpoint(before, net, description, labels=SPEC.labels, spec=stored(spec), training={})
    films = "synthetic:gestures,still?films=1&seconds=3"
    command = ["calibrate", str(before), films, "--output", str(after), "--json"]
    assert main(command) == 0
    chosen = json.loads(capsys.readouterr().out)
    old, new = load_checkpoint(before), load_checkpoint(after)
    assert new.spec == {**old.spec, "decoder": chosen["decoder"]}
    moved = new.net.classifier.bias - old.net.classifier.bias
    assert torch.allclose(moved, torch.tensor(chosen["bias"]))
    assert list(new.training["calibration"]["bias"]) == list(SPEC.labels)


def test_a_checkpoint_without_labels_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = MobileNetV2(3, width=0.25)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "a.pt")
    out = tmp_path / "b.pt"
    assert main(["calibrate", str(tmp_path / "a.pt"), "--output", str(out)]) == 1
    assert "shiftedge: " in capsys.readouterr().err
    assert not out.exists()


def test_parts_of_a_long_stream_are_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = MobileNetV2(len(SPEC.labels), width=0.25, previous_frame=True).eval()
    spec = describe(net, name="t", labels=SPEC.labels, height=32, width=32, frame_rate_hz=6.0)
    (task,) = film_tasks({"gestures": 1}, first_seed=5, length_s=10.0)
    frames = list(task.open(spec).frames)
    whole = stream_film(net, frames, spec, cuts=(25,))
    monkeypatch.setattr("shiftedge.export.training.score._PART", 24)
    np.testing.assert_allclose(stream_film(net, frames, spec, cuts=(25,)), whole, atol=1e-4)
    alone = stream_film(net, frames[25:], spec)
    np.testing.assert_allclose(whole[25:], alone, atol=1e-4)
    (watched,) = watch(net, spec, [task])
    assert watched.logits.shape == (60, len(SPEC.labels))
    assert watched.conditions[0].keys() >= {"distance", "light"} or not watched.events


def test_a_checkpoint_is_scored_as_it_is(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    torch.manual_seed(0)
    description = {"architecture": "mobilenet_v2", "classes": 4, "width": 0.25}
    net = build(description)
    spec = describe(net, name="t", labels=SPEC.labels, height=32, width=32, frame_rate_hz=6.0)
    path = tmp_path / "a.pt"
    save_checkpoint(path, net, description, labels=SPEC.labels, spec=stored(spec), training={})
    shown = film_set(["synthetic:gestures?films=1&seconds=3"])
    with chosen_models([str(path)]) as models:
        found = score_models(models, shown)
    (model,) = found["models"]
    assert (model["name"], model["frame"]) == ("a.pt", [32, 32])
    (watched,) = watch(load_checkpoint(path).net, spec, shown.films)
    assert len(watched.events) == found["films"][0]["events"]
