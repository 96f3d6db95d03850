"""ncnn: converted by pnnx, run through ncnn's Python bindings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Peer, converted, last_line
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.process.extras import require

FLOAT32 = {
    "use_fp16_storage": False,
    "use_fp16_arithmetic": False,
    "use_fp16_packed": False,
    "use_bf16_storage": False,
    "use_bf16_packed": False,
}
"""ncnn halves its numbers where the processor can, unless it is told not to."""
CONVERT_S = 100.0
SAME = "same.json"
"""Next states that are an input as it came: their number -> the state's number, -1 the frame."""


class NcnnContender(Peer):
    """States stay ncnn's own matrices: a step takes those that the last one gave. An extractor
    serves one step, so making it is part of that."""

    title = "ncnn"
    packages = ("ncnn",)

    def load(self, path: Path, threads: int) -> None:
        ncnn = self._ncnn = require("ncnn")
        program = Path(require("pnnx").EXEC_PATH)
        self.version = ncnn.__version__
        folder = converted(
            path, "ncnn", ("pnnx",), lambda to: _convert(program, path, to), {"fp16": 0}
        )
        net = self._net = ncnn.Net()
        net.opt.use_vulkan_compute = False
        net.opt.num_threads = threads
        for name, value in FLOAT32.items():
            setattr(net.opt, name, value)
        files = (folder / "model.ncnn.param", folder / "model.ncnn.bin")
        if net.load_param(str(files[0])) or net.load_model(str(files[1])):
            raise self.refused(path, "it cannot load what pnnx made of it")
        # pnnx numbers what it finds. ncnn has no batch: the axis of size 1 goes.
        self._same = {int(k): v for k, v in json.loads((folder / SAME).read_text()).items()}
        count = 1 + len(self.spec.states)
        self._inputs = [f"in{index}" for index in range(count)]
        self._outputs = [f"out{index}" for index in range(count - len(self._same))]
        if set(net.input_names()) != set(self._inputs):
            raise self.refused(path, f"pnnx made the inputs {', '.join(net.input_names())} of it")
        self.settings = {"threads": int(net.opt.num_threads), **FLOAT32}

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


def _convert(program: Path, model: Path, folder: Path) -> None:
    """Run pnnx, which writes its files beside its input."""
    link = folder / "model.onnx"
    _take_out_copies(model, link, folder / SAME)
    try:
        done = subprocess.run(
            [program, link.name, "fp16=0"],
            cwd=folder, capture_output=True, text=True, timeout=CONVERT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"{model.name} was not converted by pnnx ({last_line(error)}).") from error
    wanted = {"model.ncnn.param", "model.ncnn.bin", SAME}
    if done.returncode or not all((folder / name).is_file() for name in wanted):
        said = last_line(done.stderr) if done.stderr.strip() else f"status {done.returncode}"
        raise ModelError(f"{model.name} was not converted by pnnx ({said}).")
    for file in folder.iterdir():
        if file.name not in wanted:
            file.unlink()


def _take_out_copies(model: Path, target: Path, same: Path) -> None:
    """Write the model without the next states that are an input as it came, which pnnx takes for
    an error, and write down which they are."""
    onnx = require("onnx")
    document = onnx.load(str(model))
    graph = document.graph
    number = {"frame": -1} | {f"state_{i}": i for i in range(len(graph.input) - 1)}
    found = {}
    for node in list(graph.node):
        made = node.output[0]
        if node.op_type == "Identity" and node.input[0] in number and made[:11] == "next_state_":
            found[int(made[11:])] = number[node.input[0]]
            graph.node.remove(node)
            graph.output.remove(next(entry for entry in graph.output if entry.name == made))
    onnx.save(document, str(target))
    same.write_text(json.dumps(found, sort_keys=True))
