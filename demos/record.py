"""Recording clips of a label with somebody before the camera: countdown, clip, replay, keep or not.

What is shown and asked is here; what a good clip is, and how it is kept, in
:mod:`shiftedge.runtime.capture.recording`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shiftedge.demos.sinks.paint import GROUND, PALETTE, WHITE, Image, fill, shade, text
from shiftedge.demos.sinks.screen import Screen
from shiftedge.runtime.capture import FrameSource, LatestFrame, Retry, TimedFrame, open_source
from shiftedge.runtime.capture.base import opencv
from shiftedge.runtime.capture.recording import Recorder, Take, take
from shiftedge.runtime.errors import OutputError, SourceError, SourceLostError
from shiftedge.runtime.process.files import atomic_path, output_folder

PRINT_NAME = ".last-clip.png"
"""In the data folder: the contact print of the clip that was taken last. Hidden, so that nobody
takes it for a clip."""
PRINT_COLUMNS, PRINT_ROWS = 4, 2
PRINT_WIDTH = 640
REPLAY_HZ = 30.0
KEEP, DISCARD, END = "keep", "discard", "end"
KEYS = {"": KEEP, "k": KEEP, "y": KEEP, "\r": KEEP, " ": KEEP, "d": DISCARD, "n": DISCARD, "q": END}
"""What is typed, in the terminal or the window -> what it means."""
TRIES = 3
"""Clips that may be taken for each one wanted, where nobody is asked."""

INSTEAD = "leave --window out, and look at the contact print of each clip."

Say = Callable[[str], None]
Ask = Callable[[str], str]
"""Shows a question and gives what was typed."""


@dataclass(frozen=True)
class Settings:
    """How a label is recorded."""

    count: int = 10
    """Clips wanted."""
    seconds: float = 3.0
    """Of a clip."""
    countdown_s: float | None = None
    """Before each; None: 3 s before a live source, none before a recording."""
    window: bool = False
    ask: bool = True
    """Whether each clip is asked about; otherwise those without a complaint are kept."""


def record(
    recorder: Recorder,
    source_text: str,
    settings: Settings,
    *,
    say: Say,
    ask: Ask | None = None,
    retry: Retry | None = None,
) -> int:
    """Record clips until there are as many as wanted, the user ends, or the source does.

    Args:
        source_text: see :data:`shiftedge.runtime.capture.source.SOURCE_FORMS`.
        say: told a line for people.
        ask: asks where there is no window; None: in the terminal, the question on stderr.

    Returns:
        Clips that were kept.

    Raises:
        SourceError: the source could not be opened, or gave no clip at all.
        SourceLostError: a camera was lost and did not come back; what was kept is kept.
        OutputError: a clip, or the window, could not be made.
    """
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(Screen(INSTEAD)) if settings.window else None
        source = open_source(source_text, on_event=say, retry=retry)
        frames: FrameSource = LatestFrame(source) if source.live else source
        stack.enter_context(frames)
        countdown_s = settings.countdown_s
        if countdown_s is None:
            countdown_s = 3.0 if source.live else 0.0

        def in_terminal(question: str) -> str:
            say(question)
            return input()

        studio = _Studio(recorder, iter(frames), screen, say, ask or in_terminal)
        try:
            studio.session(settings, countdown_s)
        except SourceError as error:
            if not recorder.kept:
                raise
            raise SourceLostError(
                f"{error} The {len(recorder.kept)} clips of {recorder.label!r} that were kept are "
                f"in {recorder.folder}."
            ) from error
    if not recorder.kept and studio.ended:
        raise SourceError(
            f"{source_text} ended before a clip of {settings.seconds:g} s was kept; give a longer "
            "source, or fewer --seconds."
        )
    return len(recorder.kept)


@dataclass
class _Studio:
    """One session of recording."""

    recorder: Recorder
    frames: Iterator[TimedFrame]
    screen: Screen | None
    say: Say
    ask: Ask
    ended: bool = False
    """The source has ended."""
    closed: bool = False
    """The user has closed the window."""

    def session(self, settings: Settings, countdown_s: float) -> None:
        """Take clips until there is a reason to end."""
        recorder = self.recorder
        for tries in itertools.count():
            if len(recorder.kept) >= settings.count:
                return
            if not settings.ask and tries == TRIES * settings.count:
                self.say(f"{tries} clips were taken, and too few of them are good; this ends here.")
                return
            title = f"{recorder.label}  {len(recorder.kept) + 1}/{settings.count}"
            if not self._count_down(countdown_s, title):
                self.ended = not self.closed
                return
            clip = take(self._shown(title), settings.seconds)
            self.ended = clip.ended and not self.closed
            if self.closed or not clip.images:
                return
            answer = self._judge(clip, settings.ask)
            if answer == KEEP:
                path = recorder.keep(clip)
                self.say(f"kept {path} ({clip.seconds:.1f} s, {clip.rate_hz:.0f} frames a second)")
            if answer == END or clip.ended:
                return

    def _count_down(self, seconds: float, title: str) -> bool:
        """Let the source run for so long; False where it ended."""
        if seconds <= 0.0:
            return True
        start_s = None
        told = None
        for frame in self.frames:
            start_s = frame.time_s if start_s is None else start_s
            left = seconds - (frame.time_s - start_s)
            if left <= 0.0:
                self.say("now")
                return True
            if told != (told := math.ceil(left)):
                self.say(f"{title}: {told}")
            if not self._show(frame.image, title, str(told)):
                return False
        return False

    def _shown(self, title: str) -> Iterator[TimedFrame]:
        """The frames, seen in the window as they come."""
        for frame in self.frames:
            if not self._show(frame.image, title, "", recording=True):
                return
            yield frame

    def _judge(self, clip: Take, ask: bool) -> str:
        complaints = self.recorder.complaints(clip)
        for sentence in complaints:
            self.say(sentence)
        if not ask or len(clip.images) < 2:
            return DISCARD if complaints else KEEP
        advised = "discard" if complaints else "keep"
        question = f"Keep it? Enter or k keeps, d discards, q ends (advised: {advised}) "
        if self.screen is not None:
            return self._replay(clip, question)
        path = contact_print(clip, self.recorder.data / PRINT_NAME)
        self.say(f"{path} shows the clip")
        while True:
            try:
                typed = self.ask(question)
            except EOFError:
                raise OutputError(
                    "Nobody is there to say which clips to keep (stdin is closed); give --yes to "
                    "keep those that pass the checks."
                ) from None
            if (answer := KEYS.get(typed.strip().lower())) is not None:
                return answer

    def _replay(self, clip: Take, question: str) -> str:
        """Show the clip over and over, until a key says what to do with it."""
        assert self.screen is not None
        self.say(question)
        while True:
            for image in clip.even():
                if not self._show(image, question, ""):
                    return END
                if self.screen.key and (answer := KEYS.get(self.screen.key.lower())) is not None:
                    return answer

    def _show(self, image: Image, title: str, large: str, *, recording: bool = False) -> bool:
        """Show a frame in the window, if there is one; False once the user has closed it."""
        if self.screen is None:
            return True
        canvas = image.copy()
        height, width = canvas.shape[:2]
        line = max(16, height // 18)
        shade(canvas, 0, 0, width, 2 * line, GROUND, 0.7)
        text(canvas, title, line // 2, int(1.35 * line), line, WHITE)
        if recording:
            fill(canvas, 0, height - line // 2, width, line // 2, PALETTE[5])
        if large:
            text(canvas, large, width // 2, height // 2, height // 4, WHITE, align="center")
        self.closed = not self.screen.show(canvas)
        return not self.closed


def contact_print(clip: Take, path: Path) -> Path:
    """Write a picture of a clip: eight of its frames, in order, line by line.

    Raises:
        OutputError: it cannot be written.
    """
    output_folder(path.parent)
    cv2 = opencv()
    good, data = cv2.imencode(".png", contact_sheet(clip))
    if not good:
        raise OutputError(f"OpenCV cannot write {path} as PNG.")
    with atomic_path(path) as partial:
        partial.write_bytes(data.tobytes())
    return path


def contact_sheet(clip: Take) -> Image:
    """Eight frames of a clip as one picture."""
    cv2 = opencv()
    images = list(clip.even())
    count = PRINT_COLUMNS * PRINT_ROWS
    chosen = [images[round(i * (len(images) - 1) / (count - 1))] for i in range(count)]
    height, width = images[0].shape[:2]
    size = (PRINT_WIDTH // PRINT_COLUMNS, max(1, PRINT_WIDTH // PRINT_COLUMNS * height // width))
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in chosen]
    rows = [
        cv2.hconcat(small[row * PRINT_COLUMNS : (row + 1) * PRINT_COLUMNS])
        for row in range(PRINT_ROWS)
    ]
    sheet: Image = cv2.vconcat(rows)
    return sheet


def somebody_answers() -> bool:
    """Whether there is a terminal to ask in."""
    return sys.stdin is not None and sys.stdin.isatty()
