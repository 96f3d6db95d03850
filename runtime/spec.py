"""ModelSpec: everything a runtime must know of a model beside its weights.

The spec travels as JSON, in the metadata of the ONNX file (key :data:`METADATA_KEY`) and in the
manifest of a bundle. This module is its only reader and writer. Unknown keys are ignored, so that
a later version may add optional ones without a new schema number; a higher schema number is
refused, because then a meaning has changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.errors import ShiftedgeError, SpecError
from shiftedge.runtime.words import plain, shown

SCHEMA = 1
"""Version of the JSON form. Raised when a reader that does not know a key would misread a model."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""What a model's convolutions may multiply in; "int8" with int32 sums, and some layers in float32
where that was more accurate; "bf16" and, on GPUs, "fp16" with float32 sums, in compiled bundles
alone."""

_ELEMENTS = {
    "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16, "uint8": np.uint8,
}  # fmt: skip
"""A state's ``dtype`` -> what numpy holds it in: bfloat16 as its bits."""

METADATA_KEY = "shiftedge.spec"
"""Key of the spec in an ONNX file's ``metadata_props``."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB mean and standard deviation of pixel / 255, as the TSM paper's code trains with."""


@dataclass(frozen=True)
class StateSpec:
    """One cached tensor. ``shape`` is NCHW, with N = 1.

    An element q stands for the number ``scale * (q - zero_point)``; a fresh stream holds
    ``zero_point`` everywhere, which is the number 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    """``float32`` or ``bfloat16``, both of scale 1 and zero point 0, or ``uint8``."""
    scale: float = 1.0
    """A float32 above 0."""
    zero_point: int = 0
    """0..255."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of all elements."""
        return self.size * np.dtype(_ELEMENTS[self.dtype]).itemsize

    def fresh(self) -> NDArray[Any]:
        """What a fresh stream holds, of ``dtype`` and ``shape``; bfloat16 as uint16 bits."""
        return np.full(self.shape, self.zero_point, _ELEMENTS[self.dtype])

    def numbers(self, state: NDArray[Any]) -> NDArray[np.float32]:
        """What the elements of ``state`` stand for: float32; a float32 state itself."""
        if self.dtype == "float32":
            return np.asarray(state, np.float32)
        if self.dtype == "bfloat16":  # the upper half of a float32
            bits = state.astype(np.uint32) << np.uint32(16)
            return np.asarray(bits.view(np.float32))
        steps = state.astype(np.float32) - np.float32(self.zero_point)
        return np.asarray(steps * np.float32(self.scale), np.float32)


@dataclass(frozen=True)
class DecoderSettings:
    """How logits over time become events; see ``live.decode.GestureDecoder``.

    Probabilities are in 0..1, times in seconds.
    """

    smoothing_s: float = 0.15
    """Time constant of the exponential average over probabilities; 0 switches it off."""
    enter: float = 0.6
    """Smoothed probability at which a gesture begins to count."""
    exit: float = 0.3
    """Smoothed probability below which a gesture has ended. Above 0, at most ``enter``."""
    min_duration_s: float = 0.08
    """How long a gesture must stay at or above ``exit`` after entry before it is reported."""
    rearm_s: float = 0.5
    """Least time from the end of an event until the next one of any label may begin."""


@dataclass(frozen=True)
class ModelSpec:
    """Description of one streaming model.

    Sizes in pixels, times in seconds, rates in Hz. ``mean`` and ``std`` are per channel in RGB
    order, for pixels divided by 255.
    """

    name: str
    labels: tuple[str, ...]
    height: int
    width: int
    resize_short_side: int
    """The camera frame is scaled so that this many pixels cover its short side, then the centre
    ``height`` x ``width`` is cut out; raised as needed so that the frame covers the crop."""
    states: tuple[StateSpec, ...]
    receptive_field: int
    """Frames that one prediction can depend on, the current one included."""
    frame_rate_hz: float = 12.0
    """Frames per second that the model was trained at (Jester: 12)."""
    max_gap_s: float = 1.0
    """A longer pause between frames empties the states."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    silent_labels: tuple[str, ...] = ()
    """Labels that never become an event, such as "No gesture"."""
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    precision: str = "fp32"
    """One of :data:`PRECISIONS`."""

    def __post_init__(self) -> None:
        for key in _TUPLES:
            value = getattr(self, key)
            if isinstance(value, list):  # as good, but specs are compared and hashed
                object.__setattr__(self, key, tuple(value))
        _check(self)

    @property
    def classes(self) -> int:
        """Number of labels, which is the length of the logits."""
        return len(self.labels)

    @property
    def state_size(self) -> int:
        """Number of elements in all states together."""
        return sum(state.size for state in self.states)

    @property
    def state_bytes(self) -> int:
        """Bytes of all states together."""
        return sum(state.bytes for state in self.states)

    def differs_from(self, other: ModelSpec) -> tuple[str, ...]:
        """Keys in which two specs are not of one network in two precisions.

        Precisions may differ in ``precision`` itself, in ``std``, which quantising makes equal for
        the three colours, and in what a state's elements are; not in their names and shapes.
        """
        may = ("precision", "std", "states")
        keys = [key for key in self.__dataclass_fields__ if key not in may]
        found = [key for key in keys if getattr(self, key) != getattr(other, key)]
        mine, others = ([(s.name, s.shape) for s in each.states] for each in (self, other))
        return (*found, *(("states",) if mine != others else ()))

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Of the ONNX file, by name: type of the elements, and shape."""
        return {"frame": ("float32", (1, 3, self.height, self.width)), **self._named("state")}

    @property
    def outputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The same of what a step gives."""
        return {"logits": ("float32", (1, self.classes)), **self._named("next_state")}

    def _named(self, what: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {f"{what}_{i}": (each.dtype, each.shape) for i, each in enumerate(self.states)}

    def to_json(self, indent: int | None = None) -> str:
        """The spec as JSON text, keys in a fixed order."""
        return json.dumps({**asdict(self), "schema": SCHEMA}, indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse and check JSON text.

        Raises:
            SpecError: not JSON, from a newer schema, or a field is missing or out of range.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(
                f"The model's spec is not valid JSON ({error}); export the model again."
            ) from error
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, document: object) -> ModelSpec:
        """Build a spec from parsed JSON; raises :class:`SpecError` as :meth:`from_json` does."""
        if not isinstance(document, Mapping):
            raise SpecError(
                f"The model's spec is a {type(document).__name__}; expected a JSON object."
            )
        schema: Any = document.get("schema")
        if not is_whole(schema, 1, math.inf):
            raise SpecError(
                f"The model's spec has schema {shown(schema)}; expected a number from 1."
            )
        if schema > SCHEMA:
            raise SpecError(
                f"The model's spec has schema {schema}, and this shiftedge reads up to {SCHEMA}: "
                "upgrade shiftedge, or export the model again with this version."
            )
        states = tuple(_state(entry) for entry in _list(document, "states"))
        known = cls.__dataclass_fields__
        values: dict[str, Any] = {key: document[key] for key in document if key in known}
        for key in ("labels", "silent_labels", "mean", "std"):
            if key in values:
                values[key] = tuple(_list(document, key))
        values["states"] = states
        if "decoder" in values:
            values["decoder"] = _decoder(values["decoder"])
        try:
            return cls(**values)
        except TypeError as error:  # a missing field
            raise SpecError(
                f"The model's spec is incomplete ({error}); export the model again."
            ) from error


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise SpecError(f"The model's spec has {key} = {shown(value)}; expected a list.")
    return value


def _state(entry: object) -> StateSpec:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("shape"), list):
        raise SpecError(
            f"The model's spec has a state {shown(entry)}; expected a name and a shape."
        )
    more = {key: entry[key] for key in ("dtype", "scale", "zero_point") if key in entry}
    return StateSpec(name=entry.get("name", ""), shape=tuple(entry["shape"]), **more)


def _decoder(entry: object) -> DecoderSettings:
    if not isinstance(entry, Mapping):
        raise SpecError(f"The model's spec has decoder = {shown(entry)}; expected an object.")
    known = DecoderSettings.__dataclass_fields__
    return DecoderSettings(**{key: entry[key] for key in entry if key in known})


Need = Callable[[bool, str, object, str], None]
"""Refuses where its first argument is false: what, which value, what was expected."""


def requirement(error: type[ShiftedgeError], document: str, end: str = ".") -> Need:
    """How a reader of ``document`` refuses: with ``error``, in a sentence that ends so."""

    def need(holds: bool, what: str, value: object, expected: str) -> None:
        if not holds:
            raise error(f"{document} has {what} = {shown(value)}; expected {expected}{end}")

    return need


def is_number(value: object, low: float, high: float) -> bool:
    """A number in that range; NaN is in none, and a whole one may be too large for a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def is_whole(value: object, low: float, high: float) -> bool:
    """A whole number in that range."""
    return isinstance(value, int) and is_number(value, low, high)


def _one_of(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


_TUPLES = ("labels", "silent_labels", "states", "mean", "std")
_PIXELS = (1, 8192, "a whole number of pixels from 1 to 8192")
_WHOLE = {
    "height": _PIXELS,
    "width": _PIXELS,
    "resize_short_side": _PIXELS,
    "receptive_field": (1, 100_000, "a whole number of frames from 1"),
}
_PROBABILITY = (0.0, 1.0, "a probability from 0 to 1")
_SECONDS = (0.0, 3600.0, "seconds from 0 to 3600")
_DECODER = {
    "enter": _PROBABILITY,
    "exit": _PROBABILITY,
    "smoothing_s": _SECONDS,
    "min_duration_s": _SECONDS,
    "rearm_s": _SECONDS,
}
need = requirement(SpecError, "The model's spec")


def _check_state(state: StateSpec) -> None:
    """What the elements are, and what they stand for."""
    what = f"state {plain(state.name, 60)} of"
    shape, dtype, scale, zero = state.shape, state.dtype, state.scale, state.zero_point
    good = isinstance(shape, tuple) and len(shape) >= 1
    good = good and all(is_whole(side, 1, 1 << 24) for side in shape)
    need(good, f"{what} shape", shape, "positive whole numbers")
    need(isinstance(dtype, str) and dtype in _ELEMENTS, f"{what} dtype", dtype, _one_of(_ELEMENTS))
    if dtype != "uint8":
        need(scale == 1.0, f"{what} scale", scale, f"1 for {dtype}")
        need(zero == 0, f"{what} zero_point", zero, f"0 for {dtype}")
    need(is_number(scale, 1e-30, 1e30), f"{what} scale", scale, "a number above 0")
    good = is_whole(zero, 0, 255)
    need(good, f"{what} zero_point", zero, "a whole number from 0 to 255")


def _check(spec: ModelSpec) -> None:
    """Raise SpecError for the first field that is out of range; say which, and what it may be."""
    need(isinstance(spec.name, str) and bool(spec.name), "name", spec.name, "some text")
    for key in _TUPLES:
        values = getattr(spec, key)
        need(isinstance(values, tuple), key, values, "a tuple")  # a text would be its letters
    decoder, labels = spec.decoder, spec.labels
    need(isinstance(decoder, DecoderSettings), "decoder", decoder, "a DecoderSettings")
    good = len(labels) > 0 and all(isinstance(label, str) and label for label in labels)
    need(good, "labels", labels, "a list of names")
    need(len(set(labels)) == len(labels), "labels", labels, "each name once")
    strange = [label for label in spec.silent_labels if label not in labels]
    need(not strange, "silent_labels", strange, "names that are among the labels")
    for key, (least, most, expected) in _WHOLE.items():
        need(is_whole(getattr(spec, key), least, most), key, getattr(spec, key), expected)
    good = all(isinstance(state, StateSpec) for state in spec.states)
    need(good, "states", spec.states, "a StateSpec for each")
    names = [state.name for state in spec.states]
    good = all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)
    need(good, "states", names, "a different name for each")
    for state in spec.states:
        _check_state(state)
    precision, rate_hz, gap_s = spec.precision, spec.frame_rate_hz, spec.max_gap_s
    good = isinstance(precision, str) and precision in PRECISIONS
    need(good, "precision", precision, _one_of(PRECISIONS))
    need(is_number(rate_hz, 0.01, 1000.0), "frame_rate_hz", rate_hz, "a rate from 0.01 to 1000")
    good = is_number(gap_s, 0.0, 1e6) and gap_s * rate_hz >= 1.0
    need(good, "max_gap_s", gap_s, "a time of at least one frame")
    for key, low, above in (("mean", -1e6, ""), ("std", 1e-6, " above 0")):
        values = getattr(spec, key)
        good = len(values) == 3 and all(is_number(value, low, 1e6) for value in values)
        need(good, key, values, f"three numbers (R, G, B){above}")
    for key, (low, high, expected) in _DECODER.items():
        value = getattr(decoder, key)
        need(is_number(value, low, high), f"decoder.{key}", value, expected)
    need(decoder.exit > 0, "decoder.exit", decoder.exit, "above 0, or no gesture would ever end")
    need(decoder.exit <= decoder.enter, "decoder.exit", decoder.exit, "at most decoder.enter")
