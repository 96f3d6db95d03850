"""The wheel for one kind of machine: its tag, and what it holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since setuptools works in the folder that it builds."""
    folder = tmp_path_factory.mktemp("wheel") / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    wanted = ("setup", "pyproject", "README", "LICENSE", "src/", "runtime/", "demos/")
    wanted = (*wanted, "benchmarks/", "export/")
    for name in names:
        source = ROOT / name
        if name.startswith(wanted) and os.path.lexists(source):
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place, follow_symlinks=False)
    return folder


def built(checkout: Path, output: Path, compiled: Path | None) -> zipfile.ZipFile:
    environment = {key: value for key, value in os.environ.items() if key != "SHIFTEDGE_COMPILED"}
    if compiled is not None:
        environment["SHIFTEDGE_COMPILED"] = str(compiled)
    line = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output)]
    done = subprocess.run(
        line, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = output.iterdir()
    return zipfile.ZipFile(wheel)


@pytest.mark.long
def test_wheels(checkout: Path, tmp_path: Path) -> None:
    pytest.importorskip("build", reason="the dev extra (build) is not installed")
    bundle = tmp_path / "bundle"
    (bundle / "bin").mkdir(parents=True)
    files = {"bin/shiftedge-run": {}}
    variants = [{"architecture": "aarch64"}, {"architecture": "aarch64"}]
    (bundle / "manifest.json").write_text(json.dumps({"variants": variants, "files": files}))
    (bundle / "bin" / "shiftedge-run").write_text("#!/bin/sh\n")
    (bundle / "bin" / "shiftedge-run").chmod(0o755)
    (bundle / "bin" / "link").symlink_to("shiftedge-run")
    place = "shiftedge/runtime/assets/compiled/"
    with built(checkout, tmp_path / "arm", bundle) as wheel:
        assert wheel.filename is not None
        assert wheel.filename.endswith("-py3-none-manylinux_2_27_aarch64.whl")
        assert {f"{place}manifest.json", f"{place}bin/shiftedge-run"} <= set(wheel.namelist())
        assert f"{place}bin/link" not in wheel.namelist()
        mode = wheel.getinfo(f"{place}bin/shiftedge-run").external_attr >> 16
        assert mode & 0o111
    # Without it the next one has no trace of it, though the folder of the last build is there.
    with built(checkout, tmp_path / "any", None) as wheel:
        assert wheel.filename is not None
        assert wheel.filename.endswith("-py3-none-any.whl")
        names = wheel.namelist()
        assert not [name for name in names if name.startswith(place)]
        assert "shiftedge/runtime/assets/gestures.onnx" in names
        assert "shiftedge/demos/sinks/web/static/page.js" in names
