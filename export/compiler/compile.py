"""ONNX file in, verified bundle out; of several precisions of a model, one bundle of them all.

read_onnx   the file as a graph                         frontend, graph
lower       a schedule and tiles for every kernel       backends
layout      one workspace, one block of weights         link
build       machine code, linked                        backends, link
verify      against the precision's reference           verify
record      its logits for the board's self-test        verify
write       the folder, at once                         package
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftedge.export.compiler import cache, package
from shiftedge.export.compiler.backends.base import Target, TargetVariant
from shiftedge.export.compiler.frontend.read import read_onnx
from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout, layout, weights
from shiftedge.export.compiler.link.library import TABLE, link, link_runner, runner_table, soname
from shiftedge.export.compiler.link.program import WEIGHTS_FILE, source
from shiftedge.export.compiler.sources import Source, read_sources
from shiftedge.export.compiler.targets import TARGETS, backend_of, check, find_target, variants_of
from shiftedge.export.compiler.verify import proof
from shiftedge.runtime.bundle import SIGNATURE_NAME, Bundle, sign
from shiftedge.runtime.errors import CompileError, OutputError, ShiftedgeError
from shiftedge.runtime.manifest import MANIFEST_NAME, Build, Manifest, Variant
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.process.progress import progress
from shiftedge.runtime.spec import ModelSpec
from shiftedge.runtime.words import note


@dataclass(frozen=True)
class Compiled:
    """What :func:`compile_model` did."""

    bundle: Bundle
    cached: bool
    """Whether it was found in the cache."""
    seconds: float


def compile_model(
    model: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    target: str | Target = "host",
    precision: str = "auto",
    verify: bool = True,
    use_cache: bool = True,
    sign_with: str | Path | None = None,
) -> Compiled:
    """Compile an ONNX file into a bundle.

    Args:
        model: an .onnx file that follows the contract, such as ``shiftedge export`` and
            ``shiftedge quantize`` write; or several, of one model in different precisions, for a
            bundle with variants of each.
        output: the bundle's folder; a bundle that stands there is replaced.
        target: a name from ``targets.TARGETS``, ``host``, or a target of one's own.
        precision: of the builds, "fp32", "bf16", "fp16" or "int8", with commas between several;
            "auto" takes the files' own. In bf16 and fp16 a float32 file can be compiled; fp16 is
            for GPUs, so that a bundle needs another precision for its processor.
        verify: compare the compiled step with its reference. Without, the manifest says so.
        use_cache: take the bundle from the cache where it was compiled before.
        sign_with: PEM file of an Ed25519 private key to sign the manifest with.

    Raises:
        CompileError: the model or the target cannot be compiled, or not in that precision, or the
            files are not of one model.
        VerificationError: the compiled step differs from the ONNX file's.
        ModelError: no such file, or not an ONNX file.
        OutputError: the folder cannot be written. In every case nothing is left there.
        BundleError: the key cannot sign.
    """
    begin = time.perf_counter()
    output = Path(output)
    paths = [model] if isinstance(model, (str, Path)) else model
    sources = read_sources([Path(path) for path in paths], precision)
    if sign_with is not None:
        sign(b"", sign_with)  # a key that cannot sign is told before the work
    chosen = find_target(target) if isinstance(target, str) else target
    if TARGETS.get(chosen.name) != chosen and chosen.name != "host":
        check(chosen)
    key = _key(sources, chosen, verify=verify)
    with package.new_folder(output) as folder:
        cached = use_cache and _recall(key, folder)
        if not cached:
            _make(sources, chosen, folder, verify=verify)
        if sign_with is not None:
            signature = sign((folder / MANIFEST_NAME).read_bytes(), sign_with)
            (folder / SIGNATURE_NAME).write_bytes(signature)
    if use_cache and not cached:
        _remember(key, output)
    return Compiled(Bundle.open(output), cached, time.perf_counter() - begin)


def _key(sources: Sequence[Source], target: Target, *, verify: bool) -> str:
    """Of the bundle in the cache."""
    precisions = ",".join(source.precision for source in sources)
    data = [source.data for source in sources]
    return cache.key_of(data, target, f"verify={verify} {precisions}")


def compile_cached(model: str | Path, target: str = "host") -> Path:
    """The bundle of an ONNX file in the cache, compiled now if it is not there.

    Raises:
        As :func:`compile_model`.
    """
    sources = read_sources([Path(model)])
    folder = cache.bundles_folder() / _key(sources, find_target(target), verify=True)
    if cache.find(folder.name) is None:
        compile_model(model, folder, target=target, use_cache=False)
        with contextlib.suppress(OSError):
            cache.forget_oldest()
    return folder


def prepare(graph: Graph, spec: ModelSpec, variant: TargetVariant) -> tuple[Step, MemoryLayout]:
    """The step of a graph for a variant, and where everything in it lies."""
    step = backend_of(variant.device).lower(graph, spec, variant)
    return step, layout(step)


def table_of(step: Step, places: MemoryLayout, spec: ModelSpec, variant: TargetVariant) -> str:
    """The C file of a step for a variant."""
    backend = backend_of(variant.device)
    plan = backend.plan(step, places, variant)
    return source(step, places, spec, backend.executor, plan)


def build_library(
    step: Step,
    places: MemoryLayout,
    spec: ModelSpec,
    variant: TargetVariant,
    to: Path,
    model: str = "",
) -> None:
    """Generate the kernels' code and link ``to``, a libmodel.so.

    ``model`` is the digest that tells models apart in one process; left out, one of the table."""
    with work_folder() as folder:
        backend = backend_of(variant.device)
        objects = backend.emit(step.kernels, variant, folder)
        (folder / WEIGHTS_FILE).write_bytes(weights(step, places))
        table = table_of(step, places, spec, variant)
        (folder / TABLE).write_text(table)
        digest = model or hashlib.sha256(table.encode()).hexdigest()
        link(folder, to, variant.target, backend.sources(), objects, digest)


def _make(sources: Sequence[Source], target: Target, folder: Path, *, verify: bool) -> None:
    # A precision that the target has not is refused before any work.
    plan = {source.precision: variants_of(target, source.precision) for source in sources}
    _check_processor(target, plan)
    stages = 1 + 3 * sum(map(len, plan.values()))
    name = sources[0].spec.name
    with progress(f"compiling {name} for {target.name}", stages, "stages") as advance:
        try:
            made = {
                source.precision: _build(source, plan[source.precision], folder, verify, advance)
                for source in sources
            }
            builds = {precision: build for precision, build in made.items() if build is not None}
            first = next(iter(builds.values())).spec
            variants = [
                _entry(each)
                for wanted in plan.values()
                for each in wanted
                if (folder / _library(each)).exists()
            ]
            tests = {key: build.selftest for key, build in builds.items() if build.selftest}
            table = runner_table(variants, package.entries(folder), tests)
            for name in (each.name for each in variants):
                link_runner(folder / "bin" / name / "shiftedge-run", target, table)
            package.write_texts(folder, first, target.name, variants)
            manifest = Manifest(
                target=target.name,
                variants=tuple(variants),
                files=package.entries(folder),
                tools=cache.tool_versions(),
                others={key: build for key, build in builds.items() if key != first.precision},
                **vars(builds[first.precision]),
            )
            (folder / MANIFEST_NAME).write_text(manifest.to_json())
        except OSError as error:
            raise OutputError(
                f"Cannot write the bundle: {error.strerror or error}; check the free space of "
                f"{folder.parent} and of the temporary folder."
            ) from error
        advance(1)


def _check_processor(target: Target, plan: Mapping[str, Sequence[TargetVariant]]) -> None:
    """Refuse a bundle with nothing for where the GPU cannot be used."""
    every = [each for variants in plan.values() for each in variants]
    if all(backend_of(each.device).executor != "cpu" for each in every):
        asked = ",".join(plan)
        raise CompileError(
            f"In {asked} there is code for the GPU of {target.name} alone, and nothing that runs "
            f"where it cannot be used: ask for fp32 too, with --precision {asked},fp32."
        )


def _build(
    source: Source,
    variants: Sequence[TargetVariant],
    folder: Path,
    verify: bool,
    advance: Callable[[int], object],
) -> Build | None:
    """All variants of one file, verified; what the manifest says of them, if any was made.

    Of several variants the last, for the weakest processor, stands in the manifest, and each one
    for a GPU under its name. A model that has no code for a GPU yet has a bundle without.
    """
    made: dict[str, Any] | None = None
    test, shown, spec, gpus = None, None, source.compiled_spec, {}
    digest = hashlib.sha256(source.data).hexdigest()
    model = hashlib.sha256((digest + spec.to_json()).encode()).hexdigest()  # of this precision
    graph = read_onnx(source.data, source.spec)
    for variant in variants:
        try:
            step, places = prepare(graph, source.spec, variant)
        except CompileError as error:
            if backend_of(variant.device).executor == "cpu":
                raise
            note(f"{variant.name} is left out: {error}")
            advance(3)
            continue
        advance(1)
        library = folder / _library(variant)
        library.parent.mkdir(parents=True)
        build_library(step, places, spec, variant, library, model)
        (library.parent / soname(model)).symlink_to(library.name)
        advance(1)
        numerics = proof.UNVERIFIED
        if verify:
            shown = shown or proof.proof_of(source, graph, step)
            test = test or shown.self_test()
            numerics = proof.verified(
                shown, test, spec, variant, step, places, library, build_library
            )
        advance(1)
        made = {
            "numerics": numerics,
            "memory": {
                "weights_bytes": places.weights_bytes,
                "state_bytes": places.state_bytes,
                "workspace_bytes": places.workspace.size_bytes,
                "scratch_bytes": places.scratch_bytes,
            },
            "kernels": tuple(backend_of(variant.device).explain(step, variant)),
        }
        if backend_of(variant.device).executor == "cuda":
            gpus[variant.name] = made
    if made is None:
        return None
    return Build(spec=spec, source_sha256=digest, selftest=test, gpus=gpus, **made)


def _entry(variant: TargetVariant) -> Variant:
    """As the manifest lists it."""
    return Variant(
        variant.name, _library(variant), variant.architecture, variant.features, variant.precision,
        backend_of(variant.device).executor,
    )  # fmt: skip


def _library(variant: TargetVariant) -> str:
    """Of a variant, in the bundle."""
    return f"lib/{variant.name}/libmodel.so"


def _recall(key: str, folder: Path) -> bool:
    """Whether the cache had it; then it stands whole in the folder, which is empty otherwise."""
    found = cache.find(key)
    if found is None:
        return False
    try:
        shutil.copytree(found.folder, folder, symlinks=True, dirs_exist_ok=True)
        Bundle.open(folder)
    except (OSError, ShiftedgeError):  # another process has thrown it out meanwhile
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return False
    return True


def _remember(key: str, bundle: Path) -> None:
    """Keep a copy; a cache that cannot be written is no reason to fail."""
    try:
        with package.new_folder(cache.bundles_folder() / key) as folder:
            unsigned = shutil.ignore_patterns(SIGNATURE_NAME)
            shutil.copytree(bundle, folder, symlinks=True, dirs_exist_ok=True, ignore=unsigned)
        cache.forget_oldest()
    except (OutputError, OSError):
        pass
