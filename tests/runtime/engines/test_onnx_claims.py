"""Files of a few kilobytes that claim more memory than there is are refused before any is given.

Each is loaded by a process that may have 3 GiB in all: what is made in spite of the check fails
there, and not on the machine that runs the tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.onnx_files import SPEC, model  # noqa: E402

from shiftedge.runtime.engines.onnx_claims import check_spec, check_weights  # noqa: E402
from shiftedge.runtime.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from shiftedge.runtime.errors import ModelError, ShiftedgeError  # noqa: E402
from shiftedge.runtime.spec import METADATA_KEY, StateSpec  # noqa: E402

N = 1 << 16
"""N times N float32 are 16 GiB."""


def joined(make):
    """A body whose map depends on a tensor that ``make`` makes."""
    return lambda b, x: b.op("Add", x, b.op("ReduceMax", make(b, x), keepdims=0))


def eight(b, x):
    for _ in range(8):
        x = joined(lambda b, x: b.op("ConstantOfShape", b.ints(N // 4, N // 2)))(b, x)
    return x


def row(b, *shape):
    return b.op("ConstantOfShape", b.ints(*shape))


def huge_weights(document):
    document.graph.initializer[0].dims[0] = 1 << 34


def negative_weights(document):
    document.graph.initializer[0].dims[0] = -(1 << 34)


def sparse_weights(document):
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "w.indices")
    tensor = onnx.helper.make_sparse_tensor(values, indices, [1 << 32])
    document.graph.sparse_initializer.append(tensor)


def huge_attribute(document):
    value = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "inner")
    value.dims[0] = 1 << 34
    node = onnx.helper.make_node("Constant", [], ["unused"], value=value)
    document.graph.node.insert(0, node)


def huge_frame(document):
    for entry in (*document.graph.input, *document.graph.output):
        sides = entry.type.tensor_type.shape.dim
        if len(sides) == 4:
            sides[2].dim_value = sides[3].dim_value = 8192


def info(name, kind=onnx.TensorProto.FLOAT, shape=()):
    return onnx.helper.make_tensor_value_info(name, kind, shape)


BIG = [
    onnx.helper.make_node("ConstantOfShape", ["shape"], ["inner"]),
    onnx.helper.make_node("ReduceMax", ["inner"], ["inner_most"], keepdims=0),
]
"""Nodes that make 16 GiB of a tensor ``shape``, [N, N], where no shape is inferred."""


def in_if(b, x):
    shape, small = b.const([N, N], np.int64, "shape"), np.zeros((), np.float32)
    other = onnx.helper.make_node(
        "Constant", [], ["none"], value=onnx.numpy_helper.from_array(small)
    )
    then = onnx.helper.make_graph(BIG, "then", [], [info("inner_most")])
    none = onnx.helper.make_graph([other], "else", [], [info("none")])
    assert shape == "shape"
    above = b.op("Greater", b.op("ReduceMax", x, keepdims=0), b.const(-1e30))
    return b.op("If", above, then_branch=then, else_branch=none)


def in_loop(b, x):
    b.const([N, N], np.int64, "shape")
    go = onnx.helper.make_node("Identity", ["go"], ["go_on"])
    body = onnx.helper.make_graph(
        [*BIG, go, onnx.helper.make_node("Identity", ["inner_most"], ["out"])], "body",
        [info("index", onnx.TensorProto.INT64), info("go", onnx.TensorProto.BOOL), info("in")],
        [info("go_on", onnx.TensorProto.BOOL), info("out")],
    )  # fmt: skip
    return b.op("Loop", b.const(2, np.int64), b.const(True, bool), b.const(0), body=body)


def in_sequence(b, x):
    part = row(b, N // 2, N // 2)
    return b.op("ConcatFromSequence", b.op("SequenceConstruct", *[part] * 4), axis=0)


def function(document):
    own, plain = onnx.helper.make_opsetid("own", 1), onnx.helper.make_opsetid("", 18)
    document.opset_import.append(own)
    document.functions.append(
        onnx.helper.make_function("own", "Most", ["shape"], ["inner_most"], BIG, [plain])
    )


HUGE = (StateSpec("state_0", (1, 2, 1 << 16, 1 << 15)),)
WIDE = dataclasses.replace(SPEC, height=8192, width=8192,
                           states=(StateSpec("state_0", (1, 2, 8192, 8192)),))  # fmt: skip
FILES = {
    "constant": (joined(lambda b, x: row(b, N, N)), None, SPEC, "16 GiB .*ConstantOfShape makes"),
    "expand": (joined(lambda b, x: b.op("Expand", b.op("ReduceMax", x, keepdims=0), b.ints(N, N))),
               None, SPEC, "16 GiB .*Expand makes"),
    "tile": (joined(lambda b, x: b.op("Tile", b.const([[1.0]]), b.ints(N, N))),
             None, SPEC, "16 GiB .*Tile makes"),
    "resize": (joined(lambda b, x: b.op("Resize", x, "", b.const([1, 1, N / 4, N / 4]))),
               None, SPEC, "240 GiB .*Resize makes"),
    "pad": (joined(lambda b, x: b.op("Pad", x, b.ints(0, 0, N, N, 0, 0, 0, 0))),
            None, SPEC, "128 GiB .*Pad makes"),
    "outer product": (joined(lambda b, x: b.op("MatMul", row(b, N, 1), row(b, 1, N))),
                      None, SPEC, "16 GiB .*MatMul makes"),
    "padded convolution": (joined(lambda b, x: b.conv(x, 8, 8, pads=[N] * 4)),
                           None, SPEC, r"\d GiB .*Conv makes"),
    "computed size": (joined(lambda b, x: row(b, 1) and b.op(
        "ConstantOfShape", b.op("Mul", b.ints(N, N), b.ints(1, 1)))),
        None, SPEC, "of a size that is not known"),
    "behind a copy": (joined(lambda b, x: b.op(
        "ConstantOfShape", b.op("Identity", b.op("Identity", b.ints(N, N))))),
        None, SPEC, "of a size that is not known"),
    "range": (joined(lambda b, x: b.op("Range", b.const(0), b.const(1 << 33), b.const(1))),
              None, SPEC, "32 GiB .*Range makes"),
    "if": (joined(in_if), None, SPEC, "If holds operators of its own"),
    "loop": (joined(in_loop), None, SPEC, "Loop holds operators of its own"),
    "sequence": (joined(in_sequence), None, SPEC, "SequenceConstruct makes .* no tensor"),
    "function": (joined(lambda b, x: b.op("Most", b.ints(N, N), domain="own")),
                 function, SPEC, "Most holds operators of its own"),
    "many": (eight, None, SPEC, "16 GiB of memory for a step"),
    "weights": (None, huge_weights, SPEC, r"'const_0' have the shape \[17179869184, 3"),
    "weights below 0": (None, negative_weights, SPEC, "'const_0' have the shape"),
    "sparse weights": (None, sparse_weights, SPEC, "16 GiB .*sparse weights 'w'"),
    "attribute": (None, huge_attribute, SPEC, r"'inner' have the shape \[17179869184\]"),
    "states": (None, None, dataclasses.replace(SPEC, states=HUGE), "32 GiB .*the states"),
    "frame": (lambda b, x: b.conv(b.conv(x, 24, 8), 8, 24), huge_frame, WIDE, r"\d+ GiB of memory"),
}  # fmt: skip

LOAD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from pathlib import Path
from shiftedge.export.compiler.sources import read_model
from shiftedge.runtime.errors import ShiftedgeError
from shiftedge.runtime.loading import load
for path in sys.argv[1:]:
    said = []
    for read in (lambda: load(path), lambda: read_model(Path(path))):
        try:
            read()
            said.append("taken")
        except ShiftedgeError as error:
            said.append(str(error))
    print(json.dumps(said), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What loading and compiling say of every file, in a process of little memory."""
    folder = tmp_path_factory.mktemp("claims")
    names = [*FILES, "good"]
    for name in names:
        body, change, spec, _ = FILES.get(name, (None, None, SPEC, ""))
        document = onnx.load_model_from_string(model(body, change=change))
        onnx.helper.set_model_props(document, {METADATA_KEY: spec.to_json()})
        data = document.SerializeToString()
        assert len(data) < 10_000
        (folder / f"{name}.onnx").write_bytes(data)
    paths = [str(folder / f"{name}.onnx") for name in names]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *paths], capture_output=True, text=True, timeout=280
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(names), f"{names[len(lines)]}: {done.stderr[-2000:]}"
    return dict(zip(names, lines, strict=True))


@pytest.mark.parametrize("name", FILES)
def test_a_claim_is_refused_before_it_is_met(answers, name):
    loaded, compiled = answers[name]
    assert re.search(FILES[name][3], loaded), loaded
    assert re.search(FILES[name][3], compiled), compiled


def test_a_good_file_is_taken(answers):
    assert answers["good"] == ["taken", "taken"]


def test_the_bundled_model_and_weights_outside_are_taken(tmp_path):
    document = onnx.load_model_from_string(model())
    onnx.helper.set_model_props(document, {METADATA_KEY: SPEC.to_json()})
    path = tmp_path / "m.onnx"
    onnx.save(document, path, save_as_external_data=True, location="w.data", size_threshold=64)
    assert (tmp_path / "w.data").stat().st_size > 500
    OnnxRuntimeEngine(path)
    body = FILES["expand"][0]
    document = onnx.load_model_from_string(model(body))
    onnx.save(document, path, save_as_external_data=True, location="w.data", size_threshold=64)
    with pytest.raises(ModelError, match="Expand makes"):
        OnnxRuntimeEngine(path)
    bundled = Path(__file__).parents[3] / "runtime" / "assets" / "gestures.onnx"
    check_weights(bundled.read_bytes(), bundled)


def test_a_step_that_fails_is_a_sentence_wherever_it_is_run():
    pytest.importorskip("torch", reason="the export extra (torch) is not installed")
    from shiftedge.export.agreement import onnx_outputs
    from shiftedge.export.stepper import Stepper

    def beyond(b, x):
        index = b.op("Cast", b.op("Add", b.op("ReduceMax", x, keepdims=0), b.const(1e6)), to=7)
        return b.op("Add", x, b.op("Gather", b.const([1.0]), index))

    data = model(beyond)
    with pytest.raises(ModelError, match=r"The model failed in ONNX Runtime \("):
        Stepper(data, SPEC).step(np.zeros((SPEC.height, SPEC.width, 3), np.uint8))
    with pytest.raises(ModelError, match=r"The model failed in ONNX Runtime \("):
        next(onnx_outputs(data, SPEC, np.zeros((1, 3, SPEC.height, SPEC.width), np.float32)))


def test_frames_and_states_have_a_bound():
    check_spec(WIDE, "m")
    with pytest.raises(ModelError, match="32 GiB of memory for the states"):
        check_spec(dataclasses.replace(SPEC, states=HUGE), "m")


@settings(max_examples=150)
@given(st.data())
def test_damaged_files_are_a_sentence(data):
    whole = bytearray(model())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(ShiftedgeError):
        check_weights(bytes(whole[:cut]), "m")
