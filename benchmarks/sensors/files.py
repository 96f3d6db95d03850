"""Where sensors are read: small text files of /sys and /proc, and ``vcgencmd``, which asks the
firmware of a Raspberry Pi; see docs/sensors.md. What cannot be read raises :class:`SensorError`,
whose text is a reason for people, and which goes no further than ``Sensors`` and the meters.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from shiftedge.runtime.errors import ShiftedgeError

T = TypeVar("T")
Read: TypeAlias = Callable[[Path], bytes]
"""The content of a file; raises OSError."""
Run: TypeAlias = Callable[[Sequence[str]], str]
"""Runs a program and gives its stdout; raises as :func:`run_program`."""

NO_SENSOR = "no sensor"
"""The reason where a board has nothing to read."""
BYTES_MOST = 4096
"""Of a file that are looked at: an attribute of sysfs has at most one page."""
NUMBER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
TIMEOUT_S = 2.0
"""For one answer of a program."""


class SensorError(ShiftedgeError):
    """A sensor gave no value; the text says why."""


class MissingSensorError(SensorError):
    """The board has no such sensor, or no longer."""

    def __init__(self, reason: str = NO_SENSOR) -> None:
        super().__init__(reason)


class NoPermissionError(SensorError):
    """There is one, for others to read."""


def attempt(read: Callable[[], T]) -> T | SensorError:
    """What ``read`` gives, or why it gives nothing. Whatever is wrong with a sensor, it must not
    cost the measurement, so this catches faults of this package's too."""
    try:
        return read()
    except SensorError as error:
        return error
    except Exception as error:  # noqa: BLE001 - see above
        return SensorError(f"reading the sensor failed ({type(error).__name__}: {error})")


def readable(reads: Iterable[Callable[[], T]]) -> list[T]:
    """The values of those that give one.

    Raises:
        SensorError: none does; the last one's reason.
    """
    found = [attempt(read) for read in reads]
    values = [value for value in found if not isinstance(value, SensorError)]
    failures = [value for value in found if isinstance(value, SensorError)]
    if not values:
        raise failures[-1] if failures else MissingSensorError()
    return values


def read_file(path: Path) -> bytes:
    """The first page of a file; raises OSError."""
    with path.open("rb", buffering=0) as file:
        return file.read(BYTES_MOST)


class Files:
    """Files below ``root``, by names without it: ``sys/class/thermal/thermal_zone0/temp``."""

    def __init__(self, root: Path = Path("/"), read: Read = read_file) -> None:
        self._root = root
        self._read = read

    def glob(self, pattern: str) -> list[str]:
        """The names that match, in the order of the numbers in them; none where nothing does."""
        return sorted(glob.glob(pattern, root_dir=self._root), key=_natural)

    def text(self, name: str) -> str:
        """The file's text without space around it.

        Raises:
            MissingSensorError: there is no such file.
            NoPermissionError: it is not for this user.
            SensorError: it cannot be read, or it is empty.
        """
        try:
            content = self._read(self._root / name)
        except FileNotFoundError as error:
            raise MissingSensorError(f"/{name} is gone") from error
        except PermissionError as error:
            safe = f"/{name}" if re.fullmatch(r"[\w./:@+-]*", name, re.ASCII) else repr(f"/{name}")
            raise NoPermissionError(
                f"no permission to read /{name}: run as root, or allow it until the next boot with "
                f"`sudo chmod a+r {safe}`"
            ) from error
        except OSError as error:
            # What a driver answers while its device is asleep or gone: ENODEV, EAGAIN, EIO.
            what = errno.errorcode.get(error.errno or 0, type(error).__name__)
            raise SensorError(f"/{name} cannot be read ({what})") from error
        text = content.decode("utf-8", "replace").strip("\0 \t\r\n")
        if not text:
            raise SensorError(f"/{name} is empty")
        return text

    def number(self, name: str) -> int:
        """The whole number that the file holds, in whatever unit it has; raises as :meth:`text`,
        and SensorError where it holds something else."""
        text = self.text(name)
        if not NUMBER.fullmatch(text):
            raise SensorError(f"/{name} says {text[:40]!r}, which is not a number")
        return int(text)

    def positive(self, name: str) -> int:
        """The same of a clock, which is above 0 where it runs."""
        number = self.number(name)
        if number <= 0:
            raise SensorError(f"/{name} says {number}: it is switched off")
        return number

    def has(self, name: str) -> bool:
        return os.path.lexists(self._root / name)

    def text_or(self, name: str, default: str = "") -> str:
        """The file's text, or something else where there is none."""
        found = attempt(lambda: self.text(name))
        return default if isinstance(found, SensorError) else found


def _natural(name: str) -> list[tuple[int, str]]:
    """cpu2 before cpu10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def run_program(command: Sequence[str]) -> str:
    """The stdout of a program that ends by itself within :data:`TIMEOUT_S`.

    Raises:
        OSError, subprocess.CalledProcessError: as ``subprocess.run``.
        subprocess.TimeoutExpired: it has not ended, and was killed. Not waited for any longer than
            a moment, as ``subprocess.run`` would: one that hangs inside the kernel does not die.
    """
    # Left to itself, Popen says "no permission" where a folder of PATH may not be looked into.
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [program, *command[1:]],
        stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace",
        start_new_session=True,  # Ctrl-C is the benchmark's to answer
    )  # fmt: skip
    try:
        out, said = process.communicate(timeout=TIMEOUT_S)
    except BaseException:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=0.2)
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), out, said)
    return out


class Vcgencmd:
    """Asks the firmware, by a way to run programs. One that is missing or hung once is not tried
    again."""

    def __init__(self, run: Run = run_program) -> None:
        self._run = run
        self._given_up: SensorError | None = None

    def ask(self, what: str) -> str:
        """The answer to ``vcgencmd what``.

        Raises:
            MissingSensorError: there is no vcgencmd, or the firmware does not know ``what``.
            SensorError: it failed or hung.
        """
        if self._given_up is not None:
            raise type(self._given_up)(str(self._given_up))
        name = f"vcgencmd {what}"
        try:
            answer = said = self._run(("vcgencmd", what))
        except (FileNotFoundError, NotADirectoryError) as error:
            self._given_up = MissingSensorError()
            raise self._given_up from error
        except PermissionError as error:
            raise SensorError("no permission to run vcgencmd: run as root") from error
        except OSError as error:
            raise SensorError(f"{name} did not start ({error.strerror or error})") from error
        except subprocess.TimeoutExpired as error:
            self._given_up = SensorError(
                f"{name} gave no answer within {TIMEOUT_S:g} s; not asked again"
            )
            raise self._given_up from error
        except subprocess.CalledProcessError as error:
            said = f"{error.stdout or ''}\n{error.stderr or ''}"
            if "Command not registered" not in said:
                raise _failed(f"{name} failed with status {error.returncode}", said) from error
            answer = ""
        if "Command not registered" in said:
            raise MissingSensorError
        return answer


def _failed(reason: str, said: str) -> SensorError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if lines:
        reason += f": {lines[-1][:120]}"
    if "/dev/vc" in said or "VCHI" in said or "permission" in said.lower():
        return SensorError(
            f"no permission: {reason}; run as root, or join the group video with "
            "`sudo usermod -aG video $USER` and log in again"
        )
    return SensorError(reason)
