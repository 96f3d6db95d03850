"""Things that happen on a gesture: a command is run, a URL is told, keys are pressed."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Missed, Moment, Sink
from shiftedge.runtime.capture.base import Sparing
from shiftedge.runtime.capture.retry import Retry
from shiftedge.runtime.words import encodable, json_text, plain

ANSWER_S = 10.0
"""Longest wait for a server that is told."""
COMPLAINT_BYTES = 4096
WAITING_MOST = 100
"""Gestures that may wait for one action: more are nobody's wish any more."""


@dataclass
class Rule:
    """When something happens."""

    labels: frozenset[str] | None = None
    """None: every gesture."""
    cameras: frozenset[str] | None = None
    """None: every camera."""
    confidence: float = 0.0
    pause_s: float = 0.0
    _next_s: float = field(default=float("-inf"), init=False)

    def holds(self, moment: Moment) -> bool:
        """Whether it happens at this event; the pause begins then."""
        event = moment.event
        assert event is not None
        if self.labels is not None and event.label not in self.labels:
            return False
        if self.cameras is not None and moment.camera not in self.cameras:
            return False
        if event.confidence < self.confidence or moment.told_s < self._next_s:
            return False
        self._next_s = moment.told_s + self.pause_s
        return True


class Action(Sink):
    """One thing that happens by one rule. :meth:`do` may take its time."""

    most = WAITING_MOST

    def __init__(self, name: str, rule: Rule) -> None:
        self.name, self._rule = name, rule
        self.hurried = threading.Event()

    def fits(self, moment: Moment) -> bool:
        return self._rule.holds(moment)

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """See :class:`Sink`."""
        self.do(moment)

    def do(self, moment: Moment) -> None:
        """Have it happen.

        Raises:
            Missed: it could not.
        """
        raise NotImplementedError

    def hurry(self) -> None:
        self.hurried.set()


def message_bytes(document: Mapping[str, Any]) -> bytes:
    """JSON; what is no character is an escape in it."""
    return encodable(json_text(document)).encode()


def message(moment: Moment) -> dict[str, Any]:
    """What programs elsewhere are told of an event: also when it was, by the world's clock."""
    at = datetime.datetime.fromtimestamp(moment.wall_s, datetime.timezone.utc)
    return {**moment.event_dict(), "at": at.isoformat(timespec="milliseconds")}


class Command(Action):
    """Runs a program, one at a time, and waits for its end.

    ``{label}``, ``{confidence}``, ``{camera}`` and ``{time_s}`` in an argument are what they say,
    and SHIFTEDGE_LABEL and so on hold the same. There is no shell, so a label cannot be more than
    a word. What the program prints is dropped.

    Args:
        limit_s: after which it is stopped, with what it has started.
    """

    def __init__(self, rule: Rule, arguments: Sequence[str], limit_s: float = 10.0) -> None:
        super().__init__(f"command {arguments[0]}", rule)
        self._arguments, self._limit_s = arguments, limit_s

    def do(self, moment: Moment) -> None:
        """See :meth:`Action.do`."""
        values = {name: str(value) for name, value in message(moment).items()}
        line = [filled(argument, values) for argument in self._arguments]
        own = {f"SHIFTEDGE_{name.upper()}": value for name, value in values.items()}
        try:
            process = subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, **own},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Missed(f"The {self.name} could not be started: {reason}.") from error
        try:
            _, said = process.communicate(timeout=self._limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise Missed(
                f"The {self.name} was stopped after {self._limit_s:g} s; give it a longer limit_s."
            ) from None
        if process.returncode:
            words = said[-COMPLAINT_BYTES:].decode("utf-8", "replace").strip().splitlines()
            why = f" and said: {plain(words[-1])}" if words else ""
            raise Missed(f"The {self.name} ended with status {process.returncode}{why}.")


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with ``{name}`` as the value of that name; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)


class Webhook(Action):
    """Sends the event as JSON, by POST. What fails for the moment (no network, a server that is
    busy or broken) is tried again with growing pauses; a refusal is not.

    Args:
        retry_s: how long one event is tried again; the next ones wait meanwhile.
    """

    AGAIN = (408, 425, 429)
    """Status below 500 that are for the moment (RFC 9110, 6585)."""

    def __init__(
        self,
        rule: Rule,
        url: str,
        headers: Mapping[str, str] | None = None,
        retry_s: float = 60.0,
        *,
        first_s: float = Retry.first_s,
    ) -> None:
        parts = urlsplit(url)
        # Not the path, which is a secret at many servers.
        super().__init__(f"webhook {parts.scheme}://{parts.netloc.rpartition('@')[2]}", rule)
        self._url, self._headers = url, dict(headers or {})
        self._retry_s, self._first_s = retry_s, first_s
        self._open = urllib.request.build_opener(_Stay)
        self._news = Sparing(lambda sentence: self.note(sentence))

    def do(self, moment: Moment) -> None:
        """See :meth:`Action.do`."""
        body = message_bytes(message(moment))
        for why in self._attempts():
            request = urllib.request.Request(  # http and https alone, which settings saw to
                self._url,
                body,
                {"Content-Type": "application/json", "User-Agent": "shiftedge", **self._headers},
                method="POST",
            )
            try:
                with self._open.open(request, timeout=ANSWER_S) as answer:
                    answer.read(1)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code not in self.AGAIN:
                    raise Missed(
                        f"The {self.name} was refused with status {error.code} ({error.reason}); "
                        "check its URL and headers."
                    ) from error
                why.append(f"status {error.code}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                why.append(str(getattr(error, "reason", None) or error or type(error).__name__))
            else:
                self._news.over(f"The {self.name} answers again.")
                return

    def _attempts(self) -> Iterator[list[str]]:
        """A list for each attempt, to which the reason of its failure is added."""
        end_s = time.monotonic() + self._retry_s
        pause_s = self._first_s
        while True:
            why: list[str] = []
            yield why
            left_s = end_s - time.monotonic()
            if left_s <= 0.0 or self.hurried.wait(min(pause_s, left_s)):
                raise Missed(f"The {self.name} could not be told of a gesture: {''.join(why)}.")
            self._news.trouble(f"The {self.name} fails ({''.join(why)}); trying again.")
            pause_s = min(2.0 * pause_s, Retry.longest_s)


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirection is a refusal: POST would become GET, elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None
