"""A file's way to a bundle, as docs/architecture.md lists the rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.walk import Walk, first, journey

from shiftedge.export.compiler.compile import compile_model


def test_the_rooms_come_in_order(tiny_onnx: Path, tmp_path: Path) -> None:
    every = journey("A checkpoint to a bundle")
    rooms = [room for room in every if room.startswith("export/compiler/")]
    walk = Walk("export/compiler/compile")
    with walk.followed():
        compile_model(tiny_onnx, tmp_path / "bundle", use_cache=False)
    # Without the cache nothing is known already, but the key is made.
    assert first(walk.passed(rooms)) == first(rooms)
    # Between kernels and their code every place in memory is found; nothing else comes twice.
    lower, emit = (at for at, room in enumerate(rooms) if room == "export/compiler/backends")
    assert rooms[lower + 1 : emit] == ["export/compiler/kernel_ir"]
