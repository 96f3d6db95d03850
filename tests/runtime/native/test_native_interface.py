"""The C interface of a compiled model, call by call, on a fake model that numpy repeats."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.fake_library import OVERSUBSCRIBE, WIDTH, Fake, Reference, tasks, wait_until
from numpy.typing import NDArray

Frames = list[NDArray[np.uint8]]

# A thread that waits in C for ever hears no signal: the whole process must go.
pytestmark = pytest.mark.timeout(120, method="thread")

OK, ARGUMENT, THREADS, STATE, BUSY, KERNEL, PROGRAM = 0, 1, 3, 4, 5, 7, 8
HEADER = 64


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_every_bit_equals_the_reference(
    fake: Fake, native_frames: Frames, reference: Reference, threads: int
) -> None:
    model, state = fake.open(threads), fake.state()
    for frame in native_frames * 3:
        status, logits = fake.step(model, state, frame)
        assert status == OK
        assert logits.tobytes() == reference.step(frame).tobytes()
        assert state[HEADER:].tobytes() == reference.states()


def test_state_size(fake: Fake, reference: Reference) -> None:
    assert fake.state_size % 64 == 0
    assert fake.state_size == HEADER + len(reference.states())


def test_reset_is_memset(fake: Fake, native_frames: Frames) -> None:
    model, state = fake.open(2), fake.state()
    first = fake.step(model, state, native_frames[0])[1]
    after_first = state.copy()
    second = fake.step(model, state, native_frames[0])[1]
    assert (second != first).any()
    state[:] = 0
    assert (fake.step(model, state, native_frames[0])[1] == first).all()
    assert (state == after_first).all()


def test_snapshot_is_memcpy(fake: Fake, native_frames: Frames) -> None:
    model, other = fake.open(2), fake.open(1)
    state, copy = fake.state(), fake.state()
    for frame in native_frames[:5]:
        fake.step(model, state, frame)
    copy[:] = state
    for frame in native_frames[5:]:
        assert (
            fake.step(other, copy, frame)[1].tobytes()
            == fake.step(model, state, frame)[1].tobytes()
        )
    assert (copy == state).all()


def test_rows_apart(fake: Fake, native_frames: Frames, reference: Reference) -> None:
    model, state = fake.open(2), fake.state()
    for i, frame in enumerate(native_frames):
        wide = np.full((frame.shape[0], WIDTH + i, 3), 99, np.uint8)
        wide[:, :WIDTH] = frame
        status, logits = fake.step(model, state, wide, wide.strides[0])
        assert status == OK
        assert logits.tobytes() == reference.step(frame).tobytes()


def test_a_frame_at_any_address(fake: Fake, native_frames: Frames, reference: Reference) -> None:
    model, state = fake.open(2), fake.state()
    memory = np.zeros(native_frames[0].size + 3, np.uint8)
    for offset in (0, 1, 2, 3):
        frame = memory[offset : offset + native_frames[0].size].reshape(native_frames[0].shape)
        frame[:] = native_frames[offset]
        assert (
            fake.step(model, state, frame)[1].tobytes()
            == reference.step(native_frames[offset]).tobytes()
        )


def test_a_kernel_that_wants_an_aligned_frame(
    build_fake: Callable[..., Path], native_frames: Frames, reference: Reference
) -> None:
    fake = Fake(build_fake("-DFAKE_FRAME_ALIGNMENT=64"))
    model, state = fake.open(2), fake.state()
    memory = np.zeros(native_frames[0].size + 128, np.uint8)
    start = -memory.ctypes.data % 64
    for offset, expected in zip((0, 1, 32, 64), native_frames, strict=False):
        frame = memory[start + offset :][: expected.size].reshape(expected.shape)
        frame[:] = expected
        status, logits = fake.step(model, state, frame)
        assert status == OK
        assert logits.tobytes() == reference.step(expected).tobytes()
    fake.close(model)


def test_the_callers_rounding_changes_nothing(
    fake: Fake, native_frames: Frames, reference: Reference
) -> None:
    """And is as it was afterwards, on the calling thread."""
    libm = ctypes.CDLL("libm.so.6")
    upward = {"x86_64": 0x800, "aarch64": 0x400000}.get(os.uname().machine)
    if upward is None:
        pytest.skip(f"FE_UPWARD of {os.uname().machine} is not known here")
    model, state = fake.open(2), fake.state()
    expected = [reference.step(frame).tobytes() for frame in native_frames]
    before = libm.fegetround()
    one, tiny = 1.0, 1e-30
    logits = np.empty(4, np.float32)
    got, kept = [], []
    for frame in native_frames:
        arguments = (state.ctypes.data, frame.ctypes.data, 3 * WIDTH, logits.ctypes.data)
        libm.fesetround(upward)
        fake.library.shiftedge_step(model, *arguments)
        total = one + tiny
        libm.fesetround(before)
        kept.append(total > one)
        got.append(logits.tobytes())
    assert all(kept)
    assert got == expected


# Refusals: each says what, and leaves the state alone.


def test_null_pointers(fake: Fake, native_frames: Frames) -> None:
    model, state = fake.open(), fake.state()
    logits = np.zeros(4, np.float32)
    good = [model, state.ctypes.data, native_frames[0].ctypes.data, 3 * WIDTH, logits.ctypes.data]
    for index, what in ((0, "model"), (1, "state"), (2, "frame"), (4, "logits")):
        bad = list(good)
        bad[index] = None
        assert fake.library.shiftedge_step(*bad) == ARGUMENT
        assert fake.error() == f"shiftedge_step was given no {what} (NULL)."
    assert fake.library.shiftedge_open(None, None) == ARGUMENT
    assert "no place for the model" in fake.error()
    fake.close(None)
    assert not state.any()
    assert not logits.any()


def test_default_options(fake: Fake, native_frames: Frames) -> None:
    handle = ctypes.c_void_p()
    assert fake.library.shiftedge_open(None, ctypes.byref(handle)) == OK
    assert fake.step(handle.value, fake.state(), native_frames[0])[0] == OK
    fake.close(handle.value)


@pytest.mark.parametrize("stride", [3 * WIDTH - 1, 1, 0, -3 * WIDTH, -(2**31)])
def test_a_short_stride(fake: Fake, native_frames: Frames, stride: int) -> None:
    model, state = fake.open(), fake.state()
    assert fake.step(model, state, native_frames[0], stride)[0] == ARGUMENT
    assert f"The stride is {stride} bytes; a row of 32 pixels has 96" in fake.error()
    assert not state.any()


def test_alignment(fake: Fake, native_frames: Frames) -> None:
    model = fake.open()
    memory = np.zeros(fake.state_size + 128, np.uint8)
    start = -memory.ctypes.data % 64
    for offset in (1, 4, 8, 16, 32, 63):
        assert fake.step(model, memory[start + offset :], native_frames[0])[0] == ARGUMENT
        assert "expected a multiple of 64 bytes" in fake.error()
    logits = np.zeros(5, np.float32)
    state, frame = memory[start:].ctypes.data, native_frames[0].ctypes.data
    assert (
        fake.library.shiftedge_step(model, state, frame, 3 * WIDTH, logits.ctypes.data + 2)
        == ARGUMENT
    )
    assert "The logits begin at" in fake.error()
    assert not memory.any()


def test_memory_that_was_never_zeroed(fake: Fake, native_frames: Frames) -> None:
    model = fake.open()
    for seed in range(20):
        state = fake.state()
        state[:] = np.random.default_rng(seed).integers(0, 256, state.size, np.uint8)
        before = state.copy()
        assert fake.step(model, state, native_frames[0])[0] == STATE
        assert "never zeroed" in fake.error()
        assert (state == before).all()
    for byte in [*range(24), *range(32, 64)]:  # any byte of the header but the owner's
        state = fake.state()
        state[byte] = 1
        assert fake.step(model, state, native_frames[0])[0] == STATE
        assert "neither zeroed nor a state" in fake.error()
        assert state.sum() == 1


def test_a_state_of_another_size_or_model(
    fake: Fake, native_frames: Frames, build_fake: Callable[..., Path]
) -> None:
    model, state = fake.open(), fake.state()
    fake.step(model, state, native_frames[0])
    shorter = state.copy()
    larger = fake.state()
    larger[:] = shorter
    larger[8:16] = np.array([fake.state_size + 64], np.uint64).view(np.uint8)
    assert fake.step(model, larger, native_frames[0])[0] == STATE
    assert f"has {fake.state_size + 64} bytes; this model's has {fake.state_size}" in fake.error()
    other = Fake(build_fake("-DFAKE_FINGERPRINT=42"))
    theirs = other.open()
    before = state.copy()
    assert other.step(theirs, state, native_frames[0])[0] == STATE
    assert "state is of another model" in other.error()
    assert (state == before).all()
    other.close(theirs)


def test_a_second_thread_on_one_state_is_refused(
    fake: Fake, native_frames: Frames, reference: Reference
) -> None:
    model, state = fake.open(2), fake.state()
    results = []
    fake.switch(gate=True)
    caller = threading.Thread(
        target=lambda: results.append(fake.step(model, state, native_frames[0]))
    )
    caller.start()
    try:
        wait_until(lambda: fake.get("fake_waiting") == 2)
        assert fake.step(model, state, native_frames[1])[0] == BUSY
        assert "stepped by another thread" in fake.error()
        assert fake.step(fake.open(1), state, native_frames[1])[0] == BUSY  # another handle
        torn = fake.state()
        torn[:] = state  # a snapshot at the wrong moment
    finally:
        fake.switch()
        caller.join()
    assert results[0][0] == OK
    assert results[0][1].tobytes() == reference.step(native_frames[0]).tobytes()
    assert state[HEADER:].tobytes() == reference.states()
    assert fake.step(model, torn, native_frames[1])[0] == STATE
    assert "copied while a step was writing it" in fake.error()
    assert fake.step(model, state, native_frames[1])[0] == OK


def test_errors_belong_to_their_thread(fake: Fake, native_frames: Frames) -> None:
    model, state = fake.open(), fake.state()
    assert fake.step(model, state, native_frames[0], 1)[0] == ARGUMENT
    said = []
    other = threading.Thread(target=lambda: said.append(fake.error()))
    other.start()
    other.join()
    assert said == [""]
    assert "stride" in fake.error()
    fake.step(model, state, native_frames[0])
    assert "stride" in fake.error()  # a call that succeeds leaves it alone


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kernel", [0, 1, 2, 3])
def test_a_failing_kernel_leaves_state_and_logits(
    fake: Fake, native_frames: Frames, reference: Reference, kernel: int, threads: int
) -> None:
    model, state = fake.open(threads), fake.state()
    fake.step(model, state, native_frames[0])
    reference.step(native_frames[0])
    before = state.copy()
    name = ("normalise", "shift", "columns", "classify")[kernel]
    for unit in (0, 3):  # of the caller's share, and perhaps of another thread's
        fake.switch(fail=kernel, unit=unit)
        status, logits = fake.step(model, state, native_frames[1])
        assert status == KERNEL
        assert (
            fake.error() == f"Kernel {name} failed with code {40 + kernel}; the state is as it was."
        )
        assert np.isnan(logits).all()
        assert (state == before).all()
    fake.switch()
    logits = fake.step(model, state, native_frames[1])[1]
    assert logits.tobytes() == reference.step(native_frames[1]).tobytes()
    assert state[HEADER:].tobytes() == reference.states()


def test_a_fresh_state_stays_fresh_after_a_failure(fake: Fake, native_frames: Frames) -> None:
    model, state = fake.open(2), fake.state()
    fake.switch(fail=3, unit=1)
    assert fake.step(model, state, native_frames[0])[0] == KERNEL
    assert not state.any()


# Opening.


def test_options(fake: Fake) -> None:
    for size in (0, 4, 7, 4097, 2**32 - 1):
        assert fake.try_open(size=size) == (ARGUMENT, None)
        assert f"options.size is {size}; set it to sizeof(shiftedge_options), 16" in fake.error()
    assert fake.try_open(threads=-1) == (ARGUMENT, None)
    assert "options.threads is -1; expected a number from 1" in fake.error()
    assert fake.try_open(flags=2) == (ARGUMENT, None)
    assert "options.flags is 0x2; known is 0x1" in fake.error()
    assert fake.try_open(device=-1) == (ARGUMENT, None)
    assert "options.device is -1; expected the number of a GPU" in fake.error()
    assert fake.try_open(device=1) == (ARGUMENT, None)
    assert "options.device is 1, and this library runs on the processor" in fake.error()
    assert fake.try_open(size=20, later=1) == (ARGUMENT, None)
    assert "does not know: compile the model with a newer shiftedge" in fake.error()
    for size, flags in ((8, 77), (12, 0), (16, 0), (20, 0)):  # with 8 the flags are not read
        status, handle = fake.try_open(size=size, threads=1, flags=flags)
        assert status == OK
        fake.close(handle)


def test_more_threads_than_cores(fake: Fake, native_frames: Frames) -> None:
    cores = len(os.sched_getaffinity(0))
    for asked, flags, expected in (
        (1000, 0, min(cores, 64)),
        (cores + 1, OVERSUBSCRIBE, cores + 1),
        (2**31 - 1, OVERSUBSCRIBE, 64),
        (0, 0, min(cores, 4)),
        (1, 0, 1),
    ):
        before = tasks()
        status, handle = fake.try_open(threads=asked, flags=flags)
        assert status == OK
        started = tasks() - before
        assert len(started) == expected - 1
        assert fake.step(handle, fake.state(), native_frames[0])[0] == OK
        fake.close(handle)
        wait_until(lambda started=started: not started & tasks())


def test_threads_have_names_and_take_no_signals(fake: Fake) -> None:
    before = tasks()
    fake.open(3)
    started = tasks() - before
    names = [Path(f"/proc/self/task/{task}/comm") for task in started]
    expected = ["shiftedge-1", "shiftedge-2"]
    wait_until(lambda: sorted(name.read_text().strip() for name in names) == expected)
    for task in started:
        status = Path(f"/proc/self/task/{task}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("SigBlk:"))
        blocked = int(line.split()[1], 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
            assert blocked >> (number - 1) & 1
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL):
            assert not blocked >> (number - 1) & 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (1, "no work units"),
        (2, "no code"),
        (3, "too many arguments"),
        (4, "a kernel has no name"),
        (5, "out of range"),
        (6, "outside its memory"),
        (7, "not aligned to 64"),
        (8, "not a power of two"),
        (9, "outside its memory"),
        (10, "are missing"),
    ],
)
def test_a_library_that_was_built_wrongly(
    build_fake: Callable[..., Path], broken: int, message: str
) -> None:
    fake = Fake(build_fake(f"-DFAKE_BROKEN={broken}", "-O0"))
    assert fake.try_open(threads=2) == (PROGRAM, None)
    assert message in fake.error()
    assert "compile the model again" in fake.error()


def test_where_the_system_gives_no_threads(fake_path: Path) -> None:
    """In a process of its own, which limits its memory before it opens the model."""
    program = (
        "import ctypes, resource, sys\n"
        "library = ctypes.CDLL(sys.argv[1])\n"
        "library.shiftedge_last_error.restype = ctypes.c_char_p\n"
        "class Options(ctypes.Structure):\n"
        "    _fields_ = [(n, ctypes.c_int32) for n in ('size', 'threads', 'flags')]\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "most = pages * resource.getpagesize() + (4 << 20)  # less than one thread's stack\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "handle = ctypes.c_void_p(1)\n"
        "options = Options(12, 64, 1)\n"
        "print(library.shiftedge_open(ctypes.byref(options), ctypes.byref(handle)), handle.value)\n"
        "print(library.shiftedge_last_error().decode())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(fake_path)], capture_output=True, text=True, check=True
    )
    status, sentence = run.stdout.splitlines()
    assert status == f"{THREADS} None"
    assert "gives no 64 threads" in sentence
