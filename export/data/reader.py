"""A clip's frames at a model's rate and size, by the time stamps of the recording.

The model's ticks stand ``1 / rate`` apart from the first frame on, as in
:mod:`shiftedge.runtime.live.clock`, and each takes the frame nearest to it. Unlike a live stream, a
recording shows when its next frame comes, so a frame that is held (a pause of a screen recording,
a long delay in a GIF) stays until half a usual period before the next one::

    frames   |  |  |  |              |  |  |
    ticks    T   T   T   T   T   T   T   T
    shown    0   1   3   3   3   3   4   5

Frames are fitted by the runtime's own preprocessor as they come; at any time two images
of the camera's size are alive here, whatever the length of the recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.live.clock import TOLERANCE_S, FrameClock

Images = NDArray[np.uint8]

Fit = Callable[[Images], Images]
"""Makes a frame of the model's size of one of any size: uint8 (h, w, 3) to (H, W, 3), BGR."""

LONGEST_USUAL_S = 1.0
"""A longer interval is a frame that was held, and says nothing of the recording's rate."""


def on_ticks(frames: Iterable[TimedFrame], rate_hz: float) -> Iterator[TimedFrame]:
    """The frame of each tick of a recording whose times never go back, in order: some left out, or
    the same one several times in a row."""
    clock = FrameClock(rate_hz, max(LONGEST_USUAL_S, 1.0 / rate_hz))
    ticks = 0
    start_s = 0.0
    held: TimedFrame | None = None

    def due(until_s: float) -> int:
        """How many ticks there are up to then, less those that were given."""
        return max(0, int((until_s - start_s + TOLERANCE_S) * rate_hz) + 1 - ticks)

    for frame in frames:
        clock.tick(frame.time_s)
        if held is None:
            start_s = frame.time_s
        else:
            before_s = 0.5 * min(frame.time_s - held.time_s, clock.period_s)
            before_s = max(before_s, 2.0 * TOLERANCE_S)  # its own tick at least
            for _ in range(due(frame.time_s - before_s)):
                ticks += 1
                yield held
        held = frame
        del frame  # or it would live on while the next one is read
    if held is not None:
        for _ in range(due(held.time_s + 0.5 * clock.period_s)):
            ticks += 1
            yield held


def fitted(frames: Iterable[TimedFrame], fit: Fit) -> Iterator[Images]:
    """Each frame through ``fit``, and in memory of its own; one that is held is fitted once."""
    shown = -1
    for frame in frames:
        if frame.index != shown:
            shown = frame.index
            image = np.array(fit(frame.image))
        del frame
        yield image


def middle_frames(
    opener: Callable[[], FrameSource], rate_hz: float, fit: Fit, most: int
) -> tuple[list[Images], int]:
    """The middle of a clip.

    A clip whose middle cannot be known while it is read, since it is more than three times as long
    as what is wanted of it, is read twice instead of being kept whole.

    Args:
        opener: opens the clip, each time at its beginning.
        most: frames wanted; a shorter clip gives all that it has.

    Returns:
        Its frames, each uint8 (H, W, 3), and how many the whole clip has at ``rate_hz``.

    Raises:
        DataError: it has no frame.
        SourceError, FrameError: it cannot be opened or read.
    """
    kept: deque[Images] = deque()
    count = 0
    with closing(opener()) as source:
        name = source.name
        ticks = on_ticks(source, rate_hz)
        for image in fitted(ticks, fit):
            kept.append(image)
            count += 1
            if len(kept) + (count - most) // 2 > count:  # however long it is, not in the middle
                kept.popleft()
            if len(kept) > 2 * most:
                kept.clear()
                count += sum(1 for _ in ticks)
                break
    if not count:
        raise DataError(f"{name} gives no frames; remove it, or convert it to MP4.")
    if not kept:
        first = (count - most) // 2
        with closing(opener()) as source:
            ticks = islice(on_ticks(source, rate_hz), first, first + most)
            kept.extend(fitted(ticks, fit))
    return list(kept)[:most], count
