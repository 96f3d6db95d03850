"""The same weights in every wrapper that trainers put around them; and files that hold none."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import pathlib
import re
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from kit.official import mobile_state, official_file  # noqa: E402

from shiftedge.export.checkpoint import load_checkpoint  # noqa: E402
from shiftedge.runtime.errors import CheckpointError  # noqa: E402

SMALL = [8, 8, 8, 8, 16, 24, 40, 80, 1280]  # MobileNetV2 of width 0.25
USUAL = [f"features.{index}.conv.0" for index in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
STATE = mobile_state(3, SMALL)
OTHER = mobile_state(3, SMALL, seed=1)
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
_, TRAINING = official_file(STATE, USUAL)


def before(prefix, state=STATE):
    return OrderedDict((prefix + key, value) for key, value in state.items())


def training(prefix):
    """The official trainer's names behind a wrapper."""
    state = TRAINING["state_dict"]
    return {prefix + key.removeprefix("module."): value for key, value in state.items()}


def inside(token, at):
    """A wrapper around a part of the network."""
    return {key.replace(at, f"{at}{token}.", 1): value for key, value in STATE.items()}


def lightning_pair():
    return {**before("net."), **before("net_ema.", OTHER), "criterion.weight": torch.ones(3)}


GOOD = {
    "plain": STATE,
    "DataParallel": before("module."),
    "compiled": before("_orig_mod."),
    "compiled, then DDP": before("module._orig_mod."),
    "DDP, then compiled": before("_orig_mod.module."),
    "twice": before("module.module."),
    "FSDP": before("_fsdp_wrapped_module."),
    "FSDP of a part": inside("_fsdp_wrapped_module", "features."),
    "compiled part": inside("_orig_mod", "features."),
    "model.": before("model."),
    "backbone.": before("backbone."),
    "net.": before("net."),
    "network.": before("network."),
    "several": before("module.model.backbone."),
    "any name": before("my_recogniser."),
    "Lightning": {"state_dict": before("model."), "pytorch-lightning_version": "2.4",
                  "optimizer_states": [OPTIMIZER], "loops": {}, "hyper_parameters": {"lr": 0.1}},
    "Lightning with a loss": {"state_dict": {**before("model."), "loss_fn.weight": torch.ones(3)}},
    "model": {"model": STATE, "epoch": 3, "args": {"lr": 0.1}},
    "model_state_dict": {"model_state_dict": STATE, "optimizer_state_dict": OPTIMIZER},
    "net": {"net": STATE, "acc": 91.0},
    "network": {"network": before("module.")},
    "weights": {"weights": STATE},
    "params": {"params": STATE},
    "ema alone": {"ema": before("module."), "n": 1},
    "nested": {"checkpoint": {"model": {"state_dict": before("module.")}}},
    "a tuple": (STATE, {"epoch": 1}),
    "twice the same": {"model": STATE, "state_dict": before("module.")},
    "deepspeed": {"module": STATE, "optimizer": None, "ds_version": "0.14"},
    "mmengine": {"meta": {"epoch": 5}, "state_dict": STATE,
                 "ema_state_dict": before("module.", OTHER)},
    "timm": {"arch": "mobilenetv2", "state_dict": OTHER, "state_dict_ema": STATE, "version": 2},
    "ema": {"model": OTHER, "ema": before("module."), "optimizer": OPTIMIZER},
    "torchvision": {"model": OTHER,
                    "model_ema": {"n_averaged": torch.tensor(3), **before("module.")},
                    "args": argparse.Namespace(lr=0.1, out=pathlib.PosixPath("runs"))},
    "ema in one dictionary": {**before("online_model.", OTHER), **before("ema_model."),
                              "initted": torch.tensor(True), "step": torch.tensor(7)},
    "average without norms": {"model": STATE, "ema": {
        key: value for key, value in OTHER.items() if "running" not in key}},
    "profiled": {**STATE, "total_ops": torch.zeros(1), "features.0.0.total_params": torch.zeros(1)},
    "mmcv's average": {**STATE, "ema_features_0_0_weight": torch.zeros(8)},
    "half": {key: value.half() for key, value in STATE.items()},
    "bfloat16": {key: value.bfloat16() for key, value in STATE.items()},
    "double": {key: value.double() for key, value in STATE.items()},
    "parameters": {key: torch.nn.Parameter(value) for key, value in STATE.items()},
    "numpy scalars": {"model": STATE, "best": np.float64(0.5), "at": np.int64(3),
                      "curve": np.arange(3.0)},
    "torchvision's head": {re.sub("^classifier", "classifier.1", key): value
                           for key, value in STATE.items()},
    "official, DataParallel": TRAINING,
    "official, one GPU": {"state_dict": training("")},
    "official, compiled": {"state_dict": training("_orig_mod.")},
    "official, compiled DataParallel": {"state_dict": training("_orig_mod.module.")},
    "official in Lightning": {"state_dict": training("model.")},
    "official base model": {key.removeprefix("module.base_model.").removeprefix("module."): value
                            for key, value in TRAINING["state_dict"].items()},
    "official without dropout": {key.replace("module.new_fc", "module.base_model.classifier"): value
                                 for key, value in TRAINING["state_dict"].items()},
}  # fmt: skip


@pytest.mark.parametrize("form", GOOD)
def test_the_weights_are_found(tmp_path, form):
    torch.save(GOOD[form], tmp_path / "c.pth")
    checkpoint = load_checkpoint(tmp_path / "c.pth", read_as="one-way")
    assert checkpoint.family == ("official training" if "official" in form else "official online")
    tolerance = {"half": 1e-3, "bfloat16": 1e-2}.get(form, 0.0)
    for key, value in checkpoint.net.state_dict().items():
        assert value.dtype == (torch.int64 if "num_batches" in key else torch.float32)
        if key in STATE:
            assert torch.allclose(value, STATE[key], rtol=tolerance, atol=tolerance), key


def test_an_image_network_is_not_taken_for_one_with_shifts(tmp_path):
    path = tmp_path / "c.pth"
    torch.save(GOOD["torchvision's head"], path)
    with pytest.raises(CheckpointError, match=r"torchvision's names .* --read-as one-way"):
        load_checkpoint(path)
    assert load_checkpoint(path, read_as="two-way").two_way
    none = {key: value[:0] if "classifier" in key else value for key, value in STATE.items()}
    torch.save(none, path)
    with pytest.raises(CheckpointError, match="a classifier of no classes"):
        load_checkpoint(path)


def test_of_several_weights_one_is_taken_and_said(tmp_path):
    path = tmp_path / "c.pth"
    torch.save(GOOD["timm"], path)
    (note,) = load_checkpoint(path).notes
    assert "takes the weights 'state_dict_ema'" in note
    assert "also holds state_dict" in note
    other = load_checkpoint(path, weights="state_dict").net
    assert torch.equal(other.classifier.weight, OTHER["classifier.weight"])
    with pytest.raises(CheckpointError, match="no weights called 'best'; it has state_dict, state"):
        load_checkpoint(path, weights="best")
    torch.save({"student": STATE, "teacher": OTHER}, path)
    with pytest.raises(CheckpointError, match="several sets of weights: student, teacher; choose"):
        load_checkpoint(path)
    taken = load_checkpoint(path, weights="teacher").net
    assert torch.equal(taken.classifier.weight, OTHER["classifier.weight"])
    torch.save(lightning_pair(), path)
    notes = load_checkpoint(path).notes
    assert "takes the weights 'net_ema'" in notes[0]
    assert "criterion.weight" in notes[1]


def save_safetensors(path, state, change=None):
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
    header, blocks, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, value in state.items():
        block = value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else (
            value.reshape(1).view(torch.uint8).numpy().tobytes())  # fmt: skip
        header[name] = {"dtype": kinds[value.dtype], "shape": list(value.shape),
                        "data_offsets": [at, at + len(block)]}  # fmt: skip
        at += len(block)
        blocks.append(block)
    if change:
        change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blocks))


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors(tmp_path, kind):
    state = {key: value.to(kind) for key, value in before("model.").items()}
    state["model.features.0.1.num_batches_tracked"] = torch.tensor(7)
    save_safetensors(tmp_path / "model.safetensors", state)
    for path in (tmp_path / "model.safetensors", tmp_path):  # a trainer's folder
        net = load_checkpoint(path).net
        assert torch.equal(net.classifier.weight, state["model.classifier.weight"].float())
        assert int(net.features[0][1].num_batches_tracked) == 7


def first(header):
    return header["classifier.bias"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda header: first(header).update(dtype="F8_E4M3", shape=[12]),
            r"'classifier\.bias' is float8_e4m3fn; expected one of float64, .* save the weights as",
        ),
        (lambda header: first(header).update(dtype="F7"), r"not whole .*unknown variant `F7`"),
        (lambda header: first(header).update(shape=[4]), "not whole .*invalid shape"),
        (lambda header: first(header).update(shape=[1 << 40]), "not whole .*invalid shape"),
        (lambda header: first(header).update(shape=[-3]), "not whole .*invalid value"),
        (lambda header: first(header).update(shape=3), "not whole .*invalid type"),
        (lambda header: first(header).update(data_offsets=[0, 12]), "not whole .*invalid offset"),
        (lambda header: first(header).pop("dtype"), "not whole .*missing field `dtype`"),
        (lambda header: header.pop("classifier.bias"), "not whole .*file not fully covered"),
        (lambda header: header.update(x=[1]), "not whole .*invalid type"),
    ],
)
def test_safetensors_that_are_not_whole(tmp_path, change, message):
    save_safetensors(tmp_path / "c.safetensors", STATE, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "c.safetensors")


@settings(max_examples=60)
@given(st.data())
def test_damaged_safetensors_are_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save_safetensors(path, {"features.0.0.weight": torch.ones(2, 3), "b": torch.ones(3).half()})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def zipped(names):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x" * 50)

    return write


def tarred(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("c.pth"), io.BytesIO(b""))


def compressed(path):
    torch.save(STATE, path)
    path.write_bytes(gzip.compress(path.read_bytes(), 1))


def text(content):
    return lambda path: path.write_bytes(content)


def holding(document):
    return lambda path: torch.save(document, path)


FILES = {
    "Git LFS pointer": (text(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"),
                        "Git LFS pointer.*git lfs pull"),
    "web page": (text(b"\n<!DOCTYPE html><html><head>Sign in</head></html>"), "is a web page"),
    "web page of old": (text(b"<html>Quota exceeded</html>"), "is a web page"),
    "gzip": (compressed, "compressed with gzip: unpack it"),
    "tar": (tarred, "is a tar archive"),
    "zip": (zipped(["best.pth", "log.txt"]), r"zip archive with best\.pth, log\.txt in it"),
    "numpy": (zipped(["features.0.0.weight.npy"]), "archive of NumPy arrays"),
    "torch.export": (zipped(["m/archive_format", "m/models/model.json"]),
                     "program of torch.export"),
    "TorchScript": (zipped(["m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"]),
                    r"is a TorchScript archive.*torch\.jit\.load"),
    "Keras": (text(b"\x89HDF\r\n\x1a\n" + bytes(100)), "is an HDF5 file"),
    "ONNX": (text(b"\x08\x09:\x10" + bytes(20)), "looks like an ONNX model"),
    "text": (text(b"epoch: 3\nlr: 0.1\n"), r"it is text \('epoch: 3 lr: 0.1'\.\.\.\)"),
    "optimizer": (holding(OPTIMIZER), "state of an optimizer and no weights"),
    "optimizer below": (holding({"optimizer": OPTIMIZER, "epoch": 1}), "an optimizer .*no weights"),
    "nothing": (holding({"epoch": 1}), "holds no tensors"),
    "a tensor": (holding(torch.zeros(3)), "holds a Tensor; expected a dictionary"),
    "another network": (holding({"model": {"encoder.weight": torch.zeros(3)}}),
                        r"no known family \(model\.encoder\.weight"),
    "no classifier": (holding({k: v for k, v in STATE.items() if "classifier" not in k}),
                      r"is a MobileNetV2 without a classifier: it has no classifier\.weight, nor"),
    "no classifier, ResNet": (holding({"layer1.0.conv1.net.weight": torch.zeros(2, 2, 1, 1)}),
                              r"is a ResNet without a classifier: it has no fc\.weight, nor"),
    "ResNet-18": (holding({"module.new_fc.weight": torch.zeros(3, 9), **{
        f"module.base_model.layer{stage}.{block}.conv1.net.weight": torch.zeros(2, 2, 3, 3)
        for stage in (1, 2, 3, 4) for block in (0, 1)}}), "ResNet of 2-2-2-2 blocks"),
    "ImageNet ResNet": (holding({"layer1.0.conv1.weight": torch.zeros(2, 2, 1, 1),
                                 "fc.weight": torch.zeros(3, 9)}), "without a temporal shift"),
    "MobileNetV3": (holding({"features.0.0.weight": torch.zeros(16, 3, 3, 3),
                             "features.1.block.0.0.weight": torch.zeros(16, 1, 3, 3),
                             "classifier.3.weight": torch.zeros(5, 9)}),
                    r"is a network that is not known here \(features"),
    "VGG": (holding({"features.0.weight": torch.zeros(64, 3, 3, 3)}), "that is not known here"),
    "sparse": (holding({**STATE, "classifier.weight": STATE["classifier.weight"].to_sparse()}),
               r"classifier\.weight is no dense tensor"),
    "without data": (holding({**STATE, "classifier.weight": torch.zeros(3, 1280, device="meta")}),
                     r"classifier\.weight is no dense tensor"),
    "more than is there": (holding({**STATE,
                                    "classifier.weight": torch.zeros(1).expand(3_000_000, 1280),
                                    "classifier.bias": torch.zeros(1).expand(3_000_000)}),
                           r"classifier\.weight is no dense tensor"),
    "integers": (holding({**STATE, "classifier.weight": torch.zeros(3, 1280, dtype=torch.int8)}),
                 r"classifier\.weight is int8; expected floating point"),
    "complex": (holding({**STATE, "classifier.bias": torch.zeros(3, dtype=torch.complex64)}),
                r"classifier\.bias is complex64; expected floating point"),
    "overflow": (holding({**STATE,
                          "classifier.bias": torch.full((3,), 1e300, dtype=torch.float64)}),
                 "holds NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_other_files_are_named(tmp_path, kind):
    write, message = FILES[kind]
    write(tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "c.pth", read_as="one-way")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([".metadata", "__0_0.distcp"], "in shards.*dcp_to_torch"),
        (["model.safetensors.index.json", "model-00001-of-00002.safetensors"], "in several files"),
        (["config.json", "weights.pt"], r"a folder with config\.json, weights\.pt in it; name"),
        ([], "a folder with nothing in it"),
    ],
)
def test_folders_without_one_file_of_weights(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


class Stranger:
    """A class that a trainer's file refers to and that is not here."""


def test_what_would_need_code_is_named(tmp_path):
    torch.save({"state_dict": STATE, "hub": Stranger()}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"run code when it is opened .*Stranger.*alone"):
        load_checkpoint(tmp_path / "c.pth")
