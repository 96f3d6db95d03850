"""``vcgencmd``, which asks the firmware of a Raspberry Pi, run so that it cannot hold up a run.

Sources: https://github.com/raspberrypi/utils (vcgencmd): exit status 0; 255 where the firmware
refuses, with ``error=1 error_msg="Command not registered"`` on stdout; it opens /dev/vcio, which
belongs to the group video. Measured on an x86-64 server: starting and reaping a program that does
nothing takes 2.0 ms (median); no board has been measured.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import TypeAlias

from shiftedge.benchmarks.sensors.base import MissingSensorError, SensorError

__all__ = ["TIMEOUT_S", "Run", "Vcgencmd", "run_program"]

Run: TypeAlias = Callable[[Sequence[str]], str]
"""Runs a program and gives its stdout; raises as :func:`run_program`."""

TIMEOUT_S = 2.0
"""For one answer of a program."""


def run_program(command: Sequence[str]) -> str:
    """Run a program that ends by itself within :data:`TIMEOUT_S`.

    Raises:
        OSError: it cannot be started.
        subprocess.CalledProcessError: its exit status is not 0; has its stdout and stderr.
        subprocess.TimeoutExpired: it has not ended, and was killed. Not waited for any longer than
            a moment: one that hangs inside the kernel does not die.
    """
    # Left to itself, Popen says "no permission" where a folder of PATH may not be looked into.
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
    process = subprocess.Popen(
        [program, *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is the benchmark's to answer
    )
    try:
        out, said = process.communicate(timeout=TIMEOUT_S)
    except BaseException:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), out, said)
    return out


class Vcgencmd:
    """Asks the firmware. A program that is missing or hung once is not tried again.

    Args:
        run: how to run it.
    """

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
        command = ("vcgencmd", what)
        name = " ".join(command)
        try:
            answer = self._run(command)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._given_up = MissingSensorError()
            raise self._given_up from error
        except PermissionError as error:
            raise SensorError(f"no permission to run {command[0]}: run as root") from error
        except OSError as error:
            raise SensorError(f"{name} did not start ({error.strerror or error})") from error
        except subprocess.TimeoutExpired as error:
            self._given_up = SensorError(
                f"{name} gave no answer within {TIMEOUT_S:g} s; not asked again"
            )
            raise self._given_up from error
        except subprocess.CalledProcessError as error:
            raise _failed(name, error) from error
        _check_registered(answer)
        return answer


def _failed(name: str, error: subprocess.CalledProcessError) -> SensorError:
    said = f"{error.stdout or ''}\n{error.stderr or ''}"
    try:
        _check_registered(said)
    except MissingSensorError as missing:
        return missing
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = f"{name} failed with status {error.returncode}"
    if lines:
        reason += f": {lines[-1][:120]}"
    if "/dev/vc" in said or "VCHI" in said or "permission" in said.lower():
        return SensorError(
            f"no permission: {reason}; run as root, or join the group video with "
            "`sudo usermod -aG video $USER` and log in again"
        )
    return SensorError(reason)


def _check_registered(answer: str) -> None:
    if "Command not registered" in answer:
        raise MissingSensorError
