"""Exported files: their form, their agreement with torch, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")
onnx = pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.networks import network  # noqa: E402

from shiftedge.export import verify  # noqa: E402
from shiftedge.export.models import StreamingModel, insert_shift  # noqa: E402
from shiftedge.export.to_onnx import describe, export_model, to_onnx  # noqa: E402
from shiftedge.runtime.errors import (  # noqa: E402
    ModelError,
    OutputError,
    SpecError,
    VerificationError,
)
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec  # noqa: E402


def labels(count):
    return [f"label {index}" for index in range(count)]


@pytest.fixture
def small():
    return network("mobilenet_v2")


@pytest.fixture
def small_file(float_file):
    """What :func:`to_onnx` makes of it."""
    return float_file("mobilenet_v2")[0]


def test_the_file_is_as_the_contract_says(tmp_path, small):
    net, spec = small
    report = export_model(net, spec, tmp_path / "small.onnx")
    assert report.passed
    assert report.frames == 32
    assert {row.tensor for row in report.comparisons} == {
        "logits", *(f"next_state_{index}" for index in range(10))
    }  # fmt: skip
    model = onnx.load(tmp_path / "small.onnx")
    onnx.checker.check_model(model, full_check=True)
    names = [value.name for value in model.graph.input]
    assert names == ["frame", *(f"state_{index}" for index in range(10))]
    names = [value.name for value in model.graph.output]
    assert names == ["logits", *(f"next_state_{index}" for index in range(10))]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert all(side.dim_value > 0 for side in value.type.tensor_type.shape.dim)
    kinds = collections.Counter(node.op_type for node in model.graph.node)
    assert not {"BatchNormalization", "Identity", "Constant", "Dropout"} & set(kinds)
    assert kinds["Conv"] == 52
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelSpec.from_json(metadata[METADATA_KEY]) == spec
    content = (tmp_path / "small.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content, "no paths of the machine that exported it"


def test_exporting_twice_gives_the_same_bytes(small, small_file):
    assert to_onnx(*small) == small_file


def test_a_plain_script_streams_it(small, small_file, scene):
    """The README's script: onnxruntime and numpy, nothing of ours, against torch's clip form."""
    net, spec = small
    clip = scene(1, 12, spec.height, spec.width)
    session = onnxruntime.InferenceSession(small_file)
    inputs = session.get_inputs()
    states = {i.name: np.zeros(i.shape, np.float32) for i in inputs[1:]}
    with torch.no_grad():
        expected = StreamingModel(net).clip(clip)[0].numpy()
    for t in range(12):
        logits, *new = session.run(None, {"frame": clip[0, t : t + 1].numpy(), **states})
        states = dict(zip(states, new, strict=True))
        assert np.abs(logits[0] - expected[t]).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["previous-frame", "resnet50"])
def test_other_networks(kind, float_file):
    net, spec = network(kind)
    model, _ = float_file(kind)
    assert verify.verify_onnx(StreamingModel(net), model, spec, frames=18).passed


def test_a_network_of_the_user_s(tmp_path, trained):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.BatchNorm2d(16))
            self.b = torch.nn.Conv2d(16, 16, 3, 1, 1)
            self.gate = torch.nn.Conv2d(16, 16, 1)
            self.head = torch.nn.Linear(16, 3)

        def forward(self, x):
            x = torch.nn.functional.hardswish(self.a(x))
            x = x + self.b(x)
            x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
            return self.head(x.mean(dim=(2, 3)))

    net = trained(insert_shift(Own(), ["b"]))
    spec = describe(net, name="own", labels=labels(3), height=40, width=56, frame_rate_hz=10.0)
    assert export_model(net, spec, tmp_path / "own.onnx").passed
    assert spec.receptive_field == 2


def test_disagreement_leaves_no_file(tmp_path, small, small_file, monkeypatch):
    net, spec = small
    monkeypatch.setattr("shiftedge.export.to_onnx.to_onnx", lambda *_: small_file)

    def altered(model, spec, scene):
        for outputs in list(real(model, spec, scene)):
            yield {**outputs, "next_state_4": outputs["next_state_4"] + 0.5}

    real = verify.onnx_outputs
    monkeypatch.setattr(verify, "onnx_outputs", altered)
    (tmp_path / "m.onnx").write_bytes(b"before")
    with pytest.raises(VerificationError, match="next_state_4 differs between online / ONNX"):
        export_model(net, spec, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_an_error_in_one_state_of_one_frame_is_found(small):
    net, spec = small
    scene = verify.moving_frames(spec, 8)
    good = list(verify.online_outputs(StreamingModel(net), scene))
    bad = [dict(outputs) for outputs in good]
    bad[5]["next_state_3"] = bad[5]["next_state_3"].copy()
    bad[5]["next_state_3"].flat[7] += 0.01 * np.abs(bad[5]["next_state_3"]).max() + 0.01
    rows = verify.compare("a / b", good, bad, tolerance=verify.TOLERANCE)
    failed = [row for row in rows if not row.passed]
    assert [(row.tensor, row.frame) for row in failed] == [("next_state_3", 5)]
    assert failed == rows[:1], "the worst comes first"
    bad[2]["logits"] = np.full_like(bad[2]["logits"], np.nan)
    with pytest.raises(VerificationError, match="logits holds NaN or infinity at frame 2"):
        verify.compare("a / b", good, bad, tolerance=verify.TOLERANCE)


def test_what_cannot_be_described(small, trained):
    net, _ = small
    with pytest.raises(SpecError, match="4 labels and the network has 3 classes"):
        describe(net, name="x", labels=labels(4), height=64, width=64)
    with pytest.raises(SpecError, match="each name once"):
        describe(net, name="x", labels=["same"] * 3, height=64, width=64)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    with pytest.raises(ModelError, match="no temporal shift"):
        describe(flat, name="x", labels=labels(2), height=2, width=2)
    with pytest.raises(ModelError, match="does not run on frames of 7x5"):
        describe(flat, name="x", labels=labels(2), height=5, width=7)
    maps = insert_shift(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1)), ["0"], fold_div=3)
    with pytest.raises(ModelError, match=r"gives \(1, 8, 4, 4\) for one frame"):
        describe(maps, name="x", labels=labels(8), height=4, width=4)


def test_where_it_cannot_be_written(tmp_path, small):
    net, spec = small
    with pytest.raises(OutputError, match="folder that exists"):
        export_model(net, spec, tmp_path / "absent" / "m.onnx")
    with pytest.raises(OutputError, match="it is a folder"):
        export_model(net, spec, tmp_path)


def test_damaged_weights_are_found(tmp_path):
    net, spec = network("own")
    with torch.no_grad():
        net.head.weight[0, 0] = float("inf")
    with pytest.raises(VerificationError, match="logits holds NaN or infinity"):
        export_model(net, spec, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_report_is_json_and_text(small, small_file):
    import json

    net, spec = small
    report = verify.verify_onnx(StreamingModel(net), small_file, spec, frames=4)
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True
    assert report.table().count("\n") == len(report.comparisons)
    failing = dataclasses.replace(
        report, comparisons=(dataclasses.replace(report.comparisons[0], passed=False),)
    )
    assert "FAILED" in failing.table()


def shifted_net(**changes):
    """A network of the user's, with a part of it changed."""
    from collections import OrderedDict

    parts = OrderedDict(
        a=torch.nn.Conv2d(3, 8, 3, 2, 1),
        b=torch.nn.Conv2d(8, 8, 3, 1, 1),
        pool=torch.nn.AdaptiveAvgPool2d(1),
        flat=torch.nn.Flatten(),
        head=torch.nn.Linear(8, 3),
    )
    parts.update(changes)
    return insert_shift(torch.nn.Sequential(parts), ["b"]).eval()


class Of(torch.nn.Module):
    """A module of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def angry(x):
    raise KeyError("angry")


def lost(x):
    return [][len(x)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shifted_net().half(), r"a\.weight is float16; expected float32: call \.float\(\)"),
        (lambda: shifted_net().bfloat16(), r"a\.weight is bfloat16; expected float32"),
        (lambda: shifted_net().double(), r"a\.weight is float64; expected float32"),
        (lambda: shifted_net(head=torch.nn.Linear(8, 3).half()), r"head\.weight is float16"),
        (lambda: shifted_net().to("meta"), r"a\.weight has no numbers"),
        (lambda: shifted_net(end=Of(lambda x: x.double())), r"gives logits of float64"),
        (lambda: shifted_net(a=Of(lambda x: x.repeat(1, 3, 1, 1).half()), b=Of(lambda x: x),
                             head=Of(lambda x: x.float())), "gives a state of float16"),
        (lambda: shifted_net(end=Of(lambda x: (x, x))), "gives a tuple for one frame"),
        (lambda: shifted_net(end=Of(lambda x: {"logits": x})), "gives a dict for one frame"),
        (lambda: shifted_net(end=Of(lambda x: x[0])), r"gives \(3,\) for one frame"),
        (lambda: shifted_net(end=Of(angry)), "does not run on frames of 32x24 pixels: 'angry'"),
        (lambda: shifted_net(end=Of(lost)), "does not run on frames of 32x24 pixels: list index"),
        (lambda: torch.nn.Sequential(shifted_net().a, torch.nn.Flatten()), "no temporal shift"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_described(make, message):
    with pytest.raises(ModelError, match=message):
        describe(make(), name="x", labels=labels(3), height=24, width=32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": 3}, "labels are 3; expected a list of names"),
        ({"labels": "abc"}, "labels are 'abc'; expected a list"),
        ({"labels": None}, "labels are None"),
        ({"labels": [1, 2, 3]}, r"labels are \[1, 2, 3\]"),
        ({"silent_labels": 3}, "silent_labels are 3"),
        ({"height": "24"}, "height is '24'; expected a whole number"),
        ({"width": 32.0}, r"width is 32\.0"),
        ({"height": 0}, "height is 0"),
        ({"width": 1 << 30}, "from 1 to 8192"),
        ({"fps": 12}, "no setting 'fps'; the settings are frame_rate_hz"),
        ({"states": ()}, "no setting 'states'"),
    ],
)
def test_arguments_of_another_kind(wrong, message):
    given = {"name": "x", "labels": labels(3), "height": 24, "width": 32, **wrong}
    with pytest.raises(SpecError, match=message):
        describe(shifted_net(), **given)


@pytest.mark.parametrize("net", [None, torch.nn.Conv2d, "net"])
def test_what_is_no_network(tmp_path, net):
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module"):
        describe(net, name="x", labels=labels(3), height=24, width=32)
    spec = describe(shifted_net(), name="x", labels=labels(3), height=24, width=32)
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module"):
        export_model(net, spec, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"expected a torch\.nn\.Module"):
        insert_shift(net, ["0"])


def test_export_refuses_other_arguments(tmp_path):
    net, path = shifted_net(), tmp_path / "m.onnx"
    spec = describe(net, name="x", labels=labels(3), height=24, width=32)
    with pytest.raises(SpecError, match="expected a ModelSpec"):
        export_model(net, {}, path)
    with pytest.raises(OutputError, match="path is 3"):
        export_model(net, spec, 3)
    for more in ({"frames": 0}, {"frames": "3"}, {"tolerance": "3"}, {"tolerance": math.nan}):
        with pytest.raises(ModelError, match="expected"):
            export_model(net, spec, path, **more)
    assert not path.exists()


def test_shifts_that_move_nothing_are_named():
    few = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 8, 1))
    with pytest.raises(ModelError, match=r"shift at '1' moves nothing.*fewer than 8 channels"):
        describe(insert_shift(few, ["1"]), name="x", labels=labels(8), height=24, width=32)
    with pytest.raises(ValueError, match=r"blocks is the text 'conv'; expected a list"):
        insert_shift(few, "conv")
    with pytest.raises(ValueError, match="fold_div is '8'"):
        insert_shift(few, ["0"], fold_div="8")


def test_a_network_of_chance_is_told_where_to_look(tmp_path):
    net = shifted_net(flat=Of(lambda x: x.flatten(1) + torch.randn(len(x), 1)))
    spec = describe(net, name="x", labels=labels(3), height=24, width=32)
    with pytest.raises(VerificationError, match=r"shifts alone may carry .*random numbers"):
        export_model(net, spec, tmp_path / "m.onnx", frames=4)


def test_a_network_changed_after_it_was_described(tmp_path):
    net = shifted_net()
    spec = describe(net, name="x", labels=labels(3), height=24, width=32)
    with pytest.raises(ModelError, match=r"call \.float\(\)"):
        export_model(net.half(), spec, tmp_path / "m.onnx")
    one = shifted_net(flat=Of(lambda x: x.reshape(1, 8)))  # of one frame alone
    spec = describe(one, name="x", labels=labels(3), height=24, width=32)
    with pytest.raises(ModelError, match="does not run on 8 frames at once, as a batch"):
        export_model(one, spec, tmp_path / "m.onnx", frames=8)
    assert not list(tmp_path.iterdir())


def test_what_the_checker_or_onnx_runtime_refuses_is_a_sentence(tmp_path, monkeypatch):
    net = shifted_net()
    spec = describe(net, name="x", labels=labels(3), height=24, width=32)

    def refuse(*_, **__):
        raise onnx.checker.ValidationError("a rule\nand a long trace")

    with monkeypatch.context() as patch:
        patch.setattr(onnx.checker, "check_model", refuse)
        with pytest.raises(ModelError, match=r"cannot be written as ONNX: a rule$"):
            export_model(net, spec, tmp_path / "m.onnx")
    monkeypatch.setattr("shiftedge.export.to_onnx.to_onnx", lambda *_: b"no model")
    with pytest.raises(ModelError, match="ONNX Runtime does not run the exported network"):
        export_model(net, spec, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
