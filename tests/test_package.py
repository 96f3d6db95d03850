"""The package as a whole: what it exports, what it lists, what it would ship."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

import shiftedge

ROOT = Path(__file__).parent.parent
FOLDERS = ("export", "runtime", "demos", "benchmarks")


def test_every_package_is_listed_in_setup_cfg():
    """A subpackage that is not listed works from a checkout and is missing from the wheel."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {"shiftedge"}
    for folder in FOLDERS:
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(("shiftedge", *init.parent.relative_to(ROOT).parts)))
    assert listed == found


def test_every_folder_with_modules_is_a_package():
    for folder in FOLDERS:
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


def test_the_links_lead_to_the_folders():
    for folder in FOLDERS:
        assert (ROOT / "src" / "shiftedge" / folder).resolve() == ROOT / folder


def test_public_names():
    assert all(hasattr(shiftedge, name) for name in shiftedge.__all__)
    assert sorted(shiftedge.__all__) == shiftedge.__all__


def test_the_version_is_the_one_in_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == shiftedge.__version__


LONGER = {
    "export/compiler/backends/cpu/families/inverted_residual.py": "a family is one file, and this "
    "one has three convolutions: match, shape, tiles, schedule, packing",
    "export/compiler/backends/cuda/cost.py": "one walk over a kernel: what it counts, and "
    "what takes the time",
    "export/compiler/frontend/operators.py": "a reader for each of thirty operators",
    "export/compiler/kernel_ir/interpret.py": "what every statement of the IR means, in one place",
    "export/compiler/kernel_ir/kernel.py": "the IR: a class a statement, most of it docstrings",
    "tests/runtime/capture/test_synthetic.py": "what each label means, and each range of a camera",
    "tests/kit/conformance.py": "one of everything that kernels do, as a list to be read",
    "runtime/capture/synthetic/motion.py": "the geometry of an arm, from key poses to outlines",
}
"""Modules that may have more than 500 lines, and why."""


@pytest.mark.parametrize("folder", [*FOLDERS, "tests"])
def test_no_module_is_longer_than_a_person_reads(folder):
    for module in (ROOT / folder).rglob("*.py"):
        if str(module.relative_to(ROOT)) not in LONGER:
            assert len(module.read_text().splitlines()) <= 500, module
