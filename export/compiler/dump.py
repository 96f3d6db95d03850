"""``compile --dump FOLDER``: what a model is at each stage on its way to code, as text.

FOLDER/<variant>/graph.txt        operators and shapes, as the frontend leaves them
FOLDER/<variant>/fused.txt        which of them run together
FOLDER/<variant>/kernels.txt      calls in order, then each kernel in the kernel IR
FOLDER/<variant>/kernels.ll, .s   LLVM's language and the assembly
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shiftedge.export.compiler.backends.base import Target
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.activations import Activation
from shiftedge.export.compiler.graph.fusion import fuse
from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.sources import read_sources
from shiftedge.export.compiler.targets import backend_of, variants_of
from shiftedge.runtime.errors import OutputError


def dump_model(
    models: Sequence[Path], folder: Path, target: Target, precision: str = "auto"
) -> None:
    """Write every stage of every variant into ``folder``; what stands there is replaced.

    Raises:
        CompileError, ModelError: as ``compile_model``.
        OutputError: the folder cannot be written.
    """
    for source in read_sources(models, precision):
        graph = read_onnx(source.data, source.spec)
        for variant in variants_of(target, source.precision):
            backend = backend_of(variant.device)
            step = backend.lower(graph, source.spec, variant)
            texts = {
                "graph.txt": "\n".join(_graph(graph)),
                "fused.txt": "\n".join(_fused(graph)),
                "kernels.txt": "\n".join(_kernels(step)),
                **backend.text(step.kernels, variant),
            }
            try:
                (folder / variant.name).mkdir(parents=True, exist_ok=True)
                for name, text in texts.items():
                    (folder / variant.name / name).write_text(text, encoding="utf-8")
            except OSError as error:
                raise OutputError(
                    f"Cannot write {folder}: {error.strerror or error}; choose another folder."
                ) from error


def _graph(graph: Graph) -> Iterator[str]:
    for operator in graph.operators:
        facts = {key: each for key, each in vars(operator).items() if key not in _SHOWN}
        shown = [f"{key}={_short(each)}" for key, each in facts.items() if each is not None]
        kind, made = type(operator).__name__, operator.out
        shape = graph.shapes.get(made, "state")
        stored = f" {graph.quantization[made]}" if made in graph.quantization else ""
        yield f"{made!r} {shape}{stored} = {kind}({', '.join((*operator.inputs, *shown))})"


_SHOWN = ("name", "inputs", "out")


def _short(value: object) -> str:
    if isinstance(value, Activation):
        return value.name
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else str(value)


def _fused(graph: Graph) -> Iterator[str]:
    kernels, kept = fuse(graph)
    for kernel in kernels:
        yield f"{kernel.out!r} = {type(kernel).__name__}({', '.join(kernel.reads)})"
        yield from (f"    {type(each).__name__} {each.name}" for each in kernel.operators)
    for state in kept:
        yield f"state {state.state} = {state.inputs[0]}[{state.begin}..{state.end}]"


def _kernels(step: Step) -> Iterator[str]:
    for call in step.calls:
        places = (
            f"{name}={argument.memory.value} {argument.name}".rstrip()
            for name, argument in call.arguments.items()
        )
        yield f"{call.name}: {call.kernel.name}({', '.join(places)})  # {call.family}"
    yield ""
    yield from (kernel.text() for kernel in step.kernels)
