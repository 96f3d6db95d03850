"""What training starts from: two-way weights give the past to the channels that learned on it."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")
pytest.importorskip("cv2", reason="the camera extra is not installed")

from kit.networks import fine_tune, save_checkpoint, train  # noqa: E402
from kit.official import mobile_state, official_file  # noqa: E402

from shiftedge.__main__ import main  # noqa: E402
from shiftedge.export.checkpoint import load_checkpoint  # noqa: E402
from shiftedge.export.models import build  # noqa: E402
from shiftedge.export.training.runner import _shape, _take_over  # noqa: E402
from shiftedge.runtime.errors import TwoWayCheckpointError  # noqa: E402

SMALL = [8, 8, 8, 8, 16, 24, 40, 80, 1280]  # MobileNetV2 of width 0.25
PLACES = ["features.3.conv.0", "features.6", "features.16.conv.0"]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A file of the official trainer, with shifts in three blocks."""
    path = tmp_path / "two-way.pth.tar"
    torch.save(official_file(mobile_state(3, SMALL), PLACES)[1], path)
    return path


def test_two_way_weights_start_with_the_past_where_they_learned_it(start, tmp_path):
    """That they are loaded right, ``test_checkpoint_shifts`` shows; here, that they go on so."""
    loaded = {way: load_checkpoint(start, read_as=way) for way in ("one-way", "two-way")}
    shape = _shape(None, loaded["two-way"], (32, 24), None)
    net = build(shape.description(2))
    assert list(net.shifts) == PLACES
    _take_over(net, loaded["two-way"], ("a", "b"))
    weights = {way: each.net.state_dict() for way, each in loaded.items()}
    for key, value in net.state_dict().items():
        if not key.startswith("classifier"):
            assert torch.equal(value, weights["two-way"][key]), key
    key = "features.4.conv.0.weight"  # reads what features.3 shifts and adds
    assert not torch.equal(weights["two-way"][key], weights["one-way"][key])
    own = tmp_path / "own.pt"
    save_checkpoint(own, net, shape.description(2), labels=("a", "b"), spec={}, training={})
    again = load_checkpoint(own)
    assert (again.description["shifts"], again.two_way) == (PLACES, False)
    assert _shape(None, again, None, None).shifts == tuple(PLACES)


def test_another_share_of_channels_goes_on(start):
    loaded = load_checkpoint(start, read_as="two-way", shift_div=4)
    shape = _shape(None, loaded, None, None)
    assert build(shape.description(3)).features[3].shift.fold_div == 4


def test_labels_that_the_start_knows_keep_their_rows(tmp_path):
    shape = _shape(None, None, (32, 24), 0.1)
    old, new = build(shape.description(3)), build(shape.description(4))
    path = tmp_path / "old.pt"
    save_checkpoint(path, old, shape.description(3), labels=("a", "b", "c"), spec={}, training={})
    before = {key: value.clone() for key, value in new.classifier.state_dict().items()}
    _take_over(new, load_checkpoint(path), ("c", "d", "a", "e"))
    for key, value in new.classifier.state_dict().items():
        known = old.classifier.state_dict()[key]
        wanted = torch.stack([known[2], before[key][1], known[0], before[key][3]])
        assert torch.equal(value, wanted), key


@pytest.mark.parametrize("run", [train, fine_tune])
def test_which_way_is_asked_for_before_any_work(start, tmp_path, run):
    with pytest.raises(TwoWayCheckpointError, match="--read-as one-way"):
        run("no such data", tmp_path / "out", epochs=1, threads=1, start=start)


def test_how_to_read_a_start_needs_one(tmp_path, capsys):
    line = ["train", "synthetic:", "--output", str(tmp_path / "out"), "--read-as", "two-way"]
    assert main(line) == 1
    assert "say how to read the checkpoint of --start" in capsys.readouterr().err
