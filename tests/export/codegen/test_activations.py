"""Every activation as code, as the table has it: against ONNX Runtime alone, in a network over a
stream, and in int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

import onnx
import onnxruntime
from kit.compiled import prepared, with_onnxruntime
from kit.libraries import agree
from kit.onnx_files import HEIGHT, SPEC, Builder, model
from kit.random_networks import coded
from test_schedules_kit import generated, host_unit, run
from test_tir import pointless

from shiftedge.export.compiler.compile import build_library
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import Activate
from shiftedge.export.compiler.targets import find_variant

OPSET = 20
"""The first with Gelu."""
NAMED = [kind for kind in Activation if kind.value.operator]
NEW = [Activation.TANH, Activation.ERF, Activation.GELU, Activation.GELU_BY_TANH, Activation.MISH]


def node(b: Builder, x: str, kind: Activation) -> str:
    attributes = {key: wanted for key, (_, wanted) in kind.value.attributes.items()}
    return b.op(kind.value.operator, x, **attributes)


def by_onnxruntime(kind: Activation, x: np.ndarray) -> np.ndarray:
    b = Builder()
    y, info = node(b, "x", kind), onnx.helper.make_tensor_value_info
    kind_of = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        b.nodes, "g", [info("x", kind_of, x.shape)], [info(y, kind_of, x.shape)]
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    document = onnx.helper.make_model(graph, ir_version=8, opset_imports=opsets)
    session = onnxruntime.InferenceSession(document.SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("kind", NAMED, ids=lambda kind: kind.name)
def test_alone(kind: Activation) -> None:
    x = np.array([*np.linspace(-12, 12, 4001), -88, -30, 30, 88], np.float32)
    theirs = by_onnxruntime(kind, x)
    kernel = pointless(kind, len(x))
    ours = run(kernel, {"x": x}, generated(kernel, host_unit()))["out"]
    exact = kind.value.definition(x.astype(np.float64))
    np.testing.assert_allclose(exact, theirs, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(ours, exact, rtol=1e-6, atol=1e-6)
    if kind in (Activation.ERF, Activation.GELU):  # what the approximation says of itself
        assert np.abs(ours - exact)[np.abs(x) < 4].max() < 6e-7


def network(kind: Activation) -> bytes:
    """After a convolution, inside a block, and after a sum."""

    def body(b: Builder, x: str) -> str:
        y = node(b, b.conv(node(b, x, kind), 24, 8), kind)
        y = b.conv(node(b, b.conv(y, 24, 24, 3, groups=24), kind), 8, 24)
        return node(b, b.op("Add", x, b.conv(y, 8, 8, 3)), kind)

    return model(body, opset=OPSET)


@pytest.mark.parametrize("kind", NEW, ids=lambda kind: kind.name)
def test_in_a_network(kind: Activation, tmp_path: Path) -> None:
    data, host = network(kind), find_variant("host")
    assert [each.kind for each in read_onnx(data, SPEC).operators if isinstance(each, Activate)]
    step, places = prepared(data, SPEC, host)
    build_library(step, places, SPEC, host, tmp_path / "libmodel.so")
    report = with_onnxruntime(tmp_path / "libmodel.so", data, SPEC, step, places, frames=6)
    assert report.passed, report.table()


@pytest.mark.parametrize("kind", NEW, ids=lambda kind: kind.name)
def test_in_int8(kind: Activation, tmp_path: Path) -> None:
    step = agree(*coded(network(kind), SPEC), "int8", tmp_path / "libmodel.so")
    assert all(codes is not None for codes in step.quantization)
    assert HEIGHT in step.states[0]
