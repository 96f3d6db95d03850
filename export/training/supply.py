"""Where the clips of each step come from: sets that are kept, clips that are rendered as they are
needed, and several of both mixed.

All that is drawn for a step depends on the seed and the step's number alone, so that a training
that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.clip_set import ClipSet, joined

AHEAD = 4
"""Steps that are made ready before their turn: some clips take three times as long as others."""

_ORDER, _MIX, _VARIATIONS = 5, 6, 7
"""What a seed draws."""

T = TypeVar("T")


class Supply(Protocol):
    """Clips by number."""

    def __len__(self) -> int:
        """Clips in a pass."""

    @property
    def hands(self) -> bool:
        """Whether the clips come with where hands are."""

    def begin(self, passed: int, rows: NDArray[np.int64]) -> Callable[[], ClipSet]:
        """Begin to make clips ``rows``, int64 (N,), of a pass, counted from 0; what is returned
        waits for them. Clips that are kept are the same in each pass."""


@dataclass(frozen=True)
class KeptClips:
    """A set of clips."""

    clips: ClipSet

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def hands(self) -> bool:
        """See :class:`Supply`."""
        return self.clips.hands is not None

    def begin(self, passed: int, rows: NDArray[np.int64]) -> Callable[[], ClipSet]:
        """See :class:`Supply`."""
        return lambda: self.clips.take(rows)


@dataclass(frozen=True)
class Mixture:
    """The clips of one or several supplies, drawn in an order that ``seed`` fixes."""

    parts: tuple[Supply, ...]
    names: tuple[str, ...]
    """The labels of all parts."""
    seed: int
    shares: tuple[float, ...] | None = None
    """Of each part in a pass; None: each clip once."""

    def __len__(self) -> int:
        """Clips in a pass."""
        return sum(self._counts())

    @property
    def hands(self) -> bool:
        """Whether all clips come with where hands are."""
        return all(part.hands for part in self.parts)

    def _counts(self) -> list[int]:
        if self.shares is None:
            return [len(part) for part in self.parts]
        whole = sum(len(part) for part in self.parts) / sum(self.shares)
        return [max(1, round(whole * share)) for share in self.shares]

    def plan(self, passed: int) -> NDArray[np.int64]:
        """What a pass draws: int64 (clips, 3) of part, pass over that part, and clip. A part that
        is drawn more often than it has clips begins another pass over itself."""
        drawn = []
        for number, (part, count) in enumerate(zip(self.parts, self._counts(), strict=True)):
            over, row = np.divmod(passed * count + np.arange(count), len(part))
            for one in np.unique(over):
                rng = np.random.default_rng((self.seed, _ORDER, number, int(one)))
                row[over == one] = rng.permutation(len(part))[row[over == one]]
            drawn.append(np.stack((np.full(count, number), over, row), axis=1))
        everything: NDArray[np.int64] = np.concatenate(drawn)
        return np.random.default_rng((self.seed, _MIX, passed)).permutation(everything)

    def begin(self, draws: NDArray[np.int64]) -> Callable[[], ClipSet]:
        """Begin to make the clips of some rows of a plan, :func:`in_order`."""
        parts = []
        for number, over in np.unique(draws[:, :2], axis=0).tolist():
            chosen = (draws[:, 0] == number) & (draws[:, 1] == over)
            parts.append(self.parts[number].begin(over, draws[chosen, 2]))
        return lambda: joined([part() for part in parts])

    def digest(self) -> str:
        """Of how many clips each part has and is drawn, and of the names and labels of those that
        are kept: the same in a training that goes on."""
        drawn = hashlib.sha256(repr((self.shares, [len(part) for part in self.parts])).encode())
        for part in self.parts:
            if isinstance(part, KeptClips):
                drawn.update(part.clips.labels.tobytes())
                names = "\n".join(path.name for path in part.clips.paths)
                drawn.update(names.encode("utf-8", "surrogateescape"))
        return drawn.hexdigest()[:16]

    def variations(self, step: int) -> np.random.Generator:
        """Draws how the clips of a step are varied."""
        return np.random.default_rng((self.seed, _VARIATIONS, step))


@dataclass(frozen=True)
class Turn(Generic[T]):
    """A step of the training, made ready."""

    step: int
    """Counted from 0 over all passes."""
    passed: int
    """Whole passes before it."""
    last: bool
    """Whether a pass ends with it."""
    ready: T


def in_order(draws: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of a plan as :meth:`Mixture.begin` gives their clips: by part and pass over it."""
    return draws[np.lexsort((draws[:, 1], draws[:, 0]))]


def steps_of(mixture: Mixture, batch: int) -> int:
    """Steps in a pass; each takes ``batch`` clips, the last one what is left."""
    return math.ceil(len(mixture) / batch)


def turns(
    mixture: Mixture,
    batch: int,
    first: int,
    passes: int,
    make: Callable[[int, int, NDArray[np.int64], ClipSet], T],
) -> Generator[Turn[T], None, None]:
    """The steps of a training from step ``first`` on, each made while those before it are taken.

    Args:
        make: of step, pass, the clips' rows of the plan and the clips, in a thread; all that it
            draws hangs on these.
    """
    steps = steps_of(mixture, batch)
    plans: dict[int, NDArray[np.int64]] = {}

    def begin(step: int) -> Callable[[], Turn[T]]:
        passed, within = divmod(step, steps)
        if passed not in plans:
            plans.clear()
            plans[passed] = mixture.plan(passed)
        draws = in_order(plans[passed][within * batch : (within + 1) * batch])
        clips = mixture.begin(draws)
        return lambda: Turn(step, passed, within == steps - 1, make(step, passed, draws, clips()))

    ahead: deque[Future[Turn[T]]] = deque()
    thread = ThreadPoolExecutor(1, "shiftedge batch")
    try:
        for step in range(first, passes * steps):
            ahead.append(thread.submit(begin(step)))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
