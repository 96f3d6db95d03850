"""Peers that start from a torch module: torch itself, torch.compile, ExecuTorch, LiteRT.

Each class imports its library where it is loaded, so that a worker has but the one that it runs.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Array, Peer, converted
from shiftedge.benchmarks.engines.to_torch import (
    quantised_convolutions,
    signed,
    to_torch,
    unsigned,
)
from shiftedge.runtime.errors import MissingExtraError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

PROGRAM = "model.pte"
TFLITE = "model.tflite"
TFLITE_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class TorchContender(Peer):
    """Eager mode, one call of a kernel after the other: the model as an fx module in inference
    mode, its maps in channels_last, which is the quicker layout on x86-64 for MobileNetV2 and for
    ResNet-50.

    A step's new states are the tensors that the module gave: nothing is copied.
    """

    title = "torch"
    packages = ("torch",)
    layout = "channels_last"
    """A ``torch.memory_format`` by name."""
    mode = "inference_mode"
    """A context of torch's by name, entered for good: the process does nothing else."""

    def load(self, path: Path, threads: int) -> None:
        torch = self._torch = require("torch")
        self.version = torch.__version__
        torch.set_num_threads(threads)
        self.settings = {
            "threads": torch.get_num_threads(),
            "mode": self.mode,
            "layout": self.layout,
        }
        self._format = getattr(torch, self.layout)
        self._context = getattr(torch, self.mode)()
        self._context.__enter__()
        module = to_torch(path, self.spec).to(memory_format=self._format)
        # States begin with the strides that a step gives them, a slice's, so that nothing is
        # compiled for two kinds of them.
        fresh = [torch.from_numpy(state.fresh()) for state in self.spec.states]
        _, *given = module(self.tensor(self.frame), *fresh)
        self._strides = [state.stride() for state in given]
        self.reset()
        self._step = self.finish(module, path)

    def finish(self, module: Any, path: Path) -> Any:
        return module

    def tensor(self, values: NDArray[Any]) -> Any:
        """See :meth:`Peer.tensor`: the frame is brought into the layout."""
        found = self._torch.from_numpy(values)
        return found.contiguous(memory_format=self._format) if values is self.frame else found

    def step(self) -> None:
        self._out, *self._states = self._step(self._input, *self._states)

    def reset(self) -> None:
        super().reset()
        self._states = [
            self._torch.empty_strided(state.shape, strides, dtype=state.dtype).copy_(state)
            for state, strides in zip(self._states, self._strides, strict=True)
        ]


class TorchCompileContender(TorchContender):
    """Inductor on the CPU with the weights frozen in: compiled while it is loaded, for static
    shapes, by the C++ compiler that is at hand.

    Frozen, weights are packed once for oneDNN, and inductor chooses layouts itself: contiguous
    inputs were the quicker ones. Of a quantised file inductor makes oneDNN's integer convolutions.
    """

    title = "torch.compile"
    layout = "contiguous_format"
    mode = "no_grad"

    def load(self, path: Path, threads: int) -> None:
        require("torch")
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise MissingExtraError(
                f"torch.compile needs a C++ compiler, and there is no {compiler}: run  apt install "
                "g++  or name one in CXX."
            )
        super().load(path, threads)
        self.settings |= {"backend": "inductor", "freezing": True}

    def finish(self, module: Any, path: Path) -> Any:
        config: Any = importlib.import_module("torch._inductor.config")
        config.freezing = True
        config.compile_threads = 1  # no pool of processes that would stay
        step = self._torch.compile(module, dynamic=False)
        step(self.tensor(self.frame), *self._states)
        if self.precision == "int8":
            # The convolutions that inductor has just given to oneDNN quantised, by its own count.
            counted: Any = importlib.import_module("torch._dynamo.utils").counters["inductor"]
            found = sum(int(counted[f"qconv_{kind}_lower_count"]) for kind in ("unary", "binary"))
            self.check_integers(path, found, quantised_convolutions(module))
        return step


class ExecuTorchContender(Peer):
    """With XNNPACK: exported and lowered by torch, once, run by ExecuTorch's Python bindings.

    New states are copies that ExecuTorch makes of its planned memory, some 60 KB for MobileNetV2:
    without, the next step would overwrite what it reads. Those of a quantised file are int8.
    """

    title = "ExecuTorch"
    packages = ("executorch", "torch")

    def load(self, path: Path, threads: int) -> None:
        require("executorch")
        torch = self._torch = require("torch")
        self.version = importlib.metadata.version("executorch")
        torch.set_num_threads(threads)
        folder, lowered = converted(
            path, "executorch", self.packages, lambda to: _lower(path, self.spec, to)
        )
        bindings = require("executorch.extension.pybindings.portable_lib")
        bindings._unsafe_reset_threadpool(threads)
        self._program = bindings._load_program(str(folder / PROGRAM))
        self._method = self._program.load_method("forward")
        self.settings = {
            "threads": int(bindings._threadpool_get_thread_count()),
            "backend": "XNNPACK",
            "parts": lowered["parts"],
        }
        self.check_integers(path, lowered["integer"], lowered["quantised"])

    def tensor(self, values: NDArray[Any]) -> Any:
        return self._torch.from_numpy(signed(values))

    def array(self, tensor: Any) -> NDArray[Any]:
        return unsigned(tensor.numpy())

    def step(self) -> None:
        method = self._method
        method.set_inputs((self._input, *self._states))
        method.execute()
        self._out, *self._states = method.get_outputs(clone_outputs=True)


def _lower(path: Path, spec: ModelSpec, folder: Path) -> dict[str, int]:
    """Write the program. Returns what XNNPACK got of the model: graphs ("parts"), convolutions of
    quantised values in them ("integer"), and how many the file has ("quantised")."""
    torch, exir = require("torch"), require("executorch.exir")
    partitioner = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    with torch.no_grad():
        frame = torch.zeros(1, 3, spec.height, spec.width)
        states = (torch.from_numpy(signed(state.fresh())) for state in spec.states)
        module = to_torch(path, spec, "signed")
        program = torch.export.export(module, (frame, *states))
    edge = exir.to_edge_transform_and_lower(program, partitioner=[partitioner.XnnpackPartitioner()])
    parts = _parts(edge.exported_program().graph_module)
    (folder / PROGRAM).write_bytes(edge.to_executorch().buffer)
    return {
        "parts": len(parts),
        "integer": sum(_is_integer(node) for part in parts for node in part.nodes),
        "quantised": quantised_convolutions(module),
    }


def _parts(module: Any) -> list[Any]:
    """The graphs that went to XNNPACK as the partitioner cut them out."""
    held = (getattr(module, node.target) for node in module.graph.nodes if node.op == "get_attr")
    return [each.original_module.graph for each in held if hasattr(each, "backend_id")]


def _is_integer(node: Any) -> bool:
    """A convolution that XNNPACK computes with integers: the partitioner has joined the calls
    around it, for input, weights and result. One of quantised weights whose calls stand for
    themselves runs in float32."""
    joined = require("executorch.backends.xnnpack.utils.quant_utils").is_tagged_as_implicit_q_dq
    if node.op != "call_function" or "convolution" not in str(node.target):
        return False
    after = [found for user in node.users for found in (user, *user.users)]  # past an activation
    return all(map(joined, node.args[:2])) and any(map(joined, after))


class LiteRtContender(Peer):
    """Converted by litert-torch, run with the XNNPACK delegate. The interpreter owns all tensors,
    so a step copies the states, some 60 KB for MobileNetV2, from its outputs to its inputs.

    Of a quantised file the converter makes a program whose inputs and outputs are int8, the frame
    among them: it is rounded where it is normalised, which is not timed.
    """

    title = "LiteRT"
    packages = ("ai-edge-litert",)

    def load(self, path: Path, threads: int) -> None:
        interpreter = require("ai_edge_litert.interpreter")
        self.version = importlib.metadata.version("ai-edge-litert")
        self.settings = {"threads": threads, "delegate": "XNNPACK"}
        folder, found = converted(
            path, "litert", ("litert-torch", "torch"), lambda to: _to_litert(path, self.spec, to)
        )
        if self.precision == "int8":
            self.check_integers(path, found["integer"], found["quantised"])
        self._run = interpreter.Interpreter(str(folder / TFLITE), num_threads=threads)
        self._run.allocate_tensors()
        runner = self._run.get_signature_runner("serving_default")
        takes, gives = runner.get_input_details(), runner.get_output_details()
        # Numbered by the converter in the order of the module's arguments and results.
        numbers = range(1 + len(self.spec.states))
        self._inputs = [takes[f"args_{number}"]["index"] for number in numbers]
        self._outputs = [gives[f"output_{number}"]["index"] for number in numbers]
        self._rounded = takes["args_0"]["dtype"] is np.int8
        """Whether the frame is rounded by this scale and zero point."""
        self._scale, self._zero_point = takes["args_0"]["quantization"]

    def tensor(self, values: NDArray[Any]) -> Any:
        """See :meth:`Peer.tensor`: rounds a frame where the program takes it so."""
        if values is not self.frame or not self._rounded:
            return signed(values)
        steps = np.rint(values / np.float32(self._scale)) + np.float32(self._zero_point)
        return np.clip(steps, -128, 127).astype(np.int8)

    def step(self) -> None:
        run = self._run
        run.set_tensor(self._inputs[0], self._input)
        run.invoke()
        for source, target in zip(self._outputs[1:], self._inputs[1:], strict=True):
            run.set_tensor(target, run.tensor(source)())

    def logits(self) -> Array:
        return np.asarray(self._run.get_tensor(self._outputs[0])).reshape(-1)

    def states(self) -> list[Array]:
        return [
            state.numbers(unsigned(self._run.get_tensor(index)))
            for state, index in zip(self.spec.states, self._outputs[1:], strict=True)
        ]

    def reset(self) -> None:
        for index, state in zip(self._inputs[1:], self.spec.states, strict=True):
            self._run.set_tensor(index, signed(state.fresh()))


def _to_litert(path: Path, spec: ModelSpec, folder: Path) -> dict[str, int]:
    """Write the program. Returns, of a quantised file, its convolutions of integers ("integer"),
    and how many quantised ones the file has ("quantised")."""
    torch, litert = require("torch"), require("litert_torch")
    shapes = [(1, 3, spec.height, spec.width), *(state.shape for state in spec.states)]
    examples = tuple(torch.zeros(shape) for shape in shapes)
    module, int8 = to_torch(path, spec, "float-ends"), spec.precision == "int8"
    how = {"quant_config": _static()} if int8 else {}
    litert.convert(module, examples, **how).export(str(folder / TFLITE))
    if not int8:
        return {}
    return {
        "integer": _integers(folder / TFLITE),
        "quantised": quantised_convolutions(module),
    }


def _static() -> Any:
    """What has the converter make integers of calls that round and of what is between them; it
    calibrates nothing. Without, convolutions stay float32 between roundings."""
    quantizer = require("litert_torch.quantize.pt2e_quantizer")
    config = require("litert_torch.quantize.quant_config")
    chosen = quantizer.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return config.QuantConfig(pt2e_quantizer=quantizer.PT2EQuantizer().set_global(chosen))


def _integers(file: Path) -> int:
    """The convolutions of a program whose input is int8."""
    interpreter = require("ai_edge_litert.interpreter")
    plain = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    run = interpreter.Interpreter(str(file), experimental_op_resolver_type=plain)
    run.allocate_tensors()
    kinds = {entry["index"]: entry["dtype"] for entry in run.get_tensor_details()}
    return sum(
        entry["op_name"] in TFLITE_CONVOLUTIONS and kinds[entry["inputs"][0]] is np.int8
        for entry in run._get_ops_details()
    )
