"""A fine-tune for int8: the faked network is the file's, it learns, and files come out whole."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("cv2")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import cv2
import onnxruntime
import torch
from kit.clips import no_bar
from kit.networks import fine_tune, from_checkpoint, save_checkpoint, trained

from shiftedge.__main__ import main
from shiftedge.export.checkpoint import load_checkpoint
from shiftedge.export.data.clip_set import ClipSet
from shiftedge.export.models import MobileNetV2, ResNet, StreamingModel
from shiftedge.export.models.inverted_residual import InvertedResidual
from shiftedge.export.quantize.calibration import RANGES_KEY, gather, read_ranges
from shiftedge.export.quantize.fold import equal_std
from shiftedge.export.quantize.graph import parse
from shiftedge.export.quantize.plan import make_plan
from shiftedge.export.quantize.ranges import Affine
from shiftedge.export.quantize.rewrite import quantized_weights, rewrite
from shiftedge.export.quantize.source import Clips
from shiftedge.export.stepper import Stepper
from shiftedge.export.to_onnx import describe
from shiftedge.export.training import CHECKPOINT, SCORES
from shiftedge.export.training.fake_quantize import (
    FRAME,
    FakeQuantized,
    Int8,
    places,
    rounded,
    stream_ranges,
)
from shiftedge.export.training.fine_tune import gentle
from shiftedge.export.training.loop import fit
from shiftedge.export.training.session import stored
from shiftedge.export.training.supply import KeptClips, Mixture
from shiftedge.runtime.capture.synthetic.moving import moving_scene
from shiftedge.runtime.errors import (
    CheckpointError,
    DataError,
    ModelError,
    NumericsError,
    OutputError,
    TwoWayCheckpointError,
)
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.spec import DecoderSettings, ModelSpec

HEIGHT, WIDTH = 32, 48
ASSETS = Path(__file__).parents[2] / "export" / "assets"
SHIPPED = Path(__file__).parents[2] / "runtime" / "assets" / "gestures.onnx"
LABELS = ("No gesture", "Swiping Left")
Ranges = dict[str, Affine]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)  # the networks are small, and torch's threads wait by spinning


def scenes(
    count: int = 4, frames: int = 20, height: int = HEIGHT, width: int = WIDTH, first: int = 0
) -> Clips:
    films = (
        moving_scene(first + i, frames=frames, height=height, width=width) for i in range(count)
    )
    return Clips("scenes", tuple(films))


def network() -> tuple[MobileNetV2, ModelSpec]:
    torch.manual_seed(0)
    net = trained(MobileNetV2(2, width=0.25, previous_frame=True))
    assert isinstance(net, MobileNetV2)
    spec = describe(net, name="small", labels=LABELS, height=HEIGHT, width=WIDTH)
    return net, dataclasses.replace(spec, frame_rate_hz=12.0, decoder=DecoderSettings(0.2))


@pytest.fixture(scope="module")
def start() -> tuple[MobileNetV2, ModelSpec, Ranges]:
    """A network and what calibration finds; tests that train take a copy."""
    net, spec = network()
    return net, spec, stream_ranges(net, spec, scenes(), no_bar)


def unbalanced(net: MobileNetV2, most: float) -> MobileNetV2:
    """The same function with channels of very different ranges between its blocks.

    No activation follows a block, so a factor in its last batch norm is undone by the first
    weights of the next; blocks joined by a residual share theirs.
    """
    net = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(0)
    factors: torch.Tensor | None = None
    with torch.no_grad():
        for block in net.features:
            if factors is not None:
                first = block.conv[0] if isinstance(block, InvertedResidual) else block[0]
                first.weight.div_(factors[None, :, None, None])
            if not isinstance(block, InvertedResidual):
                continue
            norm = block.conv[-1]
            if not block.residual:
                draw = torch.rand(norm.num_features, generator=generator)
                factors = torch.exp(np.log(most) * (2.0 * draw - 1.0))
            if factors is None:
                continue
            norm.weight.mul_(factors)
            norm.bias.mul_(factors)
    return net


# --- the faked network is the file's


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def test_a_stream_gives_what_onnx_runtime_gives_of_the_file() -> None:
    """The bundled model, whose ONNX file is the export of its checkpoint."""
    net, spec = from_checkpoint(ASSETS / "gestures.pt", name="gestures")
    assert isinstance(net, MobileNetV2)
    clips = scenes(4, 16, height=spec.height, width=spec.width)
    ranges = stream_ranges(net, spec, clips, no_bar)
    exported = parse(SHIPPED.read_bytes(), "bundled")
    folded, changed = equal_std(exported, spec)
    plan = make_plan(folded)
    found = gather(folded, plan, changed, clips)
    choices = {group: choice.affine for group, choice in found.items()}
    assert tuple(ranges) == places(net)
    assert len(ranges) == len(plan.groups), "a place for each group of tensors that hold codes"
    assert ranges[FRAME] == choices[folded.group("frame")]
    pairs = {place: (ranges[place].scale, ranges[place].zero_point) for place in places(net)[1:]}
    folded.model.metadata_props[RANGES_KEY] = json.dumps(pairs)
    carried = read_ranges(folded)
    assert set(carried) == set(plan.groups) - {folded.group("frame")}
    for group, affine in carried.items():
        assert affine.scale == pytest.approx(choices[group].scale), group
        assert affine.zero_point == choices[group].zero_point, group

    file = rewrite(folded, plan, choices, changed)
    optimised, plain = Stepper(*file), Stepper(*file)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain._session = onnxruntime.InferenceSession(file[0], options)
    model, states = StreamingModel(FakeQuantized(net, Int8(ranges, spec.std))), None
    frame = np.zeros((1, 3, spec.height, spec.width), np.float32)
    ours, between = [], []
    for image in scenes(1, 24, spec.height, spec.width, first=9).clips[0]:
        Preprocessor(spec).normalise(image, frame)
        with torch.inference_mode():
            logits, states = model.step(torch.from_numpy(frame), states)
        wanted = optimised.step(image)
        ours.append(logits[0].numpy() - wanted)
        between.append(plain.step(image) - wanted)
        assert states is not None
        # The first states have few roundings before them: hardly a code differs, and by one step.
        pairs = zip(states[:3], plain.states()[:3], file[1].states[:3], strict=True)
        for number, (state, theirs, held) in enumerate(pairs):
            steps = np.abs(np.rint((state.numpy() - theirs) / held.scale))
            assert steps.max() <= 1.0, number
            assert steps.mean() < 0.02, number
    # Later a sum on the border of two codes falls to either side, and what it feeds follows: with
    # and without its optimisations ONNX Runtime differs as much from itself.
    assert rms(np.stack(ours)) < 2.0 * rms(np.stack(between))


def test_weights_and_biases_are_those_of_the_file() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (8, 4, 3, 3)).astype(np.float32)
    bias = rng.normal(0, 1, 8).astype(np.float32)
    weight[1], weight[2], bias[2] = 0.0, 0.0, 0.0
    weight[3] *= 1e-30
    weight[4] *= 1e5
    bias[5] *= 1e7
    codes, scale, steps = quantized_weights(weight, bias, 0.02)
    assert steps is not None
    found, offset = rounded(torch.from_numpy(weight), torch.from_numpy(bias), 0.02)
    column = scale.reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(np.rint(found.numpy() / column), codes)
    np.testing.assert_allclose(found.numpy(), codes * column, rtol=1e-6)
    np.testing.assert_allclose(offset.numpy(), steps * np.float64(scale) * 0.02, rtol=1e-5)


def test_clips_see_the_codes_that_a_stream_stores(
    start: tuple[MobileNetV2, ModelSpec, Ranges],
) -> None:
    net, spec, ranges = start
    arithmetic = Int8(ranges, spec.std)
    model = StreamingModel(FakeQuantized(net, arithmetic))
    film = torch.from_numpy(scenes(1, 16, first=5).clips[0]).permute(0, 3, 1, 2).float()
    frames = film / 255.0 - 0.45
    with torch.inference_mode():
        clip = model.clip(frames[None])[0]
        states, rows = None, []
        for frame in frames:
            logits, states = model.step(frame[None], states)
            rows.append(logits[0])
        floats = StreamingModel(net).clip(frames[None])[0]
    assert states is not None
    shifted = [index for index, b in enumerate(net.features) if getattr(b, "residual", False)]
    ends = {place.split(".")[1]: place for place in places(net)[1:]}  # the last place of each block
    held = [FRAME, *(ends[str(index - 1)] for index in shifted)]
    for place, state in zip(held, states, strict=True):
        affine, values = ranges[place], state.numpy()
        np.testing.assert_allclose(
            affine.rounded(values), values, atol=1e-5 * affine.scale, err_msg=place
        )
    assert rms((clip - torch.stack(rows)).numpy()) < 0.3 * rms((clip - floats).numpy())


# --- learning


def test_gradients_reach_every_parameter_and_statistics_stay(
    start: tuple[MobileNetV2, ModelSpec, Ranges],
) -> None:
    net, spec, ranges = start
    net = copy.deepcopy(net)
    before = {name: value.clone() for name, value in net.named_buffers()}
    fake = FakeQuantized(net, Int8(ranges, spec.std))
    fake.train()
    frames = torch.from_numpy(np.stack(scenes(2, 8).clips) / np.float32(255.0)) - 0.45
    logits = StreamingModel(fake).clip(frames.permute(0, 1, 4, 2, 3))
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0.0).any()), name
    for name, value in net.named_buffers():
        assert torch.equal(value, before[name]), name
    x = torch.tensor([[[[-1e3, 0.1, 1e3]]]], requires_grad=True)
    Int8(ranges, spec.std).hold("features.0.0", x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0.0, 1.0, 0.0], "none where the codes saturate"


def test_a_network_that_loses_much_in_int8_gains_it_back() -> None:
    """The bundled model on small frames, with its channels out of balance."""
    balanced, given = from_checkpoint(ASSETS / "gestures.pt", name="gestures")
    assert isinstance(balanced, MobileNetV2)
    height, width, length = 48, 64, 8
    spec = describe(balanced, name="small", labels=given.labels, height=height, width=width)
    pixels = torch.from_numpy(np.stack(scenes(8, 12, height, width, first=9).clips)).flip(-1)
    unseen = (pixels / 255.0 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    few = scenes(4, 12, height, width)

    def chances(net: torch.nn.Module) -> torch.Tensor:
        with torch.inference_mode():
            return StreamingModel(net).clip(unseen.permute(0, 1, 4, 2, 3)).double().log_softmax(-1)

    wanted = chances(balanced)

    def loss(net: torch.nn.Module) -> float:
        """Kullback-Leibler divergence from the float model."""
        return float((wanted.exp() * (wanted - chances(net))).sum(-1).mean())

    def in_int8(net: MobileNetV2) -> FakeQuantized:
        return FakeQuantized(net, Int8(stream_ranges(net, spec, few, no_bar), spec.std))

    net = unbalanced(balanced, 16.0)
    assert loss(net) < 1e-9, "in float, the same function"
    fake = in_int8(net)
    before = loss(fake)
    assert before > 10.0 * loss(in_int8(balanced))
    labels = np.arange(16) % 6
    clips = ClipSet(
        np.stack(scenes(16, length, height, width, first=100).clips),
        labels,
        np.repeat(labels[:, None], length, 1).astype(np.int8),
        spec.labels,
    )
    settings = dataclasses.replace(gentle(), epochs=4, batch=4, frames=length, threads=1)
    mixture = Mixture((KeptClips(clips),), clips.names, 0)
    fit(fake, mixture, settings, (height, width), teacher=copy.deepcopy(net))
    assert loss(fake) < 0.55 * before


# --- the whole


def checkpoint(
    path: Path,
    net: torch.nn.Module,
    spec: ModelSpec,
    labels: tuple[str, ...] = LABELS,
    **description: Any,
) -> Path:
    plain = {"architecture": "mobilenet_v2", "classes": 2, "width": 0.25, "previous_frame": True}
    save_checkpoint(
        path, net, description or plain, labels=labels, spec=stored(spec), training={"seed": 7}
    )
    return path


@pytest.fixture
def given(start: tuple[MobileNetV2, ModelSpec, Ranges], tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "start.pt", start[0], start[1])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for row, label in enumerate(LABELS):
        for number in range(3):
            folder = tmp_path / "data" / label / str(number)
            folder.mkdir(parents=True)
            film = moving_scene(10 * row + number, frames=12, height=HEIGHT, width=WIDTH)
            for index, image in enumerate(film):
                cv2.imwrite(str(folder / f"{index:02d}.png"), image)
    return tmp_path / "data"


def test_a_start_and_its_data_give_a_checkpoint_with_the_same_spec(
    data: Path, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["train", str(data), "--output", str(out), "--start", str(given), "--quantize"]
    assert main([*line, "--epochs", "1", "--threads", "1"]) == 0
    printed = capsys.readouterr()
    assert "int8" in printed.out
    assert "shiftedge export --checkpoint" in printed.err
    scores = json.loads((out / SCORES).read_text())
    assert scores["quantised"]["clips"] == 2
    before, spec = from_checkpoint(given, name="same")
    after, found = from_checkpoint(out / CHECKPOINT, name="same")
    assert found == spec
    moved = [
        name
        for name, value in after.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    ]
    assert "classifier.weight" in moved
    assert not any("running" in name or "num_batches" in name for name in moved)
    line[line.index(str(given))] = str(out / CHECKPOINT)
    assert main(line) == 1
    assert "has been fine-tuned for int8 already" in capsys.readouterr().err
    # Its ranges go on to the quantised file.
    ranges = load_checkpoint(out / CHECKPOINT).ranges
    assert list(ranges) == list(places(before))[1:]
    file = tmp_path / "model.onnx"
    assert main(["export", "--checkpoint", str(out / CHECKPOINT), "--output", str(file)]) == 0
    graph, changed = equal_std(parse(file.read_bytes(), "exported"), spec)
    held = read_ranges(graph)
    assert len(held) == len(ranges)
    choices = gather(graph, make_plan(graph), changed, scenes(2, 4), held=held)
    trained = {group: choice for group, choice in choices.items() if choice.method == "trained"}
    assert {group: choice.affine for group, choice in trained.items()} == held
    others = [each.method for group, each in choices.items() if group not in trained]
    assert others == ["every pixel"]


@pytest.mark.parametrize(("stage", "epochs"), [("calibrating", None), ("fine-tuning", 1)])
def test_an_interruption_keeps_whole_epochs_and_nothing_else(
    data: Path, given: Path, tmp_path: Path, stage: str, epochs: int | None
) -> None:
    @contextlib.contextmanager
    def impatient(
        description: str, total: int | None, unit: str
    ) -> Iterator[Callable[[int], None]]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if description == stage and done > 4:  # four clips are an epoch
                raise KeyboardInterrupt

        yield advance

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        fine_tune(str(data), out, epochs=3, threads=1, start=given, bar=impatient)
    if epochs is None:
        assert list(out.iterdir()) == []
    else:
        assert [path.name for path in out.iterdir()] == [CHECKPOINT]
        assert load_checkpoint(out / CHECKPOINT).training["epochs"] == epochs


# --- bad input


@pytest.mark.parametrize("ranges", [{"a": (0.0, 1)}, {"a": (0.1, 300)}, {"a": (0.1,)}, 7])
def test_malformed_ranges_are_refused(given: Path, tmp_path: Path, ranges: Any) -> None:
    document = torch.load(given, weights_only=True)
    torch.save({**document, "ranges": ranges}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="its ranges are malformed; expected a scale above 0"):
        load_checkpoint(tmp_path / "odd.pt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "metadata are malformed"),
        ("[]", "metadata are malformed"),
        ('{"features.0.0": [0.1]}', "metadata are malformed"),
        ('{"features.0.0": [-0.1, 3]}', "malformed .a scale of -0.1"),
        ('{"features.0.0": [0.1, 256]}', "malformed .a zero point of 256"),
        ('{"features.77": [0.1, 3]}', r"a range for features\.77, which is not among its layers"),
    ],
)
def test_odd_ranges_in_a_file_are_refused(text: str, message: str) -> None:
    graph = parse(SHIPPED.read_bytes(), "bundled")
    graph.model.metadata_props[RANGES_KEY] = text
    with pytest.raises(ModelError, match=message):
        read_ranges(graph)


def test_other_labels_are_refused(
    data: Path, given: Path, start: tuple[MobileNetV2, ModelSpec, Ranges], tmp_path: Path
) -> None:
    (data / "Swiping Left").rename(data / "Thumb Up")
    for begin, odd in ((given, "Swiping Left"), (None, "Doing other things")):
        with pytest.raises(DataError, match=f"not the model's: only the model has '{odd}'"):
            fine_tune(str(data), tmp_path / "out", start=begin, bar=no_bar)
    strange = checkpoint(tmp_path / "strange.pt", *start[:2], ("No gesture", "Somersault"))
    with pytest.raises(DataError, match="rendered clips are not the model's: only the model has"):
        fine_tune("synthetic:", tmp_path / "out", start=strange, bar=no_bar)
    assert list((tmp_path / "out").iterdir()) == []


def test_other_networks_are_refused(data: Path, given: Path, tmp_path: Path) -> None:
    spec = from_checkpoint(given)[1]
    net = ResNet(2)
    path = checkpoint(tmp_path / "r.pt", net, spec, architecture="resnet50", classes=2)
    with pytest.raises(DataError, match=r"r\.pt is a resnet50; --quantize fine-tunes MobileNetV2"):
        fine_tune(str(data), tmp_path / "out", start=path, bar=no_bar)
    (tmp_path / "model-int8.onnx").write_bytes(b"\x08\x09 an int8 file")
    with pytest.raises(CheckpointError, match=r"model-int8\.onnx"):
        fine_tune(str(data), tmp_path / "out", start=tmp_path / "model-int8.onnx", bar=no_bar)


def test_weights_of_a_two_way_shift_are_refused(data: Path, given: Path, tmp_path: Path) -> None:
    renamed = {}
    for key, value in load_checkpoint(given).net.state_dict().items():
        key = re.sub(r"^features\.(\d+)\.conv\.0\.", r"features.\1.conv.0.net.", key)
        name = key.replace("classifier", "new_fc")
        renamed["module." + ("" if "new_fc" in name else "base_model.") + name] = value
    path = tmp_path / "two-way.pt"
    torch.save({"state_dict": renamed}, path)
    with pytest.raises(TwoWayCheckpointError, match="do not say whether"):
        fine_tune(str(data), tmp_path / "out", start=path, bar=no_bar)


def test_what_cannot_be_asked_for_is_said(
    data: Path, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", str(data), "--output", str(tmp_path / "out"), "--quantize"]
    assert main([*line, "--width", "0.5"]) == 1
    assert "takes no --size, --width," in capsys.readouterr().err
    with pytest.raises(DataError, match="0 epochs"):
        fine_tune(str(data), tmp_path / "out", epochs=0, start=given)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="choose another folder"):
        fine_tune(str(data), tmp_path / "file", start=given)


def test_weights_that_overflow_are_named(
    start: tuple[MobileNetV2, ModelSpec, Ranges],
) -> None:
    net, spec, _ = start
    net = copy.deepcopy(net)
    with torch.no_grad():
        block = net.features[1]
        assert isinstance(block, InvertedResidual)
        block.conv[-1].weight.fill_(torch.inf)
    with pytest.raises(NumericsError, match=r"features\.1\.conv\.\d gives NaN or infinity"):
        stream_ranges(net, spec, scenes(), no_bar)


def test_clips_that_do_not_move_are_refused(given: Path, tmp_path: Path) -> None:
    for label in LABELS:
        for number in range(3):
            folder = tmp_path / "still" / label / str(number)
            folder.mkdir(parents=True)
            for index in range(6):
                cv2.imwrite(str(folder / f"{index}.png"), np.full((40, 60, 3), 90, np.uint8))
    with pytest.raises(DataError, match="the same picture"):
        fine_tune(str(tmp_path / "still"), tmp_path / "out", start=given, bar=no_bar)
