"""Peers that read the ONNX file by a converter or importer of their own: OpenVINO, ncnn, MNN, TVM.

Each class imports its library where it is loaded, so that a worker has but the one that it runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import BF16_TOLERANCE, Bound, Peer, converted, last_line
from shiftedge.export.agreement import TOLERANCE
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.cpu import taken_away
from shiftedge.runtime.process.extras import require

OPENVINO_PRECISIONS = {
    "f32": ("fp32", TOLERANCE), "f16": ("fp16", 1e-2), "bf16": ("bf16", BF16_TOLERANCE)
}  # fmt: skip
"""OpenVINO's names -> the report's, and the tolerance. A product rounded to float16 is off by up to
0.05%, an eighth of what bfloat16's is."""
NCNN_FLOAT32 = dict.fromkeys(
    (
        "use_fp16_storage", "use_fp16_arithmetic", "use_fp16_packed", "use_bf16_storage",
        "use_bf16_packed",
    ),
    False,
)  # fmt: skip
"""ncnn halves its numbers where the processor can, unless it is told not to."""
NCNN_FILES = ("model.ncnn.param", "model.ncnn.bin")
NCNN_CONVERT_S = 100.0
MNN_FILE = "model.mnn"


class OpenVinoContender(Bound):
    """The CPU plugin, tuned for latency, nothing copied: two requests over two sets of states, each
    bound once; one reads set 0 and writes set 1, the other the reverse."""

    title = "OpenVINO"
    packages = ("openvino",)
    hints: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    """Asked of the plugin. Without the first, CPUs that have bfloat16 would compute in it."""

    def load(self, path: Path, threads: int) -> None:
        openvino = require("openvino")
        self.version = openvino.__version__.partition("-")[0]
        wanted = {**self.hints, "INFERENCE_NUM_THREADS": threads}
        core = openvino.Core()
        model = core.compile_model(core.read_model(str(path)), "CPU", wanted)
        computed = str(model.get_property("INFERENCE_PRECISION_HINT").to_string())
        self.settings = {
            "threads": int(model.get_property("INFERENCE_NUM_THREADS")),
            "streams": int(model.get_property("NUM_STREAMS")),
            **self.hints,
            "INFERENCE_PRECISION_HINT": computed,
        }
        if self.precision != "int8":
            found = OPENVINO_PRECISIONS.get(computed, (computed, TOLERANCE))
            self.precision, self.tolerance = found
        self.bind()
        self._requests = [self._request(openvino, model, source) for source in range(2)]

    def _request(self, openvino: Any, model: Any, source: int) -> Any:
        request = model.create_infer_request()
        bound = {"frame": self.frame, "logits": self._out}
        bound |= {f"state_{i}": array for i, array in enumerate(self.sets[source])}
        bound |= {f"next_state_{i}": array for i, array in enumerate(self.sets[1 - source])}
        for name, array in bound.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        return request

    def step(self) -> None:
        self._requests[self._source].infer(None, share_inputs=True, share_outputs=True)
        self._source = 1 - self._source


class OpenVinoDefaultContender(OpenVinoContender):
    """In bfloat16 or float16 on CPUs that compute in them, else in float32: the precision is the
    plugin's own choice, read back from the compiled model."""

    hints = {"PERFORMANCE_HINT": "LATENCY"}  # noqa: RUF012 - read, never written


class NcnnContender(Peer):
    """States stay ncnn's own matrices: a step takes those that the last one gave. An extractor
    serves one step, so making it is part of that."""

    title = "ncnn"
    packages = ("ncnn",)

    def load(self, path: Path, threads: int) -> None:
        ncnn = self._ncnn = require("ncnn")
        program = Path(require("pnnx").EXEC_PATH)
        self.version = ncnn.__version__
        folder, same = converted(path, "ncnn", ("pnnx",), lambda to: _to_ncnn(program, path, to))
        net = self._net = ncnn.Net()
        net.opt.use_vulkan_compute = False
        net.opt.num_threads = threads
        for name, value in NCNN_FLOAT32.items():
            setattr(net.opt, name, value)
        parameters, weights = (str(folder / name) for name in NCNN_FILES)
        if net.load_param(parameters) or net.load_model(weights):
            raise self.refused(path, "it cannot load what pnnx made of it")
        # pnnx numbers what it finds. ncnn has no batch: the axis of size 1 goes.
        self._same = {int(state): source for state, source in same.items()}
        count = 1 + len(self.spec.states)
        self._inputs = [f"in{index}" for index in range(count)]
        self._outputs = [f"out{index}" for index in range(count - len(self._same))]
        if set(net.input_names()) != set(self._inputs):
            raise self.refused(path, f"pnnx made the inputs {', '.join(net.input_names())} of it")
        self.settings = {"threads": int(net.opt.num_threads), **NCNN_FLOAT32}

    def tensor(self, values: NDArray[Any]) -> Any:
        """See :meth:`Peer.tensor`: a matrix does not keep what it looks at, so all but the frame,
        which stays, is copied."""
        matrix = self._ncnn.Mat(values[0])
        return matrix if values is self.frame else matrix.clone()

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.array(tensor, np.float32)

    def step(self) -> None:
        extractor = self._net.create_extractor()
        for name, value in zip(self._inputs, (self._input, *self._states), strict=True):
            extractor.input(name, value)
        (_, self._out), *given = [extractor.extract(name) for name in self._outputs]
        states = [state for _, state in given]
        for index, source in self._same.items():
            states.insert(index, self._input if source < 0 else self._states[source])
        self._states = states


def _to_ncnn(program: Path, model: Path, folder: Path) -> dict[str, int]:
    """Run pnnx, which writes its files beside its input; what it was not given, see
    :func:`_take_out_copies`."""
    link = folder / "model.onnx"
    same = _take_out_copies(model, link)
    try:
        done = subprocess.run(
            [program, link.name, "fp16=0"],
            cwd=folder, capture_output=True, text=True, timeout=NCNN_CONVERT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"{model.name} was not converted by pnnx ({last_line(error)}).") from error
    if done.returncode or not all((folder / name).is_file() for name in NCNN_FILES):
        said = last_line(done.stderr) if done.stderr.strip() else f"status {done.returncode}"
        raise ModelError(f"{model.name} was not converted by pnnx ({said}).")
    for file in folder.iterdir():
        if file.name not in NCNN_FILES:
            file.unlink()
    return same


def _take_out_copies(model: Path, target: Path) -> dict[str, int]:
    """Write the model without the next states that are an input as it came, which pnnx takes for
    an error. Returns their numbers -> the state's number, -1 the frame."""
    onnx = require("onnx")
    document = onnx.load(str(model))
    graph = document.graph
    number = {"frame": -1} | {f"state_{i}": i for i in range(len(graph.input) - 1)}
    found = {}
    for node in list(graph.node):
        made = node.output[0]
        if node.op_type == "Identity" and node.input[0] in number and made[:11] == "next_state_":
            found[made[11:]] = number[node.input[0]]
            graph.node.remove(node)
            graph.output.remove(next(entry for entry in graph.output if entry.name == made))
    onnx.save(document, str(target))
    return found


class MnnContender(Peer):
    """States stay MNN's own variables: a step takes those that the last one gave. MNN computes
    when a value is read, so the timed step reads the logits.

    The converter is called as the native function that it is; ``MNN.tools`` is never imported: it
    installs a package and sends to the vendor (docs/adding-an-engine.md).
    """

    title = "MNN"
    packages = ("mnn",)

    def load(self, path: Path, threads: int) -> None:
        require("MNN")
        self._express, networks = require("MNN.expr"), require("MNN.nn")
        self.version = importlib.metadata.version("mnn")
        folder, _ = converted(path, "mnn", self.packages, lambda to: _to_mnn(path, to))
        wanted = {"backend": "CPU", "numThread": threads, "precision": "high"}
        states = range(len(self.spec.states))
        self._module = networks.load_module_from_file(
            str(folder / MNN_FILE),
            ["frame", *(f"state_{index}" for index in states)],
            ["logits", *(f"next_state_{index}" for index in states)],
            runtime_manager=networks.create_runtime_manager((wanted,)),
            rearrange=True,
            shape_mutable=False,
        )
        self.settings = {"threads": threads, "backend": "CPU", "precision": "high"}

    def tensor(self, values: NDArray[Any]) -> Any:
        return self._express.const(values, values.shape, self._express.NCHW)

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.array(tensor if isinstance(tensor, np.ndarray) else tensor.read(), np.float32)

    def step(self) -> None:
        out, *self._states = self._module.forward([self._input, *self._states])
        self._out = out.read()


def _to_mnn(model: Path, folder: Path) -> None:
    tools = importlib.import_module("_tools")  # MNN's, by this name
    made = folder / MNN_FILE
    arguments = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(made)]
    tools.mnnconvert(["mnnconvert", *arguments, "--bizCode", "shiftedge"])
    if not made.is_file():
        raise ModelError(f"{model.name} was not converted by MNN; its converter says why above.")


class TvmContender(Peer):
    """What relax makes of the file without any schedule of ours: its importer, the default build
    for LLVM with this processor's name and features, the virtual machine. States stay TVM's own
    tensors: a step reads those that the last one gave."""

    title = "TVM"
    packages = ("apache-tvm", "apache-tvm-ffi")

    def load(self, path: Path, threads: int) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)  # read when TVM starts its threads
        onnx, tvm = require("onnx"), require("tvm")
        relax, importer = require("tvm.relax"), require("tvm.relax.frontend.onnx")
        self.version = tvm.__version__
        target = _host(tvm)
        module = importer.from_onnx(onnx.load(str(path)), keep_params_in_input=False)
        library = relax.build(module, target=tvm.target.Target(target))
        self._run = relax.VirtualMachine(library, tvm.cpu())["main"]
        self.settings = {
            "threads": threads,
            "target": {key: target[key] for key in ("kind", "mcpu")},
            "pipeline": "relax.build's own",
        }
        self._make = tvm.runtime.tensor

    def tensor(self, values: NDArray[Any]) -> Any:
        return self._make(values)

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(tensor.numpy())

    def step(self) -> None:
        self._out, *self._states = self._run(self._input, *self._states)


def _host(tvm: Any) -> dict[str, Any]:
    """A target for LLVM with all that this processor can do, or with the level that is left of it,
    since LLVM finds what the environment takes away too."""
    if taken_away():
        from shiftedge.export.compiler.targets import find_variant

        host = find_variant("host")
        return {"kind": "llvm", "mcpu": host.device.name, "mtriple": host.target.triple}
    find = tvm.get_global_func
    mcpu = str(find("target.llvm_get_system_cpu")())
    triple = str(find("target.llvm_get_system_triple")())
    return {"kind": "llvm", "mcpu": mcpu, "mtriple": triple}
