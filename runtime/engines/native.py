"""A compiled model, libmodel.so, behind the step: ctypes over ``runtime/native/shiftedge.h``.

The frame goes in as it is: the first kernel normalises it. The state is one block of bytes in the
session's own memory, so saving, loading and emptying it are plain copies. The call into the library
gives up the interpreter's lock, so other threads of the program go on meanwhile.

Code that is mapped from a file changes with the file: `cp`, `scp` and `rsync --inplace` write into
it, and a program that runs it dies. So what is loaded is a copy, in memory of its own that is
sealed against writing (memfd_create, Linux 3.17), and its digest is that of the copy. The file is
read once and may then be overwritten, cut short, moved or deleted, or lie on a file system from
which no program may run (noexec). Where there is no such memory, or no /proc to load it through,
the copy is a file in a private temporary folder, removed as soon as it is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.engines.base import Engine, EngineSession
from shiftedge.runtime.errors import DeviceError, ModelError, SpecError
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.spec import ModelSpec

ABI_VERSION = 1
"""SHIFTEDGE_ABI_VERSION of the header that this module was written for."""

STATE_ALIGNMENT = 64
"""Bytes, SHIFTEDGE_STATE_ALIGNMENT."""

STATE_HEADER_BYTES = 64
"""Of a block, before the states: shiftedge_state_header of program.h."""

OVERSUBSCRIBE = 1
"""SHIFTEDGE_FLAG_OVERSUBSCRIBE."""

DEVICE_FAILED = 11
"""SHIFTEDGE_ERROR_DEVICE."""

STATE_SIZE_MOST = 1 << 31
"""Bytes. A library that asks for more is damaged."""


class Options(ctypes.Structure):
    """shiftedge_options."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("device", ctypes.c_int32),
    )


class NativeEngine(Engine):
    """A ``libmodel.so`` that ``shiftedge compile`` made for this CPU, or a GPU of this machine.

    Sessions may step in several threads; their steps run one after another, each with all threads
    of the engine. Open one engine per thread to have them side by side. A process forked after this
    needs an engine of its own.

    Args:
        path: the library, such as a bundle's variant names.
        threads: for one step, from 1; None is the cores this process may use, at most 4. More
            than those cores is lowered to them.
        oversubscribe: start as many threads as asked for, even on fewer cores; for tests of how
            work is split.
        sha256: what the file must have, hexadecimal; None takes it as it is.
        gpu: of a library for GPUs, which one, as the driver counts them; of others 0.

    What is loaded, and checked, is a copy, so the file may be written to, moved or deleted
    meanwhile; a new one in its place is a new library.

    Raises:
        ModelError: no such file, not such a library, of another version, changed since ``sha256``
            was written, or it did not open, such as for a feature that this CPU has not.
        DeviceError: it is for a GPU, and there is none, or no driver, or it failed.
        SpecError: the library's spec is malformed or from a newer version.
    """

    name = "native"

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        oversubscribe: bool = False,
        sha256: str | None = None,
        gpu: int = 0,
    ) -> None:
        self.path = Path(path)
        usable = chosen_threads(threads)  # the library's choice, so that a report can tell it
        if not self.path.is_file():
            raise ModelError(f"There is no compiled model {self.path}; check the path.")
        self.library, self.digest = load_private(self.path, sha256)
        _declare(self.library, self.path)
        self.version = f"ABI {ABI_VERSION}"
        self.spec = _read_spec(self.library, self.path)
        self.state_size: int = self.library.shiftedge_state_size()
        if not 0 < self.state_size < STATE_SIZE_MOST:
            raise ModelError(
                f"{self.path} asks for a state of {self.state_size} bytes, so it is damaged: "
                "compile the model again."
            )
        self.threads = threads if oversubscribe and threads else usable
        flags = OVERSUBSCRIBE if oversubscribe else 0
        options = Options(ctypes.sizeof(Options), self.threads, flags, gpu)
        self.handle = ctypes.c_void_p()
        status = self.library.shiftedge_open(ctypes.byref(options), ctypes.byref(self.handle))
        if status != 0:
            raise self.failure(status)
        # Not at exit: the process ends its threads itself, and a stream may still be stepping.
        self._closing = weakref.finalize(self, self.library.shiftedge_close, self.handle)
        self._closing.atexit = False

    def open_session(self) -> NativeSession:
        """A new session with empty states. Sessions share weights, workspace and threads."""
        return NativeSession(self)

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the kernels of a step, in order."""
        count = self.library.shiftedge_kernel_count()
        return tuple(self.library.shiftedge_kernel_name(i).decode() for i in range(count))

    @contextlib.contextmanager
    def profiled(self) -> Iterator[NDArray[np.float64]]:
        """Yield an array that each step fills with the seconds of each kernel, in order."""
        seconds = np.zeros(len(self.kernels))
        self.library.shiftedge_profile(self.handle, seconds.ctypes.data)
        try:
            yield seconds
        finally:
            self.library.shiftedge_profile(self.handle, None)

    def failure(self, status: int) -> ModelError:
        """What the last failed call of this thread said."""
        text: bytes = self.library.shiftedge_last_error()
        kind = DeviceError if status == DEVICE_FAILED else ModelError
        return kind(f"{self.path}: {text.decode('utf-8', 'replace')}")


class NativeSession(EngineSession):
    """See the module's docstring."""

    def __init__(self, engine: NativeEngine) -> None:
        self._engine = engine
        self._shape = (engine.spec.height, engine.spec.width, 3)
        self._row_bytes = 3 * engine.spec.width
        self._packed = (self._row_bytes, 3, 1)
        self._step = engine.library.shiftedge_step
        self._state = _aligned(engine.state_size)
        # Made once: to find an array's address takes longer than to copy its logits.
        self._logits = np.zeros(engine.spec.classes, np.float32)
        self._logits_pointer = ctypes.c_void_p(self._logits.ctypes.data)
        self._state_pointer = ctypes.c_void_p(self._state.ctypes.data)

    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :meth:`EngineSession.step`. Rows may be apart, as in a cut-out of a larger picture.

        Raises:
            ModelError: not an image of the model's size, another thread is stepping this session,
                the process was forked, or a kernel failed; the states are as they were before.
            DeviceError: the GPU failed; the states are as they were before, and the engine takes
                no more steps.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ModelError(
                f"The image is {image.dtype} {list(image.shape)}; expected uint8 "
                f"{list(self._shape)}."
            )
        strides = image.strides
        if strides[1:] != (3, 1) or not self._row_bytes <= strides[0] < 1 << 31:
            image = np.ascontiguousarray(image)
            strides = self._packed
        if strides == self._packed and image.flags.writeable:
            # The same address as below, in a quarter of the time (0.25 us, not 0.95).
            buffer: Any = image  # which numpy's types do not call one before Python 3.12
            address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        else:
            address = image.ctypes.data
        status = self._step(
            self._engine.handle, self._state_pointer, address, strides[0], self._logits_pointer
        )
        if status != 0:
            raise self._engine.failure(status)
        logits: NDArray[np.float32] = self._logits.copy()
        return logits

    def reset(self) -> None:
        self._state.fill(0)

    def save(self) -> bytes:
        """See :meth:`EngineSession.save`: the state block of shiftedge.h."""
        return self._state.tobytes()

    def load(self, block: bytes) -> None:
        """See :meth:`EngineSession.load`. A step refuses what is no state of this library."""
        if len(block) != self._engine.state_size:
            raise ModelError(
                f"The states have {len(block)} bytes; expected {self._engine.state_size}."
            )
        self._state[:] = np.frombuffer(block, np.uint8)

    def states(self) -> list[NDArray[np.float32]] | None:
        """See :meth:`EngineSession.states`. Of float32 states, which lie behind the block's header
        one after another, each (height, width, channels) at a multiple of 64 bytes."""
        end, found = STATE_HEADER_BYTES, []
        for state in self._engine.spec.states:
            _, channels, height, width = state.shape
            begin, end = end, end + -(-state.bytes // STATE_ALIGNMENT) * STATE_ALIGNMENT
            if state.dtype != "float32" or end > len(self._state):
                return None
            numbers = self._state[begin : begin + state.bytes].view(np.float32)
            laid_out = numbers.reshape(height, width, channels)
            found.append(np.ascontiguousarray(laid_out.transpose(2, 0, 1))[np.newaxis])
        return found if end == len(self._state) else None


def _aligned(size: int) -> NDArray[np.uint8]:
    """That many zero bytes at a multiple of :data:`STATE_ALIGNMENT`."""
    memory = np.zeros(size + STATE_ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % STATE_ALIGNMENT
    return memory[start : start + size]


def _declare(library: Any, path: Path) -> None:
    """Declare the library's functions and check its version."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    declared: dict[str, tuple[Any, list[Any]]] = {
        "shiftedge_abi_version": (ctypes.c_uint32, []),
        "shiftedge_spec_json": (ctypes.c_char_p, []),
        "shiftedge_state_size": (size, []),
        "shiftedge_open": (ctypes.c_int, [pointer, ctypes.POINTER(pointer)]),
        "shiftedge_step": (ctypes.c_int, [pointer, pointer, pointer, ctypes.c_int32, pointer]),
        "shiftedge_last_error": (ctypes.c_char_p, []),
        "shiftedge_close": (None, [pointer]),
        "shiftedge_kernel_count": (ctypes.c_uint32, []),
        "shiftedge_kernel_name": (ctypes.c_char_p, [ctypes.c_uint32]),
        "shiftedge_profile": (ctypes.c_int, [pointer, pointer]),
    }
    for name, (result, arguments) in declared.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise ModelError(
                f"{path} is a library without {name}; expected a libmodel.so that "
                "`shiftedge compile` made."
            ) from error
        function.restype, function.argtypes = result, arguments
        if name == "shiftedge_abi_version" and function() != ABI_VERSION:
            raise ModelError(
                f"{path} has the interface version {function()}, and this shiftedge reads "
                f"{ABI_VERSION}: compile the model again with this version."
            )


def _read_spec(library: Any, path: Path) -> ModelSpec:
    text: bytes | None = library.shiftedge_spec_json()
    if text is None:
        raise SpecError(f"{path} holds no spec: compile the model again.")
    try:
        return ModelSpec.from_json(text.decode())
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path} holds a spec that is not UTF-8, so it is damaged: compile the model again."
        ) from error


_PART_BYTES = 1 << 20
_MFD_EXEC = 0x10
"""Asked for where the kernel knows it (6.3): this memory is for code."""
_NAME_MOST = 60
"""Characters, as debuggers and /proc/self/maps show them; the kernel takes 249 bytes."""

_loaded: dict[bytes, Any] = {}
"""SHA-256 -> library. Code is never unloaded, since its threads may outlive its users."""
_count = itertools.count(2)


def load_private(path: Path, sha256: str | None) -> tuple[Any, bytes]:
    """Load a copy of a library, and its SHA-256, which may be asked for; the same content is loaded
    once in a process.

    Raises:
        ModelError: the file cannot be read, has another SHA-256, or is no library for this machine;
            or this system runs code from nowhere that can be written to.
    """
    hindrances = []
    for folder in (None, *_folders()):
        try:
            with _memory(path) if folder is None else _file(folder) as (descriptor, name):
                digest = _copy(path, descriptor)
                if sha256 is not None and digest.hex() != sha256:
                    raise ModelError(
                        f"{path} has the SHA-256 {digest.hex()}; expected {sha256}, so it was "
                        "changed just now: load the model again when nobody writes it."
                    )
                if digest not in _loaded:
                    _check_executable(descriptor)
                    _loaded[digest] = _open(name, path, whole=sha256 is not None)
                return _loaded[digest], digest
        except OSError as error:  # noqa: PERF203 - of a few turns at most
            where = "memory" if folder is None else str(folder)
            hindrances.append(f"{where} ({error.strerror or error})")
    raise ModelError(
        f"{path} cannot be loaded, since this system runs no code from {', '.join(hindrances)}; "
        "set TMPDIR to a folder that can be written to and is not mounted noexec."
    )


def _folders() -> Iterator[str]:
    with contextlib.suppress(OSError):  # none that can be written to
        yield tempfile.gettempdir()
    yield from ("/dev/shm", "/var/tmp")


@contextlib.contextmanager
def _memory(path: Path) -> Iterator[tuple[int, str]]:
    """A descriptor of new memory, and the name by which it is loaded."""
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    name = "/".join(path.parts[-3:])[-_NAME_MOST:]  # lib/<variant>/libmodel.so
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError:  # a kernel before 6.3, or one that takes the flag from nobody
        descriptor = os.memfd_create(name, flags)
    try:
        # The system gives a loaded library again to whoever names it as it was named, and numbers
        # of descriptors come again; so each is spelled in its own way.
        bits = f"{next(_count):b}"
        place = f"/proc/self/fd{''.join('/.' if bit == '1' else '/' for bit in bits)}/{descriptor}"
        os.stat(place)
        yield descriptor, place
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _file(folder: str) -> Iterator[tuple[int, str]]:
    """The same of a new file in a private folder, which goes as soon as it is loaded."""
    with work_folder(folder) as private:
        place = private / "libmodel.so"
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
        try:
            yield descriptor, str(place)
        finally:
            os.close(descriptor)


def _copy(path: Path, descriptor: int) -> bytes:
    """Copy the file and let nobody write to the copy; its SHA-256, of what was copied."""
    digest = hashlib.sha256()
    try:
        source = open(path, "rb", buffering=0)  # noqa: SIM115 - other errors are the copy's
    except OSError as error:
        raise _unreadable(path, error) from error
    with source:
        while True:
            try:
                part = source.read(_PART_BYTES)
            except OSError as error:
                raise _unreadable(path, error) from error
            if not part:
                break
            digest.update(part)
            left = memoryview(part)
            while left:
                left = left[os.write(descriptor, left) :]
    with contextlib.suppress(OSError):  # a file has no seals; nobody else can reach it
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return digest.digest()


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(f"{path} cannot be read ({error.strerror or error}); check its permissions.")


def _check_executable(descriptor: int) -> None:
    """Ask the system, in its own words, whether code may run from there.

    Raises:
        OSError: mounted noexec, or forbidden by a policy such as SELinux'.
    """
    if os.fstat(descriptor).st_size:  # dlopen has a word for an empty one
        kind = mmap.MAP_PRIVATE
        mmap.mmap(descriptor, 1, flags=kind, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


def _open(name: str, path: Path, *, whole: bool) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        said = str(error).removeprefix(f"{name}: ")
        problem = (
            "its SHA-256 is right, so it was made for another kind of machine or a newer C library"
            if whole
            else "it may be damaged or made for another kind of machine"
        )
        raise ModelError(
            f"{path} cannot be loaded as a compiled model ({said}); {problem}: compile it for "
            "this one."
        ) from error
