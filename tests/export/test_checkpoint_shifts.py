"""Where the shifts of a checkpoint stand and which way they were trained: against the official
code's clip form, over a stream."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export extra (torch) is not installed")

from kit.networks import from_checkpoint  # noqa: E402
from kit.official import clip_logits, mobile_state, official_file, resnet_state  # noqa: E402

from shiftedge.export.checkpoint import load_checkpoint  # noqa: E402
from shiftedge.export.models import (  # noqa: E402
    StreamingModel,
    TemporalShift,
    build,
    past_first,
)
from shiftedge.export.to_onnx import export_model  # noqa: E402
from shiftedge.runtime.errors import CheckpointError, TwoWayCheckpointError  # noqa: E402

SMALL = [8, 8, 8, 8, 16, 24, 40, 80, 1280]  # MobileNetV2 of width 0.25
USUAL = [f"features.{index}.conv.0" for index in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
RESNET = [f"layer{stage}.{block}" for stage, count in enumerate((3, 4, 6, 3), 1)
          for block in range(count)]  # fmt: skip
FORMS = {"one-way": "one-way", "two-way": "two-way online"}
PLACES = {
    "mobile": USUAL,
    "mobile-thin": ["features.1.conv.0", *USUAL],
    "mobile-some": USUAL[6:],
    "mobile-block": [name.removesuffix(".conv.0") for name in USUAL],
    "mobile-plain-blocks": ["features.2", "features.2.conv.0", "features.1", "features.14"],
    "resnet-mixed": ["layer4.0.conv1", "layer4.1.conv1", "layer4.2", "layer1.2", "layer1.2.conv1"],
}


def clips(scene):
    return scene(1, 7, 32, 32)


def saved(path, places, *, seed=0):
    """A file of the official trainer; its state dict as the reference reads it."""
    mobile = places[0].startswith("features")
    state = mobile_state(3, SMALL, seed=seed) if mobile else resnet_state(3, seed=seed)
    wrapped, document = official_file(state, places)
    torch.save(document, path)
    return wrapped


@torch.no_grad()
def streamed(net, clip):
    states, logits, model = None, [], StreamingModel(net)
    for frame in clip[0]:
        one, states = model.step(frame[None], states)
        logits.append(one)
    return torch.stack(logits, 1)


def differ(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("places", PLACES)
def test_a_stream_is_the_checkpoint_s_own_clip_form(tmp_path, scene, places):
    state = saved(tmp_path / "c.pth.tar", PLACES[places])
    clip = clips(scene)
    for reading, other in (("one-way", "two-way"), ("two-way", "one-way")):
        checkpoint = load_checkpoint(tmp_path / "c.pth.tar", read_as=reading)
        assert checkpoint.two_way == (reading == "two-way")
        assert len(StreamingModel(checkpoint.net).initial_states(32, 32)) == len(PLACES[places])
        got = streamed(checkpoint.net, clip)
        assert differ(got, clip_logits(state, clip, FORMS[reading])) < 1e-4
        assert differ(got, clip_logits(state, clip, FORMS[other])) > 1e-3, "the test must tell"
        with torch.no_grad():  # the offline form is that of the file, whatever it was read as
            offline = StreamingModel(checkpoint.net).clip(clip, two_way=True)
        assert differ(offline, clip_logits(state, clip, "two-way")) < 1e-4
        rebuilt = build(checkpoint.description)
        rebuilt.load_state_dict(checkpoint.net.state_dict())
        assert torch.equal(streamed(rebuilt.eval(), clip), got), "the description says it all"


def test_mmaction_s_shift_before_the_block(tmp_path, scene):
    state, clip = resnet_state(3), clips(scene)
    wrapped, _ = official_file(state, RESNET)
    out = {}
    for key, value in wrapped.items():
        key = re.sub(r"(^|\.)conv(\d)\.", r"\1conv\2.conv.", key)
        key = re.sub(r"(^|\.)bn(\d)\.", r"\1conv\2.bn.", key)
        key = key.replace("downsample.0.", "downsample.conv.").replace(
            "downsample.1.", "downsample.bn."
        )
        out["cls_head.fc_cls." + key[3:] if key.startswith("fc.") else "backbone." + key] = value
    torch.save({"meta": {"epoch": 50}, "state_dict": out}, tmp_path / "mm.pth")
    checkpoint = load_checkpoint(tmp_path / "mm.pth", read_as="two-way")
    assert checkpoint.family == "mmaction2"
    assert checkpoint.description["shifts"] == RESNET
    assert (
        differ(streamed(checkpoint.net, clip), clip_logits(wrapped, clip, "two-way online")) < 1e-4
    )


def test_every_second_block_of_a_deep_network():
    """The official code's n_round: ResNet-101 has shifts in 18 of its 33 blocks."""
    with torch.device("meta"):
        net = build({"architecture": "resnet101", "classes": 3})
    counts = (3, 4, 23, 3)
    places = [f"layer{stage}.{block}.conv1" for stage, count in enumerate(counts, 1)
              for block in range(0, count, 2)]  # fmt: skip
    assert list(net.shifts) == places
    assert [name for name, each in net.named_modules() if isinstance(each, TemporalShift)] == [
        name.replace("conv1", "shift") for name in places
    ]


def test_another_share_of_shifted_channels(tmp_path, scene):
    state, clip = saved(tmp_path / "c.pth.tar", USUAL), clips(scene)
    checkpoint = load_checkpoint(tmp_path / "c.pth.tar", read_as="two-way", shift_div=4)
    assert checkpoint.description["shift_div"] == 4
    expected = clip_logits(state, clip, "two-way online", div=4)
    assert differ(streamed(checkpoint.net, clip), expected) < 1e-4


def test_the_exported_file_has_the_past_where_it_was_learned(tmp_path, scene):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    state = saved(tmp_path / "c.pth.tar", PLACES["mobile-block"])
    net, spec = from_checkpoint(tmp_path / "c.pth.tar", size=(32, 32), read_as="two-way")
    assert export_model(net, spec, tmp_path / "m.onnx", frames=12).passed
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    clip = clips(scene)
    expected = clip_logits(state, clip, "two-way online")[0].numpy()
    states = {each.name: np.zeros(each.shape, np.float32) for each in session.get_inputs()[1:]}
    for frame, wanted in zip(clip[0], expected, strict=True):
        logits, *new = session.run(None, {"frame": frame[None].numpy(), **states})
        states = dict(zip(states, new, strict=True))
        assert np.abs(logits[0] - wanted).max() < 1e-4 * np.abs(expected).max()


def test_the_reading_is_the_user_s_to_say(tmp_path):
    saved(tmp_path / "c.pth.tar", USUAL)
    with pytest.raises(TwoWayCheckpointError) as caught:
        load_checkpoint(tmp_path / "c.pth.tar")
    text = str(caught.value)
    assert "do not say whether" in text
    assert "--read-as two-way" in text
    assert "--read-as one-way" in text
    weights = [
        load_checkpoint(tmp_path / "c.pth.tar", **how).net.features[4].conv[0].weight
        for how in ({"read_as": "two-way"}, {"read_as": "one-way"})
    ]
    assert not torch.equal(weights[0], weights[1])
    with pytest.raises(CheckpointError, match="read as 'both'; expected one of one-way, two-way"):
        load_checkpoint(tmp_path / "c.pth.tar", read_as="both")


def test_an_online_file_is_one_way_unless_said_otherwise(tmp_path):
    torch.save(mobile_state(3, SMALL), tmp_path / "online.pth")
    plain = load_checkpoint(tmp_path / "online.pth")
    assert (plain.two_way, plain.notes) == (False, ())
    assert "shifts" not in plain.description
    told = load_checkpoint(tmp_path / "online.pth", read_as="two-way")
    assert told.two_way
    assert "second eighth" in told.notes[0]


def test_exchanging_twice_changes_nothing(scene):
    net = build({"architecture": "mobilenet_v2", "classes": 3, "width": 0.35}).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    clip = clips(scene)
    with torch.no_grad():
        still = StreamingModel(net).step(clip[:, 0])[0]
        past_first(net)
        # a first frame has no past, so only zeros and not features tell the two apart
        assert any(not torch.equal(value, before[key]) for key, value in net.state_dict().items())
        past_first(net)
        assert torch.equal(StreamingModel(net).step(clip[:, 0])[0], still)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    with pytest.raises(TypeError, match="a Linear is none of ours"):
        past_first(torch.nn.Linear(1, 1))


def wrap(key, wrapped):
    return (
        key.replace(f"{wrapped}.", f"{wrapped}.net.", 1) if key.startswith(f"{wrapped}.") else key
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda key: wrap(key, "layer1.0.conv2"), "a temporal shift before layer1.0.conv2"),
        (lambda key: wrap(key, "conv1"), "a temporal shift before conv1"),
        (lambda key: wrap(key, "layer3"), "temporal pooling, which halves the frames"),
        (lambda key: wrap(key, "layer1.0.downsample"), "a temporal shift before layer1.0.downs"),
        (
            lambda key: key.replace("layer2.0.", "layer2.0.block.").replace(
                "layer2.1.bn1", "layer2.0.nl.g"
            ),
            "non-local blocks",
        ),
    ],
    ids=["conv2", "stem", "temporal-pool", "downsample", "non-local"],
)
def test_what_cannot_be_streamed_is_named(tmp_path, change, message):
    state = {key: value[:1] for key, value in resnet_state(3).items()}
    state = {change(wrap(key, "layer4.2.conv1")): value for key, value in state.items()}
    torch.save(
        {"state_dict": {f"module.base_model.{k}": v for k, v in state.items()}}, tmp_path / "x.pth"
    )
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "x.pth", read_as="two-way")
