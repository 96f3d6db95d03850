"""ONNX file in, verified bundle out.

read_onnx   the file as a graph                         frontend, fusion
lower       a schedule and tiles for every kernel       rules, choose, schedules
layout      one workspace, one block of weights         program, memory
build       machine code, linked                        tir, link
check       against ONNX Runtime, over a stream         check
record      its logits for the board's self-test        check
write       the folder, at once                         package
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shiftedge.export.compiler import cache, explain, package, program
from shiftedge.export.compiler.calls import Step
from shiftedge.export.compiler.check import check, check_self_test, record_self_test
from shiftedge.export.compiler.frontend import read_onnx
from shiftedge.export.compiler.link import link, link_runner
from shiftedge.export.compiler.program import Layout
from shiftedge.export.compiler.rules import lower
from shiftedge.export.compiler.targets import Target, find_target, runs_here
from shiftedge.runtime.bundle import (
    MANIFEST_NAME,
    Bundle,
    FileEntry,
    Manifest,
    SelfTest,
    Variant,
)
from shiftedge.runtime.errors import ModelError, OutputError
from shiftedge.runtime.extras import require
from shiftedge.runtime.progress import ProgressFactory, progress
from shiftedge.runtime.signing import SIGNATURE_NAME, sign
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

__all__ = [
    "Compiled",
    "build_library",
    "compile_cached",
    "compile_model",
    "prepare",
    "read_model",
]


@dataclass(frozen=True)
class Compiled:
    """What :func:`compile_model` did."""

    bundle: Bundle
    cached: bool
    """Whether it was found in the cache."""
    seconds: float


def compile_model(
    model: str | Path,
    output: str | Path,
    *,
    target: str | Target = "host",
    verify: bool = True,
    use_cache: bool = True,
    sign_with: str | Path | None = None,
    show: ProgressFactory = progress,
) -> Compiled:
    """Compile an ONNX file into a bundle.

    Args:
        model: an .onnx file that follows the contract, such as ``shiftedge export`` writes.
        output: the bundle's folder; a bundle that stands there is replaced.
        target: a name from ``targets.TARGETS``, ``host``, or a target of one's own.
        verify: compare the compiled step with ONNX Runtime. Without, the manifest says so.
        use_cache: take the bundle from the cache where it was compiled before.
        sign_with: PEM file of an Ed25519 private key to sign the manifest with.
        show: shows progress.

    Raises:
        CompileError: the model or the target cannot be compiled.
        VerificationError: the compiled step differs from the ONNX file's.
        ModelError: no such file, or not an ONNX file.
        OutputError: the folder cannot be written. In every case nothing is left there.
        BundleError: the key cannot sign.
    """
    begin = time.perf_counter()
    output = Path(output)
    data, spec = read_model(Path(model))
    if sign_with is not None:
        sign(b"", sign_with)  # a key that cannot sign is told before the work
    chosen = find_target(target) if isinstance(target, str) else target
    key = cache.key_of(data, chosen, f"verify={verify}")
    found = cache.find(key) if use_cache else None
    if found is not None:
        with package.new_folder(output) as folder:
            shutil.copytree(found.folder, folder, dirs_exist_ok=True)
            _sign(folder, sign_with)
        return Compiled(Bundle.open(output), True, time.perf_counter() - begin)
    with package.new_folder(output) as folder:
        _make(data, spec, chosen, folder, verify=verify, show=show)
        _sign(folder, sign_with)
    if use_cache:
        _remember(key, output)
    return Compiled(Bundle.open(output), False, time.perf_counter() - begin)


def _sign(folder: Path, key: str | Path | None) -> None:
    if key is not None:
        signature = sign((folder / MANIFEST_NAME).read_bytes(), key)
        (folder / SIGNATURE_NAME).write_bytes(signature)


def compile_cached(model: str | Path, target: str = "host") -> Path:
    """The bundle of an ONNX file in the cache, compiled now if it is not there.

    Raises:
        As :func:`compile_model`.
    """
    data, _ = read_model(Path(model))
    chosen = find_target(target)
    folder = cache.cache_folder() / cache.key_of(data, chosen, "verify=True")
    if cache.find(folder.name) is None:
        compile_model(model, folder, target=target, use_cache=False)
        with contextlib.suppress(OSError):
            cache.forget_oldest()
    return folder


def prepare(data: bytes, spec: ModelSpec, target: Target) -> tuple[Step, Layout]:
    """The step of a serialised ONNX model for a target, and where everything in it lies."""
    graph = read_onnx(data, spec)
    step = lower(graph, spec, target)
    return step, program.layout(step)


def build_library(step: Step, places: Layout, spec: ModelSpec, target: Target, to: Path) -> None:
    """Generate the kernels' code and link ``to``, a libmodel.so."""
    require("tvm")
    from shiftedge.export.compiler.tir import compile_kernels

    with tempfile.TemporaryDirectory(prefix="shiftedge-") as name:
        folder = Path(name)
        kernels, table = folder / "kernels.o", folder / "table.c"
        code = compile_kernels(step.kernels, target.llvm(), target.unit.lanes, target.dots)
        code.write(kernels)
        (folder / program.WEIGHTS_FILE).write_bytes(program.weights(step, places))
        table.write_text(program.source(step, places, spec, target.features))
        link(kernels, table, to, target, include=[folder])


def _make(
    data: bytes,
    spec: ModelSpec,
    target: Target,
    folder: Path,
    *,
    verify: bool,
    show: ProgressFactory,
) -> None:
    stages = 1 + 3 * len(target.variants)
    with show(f"compiling {spec.name} for {target.name}", stages, "stages") as advance:
        try:
            test = None
            for variant in target.variants:
                step, places = prepare(data, spec, variant)
                advance(1)
                library = folder / _library(variant)
                library.parent.mkdir(parents=True)
                build_library(step, places, spec, variant, library)
                runner = folder / "bin" / variant.variant / "shiftedge-run"
                runner.parent.mkdir(parents=True)
                link_runner(runner, variant)
                advance(1)
                numerics = _UNVERIFIED
                if verify:
                    test = test or record_self_test(data, spec)
                    numerics = _verified(data, spec, variant, step, places, library, test)
                advance(1)
            # Of several variants the last, for the weakest processor, stands in the manifest.
            (folder / "LICENSE").write_text(package.LICENSE_TEXT)
            page = package.readme(spec, target.name, _variants(target))
            (folder / "README.md").write_text(page)
            header = importlib.resources.files("shiftedge.runtime.native") / "shiftedge.h"
            (folder / "shiftedge.h").write_text(header.read_text())
            files = package.entries(folder)
            manifest = _manifest(data, spec, target, step, places, numerics, files, test)
            (folder / "manifest.json").write_text(manifest.to_json())
        except OSError as error:
            raise OutputError(
                f"Cannot write the bundle: {error.strerror or error}; check the free space and "
                "the temporary folder."
            ) from error
        advance(1)


def _library(variant: Target) -> str:
    """Of a variant, in the bundle."""
    return f"lib/{variant.variant}/libmodel.so"


def _variants(target: Target) -> tuple[Variant, ...]:
    """As the manifest lists them."""
    return tuple(
        Variant(each.variant, _library(each), each.architecture, each.features)
        for each in target.variants
    )


def _manifest(
    data: bytes,
    spec: ModelSpec,
    target: Target,
    step: Step,
    places: Layout,
    numerics: Mapping[str, Any],
    files: Mapping[str, FileEntry],
    test: SelfTest | None,
) -> Manifest:
    return Manifest(
        spec=spec,
        target=target.name,
        variants=_variants(target),
        files=files,
        numerics=numerics,
        memory={
            "weights_bytes": places.weights_bytes,
            "state_bytes": places.state_bytes,
            "workspace_bytes": places.workspace.size_bytes,
            "scratch_bytes": places.scratch_bytes,
        },
        tools=cache.tool_versions(),
        source_sha256=hashlib.sha256(data).hexdigest(),
        kernels=tuple(explain.rows(step, target.variants[-1])),
        selftest=test,
    )


_UNVERIFIED: Mapping[str, Any] = {"verified": False, "reason": "left out when compiling"}


def _verified(
    data: bytes,
    spec: ModelSpec,
    target: Target,
    step: Step,
    places: Layout,
    library: Path,
    test: SelfTest,
) -> Mapping[str, Any]:
    """Compare with ONNX Runtime; the report as the manifest keeps it. The self-test passes too.

    Raises:
        VerificationError: they differ.
    """
    if runs_here(target):
        report, code = check(library, data, spec, step, places), "the target's"
        report.require_passed()
        check_self_test(library, spec, test)
    else:
        with tempfile.TemporaryDirectory(prefix="shiftedge-") as folder:
            stand_in = _stand_in(target)
            other = Path(folder) / "libmodel.so"
            build_library(step, places, spec, stand_in, other)
            report = check(other, data, spec, step, places)
            report.require_passed()
            check_self_test(other, spec, test)
            code = f"the same kernels generated for {stand_in.cpu}"
    document = report.to_dict()
    comparisons = list(document["comparisons"])
    return {**document, "verified": True, "code": code, "comparisons": comparisons}


def _stand_in(target: Target) -> Target:
    """This machine's instructions with the target's vectors, caches and cores.

    Rules see only the latter, so they make the same kernels, weights and memory plan: what is left
    unverified is the code generator's back end for the target.

    Raises:
        CompileError: no target fits this machine.
    """
    host = find_target("host")
    return replace(host, name=target.name, unit=target.unit, core=target.core, cores=target.cores)


def read_model(path: Path) -> tuple[bytes, ModelSpec]:
    """The bytes of an ONNX file, and its spec.

    Raises:
        ModelError: no such file, not ONNX, or without a spec.
        SpecError: the spec is malformed or from a newer version.
    """
    onnx = require("onnx")
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder; name the .onnx file to compile.")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        document = onnx.load_model_from_string(data)
        metadata = {entry.key: entry.value for entry in document.metadata_props}
    except Exception as error:  # protobuf's DecodeError has no public name across its versions
        raise ModelError(
            f"{path} is not an ONNX file, or is damaged; expected one that `shiftedge export` "
            "wrote."
        ) from error
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"{path} has no {METADATA_KEY} in its metadata; write it with `shiftedge export`, "
            "which describes frame, states and labels there."
        )
    return data, ModelSpec.from_json(metadata[METADATA_KEY])


def _remember(key: str, bundle: Path) -> None:
    """Keep a copy; a cache that cannot be written is no reason to fail."""
    try:
        with package.new_folder(cache.cache_folder() / key) as folder:
            unsigned = shutil.ignore_patterns(SIGNATURE_NAME)
            shutil.copytree(bundle, folder, dirs_exist_ok=True, ignore=unsigned)
        cache.forget_oldest()
    except (OutputError, OSError):
        pass
