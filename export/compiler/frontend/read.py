"""ONNX -> :class:`Graph`: shapes in NHWC, constants folded, slices and concats of states named.

Straight from ONNX instead of through a general importer: the contract allows a small set of
operators, and the one thing that matters here, which slice is a shift and which a next state, is
what an importer would bury (docs/decisions/0004-frontend.md).

    read                 the file: what is refused before and after any node
    node                 one node: tensors by name, checked weights and attributes
    operators            one reader an operator
    rewrites             activations written out, constants and padding folded
    quantized_rewrites   of a quantised file: what is stored as uint8, which roundings are skipped

The contract: inputs ``frame`` (1, 3, height, width) and ``state_0`` ..., outputs ``logits``
(1, classes) and ``next_state_0`` ..., all of fixed shape and float32, but for states that the spec
says are uint8. Refused, each by the node's or tensor's name: bytes that are no ONNX file, inputs
and outputs that are missing or of another type or shape, weights that are kept elsewhere, are
sparse or not finite float32, nodes that are out of order or in a cycle, tensors that two nodes make
or none, an operator that is not listed in ``READERS`` (subgraphs among them), and a slice or concat
that is no part of a shift.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from shiftedge.export.compiler.frontend.node import ADVICE, AGAIN, Node, Tensors
from shiftedge.export.compiler.frontend.operators import READERS
from shiftedge.export.compiler.frontend.quantized_rewrites import fold_quantization
from shiftedge.export.compiler.frontend.rewrites import simplify
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.graph import Activate, Graph, KeepState
from shiftedge.runtime.engines.onnxruntime import refusal
from shiftedge.runtime.errors import CompileError, MissingExtraError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec
from shiftedge.runtime.words import first_line

_DOMAINS = ("", "ai.onnx")
"""ONNX's own operators; others of the same name may do something else."""


def read_onnx(model: bytes, spec: ModelSpec, *, fold: bool = True) -> Graph:
    """Read an ONNX file that follows the contract.

    Args:
        model: the serialised file.
        spec: of the model, as its metadata says.
        fold: leave out the roundings of a quantised file that no kernel makes; False keeps each as
            it stands there, for readers that compute what the file says.

    Raises:
        CompileError: an operator has no translation here, a shape is dynamic, or the states do not
            fit the spec; the message names the node, and says whether ONNX Runtime runs the file.
    """
    try:
        return _read(model, spec, fold)
    except CompileError as error:
        if not str(error).endswith(f"{ADVICE}.") or _runs(model, spec):
            raise
        raise CompileError(f"{str(error).removesuffix(f'{ADVICE}.')}{AGAIN}.") from error


def _runs(model: bytes, spec: ModelSpec) -> bool:
    """Whether ``engine='onnxruntime'`` runs a file; where it is not installed, that is not known
    and nothing is advised."""
    try:
        return refusal(model, spec) is None
    except MissingExtraError:
        return False


def _read(model: bytes, spec: ModelSpec, fold: bool) -> Graph:
    onnx = require("onnx")
    try:
        document = onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's errors, which differ between its implementations
        raise CompileError(f"The model is no whole ONNX file ({error}); {AGAIN}.") from error
    nodes = document.graph.node
    if not nodes:
        raise CompileError(f"The ONNX file holds no operators; {AGAIN}.")
    constants = _constants(onnx, document.graph)
    _check_interface(onnx, document.graph, constants, spec)
    tensors = Tensors(onnx, constants, spec)
    _check_order(nodes, {*tensors.values, *tensors.constants}, spec.outputs)
    for node in _needed(nodes, spec.outputs):
        read = READERS.get(node.op_type) if node.domain in _DOMAINS else None
        if read is None:
            title = ".".join(filter(None, (node.domain, node.op_type)))
            raise CompileError(
                f"The operator {title} (node {node.name!r}) cannot be compiled; known are "
                f"{', '.join(sorted(READERS))}; {ADVICE}."
            )
        read(Node(node, tensors))
    logits = _logits(tensors, spec)
    count = range(len(spec.states))
    states = tuple(tensors.shapes[f"state_{index}"] for index in count)
    operators = [*tensors.operators, *(_keep(tensors, index) for index in count)]
    try:  # what no reader looks at and ONNX forbids; last, as its messages are the least helpful
        onnx.checker.check_model(document, full_check=True)
    except Exception as error:  # ValidationError, and protobuf's for text that is none
        raise CompileError(
            f"The model breaks a rule of ONNX ({first_line(error)}); {AGAIN}."
        ) from error
    graph = Graph(
        simplify(operators, logits),
        tensors.shapes,
        states,
        logits=logits,
        quantization=tensors.quantization,
    )
    return fold_quantization(graph, bytes_fit=len(set(spec.std)) == 1) if fold else graph


# The file


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


def _check_interface(onnx: Any, graph: Any, constants: Collection[str], spec: ModelSpec) -> None:
    """Inputs and outputs are those of the contract."""
    for index, state in enumerate(spec.states):
        if len(state.shape) != 4 or state.shape[0] != 1:
            raise CompileError(
                f"state_{index} has shape {state.shape} in the model's spec; expected "
                f"(1, channels, height, width); {ADVICE}."
            )
    given, inputs = [each for each in graph.input if each.name not in constants], spec.inputs
    _check_all(onnx, given, inputs, "input")
    _check_all(onnx, graph.output, spec.outputs, "output")
    unknown = [entry.name for entry in given if entry.name not in inputs]
    if unknown:
        raise CompileError(
            f"The model has an input {unknown[0]!r}; expected {', '.join(inputs)} alone; {ADVICE}."
        )


def _check_all(
    onnx: Any, entries: Iterable[Any], wanted: Mapping[str, tuple[str, Any]], what: str
) -> None:
    """Names, element types and shapes of the graph's inputs or outputs."""
    found = {entry.name: entry.type.tensor_type for entry in entries}
    types = onnx.TensorProto.DataType
    for name, (dtype, shape) in wanted.items():
        if name not in found:
            raise CompileError(
                f"The model has no {what} {name!r}; expected {', '.join(wanted)}, as its spec "
                f"says; {AGAIN}."
            )
        kind = found[name].elem_type
        right = "uint8" if dtype == "uint8" else "float"
        if kind != types.Value(right.upper()):
            label = types.Name(kind).lower() if kind in types.values() else str(kind)
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


def _check_order(nodes: Iterable[Any], made: set[str], outputs: Iterable[str]) -> None:
    """Every tensor is made once, before it is read."""
    everything = {name for node in nodes for name in node.output}
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
        if not node.output or not node.output[0]:
            raise CompileError(f"{title} has no output; expected one; {AGAIN}.")
        for name in filter(None, node.output):
            if name in made:
                raise CompileError(f"{title} makes {name!r} a second time; {AGAIN}.")
            made.add(name)
    for name in outputs:
        if name not in made:
            raise CompileError(f"The output {name!r} is made by no node; {AGAIN}.")


def _needed(nodes: Iterable[Any], outputs: Iterable[str]) -> list[Any]:
    """Nodes that an output depends on: others may be of any kind, as nothing runs them."""
    needed, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


# The outputs


def _logits(tensors: Tensors, spec: ModelSpec) -> str:
    """The value that is the logits, made by an operator."""
    if "logits" in tensors.constants:
        raise CompileError(f"The logits are a constant; expected them to be computed; {ADVICE}.")
    value = tensors.values["logits"]
    if value.name in tensors.quantization:
        raise CompileError(f"The logits are quantised; expected float32 numbers; {ADVICE}.")
    if value.channels is not None or value.shape != (spec.classes,):
        raise CompileError(
            f"The logits have shape {value.shape}; expected {spec.classes} numbers, one a label of "
            f"the model's spec; {ADVICE}."
        )
    shape = tensors.shapes[value.name]
    if len(shape) == 3 and shape[:2] != (1, 1):
        raise CompileError(
            "The logits are a flattened map; expected a mean or a dense layer before them; "
            f"{ADVICE}."
        )
    if all(operator.out != value.name for operator in tensors.operators):
        # A state goes out as it came in: the logits have a place of their own, so it is copied.
        tensors.operators.append(Activate("logits", (value.name,), "logits", Activation.NONE))
        tensors.shapes["logits"] = value.shape
        return "logits"
    return value.name


def _keep(tensors: Tensors, index: int) -> KeepState:
    """The next state: a slice of some map's channels, or a whole map."""
    name = f"next_state_{index}"
    value = tensors.values.get(name)
    if value is None or len(value.shape) != 3:
        found = "a constant" if value is None else f"a vector of {value.shape[0]}"
        raise CompileError(f"{name} is {found}; expected channels of a map; {ADVICE}.")
    begin, end = value.channels or (0, value.shape[2])
    shape, wanted = (*value.shape[:2], end - begin), tensors.shapes[f"state_{index}"]
    if shape != wanted:
        raise CompileError(
            f"{name} has shape {shape} (height, width, channels); expected {wanted}, as the state "
            f"has; {ADVICE}."
        )
    if tensors.quantization.get(f"state_{index}") != tensors.quantization.get(value.name):
        raise CompileError(
            f"{name} and state_{index} stand for different numbers (scale, zero point or type); "
            f"expected those of the model's spec for both; {AGAIN}."
        )
    # No name of its own in the ONNX file, so the output's serves in messages.
    return KeepState(name, (value.name,), f"kept_{index}", index, begin, end)
