"""The ONNX Runtime engine against the ONNX reference evaluator, and against files that lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnxruntime")

from shiftedge.runtime.engines import onnxruntime as engine_module
from shiftedge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from shiftedge.runtime.errors import MissingExtraError, ModelError, SpecError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.cpu import chosen_threads, usable_cores
from shiftedge.runtime.spec import ModelSpec

Frames = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def engine(tiny_onnx: Path) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(tiny_onnx, threads=1)


def reference(
    path: Path, spec: ModelSpec, frames: Frames
) -> tuple[list[NDArray[np.float32]], list[list[NDArray[np.float32]]]]:
    """Logits (classes,) and states after each frame, by the interpreter of the onnx package."""
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator(str(path))
    states = [np.zeros(state.shape, np.float32) for state in spec.states]
    all_logits, all_states = [], []
    for frame in frames:
        image = np.empty((1, 3, spec.height, spec.width), np.float32)
        Preprocessor(spec).normalise(frame, image)
        feeds = {"frame": image, **{f"state_{i}": state for i, state in enumerate(states)}}
        logits, *states = evaluator.run(None, feeds)
        all_logits.append(logits[0])
        all_states.append(states)
    return all_logits, all_states


def test_every_step_and_state_equals_the_reference(
    engine: OnnxRuntimeEngine, tiny_onnx: Path, moving_frames: Frames
) -> None:
    logits, states = reference(tiny_onnx, engine.spec, moving_frames)
    session = engine.open_session()
    for i, frame in enumerate(moving_frames):
        got = session.step(frame)
        assert got.dtype == np.float32
        assert got.shape == (4,)
        np.testing.assert_allclose(got, logits[i], rtol=1e-4, atol=1e-4)
        flat = np.concatenate([state.ravel() for state in states[i]])
        np.testing.assert_allclose(np.frombuffer(session.save(), np.float32), flat, atol=1e-4)
    without_memory = engine.open_session().step(moving_frames[-1])
    assert np.abs(without_memory - logits[-1]).max() > 1e-3  # the states do matter here


def test_returned_logits_belong_to_the_caller(
    engine: OnnxRuntimeEngine, moving_frames: Frames
) -> None:
    session = engine.open_session()
    first = session.step(moving_frames[0])
    kept = first.copy()
    session.step(moving_frames[5])
    assert (first == kept).all()
    first[:] = np.nan
    assert np.isfinite(session.step(moving_frames[6])).all()


@pytest.mark.parametrize("fed", [1, 2, 3])
def test_reset_equals_a_fresh_session(
    engine: OnnxRuntimeEngine, moving_frames: Frames, fed: int
) -> None:
    session = engine.open_session()
    for frame in moving_frames[:fed]:
        session.step(frame)
    session.reset()
    assert not any(session.save())
    fresh = engine.open_session()
    for frame in moving_frames[4:]:
        assert (session.step(frame) == fresh.step(frame)).all()


@pytest.mark.parametrize("fed", [0, 1, 4])
def test_saved_states_continue_in_another_session(
    engine: OnnxRuntimeEngine, moving_frames: Frames, fed: int
) -> None:
    session, other = engine.open_session(), engine.open_session()
    for frame in moving_frames[:fed]:
        session.step(frame)
    other.step(moving_frames[-1])
    other.load(session.save())
    for frame in moving_frames[fed : fed + 4]:
        assert (session.step(frame) == other.step(frame)).all()
    assert session.save() == other.save()


def test_a_block_of_another_length_is_refused(engine: OnnxRuntimeEngine) -> None:
    with pytest.raises(ModelError, match="states have 12 bytes; expected 2304"):
        engine.open_session().load(bytes(12))


def test_states_are_written_in_place(engine: OnnxRuntimeEngine) -> None:
    session = engine.open_session()
    tensors = [session._frame, session._logits, *session._sets[0], *session._sets[1]]
    for tensor in tensors:
        assert tensor._shared  # one memory for numpy and ONNX Runtime: nothing is copied
        assert tensor.value.data_ptr() == tensor.host.ctypes.data


def test_memory_of_another_device_is_copied_both_ways(
    engine: OnnxRuntimeEngine, moving_frames: Frames
) -> None:
    """What a GPU needs, with the CPU in its place."""
    session, plain = engine.open_session(), engine.open_session()
    ort = pytest.importorskip("onnxruntime")
    for tensor in [session._frame, session._logits, *session._sets[0], *session._sets[1]]:
        tensor._shared = False
        tensor.value = ort.OrtValue.ortvalue_from_numpy(tensor.host.copy())
    session._bindings = [session._bind(0), session._bind(1)]
    for frame in moving_frames[:5]:
        assert (session.step(frame) == plain.step(frame)).all()
    assert session.save() == plain.save()
    session.reset()
    session.load(plain.save())
    assert (session.step(moving_frames[6]) == plain.step(moving_frames[6])).all()


def test_sessions_of_one_engine_run_in_threads(tiny_onnx: Path, moving_frames: Frames) -> None:
    engine = OnnxRuntimeEngine(tiny_onnx, threads=2)

    def stream(offset: int) -> list[bytes]:
        session = engine.open_session()
        frames = moving_frames[offset:] + moving_frames[:offset]
        return [session.step(frame).tobytes() for frame in frames * 5] + [session.save()]

    alone = [stream(offset) for offset in range(4)]
    together: dict[int, list[bytes]] = {}
    threads = [
        threading.Thread(target=lambda k=k: together.__setitem__(k, stream(k))) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[k] for k in range(4)] == alone


def test_threads(tiny_onnx: Path, moving_frames: Frames) -> None:
    assert 1 <= chosen_threads() <= 4
    assert OnnxRuntimeEngine(tiny_onnx).threads == chosen_threads()
    one, two = (OnnxRuntimeEngine(tiny_onnx, threads=n).open_session() for n in (1, 2))
    np.testing.assert_allclose(one.step(moving_frames[0]), two.step(moving_frames[0]), atol=1e-4)


@pytest.mark.parametrize("many", [20_000, 1 << 40, np.int64(999)])
def test_threads_beyond_the_cores_are_lowered(tiny_onnx: Path, many: int) -> None:
    assert OnnxRuntimeEngine(tiny_onnx, threads=many).threads == usable_cores()


@pytest.mark.parametrize("bad", [0, -1, True, 2.5, "2", [2], np.float32(2.0)])
def test_threads_that_are_no_whole_number_from_1(tiny_onnx: Path, bad: Any) -> None:
    with pytest.raises(ModelError, match=r"threads is .*; expected a whole number from 1"):
        OnnxRuntimeEngine(tiny_onnx, threads=bad)


def test_threads_on_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert chosen_threads() == 1
    assert chosen_threads(20) == 1


@pytest.mark.parametrize("bad", [5, "npu", [5], [("cpu",)], {"cpu": {}}, [["cpu", {}]]])
def test_what_is_no_list_of_providers(tiny_onnx: Path, bad: Any) -> None:
    with pytest.raises(ModelError, match="execution provider"):
        OnnxRuntimeEngine(tiny_onnx, providers=bad)


def test_providers(tiny_onnx: Path) -> None:
    for providers in (["cpu"], ["CPUExecutionProvider"], [("cpu", {})], [], None):
        engine = OnnxRuntimeEngine(tiny_onnx, providers=providers)
        assert engine.session.get_providers() == ["CPUExecutionProvider"]
        assert engine.device == "cpu"
    with pytest.raises(ModelError, match=r"provider npu is not in this.*available are .*CPUExec"):
        OnnxRuntimeEngine(tiny_onnx, providers=["npu", "cpu"])
    assert OnnxRuntimeEngine(tiny_onnx, providers="cpu").device == "cpu"
    assert OnnxRuntimeEngine(tiny_onnx, providers=("cpu", {})).device == "cpu", "one pair"


def test_a_provider_that_did_not_start_is_refused() -> None:
    class Session:
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    with pytest.raises(ModelError, match="CUDAExecutionProvider is installed but did not start"):
        engine_module._check_active(Session(), [("CUDAExecutionProvider", {})])


def test_states_live_on_the_providers_device() -> None:
    assert engine_module._device(("CUDAExecutionProvider", {"device_id": "1"})) == ("cuda", 1)
    assert engine_module._device(("TensorrtExecutionProvider", {})) == ("cuda", 0)
    assert engine_module._device(("XnnpackExecutionProvider", {})) == ("cpu", 0)


def test_a_missing_package_answers_with_the_pip_line(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[onnx\]'"):
        OnnxRuntimeEngine(tiny_onnx)


# Files that are not what they should be.


@pytest.mark.parametrize("name", [b"m\xff.onnx", b"d\xff/m.onnx", b"d\xff/\xe9.onnx"])
def test_names_of_any_bytes(
    tiny_onnx: Path, tmp_path: Path, moving_frames: Frames, name: bytes
) -> None:
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(tiny_onnx.read_bytes())
    engine = OnnxRuntimeEngine(path, threads=1)
    assert engine.open_session().step(moving_frames[0]).shape == (4,)
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded as an ONNX model"):
        OnnxRuntimeEngine(path)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(ModelError, match="no model file"):
            OnnxRuntimeEngine(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(tiny_onnx: Path, tmp_path: Path, share: float) -> None:
    data = tiny_onnx.read_bytes()
    path = tmp_path / "short.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((ModelError, SpecError), match=r"short\.onnx"):
        OnnxRuntimeEngine(path)


@pytest.mark.parametrize(
    "data", [b"hello", b"\x00" * 1000, b"PK\x03\x04" + bytes(100), "\N{SNOWMAN}".encode() * 99]
)
def test_garbage(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "garbage.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="cannot be loaded as an ONNX model"):
        OnnxRuntimeEngine(path)


@pytest.mark.parametrize("word", [b"Stop Sign", b"state_1"])
def test_text_that_is_not_utf_8(
    tiny_onnx: Path, tmp_path: Path, word: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(tiny_onnx.read_bytes().replace(word, b"\xff" * len(word)))
    with pytest.raises((ModelError, SpecError), match=r"text\.onnx"):
        OnnxRuntimeEngine(path)
    assert capfd.readouterr() == ("", "")


def test_a_refused_file_says_nothing_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "garbage.onnx"
    path.write_bytes(b"hello")
    program = (
        "import sys\nfrom shiftedge.runtime.engines.onnxruntime import OnnxRuntimeEngine\n"
        "from shiftedge.runtime.errors import ModelError\n"
        "try: OnnxRuntimeEngine(sys.argv[1])\nexcept ModelError: pass\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "src")},
    )
    assert run.stderr == run.stdout == ""


def test_metadata(make_onnx: Callable[..., Path], spec: ModelSpec) -> None:
    with pytest.raises(SpecError, match=r"no shiftedge\.spec in its metadata.*shiftedge export"):
        OnnxRuntimeEngine(make_onnx(metadata=None))
    with pytest.raises(SpecError, match="not valid JSON"):
        OnnxRuntimeEngine(make_onnx(metadata="{"))
    newer = json.dumps({**json.loads(spec.to_json()), "schema": 3})
    with pytest.raises(SpecError, match="reads up to 1: upgrade"):
        OnnxRuntimeEngine(make_onnx(metadata=newer))


def rename(kind: str, index: int, name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        value = getattr(model.graph, kind)[index]
        old, value.name = value.name, name
        for node in model.graph.node:
            for names in (node.input, node.output):
                for i, given in enumerate(names):
                    if given == old:
                        names[i] = name

    return change


def dynamic(kind: str, index: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        getattr(model.graph, kind)[index].type.tensor_type.shape.dim[0].dim_param = "batch"

    return change


def half(model: Any) -> None:
    """Take the logits as float16."""
    onnx = pytest.importorskip("onnx")
    model.graph.node[-1].output[0] = "logits_32"
    cast = onnx.helper.make_node("Cast", ["logits_32"], ["logits"], to=onnx.TensorProto.FLOAT16)
    model.graph.node.append(cast)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def extra_output(model: Any) -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, (1, 16))
    model.graph.output.append(value)


def extra_input(model: Any) -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("time", onnx.TensorProto.FLOAT, (1,))
    model.graph.input.append(value)


def no_last_state(model: Any) -> None:
    del model.graph.output[-1]


BROKEN = {
    "frame renamed": (rename("input", 0, "image"), r"no input frame; expected float32 \[1, 3, 24"),
    "state renamed": (rename("input", 2, "cache_1"), "no input state_1; expected"),
    "logits renamed": (rename("output", 0, "scores"), "no output logits; .*found scores"),
    "state missing": (no_last_state, "no output next_state_1"),
    "dynamic frame": (dynamic("input", 0), r"input frame as.*'batch'.*static shapes"),
    "dynamic state": (dynamic("input", 1), r"input state_0 as.*static shapes"),
    "half": (half, r"output logits as tensor\(float16\).*expected tensor\(float\) \[1, 4\]"),
    "extra output": (extra_output, "output flat, which its spec does not know"),
    "extra input": (extra_input, "input time, which its spec does not know"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_breaks_the_contract(name: str, make_onnx: Callable[..., Path]) -> None:
    change, message = BROKEN[name]
    with pytest.raises(ModelError, match=message):
        OnnxRuntimeEngine(make_onnx(change=change))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 30}, r"input frame as .*\[1, 3, 24, 32\]; expected .*\[1, 3, 30, 32\]"),
        ({"labels": ["a", "b"], "silent_labels": []}, r"output logits as .*expected .*\[1, 2\]"),
        ({"states": [{"name": "s", "shape": [1, 2, 12, 16]}]}, "input state_1, which its spec"),
        (
            {
                "states": [
                    {"name": "s", "shape": [1, 2, 16, 12]},
                    {"name": "t", "shape": [1, 4, 6, 8]},
                ]
            },
            r"input state_0 as .*\[1, 2, 12, 16\]; expected .*\[1, 2, 16, 12\]",
        ),
    ],
)
def test_a_spec_that_does_not_fit_the_graph(
    changes: dict[str, Any], message: str, make_onnx: Callable[..., Path], spec: ModelSpec
) -> None:
    metadata = json.dumps({**json.loads(spec.to_json()), **changes})
    with pytest.raises(ModelError, match=message):
        OnnxRuntimeEngine(make_onnx(metadata=metadata))


def test_a_failing_run_keeps_the_states(
    engine: OnnxRuntimeEngine, moving_frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, plain = engine.open_session(), engine.open_session()
    assert (session.step(moving_frames[0]) == plain.step(moving_frames[0])).all()
    before = session.save()

    class Failing:
        def run_with_iobinding(self, binding: object) -> None:
            raise RuntimeError("out of memory\nat line 3")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "session", Failing())
        with pytest.raises(ModelError, match=r"failed in ONNX Runtime \(out of memory\)"):
            session.step(moving_frames[1])
    assert session.save() == before
    assert (session.step(moving_frames[2]) == plain.step(moving_frames[2])).all()


@pytest.mark.hosts
@pytest.mark.parametrize(
    ("features", "asked"),
    [
        ({"avx2", "fma"}, True),
        ({"avx2", "avx512f", "avx512bw", "avx512vl"}, True),
        ({"avx2", "avx512f", "avx512bw", "avx512_vnni"}, False),
        ({"avx2", "avx_vnni"}, False),
        (set(), True),  # not known
    ],
)
def test_exact_products_are_asked_for_only_without_vnni(features: set[str], asked: bool) -> None:
    """With VNNI the option would leave it for slower instructions."""
    options = pytest.importorskip("onnxruntime").SessionOptions()
    engine_module.ask_for_exact_int8(options, frozenset(features))
    if asked:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")
