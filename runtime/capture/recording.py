"""Clips of a person's own gestures: taken from a source, looked over, and kept in a folder.

::

    DATA/<label>/clip-001.avi           what `shiftedge train` and `shiftedge personalise` read

A :class:`Recorder` knows no screen and no keys: whoever shows frames and asks (the command
``record``, a page in a browser) takes clips with it, says what :meth:`Recorder.complaints` finds,
and keeps them or does not. A clip is on the disk, whole, as soon as it is kept, so nothing that
happens to the camera later costs one.

Files are motion JPEG in AVI at the rate that the camera had: every OpenCV reads it, a frame can be
had by itself, and 3 s of 640x480 take 3 MB at 37 dB, which is far above what is left of a frame at
a model's size. FFV1, without any loss, takes ten times the room, and five times the time to write.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftedge.runtime.capture.base import TimedFrame, opencv
from shiftedge.runtime.capture.film_writer import FilmWriter
from shiftedge.runtime.capture.folder import natural_key
from shiftedge.runtime.capture.video import open_video
from shiftedge.runtime.errors import DataError, ShiftedgeError
from shiftedge.runtime.process.files import output_folder
from shiftedge.runtime.words import plain, shown

Image = NDArray[np.uint8]
"""uint8 (height, width, 3), BGR."""
Signature = NDArray[np.float32]
"""float32 (MOMENTS, 12, 16): brightness of a clip at even moments, 0..255."""

SUFFIX = ".avi"
MOMENTS = 12
SHORTEST = 0.6
"""Share of the length asked for: less is a source that ended."""
SLOWEST_HZ = 5.0
"""Fewer frames a second show no movement of half a second."""
LONGEST_PAUSE_S = 0.6
"""Between two frames of one clip."""
DARKEST, BRIGHTEST = 32.0, 225.0
"""Mean brightness: below, a hand cannot be told from the noise of a webcam; above, it has none."""
LEAST_MOTION = 18.0
"""Levels by which some part of the picture, a sixteenth of its width, leaves its middle value. A
head that sways gives 15, a lamp that flickers 3, a hand that gestures 40 and more."""
ALIKE = 0.3
"""Mean difference of two clips over their mean movement. The same film twice gives 0, two
performances of one gesture by one person 0.6 and more."""
EARLIER_MOST = 30
"""Clips of the label, the last ones, that a new one is compared with."""
LABEL_BYTES_MOST = 120
_NUMBER = re.compile(rf"clip-([0-9]+){re.escape(SUFFIX)}")


@dataclass(frozen=True)
class Take:
    """One clip as the source gave it."""

    images: tuple[Image, ...]
    times_s: tuple[float, ...]
    """On the source's clock, not going back."""
    wanted_s: float
    ended: bool = False
    """Whether the source ended meanwhile."""

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return self.times_s[-1] - self.times_s[0] if self.times_s else 0.0

    @property
    def rate_hz(self) -> float:
        """Mean rate of the frames; 0 where there are too few to tell."""
        return (len(self.images) - 1) / self.seconds if self.seconds > 0.0 else 0.0

    def even(self) -> Iterator[Image]:
        """The frames at even times, the nearest each: some twice where the camera paused."""
        times = np.array(self.times_s) - self.times_s[0]
        count = len(self.images)
        for tick in np.linspace(0.0, times[-1], count):
            yield self.images[int(np.abs(times - tick).argmin())]


def take(frames: Iterable[TimedFrame], seconds: float) -> Take:
    """The next ``seconds`` of a source, or what is left of it.

    Raises:
        SourceError, SourceLostError: of the source.
    """
    images: list[Image] = []
    times: list[float] = []
    for frame in frames:
        images.append(frame.image)
        times.append(frame.time_s)
        if times[-1] - times[0] >= seconds:
            return Take(tuple(images), tuple(times), seconds)
    return Take(tuple(images), tuple(times), seconds, ended=True)


def signature(images: Sequence[Image]) -> Signature:
    """What a clip is compared by; ``images`` are at least one, at even times."""
    cv2 = opencv()
    chosen = np.linspace(0, len(images) - 1, MOMENTS).round().astype(int)
    small = [
        cv2.resize(cv2.cvtColor(images[i], cv2.COLOR_BGR2GRAY), (16, 12), interpolation=3)
        for i in chosen
    ]
    return np.stack(small).astype(np.float32)


def motion(clip: Signature) -> NDArray[np.float32]:
    """(12, 16): how far each part of the picture leaves its middle value, in levels."""
    away: NDArray[np.float32] = np.abs(clip - np.median(clip, axis=0)).max(axis=0)
    return away


def alike(one: Signature, other: Signature) -> bool:
    """Whether two clips are nearly the same film."""
    moved = 0.5 * sum(float(np.abs(c - np.median(c, axis=0)).mean()) for c in (one, other))
    return float(np.abs(one - other).mean()) < ALIKE * moved


def checked_label(label: str) -> str:
    """A label that can be a folder's name.

    Raises:
        DataError: it cannot.
    """
    bad = (
        not label.strip()
        or label != label.strip()
        or label.startswith(".")
        or "/" in label
        or "\\" in label
        or plain(label) != label
        or len(label.encode("utf-8", "surrogateescape")) > LABEL_BYTES_MOST
    )
    if bad:
        raise DataError(
            f"{shown(label)} cannot be a label; expected a short name without slashes, line breaks "
            'and a dot in front, such as "Finger Snap".'
        )
    return label


def labels_of(data: Path) -> dict[str, int]:
    """The labels that a data folder has, and how many recorded clips each; none where there is no
    such folder.

    Raises:
        DataError: the folder cannot be read.
    """
    if not data.exists():
        return {}
    try:
        folders = [path for path in data.iterdir() if path.is_dir()]
        kept = {path.name: sum(1 for each in path.iterdir() if _is_kept(each)) for path in folders}
    except OSError as error:
        raise DataError(f"Cannot read {data}: {error.strerror or error}.") from error
    return {name: kept[name] for name in sorted(kept, key=natural_key) if name[0] != "."}


def _is_kept(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() not in _ASIDE)


_ASIDE = frozenset({".txt", ".md", ".json", ".csv", ".png", ".jpg", ""})
"""Files beside clips."""


@dataclass
class Recorder:
    """Takes clips of one label into ``data``; a label that is there already gets more.

    Args:
        data: the folder of all labels; made when the first clip is kept.
        label: of these clips, as the folder is called.
        still: clips without movement are as good, as of "No gesture".

    Raises:
        DataError: the label cannot be one, or is there in other letters.
    """

    data: Path
    label: str
    still: bool = False
    kept: list[Path] = field(default_factory=list)
    """What was kept by this recorder, in order."""

    def __post_init__(self) -> None:
        checked_label(self.label)
        twins = [
            name
            for name in labels_of(self.data)
            if name != self.label and name.casefold() == self.label.casefold()
        ]
        if twins:
            raise DataError(
                f"{self.data} has the label {twins[0]!r}, and {self.label!r} differs from it in "
                f"upper and lower case alone: record with --label {twins[0]!r}, or choose another "
                "name."
            )
        self._earlier: dict[Path, Signature] | None = None

    @property
    def folder(self) -> Path:
        """Where the clips of the label lie."""
        return self.data / self.label

    def complaints(self, clip: Take) -> list[str]:
        """A sentence for each thing that makes a clip a bad example; none: it is good."""
        if len(clip.images) < 2 or clip.seconds < SHORTEST * clip.wanted_s:
            return [
                f"The clip is too short: {len(clip.images)} frames in {clip.seconds:.1f} s of "
                f"{clip.wanted_s:g} s; the source ended."
                if clip.ended
                else f"The clip is too short: {clip.seconds:.1f} s of {clip.wanted_s:g} s."
            ]
        found = []
        if clip.rate_hz < SLOWEST_HZ:
            found.append(
                f"The camera gives {clip.rate_hz:.1f} frames a second, expected {SLOWEST_HZ:g} or "
                "more: more light makes most cameras faster."
            )
        pause = max(b - a for a, b in itertools.pairwise(clip.times_s))
        if clip.rate_hz >= SLOWEST_HZ and pause > LONGEST_PAUSE_S:
            found.append(f"The camera paused for {pause:.1f} s in the middle of the clip.")
        seen = signature(clip.images)
        light = float(seen.mean())
        if light < DARKEST:
            found.append(
                f"It is too dark: brightness {light:.0f} of 255, expected {DARKEST:.0f} or more; "
                "switch a lamp on."
            )
        elif light > BRIGHTEST:
            found.append(
                f"It is too bright: brightness {light:.0f} of 255, expected {BRIGHTEST:.0f} or "
                "less; turn the camera away from the light."
            )
        moved = float(motion(seen).max())
        if not self.still and moved < LEAST_MOTION:
            found.append(
                "Nothing moves in the clip; come nearer to the camera, or begin sooner after the "
                "countdown."
            )
        elif not self.still and (twin := self._twin(seen)) is not None:
            found.append(
                f"The clip is nearly the same as {twin.name}; another one teaches more: vary the "
                "place, the speed and the hand's way."
            )
        return found

    def keep(self, clip: Take) -> Path:
        """Write a clip, which then lies there whole.

        Returns:
            Its file, of a number that is new in the folder.

        Raises:
            OutputError: it cannot be written, as on a full disk; earlier clips are untouched.
            MissingExtraError: OpenCV is not installed.
        """
        earlier = self._signatures()
        output_folder(self.folder)
        numbers = [int(found[1]) for found in map(_NUMBER.fullmatch, self._names()) if found]
        path = self.folder / f"clip-{max(numbers, default=0) + 1:03d}{SUFFIX}"
        height, width = clip.images[0].shape[:2]
        with FilmWriter(path, (width - width % 2, height - height % 2), clip.rate_hz) as film:
            for image in clip.even():
                film.write(image)
        earlier[path] = signature(clip.images)
        self.kept.append(path)
        return path

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []

    def _twin(self, seen: Signature) -> Path | None:
        earlier = self._signatures().items()
        return next((path for path, other in earlier if alike(seen, other)), None)

    def _signatures(self) -> dict[Path, Signature]:
        """Of the clips that the label has; read once."""
        if self._earlier is None:
            self._earlier = {}
            names = sorted(filter(_NUMBER.fullmatch, self._names()), key=natural_key)
            for name in names[-EARLIER_MOST:]:
                try:
                    with open_video(self.folder / name, on_event=lambda _: None) as video:
                        images = [frame.image for frame in video]
                except ShiftedgeError:  # no reason not to record another
                    continue
                self._earlier[self.folder / name] = signature(images)
        return self._earlier
