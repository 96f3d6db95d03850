"""The fake model as a library, built once by whatever C compiler this machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from kit.fake_library import (
    FAKE,
    HEIGHT,
    HERE,
    LIBRARY,
    RUNTIME,
    WIDTH,
    Fake,
    Reference,
    build,
    compilers,
)
from kit.runner import Runners
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    """The first C compiler found."""
    found = compilers()
    if not found:
        pytest.skip("no C compiler: install gcc, or  pip install ziglang")
    return next(iter(found.values()))


@pytest.fixture(scope="session")
def build_fake(
    compiler: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Build a libmodel.so of the fake model with more flags."""

    def make(*flags: str) -> Path:
        path = tmp_path_factory.mktemp("fake") / "libmodel.so"
        return build(compiler, path, [*RUNTIME, *FAKE], *LIBRARY, *flags)

    return make


@pytest.fixture(scope="session")
def runners(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Runners:
    """shiftedge-run for any bundle."""
    return Runners(compiler, tmp_path_factory.mktemp("runners"))


@pytest.fixture(scope="session")
def runner(runners: Runners) -> Path:
    """shiftedge-run of no bundle, for libraries by themselves."""
    return runners.bare


@pytest.fixture(scope="session")
def fake_path(build_fake: Callable[..., Path]) -> Path:
    """libmodel.so of the fake model."""
    return build_fake()


@pytest.fixture(scope="session")
def small_path(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """calm_model.c as a library of some 30 KB, of which a test can change every byte."""
    path = tmp_path_factory.mktemp("small") / "libmodel.so"
    flags = ["-Os", "-ffunction-sections", "-Wl,--gc-sections", "-Wl,-s"]
    return build(compiler, path, [*RUNTIME, HERE / "calm_model.c"], *LIBRARY, *flags)


@pytest.fixture(scope="session")
def calm_path(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libmodel.so whose logits are of a real model's size, so that gestures come and go."""
    path = tmp_path_factory.mktemp("calm") / "libmodel.so"
    return build(compiler, path, [*RUNTIME, HERE / "calm_model.c"], *LIBRARY)


@pytest.fixture
def fake(fake_path: Path) -> Iterator[Fake]:
    """The fake model's C interface; closes what the test leaves open."""
    fake = Fake(fake_path)
    yield fake
    fake.switch()
    for model in fake.opened:
        fake.close(model)


@pytest.fixture
def native_frames() -> list[NDArray[np.uint8]]:
    """Twelve frames of noise, uint8 (24, 32, 3)."""
    generator = np.random.default_rng(5)
    return list(generator.integers(0, 256, (12, HEIGHT, WIDTH, 3), np.uint8))


@pytest.fixture
def reference() -> Reference:
    """A fresh stream of :class:`Reference`."""
    return Reference()
