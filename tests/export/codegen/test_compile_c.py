"""A bundle in programs of others: live.h, pkg-config, CMake, and several models at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the compile extra (apache-tvm) is not installed")
pytest.importorskip("ziglang", reason="the compile extra (ziglang) is not installed")
pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")

from kit.compiled import ROOT, environment, library_of

from shiftedge.runtime.bundle import Bundle, Variant
from shiftedge.runtime.engines.native import NativeEngine
from shiftedge.runtime.spec import ModelSpec

Get = Callable[[str], Path]
DEMOS = ROOT / "demos" / "c"
KITS = ROOT / "tests"
ZIG = (sys.executable, "-m", "ziglang")
CC = [shutil.which("cc")] if shutil.which("cc") else [*ZIG, "cc"]
CXX = [shutil.which("c++")] if shutil.which("c++") else [*ZIG, "c++"]
"""The machine's own, of any kind; Zig makes its C++ library first, which takes a minute."""
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
WIDTH, HEIGHT, RATE_HZ = 96, 64, 30


def run(line: list[str | Path], **more: object) -> str:
    given = {"capture_output": True, "check": False, "env": environment()}
    words = [str(word) for word in line]
    done = subprocess.run(words, **{**given, **more})  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr.decode()
    text: str = done.stdout.decode()
    return text


@pytest.fixture(scope="module")
def bundle(bundles: Get) -> Bundle:
    return Bundle.open(bundles("gestures"))


@pytest.fixture(scope="module")
def variant(bundle: Bundle) -> Variant:
    return bundle.variant()


def flags(bundle: Bundle, variant: Variant) -> list[str]:
    """What pkg-config says, or would say."""
    folder = bundle.folder / "lib" / variant.name / "pkgconfig"
    if shutil.which("pkg-config"):
        line: list[str | Path] = ["pkg-config", "--cflags", "--libs", "shiftedge-model"]
        return run(line, env=environment(PKG_CONFIG_PATH=str(folder))).split()
    values = {"pcfiledir": str(folder)}
    for text in (folder / "shiftedge-model.pc").read_text().splitlines():
        for name, value in values.items():
            text = text.replace(f"${{{name}}}", value)
        name, _, value = text.partition("=" if "=" in text else ": ")
        values[name] = value
    return f"{values['Cflags']} {values['Libs']}".replace('"', "").split()


@pytest.fixture(scope="module")
def programs(
    bundle: Bundle, variant: Variant, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The demos, as pkg-config has them built."""
    folder = tmp_path_factory.mktemp("programs")
    own = [*flags(bundle, variant), f"-Wl,-rpath,{bundle.folder / 'lib' / variant.name}"]
    languages = {"events.c": [*CC, "-std=c11"], "streams.cpp": [*CXX, "-std=c++17"]}
    for name, words in languages.items():
        output = folder / Path(name).stem
        run([*words, *WARNINGS, DEMOS / name, *own, "-o", output])
    return {path.name: path for path in folder.iterdir()}


def frames_of(spec: ModelSpec, count: int) -> bytes:
    size = (count, spec.height, spec.width, 3)
    return np.random.default_rng(4).integers(0, 256, size, np.uint8).tobytes()


def film(count: int = 200) -> bytes:
    """Sides that grow bright in turns."""
    place, generator = np.linspace(0, 3, WIDTH), np.random.default_rng(1)
    frames = [
        np.clip(120 + 100 * np.sin(i / 9 + place) + generator.normal(0, 9, (HEIGHT, WIDTH)), 0, 255)
        for i in range(count)
    ]
    return np.stack(frames)[..., None].repeat(3, -1).astype(np.uint8).tobytes()


def check_events(program: Path, bundle: Bundle, variant: Variant) -> None:
    """The events that the runner prints."""
    size = f"{WIDTH}x{HEIGHT}"
    runner = bundle.folder / "bin" / variant.name / "shiftedge-run"
    lines = run([runner, "--size", size, "--fps", str(RATE_HZ)], input=film()).splitlines()
    events = [json.loads(line) for line in lines]
    said = run([program, str(WIDTH), str(HEIGHT), str(RATE_HZ)], input=film()).splitlines()
    got = [line.split(" ", 1) for line in said]
    assert [f"{event['time_s']:.3f}" for event in events] == [words[0] for words in got]
    assert [event["label"] for event in events] == [w[1].rpartition(" ")[0] for w in got]


def test_events_in_c(programs: dict[str, Path], bundle: Bundle, variant: Variant) -> None:
    check_events(programs["events"], bundle, variant)


def test_streams_in_c_plus_plus(programs: dict[str, Path], bundle: Bundle) -> None:
    """Forwards, and once more from the snapshot."""
    engine = NativeEngine(library_of(bundle), threads=1)
    session, spec = engine.open_session(), engine.spec
    data = frames_of(spec, 10)
    images = np.frombuffer(data, np.uint8).reshape(10, spec.height, spec.width, 3)
    labels = [spec.labels[int(session.step(image).argmax())] for image in images]
    expected = [f"{i} {label}" for i, label in enumerate(labels)]
    said = run([programs["streams"]], input=data).splitlines()
    assert said == expected + expected[5:]


def test_a_program_in_c_says_what_is_wrong(programs: dict[str, Path]) -> None:
    done = subprocess.run([programs["events"], "0", "64", "30"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"events: options.width is 0; expected pixels from 1 to 16384." in done.stderr


def test_cmake(bundle: Bundle, variant: Variant, tmp_path: Path) -> None:
    """A copy of the bundle at a place with a space in its name: nothing in it is absolute."""
    if shutil.which("cmake") is None or shutil.which("make") is None:
        pytest.skip("cmake or make is not installed")
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler for cmake")
    moved = tmp_path / "a bundle"
    shutil.copytree(bundle.folder, moved, symlinks=True)
    build = tmp_path / "build"
    line: list[str | Path] = ["cmake", "-S", DEMOS, "-B", build, f"-DCMAKE_PREFIX_PATH={moved}"]
    run([*line, f"-DSHIFTEDGE_VARIANT={variant.name}"])
    run(["cmake", "--build", build])
    check_events(build / "events", bundle, variant)
    wrong = [*line, "-DSHIFTEDGE_VARIANT=none"]
    done = subprocess.run([str(word) for word in wrong], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"SHIFTEDGE_VARIANT is none; this bundle has" in done.stderr


def test_the_headers_are_the_projects(bundle: Bundle) -> None:
    for name in ("shiftedge.h", "live.h"):
        ours = (ROOT / "runtime" / "native" / name).read_bytes()
        assert (bundle.folder / "include" / "shiftedge" / name).read_bytes() == ours
        assert f"include/shiftedge/{name}" in bundle.manifest.files


def test_the_spec_in_c_is_that_in_json(bundle: Bundle) -> None:
    program = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom kit.live_library import LiveLibrary\n"
        "print(repr(LiveLibrary(sys.argv[2]).spec))"
    )
    spec = bundle.manifest.spec
    names = ("height", "width", "resize_short_side", "frame_rate_hz", "max_gap_s")
    expected = {
        "name": spec.name,
        "precision": spec.precision,
        **{name: getattr(spec, name) for name in names},
        "labels": spec.labels,
        "silent_labels": tuple(label for label in spec.labels if label in spec.silent_labels),
        "decoder": tuple(vars(spec.decoder).values()),
    }
    said = run([sys.executable, "-c", program, KITS, library_of(bundle)])
    assert said.strip() == repr(expected)


# Several models in one process.

PLUGIN = """
#include <shiftedge/shiftedge.h>
#include <stdlib.h>
#include <string.h>
__attribute__((visibility("default"))) int plugin_step(const uint8_t *frame, float *logits);
int plugin_step(const uint8_t *frame, float *logits) {
    const shiftedge_spec *spec = shiftedge_get_spec();
    shiftedge_model *model = NULL;
    void *state = aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
    memset(state, 0, shiftedge_state_size());
    int status = shiftedge_open(NULL, &model);
    if (status == SHIFTEDGE_OK) {
        status = shiftedge_step(model, state, frame, 3 * spec->width, logits);
    }
    shiftedge_close(model);
    free(state);
    return status == SHIFTEDGE_OK ? spec->classes : -status;
}
"""
LOAD = """
import ctypes, os, sys
frame = bytes(range(256)) * 1000
for path in sys.argv[1:]:
    ctypes.CDLL(path, os.RTLD_NOW | os.RTLD_GLOBAL)
for path in sys.argv[1:]:
    logits = (ctypes.c_float * 64)()
    classes = ctypes.CDLL(path).plugin_step(frame, logits)
    print(classes, list(logits[:classes]))
"""


def test_two_models_that_are_linked(bundles: Get, tmp_path: Path) -> None:
    """Plugins, each linked with its own model, all loaded for everybody to see."""
    (tmp_path / "plugin.c").write_text(PLUGIN)
    plugins = []
    for name in ("gestures", "own@64x48"):
        one = Bundle.open(bundles(name))
        plugin = tmp_path / f"lib{len(plugins)}.so"
        rpath = f"-Wl,-rpath,{library_of(one).parent}"
        own = [*flags(one, one.variant()), rpath, "-shared", "-fPIC"]
        run([*CC, tmp_path / "plugin.c", *own, "-o", plugin])
        plugins.append(plugin)
    alone = [run([sys.executable, "-c", LOAD, plugin]) for plugin in plugins]
    assert alone[0] != alone[1]
    assert run([sys.executable, "-c", LOAD, *plugins]) == "".join(alone)
    assert run([sys.executable, "-c", LOAD, *plugins[::-1]]) == "".join(alone[::-1])


GLOBALLY = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
from kit.live_library import LiveLibrary
import numpy as np
for path in sys.argv[2:]:
    ctypes.CDLL(path, os.RTLD_NOW | os.RTLD_GLOBAL)
for path in sys.argv[2:]:
    stream, generator = LiveLibrary(path).stream(), np.random.default_rng(1)
    for i in range(5):
        frame = generator.integers(0, 256, stream.frame_bytes, np.uint8)
        print(stream.feed(frame, i / 12))
"""


def test_two_models_that_are_loaded(bundles: Get) -> None:
    paths = [library_of(Bundle.open(bundles(name))) for name in ("gestures", "own@64x48")]
    line = [sys.executable, "-c", GLOBALLY, KITS]
    alone = [run([*line, path]) for path in paths]
    assert alone[0] != alone[1]
    assert run([*line, *paths]) == "".join(alone)
    assert run([*line, *paths[::-1]]) == "".join(alone[::-1])


def test_the_link_by_which_a_program_finds_it(bundle: Bundle, variant: Variant) -> None:
    (link,) = (bundle.folder / "lib" / variant.name).glob("libmodel-*.so")
    assert os.readlink(link) == "libmodel.so"
    assert str(link.relative_to(bundle.folder)) not in bundle.manifest.files
