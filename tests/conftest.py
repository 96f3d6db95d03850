"""Fixtures for all tests: a small spec, an engine without a model, a tiny genuine ONNX model."""

from __future__ import annotations

import functools
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from kit import hosts
from numpy.typing import NDArray

# What stands on stderr, here and of programs that tests start, is not to depend on how busy the
# machine is. Read when shiftedge is imported.
os.environ["SHIFTEDGE_PROGRESS_S"] = "0"

from kit.fake_engine import FakeEngine

from shiftedge.runtime.model import Model
from shiftedge.runtime.process.cpu import WITHOUT
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec, StateSpec

Frames = list[NDArray[np.uint8]]
TORCH = re.compile(
    r'^\s*import torch|importorskip\("torch"|^from kit\.(networks|official) ', re.MULTILINE
)

# How long an example takes is the machine's affair: the first one of many imports a library.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A shell starts what is to run in the background with Ctrl-C ignored, nohup starts it with SIGHUP
# ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hosts")
    group.addoption("--host", choices=sorted(hosts.HOSTS), help="take this machine for such a one")
    group.addoption("--ran", metavar="FILE", help="write what was collected, and what passed")
    parser.addoption("--quick", action="store_true", help="leave out what is marked as long")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is imported; processes of xdist and programs inherit it."""
    if host := config.getoption("--host"):
        if why := hosts.problem(host):
            raise pytest.UsageError(why)
        os.environ.update(hosts.environment(host))
    if file := config.getoption("--ran"):
        config.pluginmanager.register(hosts.Ran(Path(file)))


@functools.cache
def takes_long(module: Path) -> bool:
    """Whether a file of tests needs torch, an emulated board, or code that is generated."""
    own = module.relative_to(Path(__file__).parent)
    return own.parts[0] == "arm" or "codegen" in own.parts or bool(TORCH.search(module.read_text()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if takes_long(item.path):
            item.add_marker("long")
    if config.getoption("--quick"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)


def pytest_report_header() -> list[str]:
    without = os.environ.get(WITHOUT)
    return [f"processor: without {without}"] if without else []


def small_spec(**changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "name": "tiny",
        "labels": ("No gesture", "Swiping Left", "Swiping Right", "Stop Sign"),
        "height": 24,
        "width": 32,
        "resize_short_side": 28,
        "states": (StateSpec("block.1", (1, 2, 12, 16)), StateSpec("block.2", (1, 4, 6, 8))),
        "receptive_field": 3,
        "silent_labels": ("No gesture",),
    }
    return ModelSpec(**{**fields, **changes})


@pytest.fixture
def spec() -> ModelSpec:
    """Four classes, 24 x 32 pixels, two states, three frames of memory, 12 frames per second."""
    return small_spec()


@pytest.fixture
def fake_engine(spec: ModelSpec) -> FakeEngine:
    """An engine in numpy with genuine states."""
    return FakeEngine(spec)


@pytest.fixture
def fake_model(fake_engine: FakeEngine) -> Model:
    """A model on :func:`fake_engine`."""
    return Model(fake_engine)


@pytest.fixture
def moving_frames() -> Frames:
    """Twelve frames, uint8 (24, 32, 3): a bright square that crosses a fixed random scene."""
    return make_frames(12, 24, 32)


@pytest.fixture
def camera_frames() -> Frames:
    """The same at a camera's size: twelve frames, uint8 (48, 64, 3)."""
    return make_frames(12, 48, 64)


def make_frames(count: int, height: int, width: int, seed: int = 0) -> Frames:
    scene = np.random.default_rng(seed).integers(0, 200, (height, width, 3), np.uint8)
    frames = []
    for i in range(count):
        frame = scene.copy()
        left = i * width // (2 * count)
        frame[height // 4 : height // 2, left : left + width // 4] = (40, 120, 250)
        frames.append(frame)
    return frames


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .onnx file of the contract, with :func:`spec`, random weights and two shifts."""
    return write_tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def make_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny model with changes; see :func:`write_tiny_onnx`."""

    def make(**changes: Any) -> Path:
        return write_tiny_onnx(tmp_path / "changed.onnx", **changes)

    return make


def write_tiny_onnx(
    path: Path,
    *,
    metadata: str | None = small_spec().to_json(),
    change: Callable[[Any], None] | None = None,
    seed: int = 0,
) -> Path:
    """Two strided convolutions and a pointwise one, a shift before each of the last two.

    ``metadata`` is the spec's text, None leaves it out; ``change`` edits the ModelProto.
    """
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    generator = np.random.default_rng(seed)
    weights, nodes = [], []

    def constant(name: str, value: NDArray[Any]) -> str:
        weights.append(onnx.numpy_helper.from_array(value, name))
        return name

    def conv(x: str, name: str, shape: tuple[int, ...], stride: int) -> str:
        value = generator.normal(0.0, 0.4, shape).astype(np.float32)
        pad = shape[2] // 2
        inputs = [x, constant(f"{name}.weight", value)]
        nodes.append(helper.make_node("Conv", inputs, [name], strides=[stride] * 2, pads=[pad] * 4))
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
        return f"{name}.relu"

    def shift(x: str, index: int, folded: int) -> str:
        bounds = [
            constant(f"bound_{index}_{i}", np.array([value], np.int64))
            for i, value in enumerate((0, folded, 1 << 30, 1))
        ]
        first, axis = [x, *bounds[:2], bounds[3]], bounds[3]
        nodes.append(helper.make_node("Slice", first, [f"next_state_{index}"]))
        nodes.append(helper.make_node("Slice", [x, bounds[1], bounds[2], axis], [f"rest_{index}"]))
        parts = [f"state_{index}", f"rest_{index}"]
        nodes.append(helper.make_node("Concat", parts, [f"shifted_{index}"], axis=1))
        return f"shifted_{index}"

    x = conv("frame", "conv_0", (8, 3, 3, 3), 2)
    x = conv(shift(x, 0, 2), "conv_1", (16, 8, 3, 3), 2)
    x = conv(shift(x, 1, 4), "conv_2", (16, 16, 1, 1), 1)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    matrix = generator.normal(0.0, 1.0, (16, 4)).astype(np.float32)
    nodes.append(helper.make_node("MatMul", ["flat", constant("classifier", matrix)], ["logits"]))

    def values(names: dict[str, tuple[int, ...]]) -> list[Any]:
        kind = onnx.TensorProto.FLOAT
        return [helper.make_tensor_value_info(name, kind, shape) for name, shape in names.items()]

    states = {"state_0": (1, 2, 12, 16), "state_1": (1, 4, 6, 8)}
    inputs = values({"frame": (1, 3, 24, 32), **states})
    outputs = values({"logits": (1, 4), **{f"next_{key}": states[key] for key in states}})
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata})
    if change is not None:
        change(model)
    onnx.save(model, str(path))
    return path
