"""Key presses, through Linux's uinput: a gesture is a key of a keyboard that nobody sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shiftedge.demos.sinks import Missed, Moment
from shiftedge.demos.sinks.actions import Action, Rule
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.extras import require

ALIASES = {
    "CTRL": "LEFTCTRL",
    "CONTROL": "LEFTCTRL",
    "ALT": "LEFTALT",
    "SHIFT": "LEFTSHIFT",
    "SUPER": "LEFTMETA",
    "META": "LEFTMETA",
    "WIN": "LEFTMETA",
    "ESCAPE": "ESC",
    "RETURN": "ENTER",
    "DEL": "DELETE",
    "INS": "INSERT",
    "PGDN": "PAGEDOWN",
    "PGUP": "PAGEUP",
}
"""What people call keys that Linux calls otherwise."""
HIGHEST_KEY = 0x2FF
"""KEY_MAX of linux/input-event-codes.h."""


def key_codes(text: str) -> tuple[int, ...]:
    """``"Ctrl+Alt+T"`` -> the codes of the keys that are held together.

    Raises:
        ValueError: a key that is not known.
        MissingExtraError: evdev is not installed.
    """
    codes = require("evdev.ecodes").ecodes
    found = []
    for part in text.split("+"):
        word = "".join(letter for letter in part.upper() if letter.isalnum())
        word = word.removeprefix("KEY") if part.strip().upper().startswith("KEY_") else word
        names = {name.replace("_", ""): name for name in codes if name.startswith("KEY_")}
        name = names.get(f"KEY{ALIASES.get(word, word)}")
        if not word or name is None or not 0 < codes[name] < HIGHEST_KEY:
            raise ValueError(
                f"{part.strip()!r} is no key; expected names such as PageDown, Left, F5, "
                "PlayPause or Ctrl+Alt+T (those of linux/input-event-codes.h, without KEY_)"
            )
        found.append(codes[name])
    return tuple(found)


class Keys(Action):
    """Presses keys.

    Args:
        chords: pressed one after another, the keys of each together; see :func:`key_codes`.

    Raises:
        MissingExtraError: evdev is not installed.
    """

    def __init__(self, rule: Rule, texts: Sequence[str], chords: Sequence[Sequence[int]]) -> None:
        super().__init__(f"keys {', '.join(texts)}", rule)
        self._chords = chords
        self._device: Any = None

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        """Make the keyboard.

        Raises:
            OutputError: /dev/uinput may not be opened, or is not there.
        """
        evdev = require("evdev")
        codes = sorted({code for chord in self._chords for code in chord})
        try:
            self._device = evdev.UInput({evdev.ecodes.EV_KEY: codes}, name="shiftedge gestures")
        except (OSError, evdev.UInputError) as error:
            raise OutputError(
                f"Keys cannot be pressed: /dev/uinput cannot be opened ({error}); run  sudo "
                "modprobe uinput  and let your group write to it, by the udev rule "
                'KERNEL=="uinput", GROUP="input", MODE="0660".'
            ) from error

    def do(self, moment: Moment) -> None:
        """See :meth:`Action.do`."""
        key = require("evdev").ecodes.EV_KEY
        try:
            for chord in self._chords:
                for down, order in ((1, chord), (0, tuple(reversed(chord)))):
                    for code in order:
                        self._device.write(key, code, down)
                    self._device.syn()
        except OSError as error:
            raise Missed(f"The {self.name} could not be pressed: {error}.") from error

    def close(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()
