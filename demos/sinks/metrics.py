"""Figures for Prometheus, served at ``/metrics``; beside it, ``/healthz`` and ``/readyz``.

Counts are read from the sessions and the sinks when somebody asks; histograms fill as frames come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.demos.health import PATHS
from shiftedge.demos.sinks import Moment, Sink, Wants
from shiftedge.demos.sinks.board import temperatures, throttled
from shiftedge.runtime.errors import OutputError
from shiftedge.runtime.live.session import LiveSession
from shiftedge.runtime.process.extras import require
from shiftedge.runtime.words import encodable

STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
EVENT_BUCKETS_S = (0.005, 0.01, 0.015, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)
COUNTS = (
    ("frames", "Camera frames taken", "frames"),
    ("frames_dropped", "Frames that passed while the model was busy", "dropped"),
    ("frames_stale", "Frames too old to be stepped", "stale"),
    ("steps", "Model steps", "steps"),
    ("steps_skipped", "Steps left out since the model is too slow", "skipped"),
    ("source_reopened", "Times that a source was lost and found again", "reopened"),
)
"""Name of a counter, its help, and the field of a session's summary."""

TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


class Metrics(Sink):
    """Serves the figures of a show.

    Args:
        address: host and port; port 0 is any that is free.

    Raises:
        MissingExtraError: prometheus_client is not installed.
    """

    name = "metrics"
    wants: Wants = "frames"

    def __init__(self, address: tuple[str, int]) -> None:
        self._library = library = require("prometheus_client")
        require("prometheus_client.core")
        self._address = address
        self._sessions: Sequence[LiveSession] = ()
        self._server: Any = None
        self._registry = registry = library.CollectorRegistry()
        self._step_times = library.Histogram(
            "shiftedge_step_seconds",
            "Time of a model step",
            ["camera"],
            buckets=STEP_BUCKETS_S,
            registry=registry,
        )
        self._event_times = library.Histogram(
            "shiftedge_camera_to_event_seconds",
            "From the camera's frame to the event that it settled",
            ["camera"],
            buckets=EVENT_BUCKETS_S,
            registry=registry,
        )
        self._events = library.Counter(
            "shiftedge_events", "Gestures", ["camera", "label"], registry=registry
        )
        registry.register(self)
        self._figures = library.make_wsgi_app(registry)

    @property
    def port(self) -> int:
        """On which it is served."""
        return int(self._server.server_port)

    def begin(self, sessions: Sequence[LiveSession]) -> None:
        """Serve from now on.

        Raises:
            OutputError: the address cannot be listened on.
        """
        self._sessions = sessions
        spec = sessions[0].model.spec
        for session in sessions:
            for label in spec.labels:
                if label not in spec.silent_labels:
                    self._events.labels(session.name, encodable(label))
        host, port = self._address
        try:
            self._server, _ = self._library.start_http_server(port, host, self._registry)
        except OSError as error:
            raise OutputError(
                f"Metrics cannot be served at {host}:{port}: {error.strerror or error}; choose "
                "another address in [metrics]."
            ) from error
        self._server.set_app(self._answer)

    def take(self, image: NDArray[np.uint8], moment: Moment) -> None:
        """See :class:`Sink`."""
        if moment.result is not None and moment.steps:
            step_s = moment.result.step_s / moment.steps
            self._step_times.labels(moment.camera).observe(step_s)
        if moment.event is not None:
            self._events.labels(moment.camera, encodable(moment.event.label)).inc()
            if moment.taken_s is not None:
                self._event_times.labels(moment.camera).observe(moment.told_s - moment.taken_s)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        if path not in PATHS:
            return self._figures(environ, start)
        status, words = self.health().answer(path)
        start(f"{status} {'OK' if status == 200 else 'Unavailable'}", [*TEXT])
        return [f"{words}\n".encode()]

    def collect(self) -> Iterator[Any]:
        """What is read when somebody asks: prometheus_client's protocol."""
        core = require("prometheus_client.core")
        summaries = {session.name: session.summary() for session in self._sessions}
        for name, words, attribute in COUNTS:
            family = core.CounterMetricFamily(f"shiftedge_{name}", words, labels=["camera"])
            for camera, numbers in summaries.items():
                family.add_metric([camera], getattr(numbers, attribute))
            yield family
        resets = core.CounterMetricFamily(
            "shiftedge_states_emptied", "Times that the states were", labels=["camera", "reason"]
        )
        for camera, numbers in summaries.items():
            for reason, count in numbers.resets.items():
                resets.add_metric([camera, reason], count)
        yield resets
        sinks = core.CounterMetricFamily(
            "shiftedge_sink_moments", "What became of what a sink was given", labels=["sink", "how"]
        )
        for account in self.accounts():
            for how in ("taken", "dropped", "missed"):
                sinks.add_metric([account.name, how], getattr(account, how))
        yield sinks
        heat = core.GaugeMetricFamily(
            "shiftedge_temperature_celsius", "Of the board's sensors", labels=["zone"]
        )
        for zone, degrees in temperatures():
            heat.add_metric([zone], degrees)
        yield heat
        slowed = throttled()
        if slowed is not None:
            yield core.GaugeMetricFamily(
                "shiftedge_throttled", "1: the board is slowed down now", value=slowed
            )
