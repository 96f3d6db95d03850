"""The measurement behind ``shiftedge bench``.

Each engine with each thread count has a process of its own, which stays for the whole run and is
idle while others have their turn. A round gives each of them, and the peak kernel, one turn of a
few dozen frames, in an order that turns from round to round, so that whatever the machine does
meanwhile hits all alike and figures can be compared round by round. All see the same scene. Before
anything is timed, each engine's logits and states are compared with a reference session's.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.benchmarks import agreement
from shiftedge.benchmarks.agreement import Agreement
from shiftedge.benchmarks.counter import counter
from shiftedge.benchmarks.crew import Worker, WorkerError
from shiftedge.benchmarks.machine import machine
from shiftedge.benchmarks.roofline import Roofline, model_flops
from shiftedge.runtime.errors import NumericsError, ShiftedgeError, VerificationError
from shiftedge.runtime.progress import ProgressFactory
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

__all__ = ["LEAD_IN", "WARM_UP", "Bench", "Candidate", "Entry", "Settings"]

WARM_UP = 20
"""Untimed steps before the first round: twice the receptive field of MobileNetV2 TSM."""
LEAD_IN = 3
"""Untimed steps at the start of each turn, which wake threads and caches."""


@dataclass(frozen=True)
class Candidate:
    """An engine to measure.

    ``path`` is what it loads; None where there is nothing for it to load, and ``reason`` says why.
    ``peer`` is False for what is compared with the peers.
    """

    engine: str
    factory: str
    path: Path | None
    reason: str | None = None
    peer: bool = True


@dataclass(frozen=True)
class Settings:
    """How much to measure.

    Raises:
        ShiftedgeError: there are more rounds than frames.
    """

    threads: tuple[int, ...] = (1,)
    frames: int = 300
    """Timed steps of each engine with each thread count."""
    rounds: int = 10
    timeout_s: float = 120.0
    """For loading, and for each turn; a process that takes longer is ended."""

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= self.frames:
            raise ShiftedgeError(
                f"{self.rounds} rounds of {self.frames} frames; expected at least one frame each."
            )

    def round_frames(self) -> list[int]:
        """Timed steps of each round, as equal as they can be."""
        least, more = divmod(self.frames, self.rounds)
        return [least + (index < more) for index in range(self.rounds)]


@dataclass
class Entry:
    """One engine with one thread count, and what became of it.

    ``status`` is "waiting" until it is timed, then "ok"; or "unavailable", "failed", "disagrees",
    "crashed", "timeout", with a ``reason``.
    """

    candidate: Candidate
    threads: int
    status: str = "waiting"
    reason: str | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    """What the worker said when it had loaded the model."""
    agreement: Agreement | None = None
    rounds_ns: list[list[int]] = field(default_factory=list)
    """Step times of each round, nanoseconds."""
    frame_rounds_ns: list[list[int]] = field(default_factory=list)
    """The same from the uint8 frame on."""
    rss_mb: float | None = None
    idle_wall_ms: float = 0.0
    idle_cpu_ms: float = 0.0
    worker: Worker | None = None

    @property
    def alive(self) -> bool:
        """Takes part in the rounds."""
        return self.worker is not None

    def end(self, status: str, reason: str) -> None:
        """Out of the run, with what happened."""
        self.status, self.reason = status, reason
        if self.worker is not None:
            self.worker.close()
            self.worker = None


class Bench:
    """One run. :meth:`run` fills the attributes; Ctrl-C ends it early with what there is.

    Args:
        candidates: in the order of the report.
        onnx: the model, for the reference and the count of operations; None where only a bundle
            is at hand.
        reference: ``module:Class`` of the contender that the others must agree with.
        show: how to show progress.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        settings: Settings,
        *,
        onnx: Path | None,
        reference: str,
        show: ProgressFactory = counter,
    ) -> None:
        self.settings = settings
        self.onnx = onnx
        self.spec: ModelSpec | None = None
        self.flops: int | None = None
        self.flops_reason: str | None = None
        self.roofline: Roofline | None = None
        self.interrupted = False
        self.machine = machine()
        """Before the run: the load is that of others."""
        self.notes: list[str] = []
        """Sentences that a reader of the figures should know."""
        self.entries = [
            Entry(candidate, threads) for threads in settings.threads for candidate in candidates
        ]
        self._reference_factory = reference
        self._reference: Mapping[str, NDArray[np.float32]] | None = None
        self._show = show

    def run(self) -> None:
        """Measure everything. No process is left when this returns or raises.

        Raises:
            ShiftedgeError: the model cannot be loaded by the reference either, or gives NaN.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="shiftedge-bench-") as scratch:
                with self._show("preparing", len(self.entries) + 2, "engines") as advance:
                    self._load_reference(Path(scratch) / "reference")
                    advance(1)
                    self._count_flops()
                    self.roofline = Roofline(list(self.settings.threads))
                    advance(1)
                    for index, entry in enumerate(self.entries):
                        self._prepare(entry, Path(scratch) / str(index))
                        advance(1)
                self._take_rounds(self.roofline)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            for entry in self.entries:
                if entry.worker is not None:
                    entry.worker.close()
                    entry.worker = None
                if entry.rounds_ns and entry.status == "waiting":
                    entry.status = "ok"
                elif entry.status == "waiting":
                    entry.end("interrupted", "Interrupted before it was timed.")
            self._take_notes()

    def _load_reference(self, file: Path) -> None:
        if self.onnx is None:
            self.notes.append(
                "Not checked against a reference: that takes the .onnx file that the bundle was "
                "made from (shiftedge bench MODEL.onnx --bundle FOLDER)."
            )
            return
        try:
            with self._worker(self._reference_factory, self.onnx, 1) as worker:
                self.spec = ModelSpec.from_json(worker.ready()["spec"])
                worker.ask({"do": "outputs", "frames": agreement.FRAMES, "file": str(file)})
        except WorkerError as error:
            if error.status != "unavailable":
                raise ShiftedgeError(f"The model cannot be benchmarked: {error}") from error
            self.spec = _spec_by_onnx(self.onnx)
            self.notes.append(
                "Not checked against a reference: that takes onnxruntime, which is not installed."
            )
            return
        outputs = agreement.read_outputs(file, self.spec, has_states=True)
        if not all(np.isfinite(values).all() for values in outputs.values()):
            raise NumericsError(
                "The model gives NaN or infinity on the benchmark's frames, so engines cannot be "
                "compared; check the weights with `shiftedge export`."
            )
        self._reference = outputs

    def _count_flops(self) -> None:
        if self.onnx is None or self.spec is None:
            self.flops_reason = "operations are counted from the .onnx file"
            return
        try:
            self.flops = model_flops(self.onnx.read_bytes(), self.spec)
        except Exception as error:  # noqa: BLE001 - a count for the record costs no measurement
            self.flops_reason = f"The operations were not counted: {error}"

    def _prepare(self, entry: Entry, file: Path) -> None:
        """Start the worker, check it, warm it up; on failure the entry says why."""
        candidate = entry.candidate
        if candidate.path is None:
            entry.end("unavailable", candidate.reason or "There is nothing for it to load.")
            return
        try:
            entry.worker = self._worker(candidate.factory, candidate.path, entry.threads)
            entry.ready = entry.worker.ready()
            self._check(entry, entry.worker, file)
            if entry.worker is not None:
                self._turn(entry, entry.worker, 0, WARM_UP, 0)
                entry.rounds_ns.clear()
                entry.frame_rounds_ns.clear()
        except WorkerError as error:
            entry.end(error.status, str(error))
        except VerificationError as error:
            entry.end("disagrees", str(error))

    def _check(self, entry: Entry, worker: Worker, file: Path) -> None:
        spec = ModelSpec.from_json(entry.ready["spec"])
        if self.spec is None:
            self.spec = spec
        elif not agreement.same_model(spec, self.spec):
            entry.end("disagrees", f"It holds another model ({spec.name}, not {self.spec.name}).")
            return
        if self._reference is None:
            return
        worker.ask({"do": "outputs", "frames": agreement.FRAMES, "file": str(file)})
        outputs = agreement.read_outputs(file, spec, has_states=entry.ready["has_states"])
        file.unlink()
        found = entry.agreement = agreement.compare(outputs, self._reference)
        if not found.passed:
            entry.end(
                "disagrees",
                f"{found.worst_tensor} differs from the reference by {found.worst_relative:.2g} of "
                f"its largest value over {agreement.FRAMES} frames; accepted is "
                f"{agreement.TOLERANCE:g}.",
            )

    def _take_rounds(self, roofline: Roofline) -> None:
        turns: list[Entry | int] = [*self.entries, *roofline.threads]
        frames_left = [entry for entry in self.entries if entry.alive]
        total = len(frames_left) * self.settings.frames
        begin = WARM_UP
        with self._show("measuring", total, "frames") as advance:
            for index, frames in enumerate(self.settings.round_frames()):
                first = index % len(turns)
                for turn in (*turns[first:], *turns[:first]):
                    if isinstance(turn, int):
                        roofline.measure(turn)
                    elif turn.worker is not None:
                        try:
                            self._turn(turn, turn.worker, begin, LEAD_IN, frames)
                        except WorkerError as error:
                            turn.end(error.status, str(error))
                        advance(frames)
                begin += LEAD_IN + frames

    def _turn(self, entry: Entry, worker: Worker, begin: int, lead_in: int, frames: int) -> None:
        order = {"do": "turn", "begin": begin, "lead_in": lead_in, "frames": frames}
        answer = worker.ask(order)
        entry.rounds_ns.append(answer["step_ns"])
        entry.frame_rounds_ns.append(answer["frame_ns"])
        entry.rss_mb = answer["rss_mb"]
        entry.idle_wall_ms += answer["idle"]["wall_ms"]
        entry.idle_cpu_ms += answer["idle"]["cpu_ms"]

    def _worker(self, factory: str, path: Path, threads: int) -> Worker:
        return Worker(
            factory,
            path,
            threads,
            spec=None if self.spec is None else self.spec.to_json(),
            timeout_s=self.settings.timeout_s,
        )

    def _take_notes(self) -> None:
        for entry in self.entries:
            who = f"{entry.candidate.engine} with {entry.threads} threads"
            used = entry.ready.get("settings", {}).get("threads", entry.threads)
            if used != entry.threads:
                self.notes.append(f"{who} ran with {used}.")
            if entry.idle_cpu_ms > 0.05 * entry.idle_wall_ms:
                share = entry.idle_cpu_ms / entry.idle_wall_ms
                self.notes.append(f"{who} kept {share:.0%} of a core busy while others had turns.")


def _spec_by_onnx(path: Path) -> ModelSpec | None:
    """From the file's metadata, without any engine; None where the onnx package is not there."""
    with contextlib.suppress(ImportError):
        import onnx

        for entry in onnx.load(str(path)).metadata_props:
            if entry.key == METADATA_KEY:
                return ModelSpec.from_json(entry.value)
    return None
