"""Takes what the show gives to the page's server."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.sinks import Moment, Sink, Wants
from shiftedge.demos.sinks.web.access import PageAccess
from shiftedge.demos.sinks.web.clips import LENGTH_S, RecordedClips
from shiftedge.demos.sinks.web.server import Certificate, PageServer
from shiftedge.demos.sinks.web.view import View
from shiftedge.export.data import looks_silent
from shiftedge.runtime.capture import FrameSource, TimedFrame
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.live.decode import GestureDecoder
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.model import Model
from shiftedge.runtime.process.extras import require

DEFAULT_ADDRESS = "127.0.0.1", 8765
PICTURES_HZ = 45.0
"""At most: a camera of 30 has all of its pictures shown, however uneven, one of 60 every second."""
STATES_S = 0.25
"""Between two looks at the states."""


class NoCamera(FrameSource):
    """Gives no frame until it is closed: browsers send their own to the page."""

    name = "no camera here"
    live = True
    rate_hz = None
    away = True

    def __init__(self) -> None:
        self._closing = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        self._closing.wait()
        yield from ()

    def close(self) -> None:
        self._closing.set()


class WebSink(Sink):
    """Serves a page that shows the first camera.

    Args:
        address: host and port; port 0 is any that is free.
        say: told the link, and where a token is needed the link as a QR code.
        certificate: serves the page by TLS.
        data: where clips that people record on the page go; None: they can record none.

    Raises:
        MissingExtraError: aiohttp or segno is not installed, or OpenCV.
    """

    name = "web"
    wants: Wants = "images"
    most = 4

    def __init__(
        self,
        address: tuple[str, int],
        say: Callable[[str], None] = lambda text: None,
        certificate: Certificate | None = None,
        data: Path | None = None,
    ) -> None:
        require("cv2")
        self._access = PageAccess(address[0], tls=certificate is not None)
        self._say = say
        self._server = PageServer(
            address,
            self._access,
            self._hello,
            self._figures,
            self._model,
            lambda: self.health(),
            certificate,
            lambda seconds: self.shown(seconds),
            self._ask,
        )
        self._clips = RecordedClips(data)
        self._pictured_s = self._looked_s = 0.0
        self._states: Sequence[NDArray[np.float32]] | None = None

    @property
    def link(self) -> str:
        """What opens the page."""
        return self._access.link(self._server.port)

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        """Serve from now on.

        Raises:
            OutputError: the address cannot be listened on, or the certificate not be used.
        """
        self._session = sessions[0]
        self._view = View(self._session.model, self._session.name)
        self._server.start()
        self._say(f"page: {self.link}")
        if self._access.token is not None:
            code = io.StringIO()
            require("segno").make(self.link, error="l").terminal(out=code, compact=True)
            self._say(code.getvalue().rstrip("\n"))

    def fits(self, moment: Moment) -> bool:
        """Every moment is counted here, also one whose picture is dropped; and here the states
        stand still."""
        if moment.camera != self._session.name:
            return False
        if (event := self._view.note(moment)) is not None:
            self._server.tell(event)
        if self._clips.wanted:
            return True
        if not self._server.viewers:
            return False
        now_s = time.monotonic()
        if moment.steps and now_s >= self._looked_s + STATES_S:
            self._looked_s = now_s
            self._states = self._session.live.stream.states()
        if now_s < self._pictured_s + 1.0 / PICTURES_HZ:
            return False
        self._pictured_s = now_s
        return True

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """See :class:`Sink`."""
        self._clips.add(image, moment.time_s)
        self._server.show("picture", self._view.picture(image, moment), moment.taken_s)
        states, self._states = self._states, None
        if states is not None:
            self._server.show("states", self._view.states(states))

    def shown(self, seconds: float) -> None:
        """A browser has shown a picture, so long after the camera took it."""
        self._view.shown(seconds)

    def close(self) -> None:
        self._server.close()

    def _hello(self) -> dict[str, Any]:
        return {
            **self._view.hello(),
            "enter": self._decoder.settings.enter,
            "records": self._clips.folder is not None,
            "own": isinstance(self._session.source, NoCamera),
        }

    @property
    def _decoder(self) -> GestureDecoder:
        decoder = self._session.live.decoder
        assert isinstance(decoder, GestureDecoder)
        return decoder

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What a page asks for: a threshold, a clip, or to keep one."""
        if "enter" in asked:
            enter = _number(asked["enter"], 0.05, 0.99)
            settings = replace(self._session.model.spec.decoder, enter=enter)
            # Of one object, so whichever the next frame is decoded by is whole.
            self._decoder.settings = replace(settings, exit=min(settings.exit, enter))
            self._server.tell({"kind": "enter", "enter": enter})
            return {"enter": enter}
        if "label" in asked:
            label, seconds = asked["label"], _number(asked.get("seconds", 3.0), *LENGTH_S)
            if not isinstance(label, str):
                raise DataError("The label is a text.")
            return self._clips.record(label, seconds, still=looks_silent(label))
        if asked.get("keep") is True:
            return self._clips.keep()
        raise DataError("There is nothing of that name to ask for.")

    def _model(self) -> Model:
        return self._session.model

    def _figures(self, viewers: int) -> dict[str, Any]:
        return self._view.figures(self._session.summary(), viewers)


def _number(value: Any, least: float, most: float) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not least <= value <= most:
        raise DataError(f"A number from {least:g} to {most:g} was expected.")
    return float(value)
