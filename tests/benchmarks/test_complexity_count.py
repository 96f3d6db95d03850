"""What the networks of the paper cost, against figures and formulas that know nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

pytest.importorskip("torch", reason="the export extra (torch) is not installed")

import torch

from shiftedge.benchmarks.complexity.count import NetworkCost, cost, count, parameters, traffic
from shiftedge.benchmarks.complexity.nets import (
    NETWORKS,
    ResNet3d,
    Segments,
    i3d_resnet50,
    resnet3d_50,
    without_shift,
)
from shiftedge.export.models import (
    MobileNetV2,
    ResNet,
    StreamingModel,
    TemporalShift,
    insert_shift,
)

STAGES = (3, 4, 6, 3)
FLAT = tuple((1,) * count for count in STAGES)
I3D = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))


@pytest.fixture(scope="module")
def costs() -> dict[str, NetworkCost]:
    return {key: cost(network, 224) for key, network in NETWORKS.items()}


def closed_form(
    frames: int,
    *,
    classes: int = 400,
    stem: int = 1,
    reduce: Sequence[Sequence[int]] = FLAT,
    conv: int = 1,
    halvings: tuple[int, int, int, int] = (1, 1, 1, 1),
    last_stride: int = 2,
) -> tuple[int, int]:
    """Parameters and multiply-adds of a ResNet-50 at 224x224, layer by layer from the tables.

    ``halvings``: by what the number of frames is divided before each stage.
    """
    side = 112
    learned = 3 * 64 * 49 * stem + 2 * 64
    macs = 3 * 64 * 49 * stem * frames * side * side
    side, channels = 56, 64
    for stage, spans in enumerate(reduce):
        planes = 64 << stage
        divide = halvings[stage]
        for index, span in enumerate(spans):
            stride = 2 if stage in (1, 2) or (stage == 3 and last_stride == 2) else 1
            after = side // stride if index == 0 else side
            before_frames = frames
            # the convolution itself halves the frames where 3x3x3, a pooling before it in I3D
            if index == 0 and divide == 2:
                frames //= 2
            entering = before_frames if conv == 3 and stage > 0 else frames
            first = channels * planes * span
            second = 9 * planes * planes * conv
            third = planes * 4 * planes
            learned += first + second + third + 2 * (planes + planes + 4 * planes)
            macs += first * entering * side * side + (second + third) * frames * after * after
            if index == 0:
                learned += channels * 4 * planes + 2 * 4 * planes
                macs += channels * 4 * planes * frames * after * after
            side, channels = after, 4 * planes
    return learned + channels * classes + classes, macs + channels * classes


def module_formula(net: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Multiply-adds from the shapes that each convolution and linear layer saw."""
    total = 0

    def hook(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, torch.nn.Linear):
            total += output.numel() * layer.in_features
        else:
            per_output = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
            total += output.numel() * per_output

    kinds = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)
    for layer in net.modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(hook)
    with torch.no_grad():
        net(*inputs)
    return total


def test_parameters_of_known_networks() -> None:
    with torch.device("meta"):
        assert parameters(ResNet(1000)) == 25_557_032
        assert parameters(ResNet(400)) == 24_327_632
        assert parameters(ResNet(174)) == 23_864_558
        assert parameters(MobileNetV2(27)) == 2_258_459
        assert parameters(i3d_resnet50(400)) == 28_043_472  # PySlowFast's, as printed by others
        assert parameters(i3d_resnet50(400, last_stride=1)) == 28_043_472
        assert parameters(resnet3d_50(400)) == closed_form(16, stem=7, conv=3)[0]


def test_counts_against_the_closed_form(costs: dict[str, NetworkCost]) -> None:
    i3d = {"stem": 5, "reduce": I3D, "halvings": (1, 2, 1, 1)}
    expected = {
        "tsn-resnet50-8": closed_form(8),
        "tsm-resnet50-8": closed_form(8),
        "tsm-resnet50-16": closed_form(16),
        "tsm-resnet50-online": closed_form(1),
        "i3d-resnet50-32": closed_form(32, last_stride=1, **i3d),
        "i3d-resnet50-32-strided": closed_form(32, **i3d),
    }
    for key, (learned, macs) in expected.items():
        # the classifier runs on each frame where frames are a batch
        runs = costs[key].frames if NETWORKS[key].layout == "frames" else 1
        assert costs[key].parameters == learned, key
        assert costs[key].macs == macs + (runs - 1) * 2048 * 400, key
        assert costs[key].flops == 2 * costs[key].macs


def test_the_3d_resnet_against_the_closed_form(costs: dict[str, NetworkCost]) -> None:
    """The stem sees all 16 frames, the stages 8, 4, 2 and 1."""
    learned, rest = closed_form(8, stem=7, conv=3, halvings=(1, 2, 2, 2))
    found = costs["resnet3d-50-16"]
    stem = 3 * 64 * 7 * 49 * 112 * 112
    assert found.parameters == learned
    assert found.macs == rest + 8 * stem


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_counts_against_the_layers(network) -> None:
    net = network.build("meta")
    inputs = network.inputs(net, 64)
    assert count(net, inputs) == module_formula(net, inputs)


def test_the_shift_costs_no_parameters_and_no_arithmetic(costs: dict[str, NetworkCost]) -> None:
    still, shifted = costs["tsn-resnet50-8"], costs["tsm-resnet50-8"]
    assert (still.parameters, still.macs) == (shifted.parameters, shifted.macs)
    assert still.traffic.shift == 0 < shifted.traffic.shift
    assert still.traffic.weights == shifted.traffic.weights
    assert still.traffic.activations == shifted.traffic.activations


@pytest.mark.parametrize("network", ["resnet50", "mobilenetv2"])
def test_a_step_against_a_window(network: str, costs: dict[str, NetworkCost]) -> None:
    step, window = costs[f"tsm-{network}-online"], costs[f"tsm-{network}-8"]
    assert window.macs == 8 * step.macs
    assert window.traffic.weights == step.traffic.weights  # read once for all eight frames
    assert 1 < window.traffic.total / step.traffic.total < 8
    assert step.traffic.shift == 2 * step.state_bytes  # the old state read, the new one written
    assert window.traffic.shift == 2 * 8 * step.traffic.shift  # two ways, eight frames
    assert window.state_bytes == 0


def test_states_of_mobilenet(costs: dict[str, NetworkCost]) -> None:
    assert costs["tsm-mobilenetv2-online"].state_bytes == 4 * 27_048  # as README.md says


def test_published_figures_within_one_percent(costs: dict[str, NetworkCost]) -> None:
    compared = {key: row.published for key, row in NETWORKS.items() if row.published is not None}
    assert len(compared) == 4
    for key, published in compared.items():
        assert costs[key].parameters / 1e6 == pytest.approx(published.parameters, rel=0.01)
        assert costs[key].macs / 1e9 == pytest.approx(published.giga_macs, rel=0.01)


def test_traffic_of_a_network_by_hand() -> None:
    """Convolution 3 -> 8 on 4x4, normalised and rectified, added to itself, averaged, 8 -> 5."""

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.norm = torch.nn.BatchNorm2d(8)
            self.fc = torch.nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.norm(self.conv(x)))
            out: torch.Tensor = self.fc(torch.mean(y + y, dim=(2, 3)))
            return out

    found = traffic(Tiny().eval(), (torch.zeros(1, 3, 4, 4),))
    image, maps = 3 * 16, 8 * 16
    assert found.weights == 4 * (3 * 8 * 9 + 8 * 5 + 5)
    assert found.activations == 4 * ((image + maps) + 3 * maps + (maps + 8) + (8 + 5))
    assert found.shift == 0
    assert found.total == found.weights + found.activations


def test_traffic_of_a_wrapped_shift() -> None:
    """The layers inside a shift are counted as layers, the shift by its channels."""
    plain = torch.nn.Sequential(torch.nn.Conv2d(16, 4, 1, bias=False))
    image = torch.zeros(1, 16, 5, 5)
    still = traffic(plain, (image,))
    shifted = traffic(StreamingModel(insert_shift(plain, ["0"])), (image, torch.zeros(1, 2, 5, 5)))
    assert shifted.activations == still.activations == 4 * (16 + 4) * 25
    assert shifted.weights == still.weights
    assert shifted.shift == 2 * 4 * 2 * 25


def test_traffic_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="softmax"):
        traffic(torch.nn.Softmax(dim=1), (torch.zeros(1, 2),))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_output_shapes(network) -> None:
    net = network.build("meta")
    with torch.no_grad():
        output = net(*network.inputs(net, 64))
    logits = output[0] if isinstance(output, tuple) else output
    assert logits.shape == (1, network.classes)


def test_without_shift_leaves_no_shift_and_the_network_on_single_frames() -> None:
    net = without_shift(MobileNetV2(5, width=0.35)).eval()
    assert not any(isinstance(module, TemporalShift) for module in net.modules())
    clip = torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(Segments(net)(clip), net(clip[0]).mean(0, keepdim=True))
    wrapped = insert_shift(torch.nn.Sequential(torch.nn.Conv2d(16, 4, 1)), ["0"])
    assert isinstance(without_shift(wrapped)[0], torch.nn.Conv2d)


def randomise(net: torch.nn.Module) -> None:
    """Statistics of batch norm that do something."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)


@torch.no_grad()
def inflate(flat: torch.nn.Module, volume: ResNet3d) -> None:
    """Copy a 2-D network's weights into ``volume``, repeated along time and divided by the span.

    On a clip of equal frames, and away from its ends, each layer then gives what the 2-D one gives
    (Carreira and Zisserman, arXiv 1705.07750, section 2.3).
    """
    source, inflated = flat.state_dict(), {}
    for name, target in volume.state_dict().items():
        weight = source[name]
        if weight.ndim == 4:
            span = target.shape[2]
            weight = weight.unsqueeze(2).repeat(1, 1, span, 1, 1) / span
        inflated[name] = weight
    volume.load_state_dict(inflated)


@pytest.mark.parametrize("last_stride", [1, 2])
def test_inflation_keeps_the_flat_network_on_a_still_clip(last_stride: int) -> None:
    """In the middle, 17 frames or more from the ends, beyond which there are zeros."""
    torch.manual_seed(0)
    flat = without_shift(ResNet(7)).eval()
    randomise(flat)
    volume = i3d_resnet50(7, last_stride=last_stride).eval()
    inflate(flat, volume)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        if last_stride == 1:
            flat.layer4[0].conv2.stride = flat.layer4[0].downsample[0].stride = (1, 1)
        maps = []
        flat.layer4.register_forward_hook(lambda *arguments: maps.append(arguments[2]))
        flat(image)
        features = volume.features(image.unsqueeze(2).repeat(1, 1, 40, 1, 1))
    assert features.shape[2] == 20
    torch.testing.assert_close(features[:, :, 10], maps[0], rtol=1e-3, atol=1e-4)
