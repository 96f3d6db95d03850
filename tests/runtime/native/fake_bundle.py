"""Bundles made of the fake model's library, written as ``shiftedge compile`` would."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shiftedge.runtime.bundle import FileEntry, Manifest, SelfTest, Variant
from shiftedge.runtime.engines.native import NativeEngine
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
    runner: Path | None = None,
    **changes: Any,
) -> Path:
    """A bundle with a copy of ``library`` for each variant (name, architecture, features), and of
    ``runner``, if there is one."""
    listed = []
    for name, architecture, features in variants:
        path = folder / "lib" / name / "libmodel.so"
        path.parent.mkdir(parents=True)
        shutil.copy(library, path)
        if runner is not None:
            program = folder / "bin" / name / "shiftedge-run"
            program.parent.mkdir(parents=True)
            shutil.copy(runner, program)
        listed.append(Variant(name, f"lib/{name}/libmodel.so", architecture, features))
    (folder / "LICENSE").write_text("Yours.\n")
    (folder / "README").write_text("A fake model.\n")
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            entry = FileEntry(hashlib.sha256(data).hexdigest(), len(data))
            files[path.relative_to(folder).as_posix()] = entry
    fields: dict[str, Any] = {
        "spec": NativeEngine(library, threads=1).spec if spec is None else spec,
        "target": "plain",
        "variants": tuple(listed),
        "files": files,
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
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder
