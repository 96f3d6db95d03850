"""Questions to a Raspberry Pi's firmware, through its command ``vcgencmd``.

Source: https://www.raspberrypi.com/documentation/computers/os.html#vcgencmd
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

from shiftedge.benchmarks.sensors.base import NoSensor, shown

__all__ = ["TIMEOUT_S", "Run", "Vcgencmd"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""Called like :func:`subprocess.run`."""

TIMEOUT_S = 2.0
"""An answer takes about 10 ms."""
ERROR = re.compile(r'error=(-?[0-9]+)(?:\s+error_msg="([^"]*)")?')


class Vcgencmd:
    """The command. One that is missing or hangs is not asked again: it would cost each turn.

    Args:
        run: starts a process and waits for it.
    """

    def __init__(self, run: Run = subprocess.run) -> None:
        self._run = run
        self._gone: NoSensor | None = None

    def ask(self, *words: str) -> str | NoSensor:
        """What it prints, without white space around it."""
        if self._gone is not None:
            return self._gone
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "capture_output": True,
            "text": True,
            "errors": "replace",
            "timeout": TIMEOUT_S,
            "check": False,
        }
        name = " ".join(("vcgencmd", *words))
        try:
            done = self._run(["vcgencmd", *words], **options)
        except FileNotFoundError:
            self._gone = NoSensor("there is no vcgencmd: not a Raspberry Pi, or not installed")
            return self._gone
        except subprocess.TimeoutExpired:
            self._gone = NoSensor(
                f"{name} did not answer within {TIMEOUT_S:g} s and is not asked again",
                present=True,
            )
            return self._gone
        except (OSError, subprocess.SubprocessError) as error:
            self._gone = NoSensor(f"vcgencmd cannot be started: {error}", present=True)
            return self._gone
        return _answer(name, done)


def _answer(name: str, done: subprocess.CompletedProcess[str]) -> str | NoSensor:
    text = (done.stdout or "").strip()
    said = (done.stderr or "").strip() or text
    if done.returncode != 0 and ("/dev/vc" in said or "VCHI" in said):
        # The firmware is reached through a device that belongs to the group "video".
        return NoSensor(
            f"{name} has no permission: add yourself to the group video with `sudo usermod -aG "
            "video $USER` and log in again",
            present=True,
        )
    if done.returncode != 0:
        return NoSensor(f"{name} failed with {done.returncode}: {shown(said)}", present=True)
    if (error := ERROR.match(text)) is not None:
        # A firmware that does not know the question: the Pi 4 of the Pi 5's pmic_read_adc.
        return NoSensor(f"{name} is not answered here: {error[2] or 'error ' + error[1]}")
    return text or NoSensor(f"{name} printed nothing", present=True)
