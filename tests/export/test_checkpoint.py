"""Checkpoints of every family, written here in the exact format of the real ones; and bad ones."""

from __future__ import annotations

import json
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")

from kit.networks import save_checkpoint  # noqa: E402

from shiftedge.export.checkpoint import load_checkpoint  # noqa: E402
from shiftedge.export.models import MobileNetV2, ResNet  # noqa: E402
from shiftedge.runtime.errors import (  # noqa: E402
    CheckpointError,
    ShiftedgeError,
    TwoWayCheckpointError,
)

DATA = Path(__file__).parent / "data"
SHIFTED = (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)  # entries of `features` with a residual


def assert_same(net, state):
    got = net.state_dict()
    assert set(got) == set(state)
    assert all(torch.equal(got[key], state[key]) for key in state)


@pytest.fixture
def mobile(trained):
    return OrderedDict(trained(MobileNetV2(27)).state_dict())


@pytest.fixture
def resnet(trained):
    return OrderedDict(trained(ResNet(11)).state_dict())


def as_training(state, classifier):
    """Names of the official training code: DataParallel, base_model, wrapped convolutions."""
    out = OrderedDict()
    for key, value in state.items():
        if key.startswith(classifier + "."):
            out["module.new_fc." + key.rpartition(".")[2]] = value
            continue
        key = re.sub(r"^(layer\d\.\d+\.conv1)\.", r"\1.net.", key)
        match = re.match(r"features\.(\d+)\.conv\.0\.", key)
        if match and int(match[1]) in SHIFTED:
            key = key.replace(".conv.0.", ".conv.0.net.")
        out["module.base_model." + key] = value
    return {"epoch": 50, "arch": "mobilenetv2", "state_dict": out, "best_prec1": 94.6}


def as_mmaction_resnet(state):
    out = OrderedDict()
    for key, value in state.items():
        rest = key.rpartition(".")[2]
        if key.startswith("fc."):
            out[f"cls_head.fc_cls.{rest}"] = value
        elif match := re.match(r"(layer\d\.\d+)\.downsample\.([01])", key):
            out[f"backbone.{match[1]}.downsample.{('conv', 'bn')[int(match[2])]}.{rest}"] = value
        elif match := re.match(r"(layer\d\.\d+\.)?(conv|bn)(\d)", key):
            net = "net." if match[1] and match[2] == "conv" and match[3] == "1" else ""
            out[f"backbone.{match[1] or ''}conv{match[3]}.{match[2]}.{net}{rest}"] = value
    return {"meta": {"epoch": 1}, "state_dict": out}


def as_mmaction_mobile(state):
    stages = [1, 2, 3, 4, 3, 3, 1]
    place = {}
    entry = 1
    for stage, count in enumerate(stages):
        for block in range(count):
            place[entry] = (stage + 1, block)
            entry += 1
    out = OrderedDict()
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "classifier":
            out[f"cls_head.fc_cls.{parts[-1]}"] = value
        elif parts[1] in ("0", "18"):
            name = "conv1" if parts[1] == "0" else "conv2"
            out[f"backbone.{name}.{('conv', 'bn')[int(parts[2])]}.{parts[-1]}"] = value
        else:
            stage, block = place[int(parts[1])]
            layer, kind = divmod(int(parts[3]), 3)
            net = "net." if layer == 0 and int(parts[1]) in SHIFTED else ""
            name = f"backbone.layer{stage}.{block}.conv.{layer}.{net}{('conv', 'bn')[kind]}"
            out[f"{name}.{parts[-1]}"] = value
    return {"state_dict": out}


def test_official_online_file(tmp_path, mobile):
    """A flat OrderedDict in the legacy container, keys, order and types as in the real one."""
    description = json.loads((DATA / "tsm_mobilenetv2_jester_state_dict.json").read_text())
    kinds = {"FloatStorage": torch.float32, "LongStorage": torch.int64}
    state = OrderedDict((key, mobile[key].to(kinds[kind])) for key, _, kind in description)
    path = tmp_path / "mobilenetv2_jester_online.pth.tar"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert abs(path.stat().st_size - 9_225_904) < 30_000  # the genuine file's size, within its keys
    checkpoint = load_checkpoint(path)
    assert checkpoint.family == "official online"
    assert not checkpoint.two_way
    assert checkpoint.description == {
        "architecture": "mobilenet_v2", "classes": 27, "previous_frame": False, "width": 1.0,
    }  # fmt: skip
    assert_same(checkpoint.net, state)


@pytest.mark.parametrize("form", ["training", "mmaction"])
@pytest.mark.parametrize("network", ["mobile", "resnet"])
def test_two_way_files(tmp_path, request, form, network):
    state = request.getfixturevalue(network)
    if form == "training":
        document = as_training(state, "classifier" if network == "mobile" else "fc")
    elif network == "mobile":
        document = as_mmaction_mobile(state)
    else:
        document = as_mmaction_resnet(state)
    path = tmp_path / "two_way.pth"
    torch.save(document, path)
    with pytest.raises(TwoWayCheckpointError, match=r"do not say whether.*--read-as two-way"):
        load_checkpoint(path)
    checkpoint = load_checkpoint(path, read_as="one-way")
    assert not checkpoint.two_way
    assert "shifts" not in checkpoint.description
    assert_same(checkpoint.net, state)


def test_a_checkpoint_without_shift_is_refused(tmp_path, mobile):
    document = as_training(mobile, "classifier")
    document["state_dict"] = {
        key.replace(".net.", "."): value for key, value in document["state_dict"].items()
    }
    torch.save(document, tmp_path / "tsn.pth")
    with pytest.raises(CheckpointError, match="without a temporal shift"):
        load_checkpoint(tmp_path / "tsn.pth", read_as="two-way")


@pytest.mark.parametrize("width", [0.35, 1.4])
def test_width_is_told_from_the_shapes(tmp_path, trained, width):
    net = trained(MobileNetV2(7, width=width))
    torch.save(net.state_dict(), tmp_path / "thin.pth")
    checkpoint = load_checkpoint(tmp_path / "thin.pth")
    assert checkpoint.description["width"] == width
    assert_same(checkpoint.net, net.state_dict())


def own(path, trained, **changes):
    description = {"architecture": "mobilenet_v2", "classes": 3, "width": 0.35}
    net = trained(MobileNetV2(3, width=0.35))
    save_checkpoint(
        path, net, description, labels=("a", "b", "c"), spec={"height": 96}, training={"seed": 1}
    )
    if changes:
        document = torch.load(path, weights_only=True)
        document.update(changes)
        torch.save(document, path)
    return net


def test_own_format_round_trip(tmp_path, trained):
    net = own(tmp_path / "own.pt", trained)
    checkpoint = load_checkpoint(tmp_path / "own.pt")
    assert checkpoint.family == "shiftedge"
    assert checkpoint.labels == ("a", "b", "c")
    assert (checkpoint.spec, checkpoint.training) == ({"height": 96}, {"seed": 1})
    assert_same(checkpoint.net, net.state_dict())
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 2.*upgrade"),
        ({"version": "new"}, "version is 'new'"),
        ({"labels": ["a", "b"]}, "2 labels for 3 classes"),
        ({"labels": None}, "labels is a NoneType"),
        ({"model": {"architecture": "vgg", "classes": 3}}, "architecture is 'vgg'"),
        ({"model": {"architecture": "mobilenet_v2", "classes": 3, "depth": 1}}, "depth"),
        ({"model": {"architecture": "mobilenet_v2", "classes": 3, "width": 1.0}}, "shape"),
        ({"state_dict": {}}, "no tensors"),
    ],
)
def test_own_format_damaged(tmp_path, trained, changes, message):
    own(tmp_path / "own.pt", trained, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "own.pt")


class Trap:
    """Pickles as a call; a plain unpickle would run it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle"])
def test_a_malicious_pickle_is_not_run(tmp_path, container):
    trap, path = tmp_path / "sprung", tmp_path / "evil.pth"
    if container == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Trap(trap)}))
    else:
        torch.save(
            {"state_dict": Trap(trap)}, path, _use_new_zipfile_serialization=container == "zip"
        )
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not trap.exists()


def test_a_whole_model_pickled_is_refused_with_advice(tmp_path):
    torch.save(MobileNetV2(3, width=0.35), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"run code .*state_dict alone"):
        load_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_truncated_files(tmp_path, legacy, share):
    path = tmp_path / "whole.pth"
    state = MobileNetV2(3, width=0.35).state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"whole\.pth"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 100])
def test_other_files(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        load_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("document", [[1, 2], {"a": 1}, {"state_dict": [1]}, torch.zeros(3)])
def test_files_without_parameters(tmp_path, document):
    torch.save(document, tmp_path / "x.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "x.pth")


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        load_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(ShiftedgeError):
        load_checkpoint(tmp_path)


def test_another_architecture(tmp_path):
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"no known family \(encoder.weight"):
        load_checkpoint(tmp_path / "x.pth")


def test_missing_surplus_misshapen_and_nan(tmp_path, mobile):
    def refused(state, message):
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / "x.pth")

    lacking = OrderedDict(mobile)
    del lacking["features.9.conv.3.weight"]
    refused(lacking, "lacks 1 of its parameters, such as features.9.conv.3.weight")
    refused({**mobile, "extra.weight": torch.zeros(1)}, "has besides 1 .*extra.weight")
    refused({**mobile, "features.9.conv.3.weight": torch.zeros(2)}, "has shape")
    refused({**mobile, "classifier.bias": torch.full((27,), float("nan"))}, "NaN or infinity")
