"""The bytes of an ONNX file -> nodes and constants, once they keep the contract.

The contract: inputs ``frame`` (1, 3, height, width) and ``state_0`` ..., outputs ``logits``
(1, classes) and ``next_state_0`` ..., all of fixed shape and float32, but for states that the spec
says are uint8. Refused
here, before any operator is looked at: bytes that are no ONNX file, inputs and outputs that are
missing or of another type or shape, weights that are kept elsewhere or are sparse, nodes that are
out of order or in a cycle, and tensors that two nodes make or none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.spec import ModelSpec

__all__ = ["ADVICE", "AGAIN", "OnnxFile", "check_rules", "load"]

ADVICE = "engine='onnxruntime' runs the model meanwhile"
"""Ends a message about what the compiler cannot do; ``read_onnx`` says it only of a file that ONNX
Runtime runs."""
AGAIN = "export the model again"
"""Ends a message about a file that nothing can run."""


@dataclass(frozen=True)
class OnnxFile:
    """What is to be read."""

    document: Any
    """The ModelProto."""
    nodes: tuple[Any, ...]
    """NodeProtos that an output depends on, each after those it reads."""
    constants: dict[str, NDArray[Any]]
    """Initialisers by name."""


def load(onnx: Any, model: bytes, spec: ModelSpec) -> OnnxFile:
    """Parse ``model`` and check what the module's docstring says.

    Args:
        onnx: the package, imported.
        model: the serialised file.
        spec: of the model.

    Raises:
        CompileError: the file does not keep the contract; the message names the tensor or node.
    """
    try:
        document = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's errors, which differ between its implementations
        raise CompileError(f"The model is no whole ONNX file ({error}); {AGAIN}.") from error
    graph = document.graph
    if not graph.node:
        raise CompileError(f"The ONNX file holds no operators; {AGAIN}.")
    constants = _constants(onnx, graph)
    inputs: dict[str, tuple[int, ...]] = {"frame": (1, 3, spec.height, spec.width)}
    outputs: dict[str, tuple[int, ...]] = {"logits": (1, spec.classes)}
    quantized = set()
    for index, state in enumerate(spec.states):
        if len(state.shape) != 4 or state.shape[0] != 1:
            raise CompileError(
                f"state_{index} has shape {state.shape} in the model's spec; expected "
                f"(1, channels, height, width); {ADVICE}."
            )
        inputs[f"state_{index}"] = outputs[f"next_state_{index}"] = state.shape
        if state.dtype == "uint8":
            quantized |= {f"state_{index}", f"next_state_{index}"}
    given = [entry for entry in graph.input if entry.name not in constants]
    _check_all(onnx, given, inputs, quantized, "input")
    _check_all(onnx, graph.output, outputs, quantized, "output")
    unknown = [entry.name for entry in given if entry.name not in inputs]
    if unknown:
        raise CompileError(
            f"The model has an input {unknown[0]!r}; expected {', '.join(inputs)} alone; {ADVICE}."
        )
    _check_order(graph.node, {*inputs, *constants}, outputs)
    return OnnxFile(document, _needed(graph.node, outputs), constants)


def check_rules(onnx: Any, document: Any) -> None:
    """Refuse what no reader looks at and ONNX forbids: attributes and inputs too many, versions.

    To be called once all nodes are read, because its messages are the least helpful ones.

    Raises:
        CompileError: ONNX's own checker finds fault with the file.
    """
    try:
        onnx.checker.check_model(document, full_check=True)
    except Exception as error:  # ValidationError, and protobuf's for text that is none
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CompileError(f"The model breaks a rule of ONNX ({reason}); {AGAIN}.") from error


def _constants(onnx: Any, graph: Any) -> dict[str, NDArray[Any]]:
    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        raise CompileError(
            f"The weights {name!r} are a sparse tensor; expected a dense one; {ADVICE}."
        )
    constants = {}
    for entry in graph.initializer:
        if entry.data_location == onnx.TensorProto.EXTERNAL or entry.external_data:
            raise CompileError(
                f"The weights {entry.name!r} are kept in a file beside the model; expected all "
                f"weights inside it: save it with onnx.save(..., save_as_external_data=False)."
            )
        try:
            constants[entry.name] = onnx.numpy_helper.to_array(entry)
        except Exception as error:  # of several kinds, by what is wrong with the tensor
            raise CompileError(
                f"The weights {entry.name!r} cannot be read ({error}); {AGAIN}."
            ) from error
    return constants


def _check_all(
    onnx: Any,
    entries: Iterable[Any],
    wanted: Mapping[str, tuple[int, ...]],
    quantized: Collection[str],
    what: str,
) -> None:
    """Names, element types and shapes of the graph's inputs or outputs; ``coded`` are uint8."""
    found = {entry.name: entry.type.tensor_type for entry in entries}
    for name, shape in wanted.items():
        if name not in found:
            raise CompileError(
                f"The model has no {what} {name!r}; expected {', '.join(wanted)}, as its spec "
                f"says; {AGAIN}."
            )
        kind = found[name].elem_type
        right = "uint8" if name in quantized else "float"
        if kind != onnx.TensorProto.DataType.Value(right.upper()):
            known = kind in onnx.TensorProto.DataType.values()
            label = onnx.TensorProto.DataType.Name(kind).lower() if known else str(kind)
            raise CompileError(f"The {what} {name!r} is {label}; expected {right}; {ADVICE}.")
        if what == "output" and not found[name].HasField("shape"):
            continue  # says nothing; the shape that the operators make is checked anyway
        sizes = [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
            for dim in found[name].shape.dim
        ]
        fixed = all(isinstance(size, int) for size in sizes)
        if tuple(sizes) != shape and (fixed or what == "input"):
            raise CompileError(
                f"The {what} {name!r} has shape ({', '.join(map(str, sizes))}); expected {shape}, "
                f"as the model's spec says; {ADVICE}."
            )


def _check_order(nodes: Iterable[Any], known: set[str], outputs: Iterable[str]) -> None:
    """Every tensor is made once, before it is read."""
    everything = {name for node in nodes for name in node.output}
    made = set(known)
    for node in nodes:
        title = f"{node.op_type} (node {node.name!r})"
        texts = (node.name, node.op_type, node.domain, *node.input, *node.output)
        if not all(isinstance(text, str) for text in texts):  # protobuf leaves them as bytes
            raise CompileError(f"{title} has names that are no UTF-8 text; {AGAIN}.")
        for name in filter(None, node.input):
            if name in made:
                continue
            if name in everything:
                raise CompileError(
                    f"{title} reads {name!r} before it is made; expected nodes in the order in "
                    f"which they run, without cycles; {AGAIN}."
                )
            raise CompileError(f"{title} reads {name!r}, which nothing makes; {AGAIN}.")
        fresh = [name for name in node.output if name]
        if not fresh or not node.output[0]:
            raise CompileError(f"{title} has no output; expected one; {AGAIN}.")
        for name in fresh:
            if name in made:
                raise CompileError(f"{title} makes {name!r} a second time; {AGAIN}.")
            made.add(name)
    for name in outputs:
        if name not in made:
            raise CompileError(f"The output {name!r} is made by no node; {AGAIN}.")


def _needed(nodes: Iterable[Any], outputs: Iterable[str]) -> tuple[Any, ...]:
    """Nodes that an output depends on: others may be of any kind, as nothing runs them."""
    needed, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return tuple(reversed(kept))
