"""Bundles made of the fake model's library, written as ``shiftedge compile`` would."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kit.runner import Runners
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.manifest import FileEntry, Manifest, SelfTest, Variant
from shiftedge.runtime.selftest import CLIP, FRAMES, self_test_clip
from shiftedge.runtime.spec import ModelSpec

HERE_RUNS: tuple[str, str, tuple[str, ...]] = ("plain", platform.machine(), ())


def recorded(library: Path, frames: int = FRAMES, tolerance: float = 1e-4) -> SelfTest:
    """The logits of the library itself for the self-test's clip."""
    engine = NativeEngine(library, threads=1)
    session = engine.open_session()
    images = self_test_clip(engine.spec.height, engine.spec.width, frames)
    rows = [tuple(float(str(value)) for value in session.step(image)) for image in images]
    return SelfTest(CLIP, tolerance, tuple(rows))


def write_bundle(
    folder: Path,
    library: Path,
    *,
    variants: Sequence[tuple[str, str, tuple[str, ...]]] = (HERE_RUNS,),
    spec: ModelSpec | None = None,
    runners: Runners | None = None,
    **changes: Any,
) -> Path:
    """A bundle with a copy of ``library`` for each variant (name, architecture, features), and a
    runner, if there are ``runners``."""
    spec = NativeEngine(library, threads=1).spec if spec is None else spec
    listed = []
    for name, architecture, features in variants:
        path = folder / "lib" / name / "libmodel.so"
        path.parent.mkdir(parents=True)
        shutil.copy(library, path)
        own = f"lib/{name}/libmodel.so"
        listed.append(Variant(name, own, architecture, features, spec.precision))
    (folder / "LICENSE").write_text("Yours.\n")
    (folder / "README").write_text("A fake model.\n")
    fields: dict[str, Any] = {
        "spec": spec,
        "target": "plain",
        "variants": tuple(listed),
        "files": _files(folder),
        "numerics": {
            "frames": 32,
            "passed": True,
            "comparisons": [{"tensor": "logits", "scale": 2.5, "worst": 1e-6, "frame": 3}],
        },
        "memory": {
            "weights_bytes": 640,
            "state_bytes": 3264,
            "workspace_bytes": 18560,
            "scratch_bytes": 144,
        },
        "tools": {"shiftedge": "0.1.0", "tvm": "0.27.0"},
        "source_sha256": "a" * 64,
        "kernels": ({"name": "normalise", "units": 24, "family": "elementwise"},),
    }
    manifest = Manifest(**{**fields, **changes})
    return _write(folder, manifest, runners)


def _write(folder: Path, manifest: Manifest, runners: Runners | None) -> Path:
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    if runners is not None:
        for variant in manifest.variants:
            program = folder / "bin" / variant.name / "shiftedge-run"
            program.parent.mkdir(parents=True)
            shutil.copy(runners.of(folder), program)
        (folder / "manifest.json").unlink()
        return _write(folder, replace(manifest, files=_files(folder)), None)
    return folder


def write_mixed(
    folder: Path,
    libraries: Mapping[str, Path],
    features: Mapping[str, tuple[str, ...]] | None = None,
    *,
    runners: Runners | None = None,
) -> Path:
    """A bundle of several precisions, in order of preference, for this machine.

    Args:
        folder: to be made.
        libraries: of each precision.
        features: that the processor must have for a precision; none by default.
        runners: makes a program for each variant.
    """
    own = folder.with_name(f"{folder.name}-parts")
    manifests = {}
    for precision, library in libraries.items():
        needed = (features or {}).get(precision, ())
        write_bundle(
            own / precision,
            library,
            variants=[(f"any-{precision}", platform.machine(), needed)],
            selftest=recorded(library),
        )
        text = (own / precision / "manifest.json").read_text("utf-8")
        manifests[precision] = Manifest.from_json(text)
        shutil.copytree(own / precision, folder, dirs_exist_ok=True)
    shutil.rmtree(own)
    (folder / "manifest.json").unlink()
    first, *others = manifests
    manifest = replace(
        manifests[first],
        variants=tuple(each for manifest in manifests.values() for each in manifest.variants),
        files=_files(folder),
        others={name: manifests[name].builds[name] for name in others},
    )
    return _write(folder, manifest, runners)


def _files(folder: Path) -> dict[str, FileEntry]:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            entry = FileEntry(hashlib.sha256(data).hexdigest(), len(data))
            files[path.relative_to(folder).as_posix()] = entry
    return files
