"""What is compared: the compiled model and its peers, each behind one small protocol.

A worker process imports only the engine that it runs, so a registry entry is text,
``module:Class``, and an engine that is not installed costs nothing but its row.
"""

__all__ = ["ENGINES", "HARNESS", "INT8_ENGINES", "MODULES", "NOT_INT8", "OURS", "REFERENCE"]

ENGINES = {
    "native": "shiftedge.benchmarks.engines.native:NativeContender",
    "native-bf16": "shiftedge.benchmarks.engines.native_bf16:NativeHalfContender",
    "onnxruntime": "shiftedge.benchmarks.engines.onnxruntime:OnnxRuntimeContender",
    "openvino": "shiftedge.benchmarks.engines.openvino:OpenVinoContender",
    "openvino-default": "shiftedge.benchmarks.engines.openvino_default:OpenVinoDefaultContender",
    "executorch": "shiftedge.benchmarks.engines.executorch:ExecuTorchContender",
    "ncnn": "shiftedge.benchmarks.engines.ncnn:NcnnContender",
    "mnn": "shiftedge.benchmarks.engines.mnn:MnnContender",
    "litert": "shiftedge.benchmarks.engines.litert:LiteRtContender",
    "torch": "shiftedge.benchmarks.engines.torch:TorchContender",
    "torch-compile": "shiftedge.benchmarks.engines.torch_compile:TorchCompileContender",
    "tvm": "shiftedge.benchmarks.engines.tvm:TvmContender",
}
"""Name on the command line -> the :class:`~shiftedge.benchmarks.engines.base.Contender`."""

OURS = ("native", "native-bf16")
"""Those that run a compiled bundle, and are no peers."""

INT8_ENGINES = (
    *("native", "onnxruntime", "openvino", "openvino-default", "executorch", "litert"),
    "torch-compile",
)
"""Those that multiply the codes of a quantised file as integers."""

NOT_INT8 = {
    "ncnn": "its converter pnnx does not know QuantizeLinear and DequantizeLinear, and ncnn's own "
    "int8 has no zero points, which the file's codes have",
    "mnn": "its converter makes float32 weights of the file's codes, and its module then fails at "
    "the shapes of QuantizeLinear",
    "torch": "eager torch multiplies what DequantizeLinear gives in float32; torch-compile is its "
    "int8 row",
    "tvm": "its pipeline keeps float32 convolutions between the roundings",
}
"""Those that do not, and why."""

MODULES = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "openvino-default": ("openvino",),
    "executorch": ("executorch", "onnx", "torch"),
    "ncnn": ("ncnn", "onnx", "pnnx"),
    "mnn": ("MNN",),
    "litert": ("ai_edge_litert", "litert_torch", "onnx", "torch"),
    "torch": ("onnx", "torch"),
    "torch-compile": ("onnx", "torch"),
    "tvm": ("onnx", "tvm"),
}
"""Peer -> the packages that it imports, by which a run without ``--engines`` leaves out what is not
installed."""

REFERENCE = "shiftedge.benchmarks.engines.onnxruntime:ReferenceContender"
"""What all others must agree with before they are timed."""

HARNESS = {"null": "shiftedge.benchmarks.engines.null:NullContender"}
"""Engines about the benchmark itself, run where they are asked for by name."""
