"""What is compared: the compiled model and its peers, each behind one small protocol.

A worker process imports only the engine that it runs, so a row's factory is text,
``module:Class``, and an engine that is not installed costs nothing but its row.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from shiftedge.runtime.process.extras import pip_line

__all__ = ["ENGINES", "HARNESS", "ON_GPU", "REFERENCE", "EngineRow", "by_default"]

_HERE = "shiftedge.benchmarks.engines"


@dataclass(frozen=True)
class EngineRow:
    factory: str
    """``module:Class`` of its :class:`~shiftedge.benchmarks.engines.base.Contender`."""
    modules: tuple[str, ...] = ()
    """The packages that it imports, by which a run without ``--engines`` leaves out what is not
    installed. None for those whose own row says why they cannot run."""
    not_int8: str | None = None
    """Why it does not multiply the quantised values of a file as integers; None where it does."""
    slow: bool = False
    """To convert or to compile, up to minutes; TVM's step is slow as well. Run where named."""
    ours: bool = False
    """Runs a compiled bundle, and is no peer."""


ENGINES = {
    "native": EngineRow(f"{_HERE}.native:NativeContender", ours=True),
    "native-bf16": EngineRow(f"{_HERE}.native:NativeBf16Contender", ours=True),
    "native-cuda": EngineRow(f"{_HERE}.native:NativeCudaContender", ours=True),
    "onnxruntime": EngineRow(f"{_HERE}.onnxruntime:OnnxRuntimeContender", ("onnxruntime",)),
    "openvino": EngineRow(f"{_HERE}.onnx_peers:OpenVinoContender", ("openvino",)),
    "openvino-default": EngineRow(f"{_HERE}.onnx_peers:OpenVinoDefaultContender", ("openvino",)),
    "executorch": EngineRow(
        f"{_HERE}.torch_peers:ExecuTorchContender", ("executorch", "onnx", "torch")
    ),
    "ncnn": EngineRow(
        f"{_HERE}.onnx_peers:NcnnContender",
        ("ncnn", "onnx", "pnnx"),
        "its converter pnnx does not know QuantizeLinear and DequantizeLinear, and ncnn's own int8 "
        "has no zero points, which the file's quantised values have",
    ),
    "mnn": EngineRow(
        f"{_HERE}.onnx_peers:MnnContender",
        ("MNN",),
        "its converter makes float32 weights of the file's int8 ones, and its module then fails at "
        "the shapes of QuantizeLinear",
    ),
    "litert": EngineRow(
        f"{_HERE}.torch_peers:LiteRtContender",
        ("ai_edge_litert", "litert_torch", "onnx", "torch"),
        slow=True,
    ),
    "torch": EngineRow(
        f"{_HERE}.torch_peers:TorchContender",
        ("onnx", "torch"),
        "eager torch multiplies what DequantizeLinear gives in float32; torch-compile is its int8 "
        "row",
    ),
    "torch-compile": EngineRow(
        f"{_HERE}.torch_peers:TorchCompileContender", ("onnx", "torch"), slow=True
    ),
    "tvm": EngineRow(
        f"{_HERE}.onnx_peers:TvmContender",
        ("onnx", "tvm"),
        "its pipeline keeps float32 convolutions between the roundings",
        slow=True,
    ),
}
"""By name on the command line."""

ON_GPU = {
    "native-cuda": ENGINES["native-cuda"],
    "torch-cuda": EngineRow(f"{_HERE}.gpu_peers:TorchCudaContender"),
    "torch-cuda-graph": EngineRow(f"{_HERE}.gpu_peers:TorchCudaGraphContender"),
    "onnxruntime-cuda": EngineRow(f"{_HERE}.gpu_peers:OnnxRuntimeCudaContender"),
    "onnxruntime-tensorrt": EngineRow(f"{_HERE}.gpu_peers:OnnxRuntimeTensorRtContender", slow=True),
}
"""Those of ``--device cuda``: each has a row, which says why where it cannot run."""

HARNESS = {
    "null": EngineRow(f"{_HERE}.base:NullContender"),
    "stream": EngineRow(f"{_HERE}.native:StreamContender"),
}
"""Engines that are no peers, run where they are asked for by name: about the benchmark itself, and
about the runtime."""

REFERENCE = f"{_HERE}.onnxruntime:ReferenceContender"
"""What all others must agree with before they are timed."""

_ALWAYS = ("native", "onnxruntime")
"""A row of their own says why where they cannot run."""


def by_default() -> tuple[list[str], list[str]]:
    """The engines that are installed and load in seconds, and sentences about those left out.

    Of ours only ``native``: what else a bundle holds, the bundle says.
    """
    peers = [name for name, engine in ENGINES.items() if name not in _ALWAYS and not engine.ours]
    absent = [name for name in peers if not _installed(name)]
    slow = [name for name in peers if ENGINES[name].slow and name not in absent]
    sentences = []
    if absent:
        names = ", ".join(absent)
        sentences.append(f"Not installed: {names} ({pip_line('bench,peers')}).")
    if slow:
        names = ", ".join(slow)
        sentences.append(f"Left out, since they load slowly: {names}; name them with --engines.")
    return [*_ALWAYS, *(name for name in peers if name not in (*absent, *slow))], sentences


def _installed(engine: str) -> bool:
    return all(importlib.util.find_spec(module) for module in ENGINES[engine].modules)
