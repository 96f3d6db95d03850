"""ONNX Runtime behind the step: I/O binding over two sets of states that swap roles.

Each session owns both sets and two bindings built once: one reads set 0 and writes set 1, the
other the reverse. A step fills the frame in place, runs one binding and remembers which set is
current. No state is copied, allocated or moved off its device, and a run that fails has written
only to the set that does not count.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.engines.base import Engine, EngineSession
from shiftedge.runtime.engines.onnx_claims import (
    check_shapes,
    check_spec,
    check_weights,
)
from shiftedge.runtime.errors import ModelError, SpecError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.cpu import chosen_threads, cpu_features
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.process.files import utf8_path
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec
from shiftedge.runtime.words import first_line, plain, shown

Provider = str | tuple[str, Mapping[str, Any]]
"""An execution provider: "cpu", "cuda", "tensorrt" or ONNX Runtime's own name; or a pair of such a
name and the provider's options, such as ``("tensorrt", {"trt_fp16_enable": True})``."""

SHORT_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
EXACT_INT8 = ("session.x64quantprecision", "1")
"""A session option, see :func:`ask_for_exact_int8`."""
VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Extensions of x86-64 that add products of bytes in 32 bits."""

_ORT_FORMAT = b"ORTM"
"""At byte 4 of ONNX Runtime's own form of a model, which holds what it has computed already."""


def ask_for_exact_int8(options: Any, features: frozenset[str] | None = None) -> None:
    """Have ONNX Runtime multiply quantised values without an error, and no slower than that takes.

    On x86-64 without VNNI, ONNX Runtime 1.31 adds products of uint8 and int8 in pairs as saturated
    int16 (vpmaddubsw), so that large ones are cut off: the bundled model's int8 logits are then off
    by 0.64 (root mean square) instead of 0.12. With :data:`EXACT_INT8` it multiplies uint8 by uint8
    there, exactly and slower.

    With VNNI its default is exact, and the option would take that away: 1.31 asks only whether its
    two kinds of products differ, which they do there (MlasPlatformU8S8Overflow), and then leaves
    VNNI for kernels of 16 bits. On other processors the option does nothing.

    Args:
        options: ``SessionOptions``, which are changed.
        features: of the CPU, as in /proc/cpuinfo; by default this one's. Where they are not known,
            exact products are asked for.
    """
    if VNNI.isdisjoint(cpu_features() if features is None else features):
        options.add_session_config_entry(*EXACT_INT8)


def session_options(threads: int) -> Any:
    """``SessionOptions`` of one stream, whose threads sleep between its steps."""
    options = require("onnxruntime").SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    ask_for_exact_int8(options)
    options.log_severity_level = 4  # failures come as exceptions; no second voice on stderr
    return options


class OnnxRuntimeEngine(Engine):
    """An .onnx file that follows the contract: ``frame`` and ``state_i`` in, ``logits`` and
    ``next_state_i`` out, of static shape, the spec in its metadata. All are float32, but for states
    that the spec says are uint8.

    Args:
        path: the file.
        threads: for one step, from 1; see :func:`chosen_threads`. Idle threads sleep instead of
            spinning. Measured with two threads on two cores, a frame every 42 ms: spinning
            keeps them 105% busy instead of 18%, for a step of 5 ms instead of 8; back to back 4.2
            instead of 5.0. A board that waits for its camera is better off cool.
        providers: in order of preference, or one, see :data:`Provider`; None is the CPU.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: no such file, not a model, not as its spec says, or a provider is missing.
        SpecError: the spec is absent, malformed or from a newer version.
    """

    name = "onnxruntime"

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Provider | Sequence[Provider] | None = None,
    ) -> None:
        ort = require("onnxruntime")
        self.version: str = ort.__version__
        self.path = Path(path)
        self.threads = chosen_threads(threads)
        wanted = _providers(ort, providers)
        if not self.path.is_file():
            raise ModelError(f"There is no model file {self.path}; check the path.")
        try:
            data = self.path.read_bytes()
            check_claims(data, self.path)
            with utf8_path(self.path) as name:  # and not the bytes: weights may lie beside it
                self.session: Any = ort.InferenceSession(
                    name,
                    session_options(self.threads),
                    providers=wanted,
                    enable_fallback=0,  # it would print to stdout, then try once more on the CPU
                )
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror or error}.") from error
        except _failures() as error:
            raise ModelError(
                f"{self.path} cannot be loaded as an ONNX model ({first_line(error)}); "
                "it may be damaged, or made for a newer ONNX Runtime: export it again."
            ) from error
        _check_active(self.session, wanted)
        try:
            self.spec = read_spec(self.session, self.path)
            check_spec(self.spec, self.path)
            _check_contract(self.session, self.spec, self.path)
        except UnicodeDecodeError as error:  # of metadata or a tensor's name
            raise ModelError(
                f"{self.path} holds text that is not UTF-8, so it is damaged: export it again."
            ) from error
        self.digest = hashlib.sha256(data).digest()
        device, self.device_id = _device(wanted[0])
        self.device: str = device

    def open_session(self) -> OnnxRuntimeSession:
        """A new session with empty states. Sessions share the weights and the thread pool."""
        return OnnxRuntimeSession(self)


class OnnxRuntimeSession(EngineSession):
    """See the module's docstring."""

    def __init__(self, engine: OnnxRuntimeEngine) -> None:
        spec = engine.spec
        self._engine = engine
        self._failures = _failures()
        self._normalise = Preprocessor(spec).normalise
        where = engine.device, engine.device_id
        self._states = spec.states
        frame = np.zeros((1, 3, spec.height, spec.width), np.float32)
        self._frame = _Tensor(frame, *where)
        self._logits = _Tensor(np.zeros((1, spec.classes), np.float32), "cpu", 0)
        self._sets = [[_Tensor(state.fresh(), *where) for state in spec.states] for _ in range(2)]
        self._bindings = [self._bind(0), self._bind(1)]
        self._current = 0  # the set that the next step reads

    def _bind(self, source: int) -> Any:
        binding = self._engine.session.io_binding()
        binding.bind_ortvalue_input("frame", self._frame.value)
        binding.bind_ortvalue_output("logits", self._logits.value)
        for i, (old, new) in enumerate(
            zip(self._sets[source], self._sets[1 - source], strict=True)
        ):
            binding.bind_ortvalue_input(f"state_{i}", old.value)
            binding.bind_ortvalue_output(f"next_state_{i}", new.value)
        return binding

    def step(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See :meth:`EngineSession.step`.

        Raises:
            ModelError: ONNX Runtime failed; the states are as they were before.
        """
        self.normalise(image)
        return self.run()

    def normalise(self, image: NDArray[np.uint8]) -> None:
        """The first half of a step, on the host."""
        self._normalise(image, self._frame.host)

    def run(self) -> NDArray[np.float32]:
        """The other half, of the frame that was normalised last."""
        self._frame.push()
        try:
            self._engine.session.run_with_iobinding(self._bindings[self._current])
        except self._failures as error:
            raise _failed(self._engine.path, error) from error
        self._current = 1 - self._current
        logits: NDArray[np.float32] = self._logits.pull()[0].copy()
        return logits

    def reset(self) -> None:
        for tensor, state in zip(self._sets[self._current], self._states, strict=True):
            tensor.host.fill(state.zero_point)
            tensor.push()

    def save(self) -> bytes:
        """See :meth:`EngineSession.save`: state after state, float32 in the machine's byte order or
        uint8, as the spec says."""
        return b"".join(tensor.pull().tobytes() for tensor in self._sets[self._current])

    def states(self) -> Sequence[NDArray[Any]]:
        return [tensor.pull().copy() for tensor in self._sets[self._current]]

    def load(self, block: bytes) -> None:
        expected = sum(state.bytes for state in self._states)
        if len(block) != expected:
            raise ModelError(f"The states have {len(block)} bytes; expected {expected}.")
        start = 0
        for tensor in self._sets[self._current]:
            end = start + tensor.host.nbytes
            flat = np.frombuffer(block[start:end], tensor.host.dtype)
            tensor.host[...] = flat.reshape(tensor.host.shape)
            tensor.push()
            start = end


class _Tensor:
    """A tensor that ONNX Runtime reads and writes in place, and our view of it.

    On the CPU both are the same memory, and push and pull do nothing.
    """

    def __init__(self, first: NDArray[Any], device: str, device_id: int) -> None:
        ort = require("onnxruntime")
        self.host = first
        self.value: Any = ort.OrtValue.ortvalue_from_numpy(self.host, device, device_id)
        self._shared = device == "cpu" and self.value.data_ptr() == self.host.ctypes.data

    def push(self) -> None:
        """Bring what was written into ``host`` to the device."""
        if not self._shared:
            self.value.update_inplace(self.host)

    def pull(self) -> NDArray[Any]:
        """The device's numbers; valid until the next step."""
        if not self._shared:
            self.host[...] = self.value.numpy()
        return self.host


def refusal(data: bytes, spec: ModelSpec) -> str | None:
    """Why :class:`OnnxRuntimeEngine` would not run a file, found by loading it and one step; None
    where it would.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    ort = require("onnxruntime")
    what = Path("the model")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        check_spec(spec, what)
        check_shapes(ort, data, check_weights(data, what), what, ".")
        session = ort.InferenceSession(data, options, providers=[SHORT_NAMES["cpu"]])
        _check_contract(session, spec, what)
        feed = {"frame": np.zeros((1, 3, spec.height, spec.width), np.float32)}
        feed |= {f"state_{index}": state.fresh() for index, state in enumerate(spec.states)}
        session.run(None, feed)
    except (ModelError, UnicodeDecodeError) as error:
        return str(error)
    except _failures() as error:
        return first_line(error)
    return None


def check_claims(data: bytes, path: Path) -> None:
    """Refuse a file that asks for more memory than a board has, before any of it is given; one
    that ONNX Runtime cannot read passes.

    Raises:
        ModelError: it does.
        MissingExtraError: onnxruntime is not installed.
    """
    if data[4:8] == _ORT_FORMAT:
        return
    file = check_weights(data, path)
    with contextlib.suppress(*_failures()), utf8_path(path.parent) as folder:
        check_shapes(require("onnxruntime"), data, file, path, folder)


@contextlib.contextmanager
def failures_told(what: object) -> Iterator[None]:
    """What ONNX Runtime raises while it runs ``what``, as a sentence.

    Raises:
        ModelError: ONNX Runtime failed.
    """
    try:
        yield
    except _failures() as error:
        raise _failed(what, error) from error


def _failed(what: object, error: Exception) -> ModelError:
    return ModelError(f"{what} failed in ONNX Runtime ({first_line(error)}).")


def _failures() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises on purpose: its exceptions have no common base."""
    state = require("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [
        kind
        for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    return (*own, RuntimeError, ValueError)


def _providers(ort: Any, providers: object) -> list[tuple[str, dict[str, Any]]]:
    """Full names with options, each checked against what this onnxruntime was built with."""
    if isinstance(providers, str) or _is_pair(providers):  # the only one
        providers = [providers]
    if providers is not None and not isinstance(providers, (list, tuple)):
        raise _no_provider(providers)
    available = ort.get_available_providers()
    wanted = []
    for entry in providers or ["cpu"]:
        if not isinstance(entry, str) and not _is_pair(entry):
            raise _no_provider(entry)
        given, options = (entry, {}) if isinstance(entry, str) else entry
        name = SHORT_NAMES.get(given.lower(), given)
        if name not in available:
            raise ModelError(
                f"The execution provider {plain(given, 200)} is not in this onnxruntime "
                f"{ort.__version__}; available are {', '.join(available)}. GPUs need the package "
                "onnxruntime-gpu."
            )
        wanted.append((name, dict(options)))
    return wanted


def _is_pair(entry: object) -> bool:
    return (
        isinstance(entry, tuple)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], Mapping)
    )


def _no_provider(given: object) -> ModelError:
    return ModelError(
        f"{shown(given)} is no execution provider; expected names in order of preference, such as "
        '["cuda", "cpu"], each alone or in a pair with its options.'
    )


def _check_active(session: Any, wanted: list[tuple[str, dict[str, Any]]]) -> None:
    """ONNX Runtime falls back to the CPU with no more than a warning; that is refused here."""
    active = session.get_providers()
    for name, _ in wanted:
        if name not in active:
            raise ModelError(
                f"{name} is installed but did not start (its driver or libraries may be missing "
                f"or too old); active are {', '.join(active)}."
            )


def _device(provider: tuple[str, dict[str, Any]]) -> tuple[str, int]:
    name, options = provider
    if name in (SHORT_NAMES["cuda"], SHORT_NAMES["tensorrt"]):
        return "cuda", int(options.get("device_id", 0))
    return "cpu", 0


def read_spec(session: Any, path: Path) -> ModelSpec:
    """What a session's file says of itself; SpecError where that is nothing."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise SpecError(
            f"{path} has no {METADATA_KEY} in its metadata, so its labels and states are unknown; "
            "`shiftedge export` makes files that have it."
        )
    return ModelSpec.from_json(text)


_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
"""ONNX Runtime's name of a type -> ours."""


def _check_contract(session: Any, spec: ModelSpec, path: Path) -> None:
    """Names, types and shapes of all inputs and outputs against the spec, in any order."""
    kinds = {dtype: kind for kind, dtype in _DTYPES.items()}
    strange = [state.dtype for state in spec.states if state.dtype not in kinds]
    if strange:
        raise ModelError(
            f"{path} says that a state is {strange[0]}, which compiled models alone have: export "
            "it again."
        )
    for kind, expected, nodes in (
        ("input", spec.inputs, session.get_inputs()),
        ("output", spec.outputs, session.get_outputs()),
    ):
        found = {node.name: node for node in nodes}
        for name, (dtype, shape) in expected.items():
            wanted = kinds[dtype]
            if name not in found:
                raise ModelError(
                    f"{path} has no {kind} {name}; expected {dtype} {list(shape)} as its spec "
                    f"says, and found {', '.join(found)}: export the model again."
                )
            got_type, got = found[name].type, found[name].shape
            if got_type != wanted or got != list(shape):
                dynamic = any(not isinstance(side, int) for side in got or [None])
                raise ModelError(
                    f"{path} has the {kind} {name} as {got_type} {got}; expected {wanted} "
                    f"{list(shape)} as its spec says: "
                    + ("export it with static shapes." if dynamic else "export the model again.")
                )
        strange = sorted(set(found) - set(expected))
        if strange:
            raise ModelError(
                f"{path} has the {kind} {strange[0]}, which its spec does not know; expected only "
                f"{', '.join(expected)}: export the model again."
            )
