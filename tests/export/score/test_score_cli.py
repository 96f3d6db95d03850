"""``shiftedge score`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")

import cv2

from shiftedge.__main__ import main
from shiftedge.export.score.films import (
    CALIBRATION_SEED,
    KINDS,
    SCORE_SEED,
    SEEDS,
    film_tasks,
    rendered_clips,
    rendered_films,
)
from shiftedge.export.score.stream import ModelChoice, stream
from shiftedge.runtime.capture.synthetic import LABELS
from shiftedge.runtime.errors import ShiftedgeError

SHORT = "synthetic:gestures,still?films=2&seconds=6"


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    """Document, page and tables of the bundled model against itself."""
    folder = tmp_path_factory.mktemp("score")
    link = folder / "other.onnx"
    link.symlink_to(Path(__file__).parents[3] / "runtime/assets/gestures.onnx")
    out, page = folder / "out.json", folder / "page.html"
    command = ["score", "bundled", str(link), SHORT, "--clips", "18", "--workers", "1"]
    pytest.importorskip("matplotlib")
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stdout.write", written.append, raising=False)
        assert main([*command, "--json", str(out), "--html", str(page)]) == 0
    return json.loads(out.read_text()), page.read_text(), "".join(written)


def test_the_document_has_what_it_says(scored: tuple[dict[str, Any], str, str]) -> None:
    document = scored[0]
    assert document["schema"] == 1
    assert {row["kind"]: row["films"] for row in document["films"]} == {"gestures": 2, "still": 1}
    first, second = document["models"]
    assert (first["name"], second["name"]) == ("bundled", "other.onnx")
    assert [row["name"] for row in first["targets"]["own"]] == [
        row["name"] for row in first["targets"]["at"]
    ]
    assert sum(map(sum, first["clips"]["confusion"])) == 18
    assert first["clips"]["truth"] == list(LABELS)
    recalls = [point["value"] for point in first["curve"] if point["value"] is not None]
    assert recalls == sorted(recalls)
    for part in ("own", "at"):
        assert first[part] == second[part]
        for row in document["difference"][part].values():
            assert row["value"] in (0.0, None)
            assert row["verdict"] in ("same", "unknown")


def test_the_page_stands_by_itself_and_holds_the_figures(
    scored: tuple[dict[str, Any], str, str],
) -> None:
    _, page, _ = scored
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<svg") >= 5
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "prefers-color-scheme:dark" in page
    assert "Swiping Left" in page


def test_the_tables_name_both_models(scored: tuple[dict[str, Any], str, str]) -> None:
    text = scored[2]
    assert "Recall at so many false events an hour or fewer" in text
    assert "other.onnx less bundled, over the same films, 4 labels" in text
    assert "recall of swipes, near" in text


def test_workers_change_nothing() -> None:
    films = rendered_films("synthetic:gestures?films=2&seconds=2")
    alone, shared = (stream([ModelChoice(None)], films, workers=count) for count in (1, 2))
    for one, other in zip(alone[0], shared[0], strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.events == other.events
        assert one.name == other.name


def a_film(folder: Path, seconds: float = 2.0) -> Path:
    """Pictures, twelve a second."""
    folder.mkdir()
    for number in range(round(12 * seconds)):
        grey = np.full((48, 64, 3), 90 + number, np.uint8)
        cv2.imwrite(str(folder / f"{number:04}.png"), grey)
    return folder


def test_own_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_film(tmp_path / "sofa")
    table = tmp_path / "films.csv"
    table.write_text("file,start,end,label\nsofa,0.5,1.0,Swiping Left\n")
    assert main(["score", "bundled", str(table), "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["films"] == [
        {"kind": "own", "films": 1, "minutes": 0.03, "events": 1, "cuts": 0}
    ]
    (model,) = document["models"]
    assert model["own"]["recall"]["events"] == 1
    assert model["targets"] is None
    assert model["own"]["conditions"] == {}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["score", *arguments]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_a_time_outside_the_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_film(tmp_path / "sofa")
    table = tmp_path / "films.csv"
    table.write_text("file,start,end,label\nsofa,0.5,1.0,Swiping Left\nsofa,5,6,Swiping Left\n")
    said = refused(["bundled", str(table), "--workers", "1"], capsys)
    assert "Line 3" in said
    assert "is 2.0 s long" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bundled", "synthetic:dancing"], "of the kind 'dancing'"),
        (["bundled", "synthetic:?colour=red"], "not an option"),
        (["bundled", "synthetic:?films=x"], "expected a whole number"),
        (["bundled", "nowhere.csv"], "Cannot read nowhere.csv"),
        (["nowhere.onnx", SHORT], "no model file nowhere.onnx"),
        (["bundled", SHORT, SHORT], "named twice"),
        (["bundled", SHORT, "--json", "nowhere/out.json"], "its folder does not exist"),
        (["bundled", SHORT, "--pictures", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(arguments, capsys)


@pytest.mark.parametrize(
    "arguments", [["a.onnx", "b.onnx", "c.onnx"], [SHORT], ["bundled", "--at", "0"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["score", *arguments])
    assert end.value.code == 2


# --- what is rendered


def test_no_two_sets_of_films_share_a_seed() -> None:
    sets = [
        film_tasks(KINDS, first_seed=first + SEEDS * seed)
        for first in (SCORE_SEED, CALIBRATION_SEED)
        for seed in (0, 1)
    ]
    seeds = [film.seed for films in sets for film in films]
    assert len(seeds) == len(set(seeds)) == 4 * sum(KINDS.values())
    assert min(seeds) > 10_000_000


def test_kinds_keep_their_proportion() -> None:
    films = rendered_films("synthetic:?films=12&seconds=5&seed=3")
    counts = {kind: sum(film.kind == kind for film in films) for kind in KINDS}
    assert counts == {"gestures": 12, "others": 10, "empty": 2, "still": 2}
    assert {film.seconds for film in films} == {5.0}
    only = rendered_films("synthetic:empty?films=7")
    assert [film.kind for film in only] == ["empty"] * 7


def test_clips_show_each_label_as_often() -> None:
    labels = [clip.label for clip in rendered_clips(36)]
    assert all(labels.count(label) == 2 for label in LABELS)


def test_a_model_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    with pytest.raises(ShiftedgeError):
        stream([ModelChoice(str(tmp_path / "m.onnx"))], rendered_films("synthetic:still?films=1"))
