"""The executor for GPUs with a program by hand and a libcuda.so.1 that computes: the numbers, and a
sentence for everything that a driver can refuse, with nothing kept and nothing changed."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")

from kit.fake_cuda import NOTHING, FakeCuda, read_report
from kit.fake_library import HERE, NATIVE, build, run_program

PARTS = (".", "live", "cuda")
SOURCES = sorted(path for part in PARTS for path in (NATIVE / part).glob("*.c"))
TEXT = (HERE / "cuda_model.ptx").read_text()
FLOATS = {"frame": (2304, 1, False), "value": (4 * 2304, 4, True), "weight": (32, 4, False)}
FIRST, SECOND = 4 * 24, 4 * 8
SIZES = {
    "mix": [FLOATS["frame"], FLOATS["weight"], FLOATS["value"]],
    "keep": [
        (FIRST, 4, False), (SECOND, 4, False), (4 * 2304, 4, False), (FIRST, 4, True),
        (SECOND, 4, True),
    ],
    "tail": [(4 * 2304, 4, False), (FIRST, 4, False), (SECOND, 4, False), (16, 4, True)],
}  # fmt: skip
DEVICE, FORKED, PROGRAM = 11, 6, 8
ENDED = "This model takes no more steps: open it anew"


class Reference:
    """The program in numpy."""

    def __init__(self) -> None:
        self.first, self.second = np.zeros(24, np.float32), np.zeros(8, np.float32)
        self.weight = np.array([0.5, -1.25, 2.0, 0.75, -0.5, 1.0, 3.0, -2.5], np.float32)

    def step(self, index: int) -> list[float]:
        i = np.arange(2304)
        frame = ((i * 7 + index * 13 + i // 256) & 255).astype(np.float32)
        value = frame * self.weight[i % 8]
        logits = value[2048:2052] + self.first[:4] + self.second[:4]
        self.first = self.first / np.float32(2) + value[:24]
        self.second = self.second + value[24:32]
        return [float(f"{each:.9g}") for each in logits]

    def block(self) -> str:
        """The states' bytes, those between them 0."""
        data = struct.pack("<24f32x8f", *self.first, *self.second)
        return data.hex() + "00" * (192 - len(data))


@dataclass
class Run:
    """What the driver printed, and what the device had done and held at its end."""

    report: dict[str, Any]
    opened: list[tuple[int, str]] = field(default_factory=list)
    steps: list[tuple[int, Any]] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.report["held"] == NOTHING
        assert self.report["first_fault"] == ""


class Program:
    """cuda_driver.c and a libcuda.so.1, built alike."""

    def __init__(self, command: list[str], folder: Path, *flags: str) -> None:
        self._command, self._folder, self._flags = command, folder, flags
        self.fakes: dict[str, FakeCuda] = {}
        self.built: dict[str, Path] = {}

    def fake(self, lacks: str) -> FakeCuda:
        if lacks not in self.fakes:
            folder = self._folder / f"cuda{lacks}"
            self.fakes[lacks] = FakeCuda.built(
                self._command, folder, *self._flags, *([lacks] if lacks else [])
            )
            self.fakes[lacks].takes(TEXT, SIZES)
        return self.fakes[lacks]

    def program(self, wrong: str) -> Path:
        if wrong not in self.built:
            path = self._folder / f"driver{wrong}"
            sources = [*SOURCES, HERE / "cuda_model.c", HERE / "cuda_driver.c"]
            flags = [*self._flags, f"-Wa,-I{HERE}", *([wrong] if wrong else [])]
            self.built[wrong] = build(self._command, path, sources, *flags)
        return self.built[wrong]

    def __call__(
        self, steps: int, *words: str, lacks: str = "", wrong: str = "", **settings: object
    ) -> Run:
        fake, path = self.fake(lacks), self._folder / "report.json"
        path.unlink(missing_ok=True)
        environment = fake.environment(path, **settings)
        done = run_program([self.program(wrong), str(steps), *words], environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        # A plan that is wrong is told before any driver is looked for.
        run = Run(read_report(path) if path.exists() else {"held": NOTHING, "first_fault": ""})
        for line in done.stdout.splitlines():
            kind, _, rest = line.partition(" ")
            status, _, said = rest.partition(" ")
            if kind == "open":
                run.opened.append((int(status), said))
            elif kind == "step":
                numbers = list(map(float, said.split())) if status == "0" else said
                run.steps.append((int(status), numbers))
            else:
                run.lines[kind] = rest
        return run


@pytest.fixture(scope="module")
def program(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Program:
    return Program(compiler, tmp_path_factory.mktemp("cuda"))


def expected(steps: int) -> tuple[list[tuple[int, Any]], str]:
    reference = Reference()
    made: list[tuple[int, Any]] = [(0, reference.step(index)) for index in range(steps)]
    return made, reference.block()


@pytest.mark.parametrize(
    ("lacks", "replays"), [("", 6), ("-DCUDA_10_0", 6), ("-DWITHOUT_GRAPHS", 0)]
)
@pytest.mark.parametrize("words", [(), ("stride",), ("again",), ("two",)])
def test_the_numbers(program: Program, lacks: str, replays: int, words: tuple[str, ...]) -> None:
    """With a driver of today, the first that has graphs, and one before."""
    steps, block = expected(6)
    run = program(6, *words, lacks=lacks)
    assert run.opened == [(0, "")] * (2 if "two" in words else 1)
    assert run.steps[:6] == steps
    assert run.lines["state"] == block
    more = 4 if "again" in words else 0
    if more:
        assert run.lines["same"] == "1"
        assert run.steps[6:] == steps[2:]
    assert run.report["launches"] == 3 * (6 + more)
    assert run.report["replays"] == (replays and replays + more)
    # Weights once a model; a frame and the states up, states and logits down, in a copy each.
    assert run.report["ups"] == 6 + more + len(run.opened)
    assert run.report["downs"] == 6 + more


def test_where_the_time_goes(program: Program) -> None:
    steps, block = expected(3)
    run = program(3, "profile")
    assert (run.steps, run.lines["state"]) == (steps, block)
    assert run.lines["profile"] == "1"
    assert run.report["replays"] == 0


@pytest.mark.parametrize(
    "call",
    ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"],
)
def test_what_cannot_be_recorded_is_launched(program: Program, call: str) -> None:
    run = program(4, fail=f"{call}:1:801")
    assert (run.steps, run.lines["state"]) == expected(4)
    assert run.report["replays"] == 0


OUT_OF_MEMORY = r"has no room for a model of 12\d\d\d bytes: out of memory \(CUDA_ERROR_OUT_OF_"
NOT_OPENED: dict[str, tuple[dict[str, object], str]] = {
    "no device": ({"devices": 0}, r"does not start: no CUDA-capable device is detected \(CUDA_"),
    "an old driver": ({"version": 9020}, r"is of CUDA 9\.2, and the model needs one of 10\.0"),
    "an old device": ({"capability": 35}, r"GPU 0, Emulated 0, has the .* 3\.5, .* 5\.3 or higher"),
    "little memory": ({"memory": 5000}, OUT_OF_MEMORY),
    "no words": ({"fail": "cuInit:2:12345"}, r"no words for \(CUresult, 12345\)"),
    "no version": ({"fail": "cuDriverGetVersion:1:1"}, "does not tell its driver's version: inv"),
    "no count": ({"fail": "cuDeviceGetCount:1:100"}, "does not answer: no CUDA-capable"),
    "no number": ({"fail": "cuDeviceGet:1:101"}, "does not answer: invalid device ordinal"),
    "no major": ({"fail": "cuDeviceGetAttribute:1:1"}, "does not answer: invalid argument"),
    "no minor": ({"fail": "cuDeviceGetAttribute:2:1"}, "does not answer: invalid argument"),
    "no context": ({"fail": "cuDevicePrimaryCtxRetain:1:2"}, "does not open: out of memory"),
    "not current": ({"fail": "cuCtxPushCurrent_v2:1:201"}, "does not open: invalid device context"),
    **{
        f"memory {number}": ({"fail": f"cuMemAlloc_v2:{number}:2"}, OUT_OF_MEMORY)
        for number in range(1, 5)
    },
    "no host memory": ({"fail": "cuMemAllocHost_v2:1:2"}, OUT_OF_MEMORY),
    "its code": (
        {"programs": "/nowhere"},
        r"does not take the model's code: a PTX JIT compilation failed \(CUDA_ERROR_INVALID_PTX, "
        r"218\); its compiler says: ptxas application ptx input, line 1; fatal   : no such text$",
    ),
    "its code, and no words": (
        {"fail": "cuModuleLoadDataEx:1:222"},
        r"an unsupported toolchain\. \(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222\); update its ",
    ),
    "a kernel": (
        {"fail": "cuModuleGetFunction:2:500"}, r"finds no kernel: .*: the kernel keep; compile the",
    ),
    "a stream": ({"fail": "cuStreamCreate:1:2"}, "does not take the model's weights: out of mem"),
    "weights": ({"fail": "cuMemcpyHtoDAsync_v2:1:1"}, "does not take the model's weights: invalid"),
    "zeros": ({"fail": "cuMemsetD8Async:1:1"}, "does not take the model's weights: invalid arg"),
    "weights, late": ({"fail": "cuStreamSynchronize:1:719"}, "weights: unspecified launch failure"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_OPENED)
def test_what_does_not_open(program: Program, case: str) -> None:
    """A sentence, and nothing is held."""
    settings, words = NOT_OPENED[case]
    run = program(1, **settings)
    ((status, said),) = run.opened
    assert status == DEVICE
    assert re.search(words, said), said
    assert run.steps == []


def test_a_gpu_that_is_not_there(program: Program) -> None:
    run = program(1, "device=3", devices=2)
    ((status, said),) = run.opened
    assert (status, run.steps) == (DEVICE, [])
    assert said.startswith("There is no GPU 3, of the 2 that are counted from 0: name another, or ")
    assert program(1, "device=1", devices=2).opened == [(0, "")]


def test_no_driver(program: Program, tmp_path: Path) -> None:
    done = run_program([program.program(""), "1"])
    assert done.stdout.startswith(
        "open 11 There is no NVIDIA driver on this system (libcuda.so.1: "
    )
    assert done.stdout.endswith("install it, or run the model on the processor (device cpu).\n")
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    done = run_program([program.program(""), "1"], environment={"LD_LIBRARY_PATH": str(tmp_path)})
    assert "open 11 There is no NVIDIA driver on this system" in done.stdout


def test_a_driver_without_what_is_needed(program: Program) -> None:
    ((status, said),) = program(1, lacks="-DWITHOUT_LAUNCH").opened
    assert (status, "has no cuLaunchKernel, so it is older than" in said) == (DEVICE, True)


@pytest.mark.parametrize(
    "fail",
    [
        "cuGraphLaunch:3:719", "cuGraphLaunch:3:2", "cuStreamSynchronize:4:700",
        "cuStreamSynchronize:4:999", "cuCtxPushCurrent_v2:4:201",
    ],
)  # fmt: skip
def test_a_step_that_fails_ends_the_model(program: Program, fail: str) -> None:
    """The third; states are as they were, and every further step says the same."""
    steps, _ = expected(2)
    run = program(5, fail=fail)
    assert run.steps[:2] == steps
    reference = Reference()
    for index in range(2):
        reference.step(index)
    assert run.lines["state"] == reference.block()
    failed = run.steps[2:]
    assert len({said for _, said in failed}) == 1
    assert failed[0][0] == DEVICE
    assert failed[0][1].startswith("The GPU failed in a step: ")
    assert ENDED in failed[0][1]


@pytest.mark.parametrize(
    "fail",
    [
        "cuMemcpyHtoDAsync_v2:3:719", "cuLaunchKernel:5:719", "cuLaunchKernel:6:1",
        "cuMemcpyDtoHAsync_v2:2:719", "cuEventRecord:4:1", "cuEventCreate:2:2",
        "cuEventElapsedTime:2:1",
    ],
)  # fmt: skip
def test_a_launch_that_fails(program: Program, fail: str) -> None:
    """Without graphs, and with the clock of each kernel."""
    words = ("profile",) if "Event" in fail else ()
    run = program(4, *words, lacks="-DWITHOUT_GRAPHS", fail=fail)
    good = [status for status, _ in run.steps].index(DEVICE)
    assert good in (0, 1)
    assert run.steps[:good] == expected(good)[0]
    assert all(ENDED in said and "CHANGED" not in said for _, said in run.steps[good:])


def test_a_child_process_has_no_gpu(program: Program) -> None:
    """What it forked with is the parent's: it is told, and its end takes nothing from that."""
    run = program(2, "fork")
    assert run.lines["child"] == "0"
    assert run.opened[0] == (0, "")
    status, said = run.opened[1]
    assert (status, "does not start: initialization error" in said) == (DEVICE, True)
    forked, after = run.steps[2:]
    assert (forked[0], after) == (FORKED, expected(3)[0][2])


@pytest.mark.parametrize("number", range(1, 7))
def test_a_plan_that_is_wrong(program: Program, number: int) -> None:
    ((status, said),) = program(1, wrong=f"-DWRONG={number}").opened
    if number == 1:  # only the driver knows what is in the text
        assert (status, "finds no kernel" in said) == (DEVICE, True)
    else:
        assert (status, said.startswith("This libmodel.so is not right (")) == (PROGRAM, True)


def test_nothing_leaks(
    tmp_path: Path, sanitized: Callable[[Path], list[str]], program: Program
) -> None:
    """Memory of the host too, whatever fails, with AddressSanitizer and its search for leaks."""
    checked = Program([shutil.which("gcc") or ""], tmp_path / "asan", *sanitized(tmp_path))
    (tmp_path / "asan").mkdir()
    assert checked(4, "again", "two").steps[:4] == expected(4)[0]
    assert checked(3, "profile").steps == expected(3)[0]
    assert checked(2, "fork").lines["child"] == "0"
    for settings, _ in NOT_OPENED.values():
        assert checked(1, **settings).opened[0][0] == DEVICE
    for fail in ("cuGraphLaunch:2:719", "cuStreamSynchronize:3:700", "cuStreamEndCapture:1:801"):
        checked(4, fail=fail)
    checked(4, "profile", fail="cuEventCreate:3:2")


@pytest.fixture
def sanitized() -> Callable[[Path], list[str]]:
    """Flags of gcc for programs that look after their memory, where they run."""

    def flags(folder: Path) -> list[str]:
        path = shutil.which("gcc")
        if path is None:
            pytest.skip("AddressSanitizer needs gcc, which is not installed")
        found = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
        probe = folder / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        try:
            program = build([path], folder / "probe", [probe], *found)
        except AssertionError:
            pytest.skip("this gcc has no AddressSanitizer")
        if run_program([program], timeout_s=30).returncode:
            pytest.skip("this system does not run programs with AddressSanitizer")
        return found

    return flags
