"""What systemd is told of a service: datagrams of sd_notify(3), a dozen lines without its library.

The socket is named by the environment of a unit of ``Type=notify``; without one, nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

LONGEST_STATUS = 200


class Notifier:
    """Tells the manager of this process.

    Args:
        environment: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` stand.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # A name of Linux's abstract namespace is written with @ for its first byte, a zero.
        self._to = "\0" + path[1:] if path.startswith("@") else path
        microseconds = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(microseconds) / 1e6 if microseconds.isdecimal() and ours else None
        """In which time it wants to hear from us; None: it does not look."""
        self._ready = False
        self._alive_s = float("-inf")
        self._status = ""

    def alive(self, status: str) -> None:
        """The work goes on, and how: from the loop that does it, as often as it likes. The first
        time says that the service is up, so what depends on it may begin."""
        now_s = time.monotonic()
        words = [] if self._ready else ["READY=1"]
        if self.watchdog_s is not None and now_s >= self._alive_s + self.watchdog_s / 4:
            self._alive_s = now_s
            words.append("WATCHDOG=1")
        if status != self._status:
            words.append(f"STATUS={' '.join(status.split())[:LONGEST_STATUS]}")
        if words:
            self._ready, self._status = True, status
            self._send(*words)

    def reloading(self) -> None:
        """Settings are read again; :meth:`alive` says when it is done."""
        self._ready = False
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end is near."""
        self._send("STOPPING=1")

    def _send(self, *words: str) -> None:
        if not self._to:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(words).encode(), self._to)
        except OSError:  # a manager that is being replaced itself; it asks again
            return
