"""The command `compile`: what it prints, what it leaves, and what it says when it cannot."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
pytest.importorskip("onnx", reason="the export extra (onnx) is not installed")

import onnx
from kit.compiled import environment

from shiftedge.__main__ import main
from shiftedge.export.compiler import compile as compiling
from shiftedge.export.compiler.backends.cpu import devices
from shiftedge.export.compiler.link import library as link
from shiftedge.export.compiler.targets import TARGETS
from shiftedge.export.compiler.verify import agreement as check
from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.errors import BundleError

Make = Callable[..., Path]
Captured = pytest.CaptureFixture[str]


def run(*words: object) -> int:
    return main(["compile", *map(str, words), "--no-cache"])


def sentence(capsys: Captured) -> str:
    """What stood on stderr: one line, from us; and nothing on stdout."""
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("shiftedge: ")
    assert lines[0].endswith((".", "]'")), "a whole sentence, or a command to copy"
    return lines[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, and of all that is temporary."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "work"))
    return tmp_path / "work"


@pytest.fixture
def empty_after(folder: Path) -> Any:
    """A failure leaves nothing, under any name."""
    before = sorted(folder.iterdir())
    yield folder
    assert [path for path in folder.iterdir() if path.suffix != ".onnx"] == before


# What works.


def test_json_and_the_default_name(tiny_onnx: Path, folder: Path, capsys: Captured) -> None:
    assert run(tiny_onnx, "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.err == ""
    assert [path.name for path in folder.iterdir()] == ["tiny-host"]
    assert (result["output"], result["target"], result["cached"]) == ("tiny-host", "host", False)
    manifest = Bundle.open(folder / "tiny-host").manifest
    assert result["memory"] == manifest.memory
    assert result["numerics"] == manifest.numerics
    assert result["numerics"]["passed"] is True
    assert "explain" not in result
    assert main(["run", "tiny-host", "--source", "synthetic:moving?seconds=1&size=64x48"]) == 0


def test_the_summary(tiny_onnx: Path, folder: Path, capsys: Captured) -> None:
    assert run(tiny_onnx, "--output", "a/b") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("a/b: ")
    assert "of ONNX Runtime over 32 frames" in line
    assert (folder / "a" / "b" / "manifest.json").exists()


def test_explain(tiny_onnx: Path, folder: Path, capsys: Captured) -> None:
    assert run(tiny_onnx, "--output", "b", "--explain") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [row["name"] for row in Bundle.open(folder / "b").manifest.kernels]
    assert [line.split()[0] for line in lines] == ["kernel", *names, "all"]
    assert "measured" in lines[0]
    assert run(tiny_onnx, "--output", "b", "--explain", "--json") == 0
    explained = json.loads(capsys.readouterr().out)["explain"]
    assert [row["name"] for row in explained["kernels"]] == names
    assert len(explained["seconds"]) == len(names)
    assert explained["peak_flops"] > 1e8


def test_list_targets(capsys: Captured) -> None:
    assert main(["compile", "--list-targets"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("host", *TARGETS))
    assert main(["compile", "--list-targets", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {"host", *TARGETS}
    assert all(row["features"] and row["source"] and row["triple"] for row in rows)
    [nano] = [row for row in rows if row["name"] == "jetson-nano"]
    assert (nano["gpu"]["arch"], nano["glibc"], nano["vector_bits"]) == ("sm_53", "2.27", 128)
    assert [each["name"] for each in nano["variants"]][-2:] == ["cuda-sm_53", "cortex-a57"]


def test_every_stage_is_dumped(tiny_onnx: Path, folder: Path, capsys: Captured) -> None:
    words = (tiny_onnx, "--no-verify", "--target", "aarch64", "--dump", "stages")
    assert run(*words, "--output", "b") == 0
    assert {path.name for path in Path("stages").iterdir()} == {"cortex-a76", "cortex-a72"}
    texts = {path.name: path.read_text() for path in Path("stages/cortex-a72").iterdir()}
    assert set(texts) == {"graph.txt", "fused.txt", "kernels.txt", "kernels.ll", "kernels.s"}
    assert "Conv('frame'" in texts["graph.txt"].replace("(frame", "('frame'")
    assert "Dense" in texts["fused.txt"]
    names = [line.split("(")[0].split()[1] for line in texts["kernels.txt"].splitlines()
             if line.startswith("kernel ")]  # fmt: skip
    assert names
    for name in names:
        assert f"@{name}(" in texts["kernels.ll"]
        assert f"{name}:" in texts["kernels.s"]
    assert run(*words[:-1], tiny_onnx / "no folder", "--output", "b") == 1
    assert "Cannot write" in capsys.readouterr().err


def test_a_bundle_is_replaced(tiny_onnx: Path, folder: Path) -> None:
    for _ in range(2):
        assert run(tiny_onnx, "--output", "b") == 0
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert Bundle.open("b")


def test_not_verified_is_said(
    tiny_onnx: Path, folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For another machine, and without ONNX Runtime."""
    monkeypatch.setattr(devices, "machine_name", lambda: "riscv64")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = (tiny_onnx, "--output", "b", "--no-verify", "--target", "x86-64-v3")
    assert run(*words) == 0
    assert "not verified" in capsys.readouterr().err
    numerics = Bundle.open(folder / "b").manifest.numerics
    assert numerics == {"verified": False, "reason": "left out when compiling"}
    assert main(["inspect", "b"]) == 0
    text = capsys.readouterr().out
    assert "verified  False" in text
    assert run(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["numerics"]["verified"] is False


# What does not.


def unnamed(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def softplus(model: Any) -> None:
    model.graph.node[1].op_type = "Softplus"


def poison(model: Any) -> None:
    first = model.graph.initializer[0]
    array = onnx.numpy_helper.to_array(first).copy()
    array.flat[3] = np.nan
    first.CopyFrom(onnx.numpy_helper.from_array(array, first.name))


def huge(model: Any) -> None:
    first = model.graph.initializer[0]
    array = np.full(tuple(first.dims), 3e38, np.float32)
    first.CopyFrom(onnx.numpy_helper.from_array(array, first.name))


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "no spec": ({"metadata": None}, "metadata"),
    "a spec that is no JSON": ({"metadata": "{"}, "not valid JSON"),
    "a newer spec": ({"metadata": '{"schema": 99}'}, "upgrade shiftedge"),
    "dynamic": ({"change": unnamed}, "frame"),
    "unknown operator": ({"change": softplus}, "Softplus"),
    "NaN": ({"change": poison}, "NaN"),
    "overflow": ({"change": huge}, "NaN or infinity"),
}


@pytest.mark.usefixtures("empty_after")
@pytest.mark.parametrize("case", CHANGED)
def test_a_model_that_cannot_be_compiled(case: str, make_onnx: Make, capsys: Captured) -> None:
    changes, message = CHANGED[case]
    assert run(make_onnx(**changes), "--output", "b") == 1
    assert message in sentence(capsys)


@pytest.mark.usefixtures("empty_after")
@pytest.mark.parametrize("kind", ["absent", "folder", "garbage", "empty", "long"])
def test_a_file_that_is_no_model(kind: str, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / ("x" * 300 if kind == "long" else "m.onnx")
    if kind == "folder":
        path.mkdir()
    elif kind in ("garbage", "empty"):
        path.write_bytes(b"\x08\x99garbage" if kind == "garbage" else b"")
    assert run(path, "--output", "b") == 1
    assert str(path) in sentence(capsys)


@pytest.mark.usefixtures("empty_after")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "z80"], "There is no target 'z80'; known are host, x86-64-v3"),
        (["--output", "x" * 300], "File name too long"),
        (["--output", "/proc/b"], "Cannot write /proc/b"),
        (["--output", "/dev/null"], "exists and is no bundle"),
        (["--output", ".."], "exists and is no bundle"),
    ],
)
def test_words_that_cannot_be(
    words: list[str], message: str, tiny_onnx: Path, capsys: Captured
) -> None:
    assert run(tiny_onnx, *words) == 1
    assert message in sentence(capsys)


def test_usage(capsys: Captured) -> None:
    for words in ([], ["a.onnx", "--fast"], ["a.onnx", "--output", ""]):
        with pytest.raises(SystemExit) as end:
            main(["compile", *words])
        assert end.value.code == 2
        assert "usage: shiftedge" in capsys.readouterr().err


@pytest.mark.usefixtures("empty_after")
@pytest.mark.parametrize("package", ["tvm", "ziglang", "onnx", "onnxruntime"])
def test_a_package_that_is_missing(
    package: str, tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert run(tiny_onnx, "--output", "b") == 1
    text = sentence(capsys)
    assert f"needs the package {package}, which is not installed" in text
    assert "pip install -e '.[" in text


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("target", ["x86-64-v4", "rpi4", "rpi3-armv7", "aarch64"])
def test_a_target_that_this_machine_cannot_run(
    target: str, tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same kernels are generated for this machine and compared; the manifest says so."""
    have = frozenset(devices.X86_64_V3.features)
    monkeypatch.setattr(devices, "cpu_features", lambda: have)
    assert run(tiny_onnx, "--output", "b", "--target", target) == 0
    assert "the same kernels generated for x86-64-v3" in capsys.readouterr().err
    manifest = Bundle.open("b").manifest
    assert manifest.numerics["verified"] is True
    assert manifest.numerics["code"] == "the same kernels generated for x86-64-v3"
    assert len(manifest.variants) == (2 if target == "aarch64" else 1)


@pytest.mark.usefixtures("empty_after")
def test_a_kernel_that_is_wrong_for_another_target_is_found_here(
    tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(*arguments: Any) -> Any:
        step, places = prepare(*arguments)
        name = next(name for name in step.constants if name.endswith("weight"))
        return replace(
            step, constants={**step.constants, name: step.constants[name] * 1.01}
        ), places

    prepare = compiling.prepare
    monkeypatch.setattr(compiling, "prepare", spoilt)
    assert run(tiny_onnx, "--output", "b", "--target", "rpi4", "--no-cache") == 1
    assert "differs between ONNX Runtime / compiled" in capsys.readouterr().err
    assert not Path("b").exists()


@pytest.mark.usefixtures("empty_after")
def test_a_machine_that_no_target_fits(
    tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cpu_features", frozenset)
    assert run(tiny_onnx, "--output", "b") == 1
    assert "No target fits this machine" in sentence(capsys)
    assert main(["compile", "--list-targets"]) == 0
    assert "\nhost" not in capsys.readouterr().out


@pytest.mark.usefixtures("empty_after")
@pytest.mark.parametrize("which", ["conv_fp32.weight", "dense.bias", "frame.scale"])
def test_a_kernel_that_computes_something_else(
    which: str, tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One packed number, off by a thousandth of the largest."""
    prepare = compiling.prepare

    def wrong(*arguments: Any) -> Any:
        step, places = prepare(*arguments)
        kind, _, part = which.rpartition(".")
        names = [name for name in step.constants if kind in name and part in name]
        assert names, sorted(step.constants)
        array = step.constants[names[0]].copy()
        array[np.abs(array).argmax()] += 0.01 * max(np.abs(array).max(), 1.0)
        return replace(step, constants={**step.constants, names[0]: array}), places

    monkeypatch.setattr(compiling, "prepare", wrong)
    assert run(tiny_onnx, "--output", "b") == 1
    text = sentence(capsys)
    assert "differs between ONNX Runtime / compiled" in text
    assert "nothing was written" in text


@pytest.mark.usefixtures("empty_after")
def test_a_result_that_depends_on_the_threads(
    tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = check.native_outputs

    def uneven(*arguments: Any, threads: int) -> Any:
        for index, found in enumerate(outputs(*arguments, threads=threads)):
            if threads == 3 and index == 2:
                found = {**found, "logits": np.nextafter(found["logits"], np.float32(9))}
            yield found

    monkeypatch.setattr(check, "native_outputs", uneven)
    assert run(tiny_onnx, "--output", "b") == 1
    assert "logits of the compiled model differs between 1 and 3 threads at frame 2" in (
        sentence(capsys)
    )


def test_a_failure_leaves_the_bundle_that_stood_there(
    tiny_onnx: Path, folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tiny_onnx, "--output", "b") == 0
    before = (folder / "b" / "manifest.json").stat()
    capsys.readouterr()
    monkeypatch.setattr(link, "_FLAGS", (*link._FLAGS, "-fno-such-flag"))
    assert run(tiny_onnx, "--output", "b") == 1
    assert "zig cc" in sentence(capsys)
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert (folder / "b" / "manifest.json").stat() == before
    assert Bundle.open(folder / "b")


# Disks that are full, and people that lose patience.


@pytest.mark.usefixtures("empty_after")
@pytest.mark.parametrize("name", ["mkdir", "write_bytes", "write_text", "chmod"])
def test_a_full_disk(
    name: str, tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, name, full)
    assert run(tiny_onnx, "--output", "b") == 1
    text = sentence(capsys)
    monkeypatch.undo()
    assert "No space left on device" in text


def script(program: str, *words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program whose temporary files go to ``folder``."""
    line = [sys.executable, "-c", program, *map(str, words)]
    own = environment(TMPDIR=str(folder))
    return subprocess.run(line, capture_output=True, text=True, env=own, check=False)


def test_a_disk_that_is_full_for_the_linker(tiny_onnx: Path, tmp_path: Path) -> None:
    """Really: no file of it may grow past 4 KiB."""
    program = (
        "import resource, sys\n"
        "from shiftedge.__main__ import main\n"
        "from shiftedge.export.compiler import compile\n"
        "link = compile.link\n"
        "def limited(*words, **more):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    link(*words, **more)\n"
        "compile.link = limited\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ("compile", tiny_onnx, "--no-cache", "--output", tmp_path / "out" / "b")
    done = script(program, *words, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    (said,) = done.stderr.splitlines()
    assert said.startswith("shiftedge: The C compiler (zig cc) failed")
    assert "free space" in said
    assert list((tmp_path / "out").iterdir()) == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("shiftedge")] == []


def test_a_disk_that_is_full_for_llvm(tmp_path: Path) -> None:
    """LLVM ends a process that cannot write: an error of Python's instead."""
    program = (
        "from pathlib import Path\n"
        "from shiftedge.export.compiler.backends.cpu.llvm import lower as tir\n"
        "from shiftedge.export.compiler.backends.cpu.llvm import run as tir_run\n"
        "from shiftedge.export.compiler.backends.cpu.families import keep\n"
        "kernel = keep.schedule('k', (2, 2, 2), 0, 1)\n"
        "from shiftedge.export.compiler.targets import find_variant\n"
        "code = tir.compile_kernels([kernel], find_variant('host').llvm(), 8)\n"
        "try: code.write(Path('/dev/full'))\n"
        "except OSError as error: print(error.strerror)"
    )
    done = script(program, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "No space left on device\n"), done.stderr


@pytest.mark.usefixtures("empty_after")
@pytest.mark.parametrize("where", ["prepare", "build_library", "proof.verified", "Manifest"])
def test_ctrl_c(
    where: str, tiny_onnx: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    *inner, name = where.split(".")
    owner = getattr(compiling, inner[0]) if inner else compiling
    monkeypatch.setattr(owner, name, interrupt)
    assert run(tiny_onnx, "--output", "b") == 130
    assert capsys.readouterr().err == "shiftedge: interrupted\n"


def test_the_real_command_line(tmp_path: Path) -> None:
    """As a user types it: exit status, one line, no traceback."""
    (tmp_path / "m.onnx").write_bytes(b"\x08\x99garbage")
    line = [sys.executable, "-m", "shiftedge", "compile", "m.onnx"]
    done = subprocess.run(
        line, capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("shiftedge: m.onnx is not an ONNX file")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_signed_bundle(tiny_onnx: Path, folder: Path, capsys: Captured) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    Path("key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    Path("key.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    assert run(tiny_onnx, "--output", "signed", "--sign", "key.pem") == 0
    assert run(tiny_onnx, "--output", "unsigned") == 0  # from the cache, which keeps no signature
    Bundle.open("signed", trusted_keys=["key.pub"])
    with pytest.raises(BundleError, match="is not signed"):
        Bundle.open("unsigned", trusted_keys=["key.pub"])
    assert run(tiny_onnx, "--output", "other", "--sign", "key.pub") == 1
    assert "is no private Ed25519 key" in capsys.readouterr().err
    assert not Path("other").exists()
