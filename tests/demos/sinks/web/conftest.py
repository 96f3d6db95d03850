"""A page that is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kit.page import Page, Remembering
from kit.playback import PlaySource

from shiftedge.runtime.model import Model
from shiftedge.runtime.spec import ModelSpec


@pytest.fixture
def page(spec: ModelSpec, play: PlaySource) -> Iterator[Page]:
    with Page(Model(Remembering(spec)), play) as running:
        yield running
