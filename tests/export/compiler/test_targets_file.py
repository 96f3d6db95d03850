"""Targets from a TOML file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shiftedge.export.compiler.backends.cpu.devices import Cpu
from shiftedge.export.compiler.targets import TARGETS, find_target
from shiftedge.export.compiler.targets_file import read_targets
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.cpu import KNOWN

ROOT = Path(__file__).parents[3]


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "my.toml"
    file.write_text(block)
    own = read_targets(file)
    target = find_target("my-board", own)
    base = TARGETS["rpi4"]
    (cpu,), (known,) = target.devices, base.devices
    assert (cpu.cpu, target.cores, cpu.core.l1_bytes) == ("cortex-a73", 2, 65536)
    assert cpu.features == ("asimd", "crc32")
    assert (cpu.unit, target.zig, cpu.core.fmas) == (known.unit, base.zig, known.core.fmas)
    with pytest.raises(CompileError, match=r"known are host, .*my-board"):
        find_target("other", own)


def test_a_base_alone_is_that_target_under_another_name(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text('[mine]\nbase = "aarch64"\n')
    target = read_targets(file)["mine"]
    assert target.devices == TARGETS["aarch64"].devices[:1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no target"),
        ("[a", "is not TOML"),
        ("a = 1", "is no table"),
        ("[a]", "needs a base"),
        ('[a]\nbase = "vax"', "needs a base, one of .*got 'vax'"),
        ('[a]\nbase = "rpi4"\nbases = 1', "unknown key 'bases'"),
        ('[rpi4]\nbase = "rpi4"', "cannot be a target's name"),
        ('["../a"]\nbase = "rpi4"', "cannot be a target's name"),
        ('[a]\nbase = "rpi4"\ncores = 0', "cores of a is 0; expected a whole number"),
        ('[a]\nbase = "rpi4"\ncores = true', "cores of a is True"),
        ('[a]\nbase = "rpi4"\nl2_bytes = 1e6', "l2_bytes of a"),
        ('[a]\nbase = "rpi4"\nfeatures = "asimd"', "features of a"),
        ('[a]\nbase = "rpi4"\nfeatures = ["a b"]', "features of a"),
        ('[a]\nbase = "rpi4"\ncpu = ""', "cpu of a"),
        ('[a]\nbase = "rpi4"\nfeatures = ["asimd", "asimdd"]', "'asimdd', .* nearest are asimddp,"),
        ('[a]\nbase = "rpi4"\nfeatures = ["avx2"]', "'avx2', which is none that can be asked of"),
        ('[a]\nbase = "x86-64-v3"\nfeatures = ["AVX2"]', "'AVX2', .* nearest are avx2"),
        ('[a]\nbase = "rpi3-armv7"\nfeatures = ["vfp4"]', "of armv7l; the nearest are vfpv4"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(CompileError, match=said):
        read_targets(file)


@pytest.mark.parametrize("name", TARGETS)
def test_every_feature_of_ours_can_be_asked_for(name: str) -> None:
    target = TARGETS[name]
    for each in (each for each in target.devices if isinstance(each, Cpu)):
        assert set(each.features) <= set(KNOWN[target.architecture])


def test_a_gpu_stays_before_the_processor(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('[mine]\nbase = "jetson-nano"\ncpu = "cortex-a53"\n')
    gpu, cpu = read_targets(path)["mine"].devices
    assert (gpu, cpu.name) == (TARGETS["jetson-nano"].devices[0], "cortex-a53")


def test_a_mark_of_the_encoding_and_kib_for_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('\ufeff[mine]\nbase = "rpi4"\n', encoding="utf-8")
    assert list(read_targets(path)) == ["mine"]
    path.write_text('[mine]\nbase = "rpi4"\nl1_bytes = 32\n', encoding="utf-8")
    with pytest.raises(CompileError, match=r"l1_bytes of mine is 32; expected .* from 4096 to"):
        read_targets(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cannot be read"):
        read_targets(tmp_path / "my.toml")
