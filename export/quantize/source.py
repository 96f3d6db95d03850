"""Clips to calibrate on, whatever a user names, as frames of the model's size and rate; and frames
of their kind to prove the result on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from shiftedge.export.data.files import Clip, clips_in, has_pictures, open_clip, path_bytes
from shiftedge.export.data.layouts import find_data
from shiftedge.export.data.lists import LIST_SUFFIXES
from shiftedge.export.data.reader import Images, fitted, on_ticks
from shiftedge.export.data.rendered import SYNTHETIC, film_for, synthetic_clips
from shiftedge.runtime.capture import FrameSource, TimedFrame, open_source
from shiftedge.runtime.capture.source import parse_source
from shiftedge.runtime.capture.synthetic.moving import MovingScene
from shiftedge.runtime.errors import DataError, FrameError, SourceError
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.process.files import expanded
from shiftedge.runtime.process.progress import progress
from shiftedge.runtime.spec import ModelSpec

FRAMES = 480
"""Taken for calibration unless told otherwise: 20 rendered clips of 24 frames. Measured on the
bundled model: 240 frames and 960 give scales within a few percent of these."""

FRAMES_LEAST = 64
"""Fewer do not show what a stream's states can hold."""

CLIP_MOST = 120
"""Frames taken of one clip among several, so that one long film does not speak for all."""

CLIP_FRAMES = 24
"""Of a rendered clip."""

SEED = 77
"""Of rendered clips; the split's name keeps them apart from those of training."""

PROOF_SEED = 9_000
"""Of rendered films that nothing was calibrated on."""

FOLDERS = 3
"""Levels of folders in which clips are looked for: DATA/train/label is the deepest in use."""


@dataclass(frozen=True)
class Clips:
    """What to calibrate on."""

    source: str
    """As the user typed it."""
    clips: tuple[Images, ...]
    """Each uint8 (frames, H, W, 3), BGR, of the model's size and at its rate."""
    notes: tuple[str, ...] = ()
    """A sentence for each clip that was left out."""
    film: str | None = None
    """Kind of a rendered source, see ``synthetic:KIND``; None: clips of a user's own."""

    @property
    def frames(self) -> int:
        return sum(len(clip) for clip in self.clips)


def read_clips(source: str, spec: ModelSpec, *, frames: int = FRAMES) -> Clips:
    """Open ``source`` and read clips from it until there are ``frames`` frames.

    Args:
        source: a folder or list of clips as :func:`shiftedge.export.data.find_data` knows them, a
            folder of clips without labels, a folder of pictures, ``synthetic:`` for rendered clips,
            or any other source of frames, which is one clip.
        frames: to stop at; from :data:`FRAMES_LEAST`.

    Raises:
        DataError: no clips, too few frames, most clips unreadable, or frames that are all alike.
        SourceError: the source does not exist or is of no known form.
        MissingExtraError: OpenCV is needed and not installed.
    """
    if frames < FRAMES_LEAST:
        raise DataError(f"{frames} frames were asked for; expected at least {FRAMES_LEAST}.")
    fit = Preprocessor(spec).fit
    with progress("reading clips", frames, "frames") as advance:

        def take(opened: FrameSource, most: int) -> Images:
            """The first frames of a source at the model's rate and size."""
            taken: list[Images] = []
            with closing(opened):
                ticks = on_ticks(_of_one_size(opened), spec.frame_rate_hz)
                for image in islice(fitted(ticks, fit), most):
                    taken.append(image)
                    advance(1)
            if not taken:
                raise DataError(f"{opened.name} gives no frames; remove it, or convert it to MP4.")
            return np.stack(taken)

        path = expanded(source)
        is_list = path.is_file() and path.suffix.lower() in LIST_SUFFIXES
        if source.strip() in (SYNTHETIC, SYNTHETIC.rstrip(":")):
            rendered = tuple(_rendered(spec, frames, advance))
            return checked(Clips(source, rendered, film="gestures"))
        if not path.is_dir() and not is_list:
            named = parse_source(source)
            film = named.target if named.kind == "synthetic" else None
            return checked(Clips(source, (take(open_source(source), frames),), film=film))
        found, notes = _find(path)
        if found == [Clip("", path)]:
            return checked(Clips(source, (take(open_clip(path), frames),)))
        return checked(_read_all(source, found, notes, take, frames))


def proof_images(clips: Clips, spec: ModelSpec, frames: int) -> Iterator[Images]:
    """Moving frames of the kind that was calibrated on: of a rendered source another film, of
    anything else its clips one after another, again and again."""
    if clips.film is None:
        yield from islice(cycle(np.concatenate(clips.clips)), frames)
        return
    height, width = spec.height, spec.width
    if clips.film == "moving":
        yield from map(MovingScene(PROOF_SEED, height=height, width=width).frame_at, range(frames))
        return
    seconds = frames / spec.frame_rate_hz + 1.0
    yield from islice(film_for(spec, PROOF_SEED, seconds, gestures=clips.film != "still"), frames)


def _read_all(
    source: str,
    found: list[Clip],
    notes: list[str],
    take: Callable[[FrameSource, int], Images],
    frames: int,
) -> Clips:
    clips: list[Images] = []
    bad: list[str] = []
    total = 0
    for each in found:
        if total >= frames:
            break
        try:
            opened = open_clip(each.path, each.frames, on_event=notes.append)
            clip = take(opened, min(CLIP_MOST, frames - total))
        except (SourceError, DataError, FrameError) as error:
            bad.append(f"{each.path} was left out: {error}")
            continue
        clips.append(clip)
        total += len(clip)
    if len(bad) > len(clips):
        raise DataError(
            f"{len(bad)} of {len(bad) + len(clips)} clips in {source} cannot be read; expected "
            f"most of them to be good. The first: {bad[0]}"
        )
    return Clips(source, tuple(clips), (*notes, *bad))


def checked(clips: Clips) -> Clips:
    """``clips``, where they are enough and move.

    Raises:
        DataError: they are not.
    """
    if clips.frames < FRAMES_LEAST:
        raise DataError(
            f"{clips.source} gives {clips.frames} frames in {len(clips.clips)} clips at the "
            f"model's rate; calibration needs at least {FRAMES_LEAST}: add clips, or longer ones."
        )
    first = clips.clips[0][0]
    if all((clip == first).all() for clip in clips.clips):
        raise DataError(
            f"All {clips.frames} frames of {clips.source} are the same picture; expected clips "
            "with movement, since still ones do not show what the states can hold."
        )
    return clips


def _rendered(spec: ModelSpec, frames: int, advance: Callable[[int], None]) -> Iterator[Images]:
    rendered = synthetic_clips(
        math.ceil(frames / CLIP_FRAMES),
        spec,
        seed=SEED,
        split="calibration",
        frames=CLIP_FRAMES,
        advance=lambda count: advance(CLIP_FRAMES * count),
    )
    yield from (np.array(clip) for clip in rendered.frames)


def _find(path: Path) -> tuple[list[Clip], list[str]]:
    """Clips of a folder or list, in an order that mixes its labels and does not change between
    runs, and what is to be known of them; a folder of pictures is one clip itself."""
    notes: list[str] = []
    root = path if path.is_dir() else path.parent
    if path.is_dir() and has_pictures(path) and not clips_in(path, FOLDERS):
        return [Clip("", path)], notes
    try:
        layout = find_data(path)
    except DataError:  # without labels, which nobody needs here
        if not path.is_dir():
            raise
        clips = [Clip("", found) for found in clips_in(path, FOLDERS)]
    else:
        clips = [*layout.learn, *(layout.check or ())]
        if layout.missing:
            notes.append(
                f"{len(layout.missing)} clips that are listed do not exist, such as "
                f"{layout.missing[0]}."
            )
    if not clips:
        raise DataError(
            f"{path} holds no clips; expected videos or folders of pictures, in folders of labels "
            "or not, or pictures."
        )

    def draw(clip: Clip) -> str:
        inside = clip.path.is_relative_to(root)
        name = clip.path.relative_to(root) if inside else clip.path
        return hashlib.sha256(path_bytes(name)).hexdigest()

    return sorted(clips, key=draw), notes


def _of_one_size(source: FrameSource) -> Iterator[TimedFrame]:
    size: tuple[int, ...] | None = None
    for frame in source:
        if size is not None and frame.image.shape != size:
            raise DataError(
                f"{source.name} changes from {size[1]}x{size[0]} pixels to "
                f"{frame.image.shape[1]}x{frame.image.shape[0]} at frame {frame.index}; expected "
                "one size in a clip: split it there."
            )
        size = frame.image.shape
        yield frame
