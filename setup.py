"""Wheels that hold the bundled model compiled: SHIFTEDGE_COMPILED names its bundle, see Makefile.

Without it, a wheel is for any machine and holds the .onnx file alone. All else is in setup.cfg.
"""

import json
import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

COMPILED = os.environ.get("SHIFTEDGE_COMPILED")
PLACE = Path("shiftedge", "runtime", "assets", "compiled")
GLIBC = "2_27"
"""That of the compiler's targets, export/compiler/targets.py."""


class BuildPy(build_py):
    """Puts the bundle beside the .onnx file."""

    def run(self):
        super().run()
        place = Path(self.build_lib) / PLACE
        shutil.rmtree(place, ignore_errors=True)  # perhaps another machine's, of an earlier build
        if COMPILED and not self.editable_mode:
            # Links, which no wheel has, are another name of a library for loaders of C programs.
            listed = json.loads(Path(COMPILED, "manifest.json").read_text())["files"]
            for name in ("manifest.json", *listed):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(COMPILED, name), place / name)


class BdistWheel(bdist_wheel):
    """Says which machine the bundle is for; Python's version is all the same to it."""

    def get_tag(self):
        if not COMPILED:
            return super().get_tag()
        variants = json.loads(Path(COMPILED, "manifest.json").read_text())["variants"]
        (architecture,) = {each["architecture"] for each in variants}
        return "py3", "none", f"manylinux_{GLIBC}_{architecture}"


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel})
