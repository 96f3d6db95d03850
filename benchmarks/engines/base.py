"""The seam between the benchmark and whatever it times, and what the peers have in common.

Only :meth:`Contender.step` is timed. What a camera program would have done before it (the frame in
memory), and what it would do after (looking at the logits), lies outside, alike for all.
"""

from __future__ import annotations

import abc
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge import __version__
from shiftedge.export.agreement import TOLERANCE
from shiftedge.runtime.errors import ModelError, ShiftedgeError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.files import cache_folder, output_folder, sha256_of, work_folder
from shiftedge.runtime.spec import ModelSpec

INT8_TOLERANCE = 0.2
"""Of int8 models, relative to a tensor's largest value: docs/benchmarks.md says what engines differ
by. Another function is off by about 1."""

BF16_TOLERANCE = 5e-2
"""Of what computes in bfloat16. A product rounded to it is off by up to 0.4%; over fifty layers and
the frames whose states are fed back that grows some tenfold. More is another function."""

FP16_TOLERANCE = 5e-2
"""Of what stores in half precision, as the compiler accepts it; a trained network loses some 3e-3
by it (docs/cuda.md)."""

FACTS = "facts.json"
"""What a conversion told of itself, beside what it made."""

Array = NDArray[np.float32]


class Contender(abc.ABC):
    """One engine with one model and one stream of it.

    Args:
        path: the .onnx file, or the compiled bundle.
        threads: for one step, from 1.
        spec: of the model, for engines whose file does not tell it; None where nobody knows it.

    Raises:
        ShiftedgeError: the engine is not installed (MissingExtraError) or refuses the model.
    """

    version: str
    """Of the library underneath."""
    precision = "fp32"
    tolerance = TOLERANCE
    """Accepted difference from the reference, relative to a tensor's largest value."""
    checked = True
    """False for what computes nothing and is there to measure the harness."""
    packages: tuple[str, ...] = ()
    """Distributions that it needs, for the bytes on disk."""
    normalises = False
    """True where the timed step takes the uint8 frame and normalises it itself."""
    spec: ModelSpec
    settings: dict[str, Any]
    """What was asked for and what the engine made of it, for the report; plain JSON types."""

    @abc.abstractmethod
    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None: ...

    @abc.abstractmethod
    def prepare(self, image: NDArray[np.uint8]) -> None:
        """Bring the next frame to where :meth:`step` reads it. Not timed.

        Args:
            image: uint8, shape (height, width, 3) of the spec, BGR, C-contiguous.
        """

    @abc.abstractmethod
    def step(self) -> None:
        """Run the prepared frame and keep the new states. This is what is timed."""

    @abc.abstractmethod
    def logits(self) -> Array:
        """Of the last step: float32, shape (classes,); valid until the next."""

    @abc.abstractmethod
    def states(self) -> Sequence[Array] | None:
        """After the last step, in the order and shapes of the spec, as the float32 numbers that
        they stand for; None where the engine keeps them in a layout of its own."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Empty every state, as in a fresh stream."""

    def another(self) -> Contender:
        """One more stream of the same model, which may step in a thread of its own at the same
        time; the weights are shared.

        Raises:
            ModelError: the engine cannot.
        """
        raise ModelError("Several streams of one model are not supported by this engine here.")

    def kernel_seconds(self, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
        """Step through ``images``; the time of each kernel, seconds, by name and in order: the
        median over the later half.

        Raises:
            ModelError: the engine cannot tell.
        """
        raise ModelError("This engine does not tell the times of its kernels.")


class Peer(Contender):
    """A contender that takes the frame normalised and float32, and whose states are its library's
    own tensors: a step takes those that the last one gave.

    A subclass brings :meth:`load` and :meth:`step`, and says how numpy's arrays become its
    library's tensors and the other way round.
    """

    title: str
    """Of the engine, for messages."""
    frame: Array
    """(1, 3, height, width). There are two that take turns, since a model may hand the frame itself
    on as a state that the next step reads."""
    _input: Any
    """The frame as a step takes it."""
    _states: list[Any]
    """What the next step takes."""
    _out: Any
    """The logits."""

    def __init__(self, path: Path, threads: int, spec: ModelSpec | None) -> None:
        self.set_up(spec)
        try:
            self.load(path, threads)
        except ShiftedgeError:
            raise
        except Exception as error:  # the errors of most of these libraries have no common base
            raise self.refused(path, error) from error
        self._input = self.tensor(self.frame)
        self.reset()

    def load(self, path: Path, threads: int) -> None:
        """Convert, compile, set the threads: all that a program does once. Sets ``version`` and
        ``settings``; whatever it raises becomes one sentence."""
        raise NotImplementedError

    def tensor(self, values: NDArray[Any]) -> Any:
        """An array in the library's form; it may share the array's memory."""
        return values

    def array(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(tensor)

    def set_up(self, spec: ModelSpec | None) -> None:
        """Keep the spec and what it says of precision, make the frame."""
        if spec is None:
            raise ModelError(f"{self.title} needs the model's spec, which nothing here could read.")
        self.spec = spec
        self.precision = spec.precision
        if spec.precision == "int8":
            self.tolerance = INT8_TOLERANCE
        shape = (1, 3, spec.height, spec.width)
        self.frame, self._spare = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._normalise = Preprocessor(spec).normalise

    def prepare(self, image: NDArray[np.uint8]) -> None:
        self.frame, self._spare = self._spare, self.frame
        self._normalise(image, self.frame)
        self._input = self.tensor(self.frame)

    def logits(self) -> Array:
        return np.asarray(self.array(self._out), np.float32).reshape(-1)

    def states(self) -> Sequence[Array] | None:
        return [
            state.numbers(self.array(found))
            for state, found in zip(self.spec.states, self._states, strict=True)
        ]

    def reset(self) -> None:
        self._out = self.tensor(np.zeros((1, self.spec.classes), np.float32))
        self._states = [self.tensor(state.fresh()) for state in self.spec.states]

    def refused(self, path: Path, error: BaseException | str) -> ModelError:
        return ModelError(f"{path.name} is not taken by {self.title} ({last_line(error)}).")

    def check_integers(self, path: Path, found: int, wanted: int) -> None:
        """Keep how many of a quantised file's convolutions are multiplied as integers; a ModelError
        where those are fewer than it has: the others run in float32 of quantised numbers, which is
        neither precision."""
        self.settings["integer_convolutions"] = found
        if found < wanted:
            raise self.refused(
                path, f"it computes {wanted - found} of {wanted} quantised convolutions in float32"
            )


class Bound(Peer):
    """A peer that is bound to arrays once: two sets of states that swap roles, of which a step
    reads one and writes the other. Nothing is copied.

    :attr:`sets` are the states, ``_source`` is the index of the set that the next step reads.
    """

    def bind(self) -> None:
        self._out = np.zeros((1, self.spec.classes), np.float32)
        self.sets = tuple([state.fresh() for state in self.spec.states] for _ in range(2))
        self._source = 0

    def prepare(self, image: NDArray[np.uint8]) -> None:
        self._normalise(image, self.frame)

    def states(self) -> Sequence[Array] | None:
        current = self.sets[self._source]
        return [spec.numbers(at) for spec, at in zip(self.spec.states, current, strict=True)]

    def reset(self) -> None:
        for spec, state in zip(self.spec.states, self.sets[self._source], strict=True):
            state.fill(spec.zero_point)


class NullContender(Peer):
    """An engine that does nothing: what is left of its time is the harness's own. Its logits are
    zeros, so nothing is compared."""

    title = "The null engine"
    checked = False
    normalises = True

    def load(self, path: Path, threads: int) -> None:
        self.version, self.settings = __version__, {"threads": threads}

    def prepare(self, image: NDArray[np.uint8]) -> None:
        """See :meth:`Contender.prepare`: nothing."""

    def step(self) -> None:
        """See :meth:`Contender.step`: nothing."""

    def states(self) -> None:
        """There are none."""
        return

    def another(self) -> NullContender:
        return self


def last_line(error: BaseException | str) -> str:
    """What a library said in the end, at most 200 characters of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else type(error).__name__
    return said.rstrip(".")[:200]


def converted(
    model: Path,
    engine: str,
    packages: tuple[str, ...],
    convert: Callable[[Path], Mapping[str, Any] | None],
) -> tuple[Path, dict[str, Any]]:
    """The folder with what ``convert`` has written into the empty one that it was given, and the
    facts that it gave, plain JSON types: a conversion of ``model`` into an engine's form, made once
    and kept in the cache by the file's content and the versions of ``packages``.

    Raises:
        OutputError: the cache folder cannot be written to.
    """
    versions = {package: _version(package) for package in packages}
    with model.open("rb") as file:
        content = sha256_of(file).hex()
    key = json.dumps([content, versions], sort_keys=True)
    parent = output_folder(cache_folder() / "converted" / engine)
    folder = parent / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not folder.is_dir():
        with work_folder(parent) as made:
            (made / FACTS).write_text(json.dumps(convert(made) or {}, sort_keys=True))
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was quicker, with the same
                    raise
    return folder, json.loads((folder / FACTS).read_text())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # which the conversion says, and what to do
        return None
