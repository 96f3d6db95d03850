"""LiteRT: converted by litert-torch, run by its interpreter with the XNNPACK delegate."""

from __future__ import annotations

import importlib.metadata
import json
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
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

FILE = "model.tflite"
CONVERTED = "converted.json"
"""Convolutions of quantised values in what was made of a file ("integer"), and how many the file
has ("quantised")."""
SIGNATURE = "serving_default"
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


class LiteRtContender(Peer):
    """The interpreter owns all tensors, so a step copies the states, some 60 KB for MobileNetV2,
    from its outputs to its inputs.

    Of a quantised file the converter makes a program whose inputs and outputs are int8, the frame
    among them: it is rounded where it is normalised, which is not timed.
    """

    title = "LiteRT"
    packages = ("ai-edge-litert",)

    def load(self, path: Path, threads: int) -> None:
        interpreter = require("ai_edge_litert.interpreter")
        self.version = importlib.metadata.version("ai-edge-litert")
        self.settings = {"threads": threads, "delegate": "XNNPACK"}
        folder = converted(
            path, "litert", ("litert-torch", "torch"), lambda to: _convert(path, self.spec, to)
        )
        if self.precision == "int8":
            found = json.loads((folder / CONVERTED).read_text())
            self.check_integers(path, found["integer"], found["quantised"])
            self.settings["integer_convolutions"] = found["integer"]
        self._run = interpreter.Interpreter(str(folder / FILE), num_threads=threads)
        self._run.allocate_tensors()
        runner = self._run.get_signature_runner(SIGNATURE)
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
        found: Array = self._run.get_tensor(self._outputs[0]).reshape(-1)
        return found

    def states(self) -> list[Array]:
        return [
            state.numbers(unsigned(self._run.get_tensor(index)))
            for state, index in zip(self.spec.states, self._outputs[1:], strict=True)
        ]

    def reset(self) -> None:
        for index, state in zip(self._inputs[1:], self.spec.states, strict=True):
            self._run.set_tensor(index, signed(state.fresh()))


def _convert(path: Path, spec: ModelSpec, folder: Path) -> None:
    torch, litert = require("torch"), require("litert_torch")
    shapes = [(1, 3, spec.height, spec.width), *(state.shape for state in spec.states)]
    examples = tuple(torch.zeros(shape) for shape in shapes)
    module = to_torch(path, spec, "float-ends")
    if spec.precision != "int8":
        litert.convert(module, examples).export(str(folder / FILE))
        return
    litert.convert(module, examples, quant_config=_static()).export(str(folder / FILE))
    found = {
        "integer": _integers(folder / FILE),
        "quantised": quantised_convolutions(module),
    }
    (folder / CONVERTED).write_text(json.dumps(found))


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
        entry["op_name"] in CONVOLUTIONS and kinds[entry["inputs"][0]] is np.int8
        for entry in run._get_ops_details()
    )
