"""ONNX -> :class:`Graph`: shapes in NHWC, constants folded, slices and concats of states named.

Straight from ONNX instead of through a general importer: the contract allows a small set of
operators, and the one thing that matters here, which slice is a shift and which a next state, is
what an importer would bury (docs/decisions/0004-frontend.md).

    onnx_file            the file's bytes, inputs, outputs, order: what is refused before any node
    onnx_reader          tensors by name, checked weights and attributes
    onnx_nodes           one reader an operator; with onnx_linear and onnx_forms
    frontend_rewrites    activations written out, constants and padding folded
    quantised_rewrites   of a quantised file: which values are codes, which roundings are skipped

Refused, each by the node's or tensor's name: a file that breaks the contract or a rule of ONNX, an
operator that is not listed in ``READERS`` (subgraphs among them), a slice or concat that is no part
of a shift, and weights that are not finite float32.
"""

from __future__ import annotations

from shiftedge.export.compiler.frontend.nodes import READERS
from shiftedge.export.compiler.frontend.onnx_file import ADVICE, AGAIN, check_rules, load
from shiftedge.export.compiler.frontend.quantized_rewrites import fold_quantization
from shiftedge.export.compiler.frontend.reader import Reader
from shiftedge.export.compiler.frontend.rewrites import simplify
from shiftedge.export.compiler.graph.graph import Activate, Activation, Graph, KeepState
from shiftedge.runtime.engines.onnxruntime import refusal
from shiftedge.runtime.errors import CompileError, MissingExtraError
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.spec import ModelSpec

__all__ = ["read_onnx"]

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
    file = load(onnx, model, spec)
    reader = Reader(onnx, file, spec)
    for node in file.nodes:
        read = READERS.get(node.op_type) if node.domain in _DOMAINS else None
        if read is None:
            title = ".".join(filter(None, (node.domain, node.op_type)))
            raise CompileError(
                f"The operator {title} (node {node.name!r}) cannot be compiled; known are "
                f"{', '.join(sorted(READERS))}; {ADVICE}."
            )
        read(reader, node)
    logits = _logits(reader, spec)
    states = tuple(reader.shapes[f"state_{index}"] for index in range(len(spec.states)))
    operators = [*reader.operators, *(_keep(reader, index) for index in range(len(states)))]
    check_rules(onnx, file.document)
    simplified = simplify(operators, logits)
    if not fold:
        return Graph(
            tuple(simplified),
            reader.shapes,
            states,
            logits=logits,
            quantization=reader.quantization,
        )
    folded = fold_quantization(
        simplified,
        logits,
        reader.quantization,
        frame="frame",
        bytes_fit=len(set(spec.std)) == 1,
    )
    return Graph(
        folded.operators,
        reader.shapes,
        states,
        logits=folded.logits,
        quantization=folded.quantization,
    )


def _logits(reader: Reader, spec: ModelSpec) -> str:
    """The value that is the logits, made by an operator."""
    if "logits" in reader.constants:
        raise CompileError(f"The logits are a constant; expected them to be computed; {ADVICE}.")
    value = reader.values["logits"]
    if value.name in reader.quantization:
        raise CompileError(f"The logits are codes; expected float32 numbers; {ADVICE}.")
    if value.channels is not None or value.shape != (spec.classes,):
        raise CompileError(
            f"The logits have shape {value.shape}; expected {spec.classes} numbers, one a label of "
            f"the model's spec; {ADVICE}."
        )
    if len(reader.shapes[value.name]) == 3 and reader.shapes[value.name][:2] != (1, 1):
        raise CompileError(
            "The logits are a flattened map; expected a mean or a dense layer before them; "
            f"{ADVICE}."
        )
    if all(operator.out != value.name for operator in reader.operators):
        # A state goes out as it came in: the logits have a place of their own, so it is copied.
        reader.operators.append(Activate("logits", (value.name,), "logits", Activation.NONE))
        reader.shapes["logits"] = value.shape
        return "logits"
    return value.name


def _keep(reader: Reader, index: int) -> KeepState:
    """The next state: a slice of some map's channels, or a whole map."""
    name = f"next_state_{index}"
    value = reader.values.get(name)
    if value is None or len(value.shape) != 3:
        found = "a constant" if value is None else f"a vector of {value.shape[0]}"
        raise CompileError(f"{name} is {found}; expected channels of a map; {ADVICE}.")
    begin, end = value.channels or (0, value.shape[2])
    shape, wanted = (*value.shape[:2], end - begin), reader.shapes[f"state_{index}"]
    if shape != wanted:
        raise CompileError(
            f"{name} has shape {shape} (height, width, channels); expected {wanted}, as the state "
            f"has; {ADVICE}."
        )
    if reader.quantization.get(f"state_{index}") != reader.quantization.get(value.name):
        raise CompileError(
            f"{name} and state_{index} stand for different numbers (scale, zero point or type); "
            f"expected those of the model's spec for both; {AGAIN}."
        )
    # No name of its own in the ONNX file, so the output's serves in messages.
    return KeepState(name, (value.name,), f"kept_{index}", index, begin, end)
