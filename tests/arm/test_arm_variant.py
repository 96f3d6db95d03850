"""Which library of a bundle a board takes, by its /proc/cpuinfo; nothing is compiled or run.

The files in cpuinfo/ are what boards printed, from the reports of their owners: the issues of
github.com/hrw/arm-socs-table (6: Pi 3; 96: Pi 5; 91: Nano; 25: TX2; 26: Xavier NX), jgarff/
rpi_ws281x issue 99 (Pi 3 with a 32-bit system), KavrakiLab/vamp issue 20 (Orin, the flags). Pi 4's
is put together from its core's features and what these say of the same system.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.arm import GESTURES

from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import BundleError
from shiftedge.runtime.manifest import FileEntry, Manifest, Variant
from shiftedge.runtime.process.cpu import cpu_features
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

onnx = pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")
targets = pytest.importorskip("shiftedge.export.compiler.targets")

CPUINFO = Path(__file__).parent / "cpuinfo"
OLD = (
    "rpi3-cortex-a53",
    "rpi4-cortex-a72",
    "jetson-nano-cortex-a57",
    "jetson-tx2-denver-and-cortex-a57",
    "jetson-xavier-nx-carmel",
)
MEMORY = ("weights_bytes", "state_bytes", "workspace_bytes", "scratch_bytes")
NEW = ("rpi5-cortex-a76", "jetson-orin-cortex-a78ae")


def bundle_of(*names: str) -> Bundle:
    """A bundle with the variants of those targets, in that order; its files are not there."""
    metadata = {entry.key: entry.value for entry in onnx.load(str(GESTURES)).metadata_props}
    variants = []
    for name in names:
        for each in targets.variants_of(targets.find_target(name), "fp32"):
            library = f"lib/{each.name}/libmodel.so"
            if not each.name.startswith("cuda"):
                variants.append(Variant(each.name, library, each.architecture, each.features))
    manifest = Manifest(
        spec=ModelSpec.from_json(metadata[METADATA_KEY]),
        target=names[0],
        variants=tuple(variants),
        files={variant.library: FileEntry(sha256="0" * 64, bytes=0) for variant in variants},
        numerics={"verified": False},
        memory=dict.fromkeys(MEMORY, 64),
        tools={},
        source_sha256="0" * 64,
        kernels=(),
    )
    return Bundle(Path("nowhere"), manifest)


def features_of(board: str) -> frozenset[str]:
    return cpu_features(CPUINFO / f"{board}.txt")


@pytest.mark.parametrize("board", OLD)
def test_no_dot_products_where_there_are_none(board: str) -> None:
    """The variant with asimddp comes first, and only the board's features speak against it."""
    both, new = bundle_of("aarch64"), bundle_of("rpi5")
    assert "asimddp" in both.manifest.variants[0].features
    chosen = both.variant("aarch64", features_of(board))
    assert "asimddp" not in chosen.features
    with pytest.raises(BundleError, match="asimddp"):
        new.variant("aarch64", features_of(board))


@pytest.mark.parametrize("board", NEW)
def test_dot_products_where_there_are_some(board: str) -> None:
    chosen = bundle_of("aarch64").variant("aarch64", features_of(board))
    assert "asimddp" in chosen.features


@pytest.mark.parametrize(
    ("target", "board"),
    [
        ("rpi3", "rpi3-cortex-a53"),
        ("rpi4", "rpi4-cortex-a72"),
        ("rpi5", "rpi5-cortex-a76"),
        ("jetson-nano", "jetson-nano-cortex-a57"),
        ("jetson-tx2", "jetson-tx2-denver-and-cortex-a57"),
        ("jetson-xavier-nx", "jetson-xavier-nx-carmel"),
        ("jetson-orin-nano", "jetson-orin-cortex-a78ae"),
        *(("aarch64", board) for board in (*OLD, *NEW)),
    ],
)
def test_a_board_runs_its_target(target: str, board: str) -> None:
    assert bundle_of(target).variant("aarch64", features_of(board))


def test_a_32_bit_system_takes_32_bit_code() -> None:
    features = features_of("rpi3-cortex-a53-32-bit")
    assert bundle_of("rpi3-armv7").variant("armv7l", features).architecture == "armv7l"
    with pytest.raises(BundleError, match="armv7l"):
        bundle_of("rpi4").variant("armv7l", features)
