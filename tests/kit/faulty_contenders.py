"""Contenders without a model, for worker processes in tests: one that works, others that do not.

Their model file is the spec's JSON.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from kit.fake_engine import FakeEngine
from shiftedge.benchmarks.engines.base import Contender
from shiftedge.runtime.errors import MissingExtraError, ModelError
from shiftedge.runtime.spec import ModelSpec


class Good(Contender):
    normalises = True

    def __init__(self, path, threads, spec):
        self.spec = ModelSpec.from_json(Path(path).read_text())
        self.version = "1"
        self.settings = {"threads": threads}
        self.session = FakeEngine(self.spec).open_session()
        self.image = None
        self.steps = 0
        self.last = np.zeros(self.spec.classes, np.float32)

    def prepare(self, image):
        self.image = image

    def step(self):
        self.last = self.session.step(self.image)
        self.steps += 1

    def logits(self):
        return self.last

    def states(self):
        flat = np.frombuffer(self.session.save(), np.float32)
        ends = np.cumsum([state.size for state in self.spec.states])[:-1]
        return np.split(flat, ends)

    def reset(self):
        self.session.reset()


class Hidden(Good):
    """Shows no states."""

    def states(self):
        return None


class Absent(Good):
    def __init__(self, path, threads, spec):
        raise MissingExtraError("This needs the package nothing: run  pip install nothing")


class Tells(Good):
    """Imports what only sends, if it finds it, as OpenVINO does."""

    def __init__(self, path, threads, spec):
        super().__init__(path, threads, spec)
        try:
            import openvino_telemetry
        except ImportError:
            return
        raise ModelError(f"It told {openvino_telemetry.__file__}.")


class Refuses(Good):
    def __init__(self, path, threads, spec):
        raise ModelError(f"{path} is not for me.")


class Broken(Good):
    """A bug, not a refusal."""

    def __init__(self, path, threads, spec):
        raise KeyError("weights")


class Off(Good):
    """The last state is off by one part in a hundred; the logits are right."""

    def states(self):
        *others, last = super().states()
        return [*others, last * np.float32(1.01)]


class Crashes(Good):
    """Some time after loading, as a kernel that writes out of bounds would."""

    def step(self):
        super().step()
        if self.steps > 70:
            print("something is very wrong", file=sys.stderr, flush=True)
            os.abort()


class Hangs(Good):
    def step(self):
        super().step()
        if self.steps > 70:
            time.sleep(3600)


class NotNumbers(Good):
    """Agrees at first, and gives NaN later on."""

    def logits(self):
        return self.last if self.steps < 70 else np.full_like(self.last, np.nan)


class AlwaysNan(Good):
    def logits(self):
        return np.full_like(self.last, np.nan)


class Talks(Good):
    """Prints where the answers go."""

    def step(self):
        super().step()
        print("hello from a library")
        os.write(1, b"and from C\n")


class Leaks(Good):
    """Keeps 4 MB of every step."""

    def __init__(self, path, threads, spec):
        super().__init__(path, threads, spec)
        self.kept = []

    def step(self):
        super().step()
        if self.steps > 60:
            self.kept.append(np.ones(1 << 20, np.float32))


class Many(Good):
    """Has as many streams as are asked for, and tells of its kernels."""

    def another(self):
        other = Many.__new__(Many)
        other.__dict__ = {**self.__dict__, "session": FakeEngine(self.spec).open_session()}
        return other

    def kernel_seconds(self, images):
        return {"first": 1e-3 * len(images), "second": 3e-3 * len(images)}


class OneStreamBreaks(Many):
    def another(self):
        other = super().another()
        other.__class__ = Refusing
        return other


class Refusing(Good):
    def step(self):
        raise ModelError("This stream is broken.")


class Unchecked(Good):
    """As the null engine: its logits are no logits."""

    checked = False

    def logits(self):
        return np.zeros(self.spec.classes, np.float32)


class Slower(Good):
    """Spins for two milliseconds, and those of its kind for a part more."""

    factor = 1.0

    def step(self):
        super().step()
        end = time.perf_counter_ns() + int(2e6 * self.factor)
        while time.perf_counter_ns() < end:
            pass


class Slower10(Slower):
    factor = 1.10
