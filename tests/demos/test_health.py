"""Whether a show is well."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shiftedge.demos.health import STUCK_S, Health


def session(*, giving: bool) -> Any:
    return SimpleNamespace(reader=SimpleNamespace(giving=giving))


def test_alive_while_the_loop_comes_round() -> None:
    now = [0.0]
    health = Health([session(giving=True)], clock=lambda: now[0])
    assert health.answer("/healthz") == (200, "alive")
    assert health.answer("/readyz") == (200, "1 of 1 cameras give frames")
    now[0] = STUCK_S
    assert health.answer("/healthz")[0] == 503
    assert health.answer("/readyz")[0] == 503
    health.beat()
    assert health.alive()


def test_a_camera_that_is_away_is_no_reason_to_start_anew() -> None:
    health = Health([session(giving=True), session(giving=False)])
    assert health.answer("/healthz")[0] == 200
    assert health.answer("/readyz") == (503, "1 of 2 cameras give frames")
