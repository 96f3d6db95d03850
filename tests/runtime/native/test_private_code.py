"""What is loaded is a copy: whatever becomes of the file, a running model computes on."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.fake_bundle import write_bundle
from kit.fake_library import Reference
from numpy.typing import NDArray

from shiftedge.runtime.bundle import Bundle
from shiftedge.runtime.engines import native as private_code
from shiftedge.runtime.engines.native import NativeEngine, load_private
from shiftedge.runtime.errors import ModelError
from shiftedge.runtime.loading import load

Frames = list[NDArray[np.uint8]]
Damage = Callable[[Path], object]
ROOT = Path(__file__).parents[3]

# A thread that waits in C for ever hears no signal: the whole process must go.
pytestmark = pytest.mark.timeout(120, method="thread")


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test loads its own copy."""
    monkeypatch.setattr(private_code, "_loaded", {})


@pytest.fixture
def folder(fake_path: Path, tmp_path: Path) -> Path:
    made = write_bundle(tmp_path / "fake-plain", fake_path)
    private_code._loaded.clear()  # which it has asked for its spec
    return made


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:  # as cp, scp and rsync --inplace do
        file.write(bytes(path.stat().st_size))


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(b"no library")
    os.replace(path.with_name("new"), path)


DAMAGES: dict[str, Damage] = {
    "overwritten": overwritten,
    "cut to nothing": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, 5000),
    "longer": lambda path: os.truncate(path, 1 << 24),
    "replaced": replaced,
    "deleted": Path.unlink,
    "moved": lambda path: path.rename(path.with_name("elsewhere")),
    "folder deleted": lambda path: shutil.rmtree(path.parents[2]),
    "read by nobody": lambda path: path.chmod(0),
}


def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel before 3.17, or a container that forbids it."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(private_code.os, "memfd_create", refuse)


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "file"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_steps_go_on_whatever_becomes_of_the_file(
    damage: str,
    memory: bool,
    folder: Path,
    native_frames: Frames,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not memory:
        no_memory(monkeypatch)
    library = folder / "lib" / "plain" / "libmodel.so"
    model = load(folder, threads=2)
    stream = model.stream()
    for index, frame in enumerate(native_frames):
        if index == 4:
            DAMAGES[damage](library)
            gc.collect()
        assert stream.step(frame).tobytes() == reference.step(frame).tobytes()
    fresh, again = model.stream(), Reference()
    assert fresh.step(native_frames[0]).tobytes() == again.step(native_frames[0]).tobytes()


def test_the_same_content_is_loaded_once(fake_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(fake_path, tmp_path / "copy.so"))
    first, digest = load_private(fake_path, None)
    assert load_private(copy, digest.hex()) == (first, digest)


def test_a_file_in_the_place_of_another_is_another(
    fake_path: Path, build_fake: Callable[..., Path], tmp_path: Path, native_frames: Frames
) -> None:
    """Even in place, under the same name and inode; and each goes on."""
    path = Path(shutil.copy(fake_path, tmp_path / "libmodel.so"))
    engines = [NativeEngine(path, threads=1)]
    sessions = [engines[0].open_session()]
    for fingerprint in (7, 9):
        path.write_bytes(build_fake(f"-DFAKE_FINGERPRINT={fingerprint}").read_bytes())
        engines.append(NativeEngine(path, threads=1))
        sessions.append(engines[-1].open_session())
    assert len({engine.digest for engine in engines}) == 3
    saved = []
    for session in sessions:
        session.step(native_frames[0])
        saved.append(session.save()[:64])
    assert len(set(saved)) == 3, "each block has the fingerprint of its own library"


def test_a_descriptor_that_comes_again(
    fake_path: Path, build_fake: Callable[..., Path], tmp_path: Path
) -> None:
    """The system knows a loaded library by its name, in which the descriptor's number stands."""
    before = set(os.listdir("/proc/self/fd"))
    one = NativeEngine(fake_path, threads=1)
    assert set(os.listdir("/proc/self/fd")) == before, "none stays open"
    (tmp_path / "garbage.so").write_bytes(b"garbage")
    for _ in range(3):
        with pytest.raises(ModelError, match="cannot be loaded as a compiled model"):
            NativeEngine(tmp_path / "garbage.so")
    other = NativeEngine(build_fake("-DFAKE_FINGERPRINT=11"), threads=1)
    assert other.library is not one.library
    assert other.digest != one.digest


def test_the_copy_cannot_be_written_to(folder: Path) -> None:
    """Not even through /proc, by this very user."""
    with private_code._memory(Path("a/b/c.so")) as (descriptor, name):
        private_code._copy(folder / "lib" / "plain" / "libmodel.so", descriptor)
        with pytest.raises(PermissionError):
            os.write(descriptor, b"x")
        for size in (0, 1 << 30):
            with pytest.raises(PermissionError):
                os.truncate(name, size)


def test_what_is_hashed_is_what_was_copied(
    fake_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read once: what it becomes right behind the reader is of no account."""
    library = folder / "lib" / "plain" / "libmodel.so"
    copy = private_code._copy

    def copy_and_spoil(path: Path, descriptor: int) -> bytes:
        digest = copy(path, descriptor)
        os.truncate(path, 0)
        return digest

    monkeypatch.setattr(private_code, "_copy", copy_and_spoil)
    entry = Bundle.open(folder).manifest.files["lib/plain/libmodel.so"]
    assert NativeEngine(library, sha256=entry.sha256).digest.hex() == entry.sha256
    with pytest.raises(ModelError, match=r"so it was changed just now: load the model again"):
        NativeEngine(library, sha256=entry.sha256)


# Where code may not run.


def forbid(monkeypatch: pytest.MonkeyPatch, *, memory: bool) -> None:
    """As a noexec mount or a policy does: mapping fails. Memory and files differ by their seals."""
    real = private_code.mmap.mmap

    def refuse(descriptor: int, *words: int, **more: int) -> object:
        if memory or not os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return real(descriptor, *words, **more)

    monkeypatch.setattr(private_code.mmap, "mmap", refuse)


def test_from_where_nothing_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every temporary folder mounted noexec: memory is enough."""
    forbid(monkeypatch, memory=False)
    assert load(folder, threads=1).spec.name == "fake"


def test_a_system_that_runs_no_code_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, memory=True)
    with pytest.raises(ModelError) as caught:
        load(folder)
    said = str(caught.value)
    assert "since this system runs no code from memory (Operation not permitted), " in said
    assert "set TMPDIR to a folder that can be written to and is not mounted noexec." in said
    assert "damaged" not in said


def test_neither_memory_nor_a_place_to_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_memory(monkeypatch)
    monkeypatch.setattr(private_code, "_folders", lambda: ["/proc/none"])
    with pytest.raises(ModelError, match=r"memory \(Function not implemented\), /proc/none \(No"):
        load(folder)


def test_without_proc(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is there, and no name to load it by: a file, which does not stay."""
    stat, places = os.stat, [folder.parent / "tmp"]
    places[0].mkdir()

    def no_proc(path: object, *words: object, **more: object) -> object:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return stat(path, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(private_code.os, "stat", no_proc)
    monkeypatch.setattr(private_code, "_folders", lambda: map(str, places))
    assert load(folder, threads=1).spec.name == "fake"
    assert list(places[0].iterdir()) == []


def test_a_whole_file_that_is_no_library_is_not_called_damaged(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.so").write_bytes(b"\x7fELF" + bytes(200))
    whole = write_bundle(tmp_path / "b", tmp_path / "other.so", spec=load(folder).spec)
    with pytest.raises(ModelError, match="its SHA-256 is right, so it was made for another kind"):
        load(whole)


def test_on_a_mount_from_which_nothing_runs(folder: Path, tmp_path: Path) -> None:
    """Really mounted noexec, where this user may mount."""
    (tmp_path / "mounted").mkdir()
    program = (
        "import sys, shiftedge, numpy\n"
        "stream = shiftedge.load(sys.argv[1], threads=1).stream()\n"
        "print(stream.step(numpy.zeros((24, 32, 3), numpy.uint8)).shape)"
    )
    script = (
        'mount -t tmpfs -o noexec tmpfs "$1" || exit 77\ncp -r "$2" "$1/b"\n'
        'exec "$3" -c "$4" "$1/b"'
    )
    words = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    words += [str(tmp_path / "mounted"), str(folder), sys.executable, program]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to mount a folder with")
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path / "mounted")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables)
    if done.returncode != 0 and "shiftedge" not in done.stderr:
        pytest.skip(f"this user may not mount a folder here: {done.stderr.strip()[:100]}")
    assert (done.returncode, done.stdout) == (0, "(4,)\n"), done.stderr
