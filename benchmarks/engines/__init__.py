"""What is compared: the compiled model and its peers, each behind one small protocol.

A worker process imports only the engine that it runs, so a registry entry is text,
``module:Class``, and an engine that is not installed costs nothing but its row.
"""

__all__ = ["ENGINES", "HARNESS", "REFERENCE"]

ENGINES = {
    "native": "shiftedge.benchmarks.engines.native:NativeContender",
    "onnxruntime": "shiftedge.benchmarks.engines.onnxruntime:OnnxRuntimeContender",
    "openvino": "shiftedge.benchmarks.engines.openvino:OpenVinoContender",
}
"""Name on the command line -> the :class:`~shiftedge.benchmarks.engines.base.Contender`."""

REFERENCE = "shiftedge.benchmarks.engines.onnxruntime:ReferenceContender"
"""What all others must agree with before they are timed."""

HARNESS = {"null": "shiftedge.benchmarks.engines.null:NullContender"}
"""Engines about the benchmark itself, run where they are asked for by name."""
