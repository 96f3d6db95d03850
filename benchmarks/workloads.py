"""What is timed, in a worker process, and the frames that all engines see: a rendered scene that
moves, or a recording.

Each workload has two sides: ``draw`` brings the frames into memory, untimed, as a camera would, and
``take`` runs one unit and times it.
"""

from __future__ import annotations

import abc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks.engines.base import Contender
from shiftedge.runtime.capture import open_source
from shiftedge.runtime.capture.synthetic.moving import MovingScene
from shiftedge.runtime.errors import OutputError, SourceError
from shiftedge.runtime.live.decode import GestureDecoder
from shiftedge.runtime.preprocess import Preprocessor
from shiftedge.runtime.spec import ModelSpec

CLIP_FRAMES = 8
"""Of one prediction of the offline model (TSM, section 5.1)."""
CAMERA_SIZE = (480, 640)
"""Height and width of the rendered scene as a camera would give it: what webcams give unasked."""
RECORDED_MOST = 128
"""Frames of a recording that are used, to and fro: 20 MB at 224x224, 118 MB at 640x480."""

Times = tuple[int, int]
"""Nanoseconds of the unit alone, and from the uint8 frames on."""
Image = NDArray[np.uint8]


class Footage:
    """Frames in any order: of a moving scene, or those that :func:`record` wrote, played to and
    fro, so that none follows another that it did not follow in the recording but for the direction.

    Args:
        file: of a recording; None renders.
        spec: of the model.
    """

    def __init__(self, file: Path | None, spec: ModelSpec) -> None:
        self._recorded: Image | None = None
        if file is not None:
            self._recorded = np.load(file, mmap_mode="r", allow_pickle=False)
            fit = Preprocessor(spec).fit
            self._fitted = [np.ascontiguousarray(fit(np.array(each))) for each in self._recorded]
        self._model = MovingScene(0, height=spec.height, width=spec.width)
        self._camera = MovingScene(0, height=CAMERA_SIZE[0], width=CAMERA_SIZE[1])

    def _place(self, index: int) -> int:
        last = len(self._fitted) - 1
        return last - abs(index % (2 * last) - last) if last else 0

    def frame_at(self, index: int) -> Image:
        """Frame ``index`` in the model's size: uint8 (height, width, 3), BGR, C-contiguous."""
        if self._recorded is None:
            return self._model.frame_at(index)
        return self._fitted[self._place(index)]

    def camera_at(self, index: int) -> Image:
        """The same as a camera gives it."""
        if self._recorded is None:
            return self._camera.frame_at(index)
        return np.array(self._recorded[self._place(index)])


def record(source: str, file: Path) -> int:
    """Write the first frames of a source, as ``--source`` names them, for the workers to map.

    Returns:
        How many there are, at most :data:`RECORDED_MOST`.

    Raises:
        SourceError: it cannot be opened, has no frame, or frames of different sizes.
        OutputError: there is no room for them.
    """
    images: list[Image] = []
    with open_source(source) as frames:
        for frame in frames:
            if images and frame.image.shape != images[0].shape:
                raise SourceError(
                    f"{source}: frame {len(images)} has another size than those before; expected "
                    "frames of one size."
                )
            images.append(np.array(frame.image))
            if len(images) == RECORDED_MOST:
                break
    if not images:
        raise SourceError(f"{source} has no frame; name a recording or a camera that gives some.")
    try:
        np.save(file, np.stack(images), allow_pickle=False)
    except OSError as error:
        raise OutputError(
            f"Cannot keep the frames of {source} in {file.parent}: {error.strerror or error}."
        ) from error
    return len(images)


class Workload(abc.ABC):
    """A workload with its contender and its frames."""

    frames = 1
    """Of a unit."""

    def __init__(self, contender: Contender, scene: Footage) -> None:
        self.contender, self.scene = contender, scene

    @abc.abstractmethod
    def draw(self, index: int) -> Any:
        """What unit ``index`` takes."""

    @abc.abstractmethod
    def take(self, drawn: Any) -> Times:
        """Run one unit."""

    def finite(self) -> bool:
        """Whether the last logits are numbers."""
        return bool(np.isfinite(self.contender.logits()).all())


class StepWorkload(Workload):
    def draw(self, index: int) -> Image:
        return self.scene.frame_at(index)

    def take(self, drawn: Image) -> Times:
        """The frame is prepared outside the first time, inside the second."""
        clock, contender = time.perf_counter_ns, self.contender
        given_ns = clock()
        contender.prepare(drawn)
        start_ns = clock()
        contender.step()
        end_ns = clock()
        return end_ns - start_ns, end_ns - given_ns


class ClipWorkload(Workload):
    """One prediction from a clip: a fresh state and :data:`CLIP_FRAMES` steps."""

    frames = CLIP_FRAMES

    def draw(self, index: int) -> list[Image]:
        first = index * CLIP_FRAMES
        return [self.scene.frame_at(first + number) for number in range(CLIP_FRAMES)]

    def take(self, drawn: list[Image]) -> Times:
        contender = self.contender
        begin_ns = time.perf_counter_ns()
        contender.reset()
        for image in drawn:
            contender.prepare(image)
            contender.step()
        contender.logits()
        took_ns = time.perf_counter_ns() - begin_ns
        return took_ns, took_ns


class LoopWorkload(Workload):
    """From the camera's frame to an event: scale, normalise, step, decode."""

    def __init__(self, contender: Contender, scene: Footage) -> None:
        super().__init__(contender, scene)
        spec = contender.spec
        self._fit = Preprocessor(spec).fit
        self._decoder = GestureDecoder(spec)
        self._frame_s = 1.0 / spec.frame_rate_hz
        self._taken = 0

    def draw(self, index: int) -> Image:
        return self.scene.camera_at(index)

    def take(self, drawn: Image) -> Times:
        """The decoder's clock is the model's frame rate."""
        contender = self.contender
        begin_ns = time.perf_counter_ns()
        contender.prepare(self._fit(drawn))
        contender.step()
        self._decoder.update(contender.logits(), self._taken * self._frame_s)
        took_ns = time.perf_counter_ns() - begin_ns
        self._taken += 1
        return took_ns, took_ns


class StreamsWorkload(Workload):
    """A frame for each of several streams of one model, all at once: from the moment the frames are
    there to the moment the last stream is done. Each stream has a thread of its own."""

    def __init__(self, contender: Contender, scene: Footage, count: int) -> None:
        super().__init__(contender, scene)
        self.frames = count
        self._all = [contender, *(contender.another() for _ in range(count - 1))]
        self._images: list[Image] = []
        self._failure: BaseException | None = None
        self._gate = threading.Barrier(count + 1)
        for number in range(count):  # they end with the process
            threading.Thread(target=self._serve, args=(number,), daemon=True).start()

    def _serve(self, number: int) -> None:
        contender = self._all[number]
        while True:
            try:
                self._gate.wait()
                contender.prepare(self._images[number])
                contender.step()
            except BaseException as error:  # noqa: BLE001 - told by the thread that takes the time
                self._failure = error
            self._gate.wait()

    def draw(self, index: int) -> list[Image]:
        """A frame for each stream; each is elsewhere in the scene."""
        return [self.scene.frame_at(index + 7 * number) for number in range(self.frames)]

    def take(self, drawn: list[Image]) -> Times:
        self._images = drawn
        begin_ns = time.perf_counter_ns()
        self._gate.wait()
        self._gate.wait()
        took_ns = time.perf_counter_ns() - begin_ns
        if self._failure is not None:
            raise self._failure
        return took_ns, took_ns

    def finite(self) -> bool:
        return all(np.isfinite(each.logits()).all() for each in self._all)


WORKLOADS: dict[str, Callable[[Contender, Footage], Workload]] = {
    "step": StepWorkload,
    "loop": LoopWorkload,
    "clip": ClipWorkload,
}
"""By name; ``streams-N`` is one more for each N."""


def workload(name: str, contender: Contender, scene: Footage) -> Workload:
    """The workload of that name: one of :data:`WORKLOADS`, or ``streams-N``."""
    kind, _, count = name.partition("-")
    if kind == "streams":
        return StreamsWorkload(contender, scene, int(count))
    return WORKLOADS[name](contender, scene)
