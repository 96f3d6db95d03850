"""The native engine: Engine and EngineSession over a compiled library."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.fake_library import Fake, Reference, build, tasks, wait_until
from numpy.typing import NDArray

from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.errors import ModelError, SpecError
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.cpu import usable_cores

Frames = list[NDArray[np.uint8]]

# A thread that waits in C for ever hears no signal: the whole process must go.
pytestmark = pytest.mark.timeout(120, method="thread")


@pytest.fixture
def engine(fake: Fake) -> NativeEngine:
    return NativeEngine(fake.path, threads=2)


def test_every_step_and_state_equals_the_reference(
    engine: NativeEngine, native_frames: Frames, reference: Reference
) -> None:
    session = engine.open_session()
    for frame in native_frames:
        logits = session.step(frame)
        assert logits.dtype == np.float32
        assert logits.tobytes() == reference.step(frame).tobytes()
        assert session.save()[64:] == reference.states()


def test_what_it_tells(engine: NativeEngine, fake: Fake) -> None:
    assert engine.name == "native"
    assert engine.spec.labels == ("No gesture", "Left", "Right", "Stop")
    assert engine.digest == hashlib.sha256(fake.path.read_bytes()).digest()
    cores = len(os.sched_getaffinity(0))
    assert engine.threads == min(2, cores)
    assert NativeEngine(fake.path, threads=999).threads == cores
    assert NativeEngine(fake.path).threads == min(4, cores)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core to run on")
def test_workers_keep_off_the_callers_core(fake: Fake, native_frames: Frames) -> None:
    before, cores = set(os.listdir("/proc/self/task")), os.sched_getaffinity(0)
    session = NativeEngine(fake.path, threads=2).open_session()
    worker = int((set(os.listdir("/proc/self/task")) - before).pop())
    first, second = sorted(cores)[:2]
    try:
        for core in (first, second, first):
            os.sched_setaffinity(threading.get_native_id(), {core})
            session.step(native_frames[0])
            assert os.sched_getaffinity(worker) == cores - {core}
        os.sched_setaffinity(worker, cores)  # somebody else chooses: so it stays
        os.sched_setaffinity(threading.get_native_id(), {second})
        session.step(native_frames[0])
        assert os.sched_getaffinity(worker) == cores
    finally:
        os.sched_setaffinity(threading.get_native_id(), cores)


def test_returned_logits_belong_to_the_caller(engine: NativeEngine, native_frames: Frames) -> None:
    session = engine.open_session()
    first = session.step(native_frames[0])
    kept = first.copy()
    session.step(native_frames[1])
    assert (first == kept).all()


def test_reset_and_load(engine: NativeEngine, native_frames: Frames) -> None:
    session, other = engine.open_session(), engine.open_session()
    assert not any(session.save())
    for frame in native_frames[:4]:
        session.step(frame)
    other.load(session.save())
    for frame in native_frames[4:]:
        assert (session.step(frame) == other.step(frame)).all()
    session.reset()
    fresh = engine.open_session()
    for frame in native_frames:
        assert (session.step(frame) == fresh.step(frame)).all()
    with pytest.raises(ModelError, match="states have 3 bytes; expected 3328"):
        session.load(b"abc")
    session.load(bytes(8) + b"x" * (engine.state_size - 8))
    with pytest.raises(ModelError, match=r"libmodel\.so: This state block was never zeroed"):
        session.step(native_frames[0])


@pytest.mark.parametrize(
    "view",
    [
        lambda frame: np.pad(frame, ((0, 0), (0, 5), (0, 0)))[:, :32],
        lambda frame: np.asfortranarray(frame),
        lambda frame: frame[::-1].copy()[::-1],
        lambda frame: frame[:, :, ::-1].copy()[:, :, ::-1],
        lambda frame: np.repeat(frame, 2, axis=1)[:, ::2],
    ],
)
def test_images_of_any_strides(
    engine: NativeEngine,
    native_frames: Frames,
    view: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    plain, session = engine.open_session(), engine.open_session()
    for frame in native_frames[:3]:
        assert (session.step(view(frame)) == plain.step(frame)).all()


def test_an_image_of_another_size(engine: NativeEngine) -> None:
    session = engine.open_session()
    for image in (
        np.zeros((24, 31, 3), np.uint8),
        np.zeros((24, 32), np.uint8),
        np.zeros((24, 32, 3), np.float32),
    ):
        with pytest.raises(ModelError, match=r"expected uint8 \[24, 32, 3\]"):
            session.step(image)
    assert not any(session.save())


def test_sessions_of_one_engine_run_in_threads(engine: NativeEngine, native_frames: Frames) -> None:
    def stream(offset: int) -> list[bytes]:
        session = engine.open_session()
        frames = native_frames[offset:] + native_frames[:offset]
        return [session.step(frame).tobytes() for frame in frames * 20] + [session.save()]

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


def test_a_failing_kernel_keeps_the_states(engine: NativeEngine, native_frames: Frames) -> None:
    session, plain = engine.open_session(), engine.open_session()
    session.step(native_frames[0])
    plain.step(native_frames[0])
    before = session.save()
    failing = ctypes.c_int32.in_dll(engine.library, "fake_fail_kernel")  # of the engine's own copy
    failing.value = 3
    try:
        with pytest.raises(ModelError, match=r"libmodel\.so: Kernel classify failed with code 43"):
            session.step(native_frames[1])
    finally:
        failing.value = -1
    assert session.save() == before
    assert (session.step(native_frames[1]) == plain.step(native_frames[1])).all()


def test_behind_a_stream(engine: NativeEngine, native_frames: Frames) -> None:
    model = Model(engine)
    stream, other = model.stream(), model.stream()
    for frame in native_frames[:4]:
        stream.step(frame)
    other.restore(stream.snapshot())
    assert (other.step(native_frames[4]) == stream.step(native_frames[4])).all()
    assert other.snapshot() == stream.snapshot()


def test_the_library_is_closed_with_the_engine(fake: Fake, native_frames: Frames) -> None:
    before = tasks()
    session = NativeEngine(fake.path, threads=2).open_session()
    started = tasks() - before
    assert len(started) == min(2, len(os.sched_getaffinity(0))) - 1
    session.step(native_frames[0])  # the session keeps it open
    assert started <= tasks()
    del session
    gc.collect()
    wait_until(lambda: not started & tasks())


def _step_in_a_child(engine: NativeEngine, frame: NDArray[np.uint8], block: bytes) -> None:
    signal.alarm(50)  # however it hangs, and whatever becomes of its parent
    with pytest.raises(ModelError, match="opened before a fork"):
        engine.open_session().step(frame)
    session = NativeEngine(engine.path, threads=2).open_session()
    session.load(block)
    session.step(frame)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_fork(engine: NativeEngine, native_frames: Frames) -> None:
    session = engine.open_session()
    session.step(native_frames[0])
    context = multiprocessing.get_context("fork")
    child = context.Process(
        target=_step_in_a_child,
        args=(engine, native_frames[1], session.save()),
        daemon=True,
    )
    child.start()
    try:
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
    session.step(native_frames[1])


# Files that are not what they should be.


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "libmodel.so", tmp_path):
        with pytest.raises(ModelError, match="There is no compiled model"):
            NativeEngine(path)


def test_threads_that_are_no_whole_number_from_1(fake: Fake) -> None:
    for bad in (0, -1, True, 2.5, "2"):
        with pytest.raises(ModelError, match=r"threads is .*; expected"):
            NativeEngine(fake.path, threads=bad)  # type: ignore[arg-type]
    assert NativeEngine(fake.path, threads=1 << 40).threads == usable_cores()


@pytest.mark.parametrize("data", [b"", b"hello", b"\x7fELF" + bytes(200)])
def test_garbage(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "libmodel.so"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"libmodel\.so cannot be loaded as a compiled model"):
        NativeEngine(path)


def library_of(compiler: list[str], folder: Path, source: str) -> Path:
    file = folder / "other.c"
    file.write_text(source)
    return build(compiler, folder / "libmodel.so", [file], "-shared", "-fPIC")


FUNCTIONS = """
#include "shiftedge.h"
uint32_t shiftedge_abi_version(void) { return VERSION; }
const char *shiftedge_spec_json(void) { return SPEC; }
size_t shiftedge_state_size(void) { return STATE; }
int shiftedge_open(const shiftedge_options *options, shiftedge_model **model) {
    (void)options, (void)model;
    return 2;
}
int shiftedge_step(shiftedge_model *model, void *state, const uint8_t *bgr, int32_t stride_bytes,
                   float *logits) {
    (void)model, (void)state, (void)bgr, (void)stride_bytes, (void)logits;
    return 1;
}
const char *shiftedge_last_error(void) { return "There is no memory for a model."; }
void shiftedge_close(shiftedge_model *model) { (void)model; }
uint32_t shiftedge_kernel_count(void) { return 0; }
const char *shiftedge_kernel_name(uint32_t kernel) { return (void)kernel, ""; }
int shiftedge_profile(shiftedge_model *model, double *seconds) {
    (void)model, (void)seconds;
    return 0;
}
"""
SPEC = (
    '{"name": "a", "labels": ["b"], "height": 4, "width": 4, "resize_short_side": 4, '
    '"states": [], "receptive_field": 1, "schema": 1}'
)


@pytest.mark.parametrize(
    ("version", "spec", "state", "kind", "message"),
    [
        ("2", '"{}"', "64", ModelError, r"interface version 2, and this shiftedge reads 1"),
        ("1", "0", "64", SpecError, "holds no spec"),
        ("1", '"{"', "64", SpecError, "not valid JSON"),
        ("1", '"\\xff\\xfe"', "64", SpecError, "not UTF-8"),
        ("1", None, "0", ModelError, "state of 0 bytes, so it is damaged"),
        ("1", None, "(size_t)1 << 40", ModelError, "so it is damaged"),
        ("1", None, "64", ModelError, "There is no memory for a model"),
    ],
)
def test_a_library_that_lies(
    compiler: list[str],
    tmp_path: Path,
    version: str,
    spec: str | None,
    state: str,
    kind: type[Exception],
    message: str,
) -> None:
    text = '"' + SPEC.replace('"', '\\"') + '"' if spec is None else spec
    source = f"#define VERSION {version}\n#define SPEC {text}\n#define STATE {state}\n{FUNCTIONS}"
    with pytest.raises(kind, match=message):
        NativeEngine(library_of(compiler, tmp_path, source))


def test_another_library(compiler: list[str], tmp_path: Path) -> None:
    path = library_of(compiler, tmp_path, "int nothing(void);\nint nothing(void) { return 0; }\n")
    with pytest.raises(ModelError, match="library without shiftedge_abi_version"):
        NativeEngine(path)


@pytest.mark.parametrize("threads", [1, 3])
def test_kernels_are_timed_only_when_asked(fake_path, native_frames, threads):
    engine = NativeEngine(fake_path, threads=threads, oversubscribe=True)
    session = engine.open_session()
    assert engine.kernels == ("normalise", "shift", "columns", "classify")
    with engine.profiled() as seconds:
        session.step(native_frames[0])
        assert (seconds > 0).all()
        assert seconds.sum() < 5
    seconds[:] = -1.0
    session.step(native_frames[1])
    assert (seconds == -1.0).all()
