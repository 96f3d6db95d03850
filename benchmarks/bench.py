"""The measurement behind ``shiftedge bench``, by the method of docs/benchmarks.md: engines in
processes of their own, checked against a reference, that take turns in rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftedge.benchmarks.counter import counter
from shiftedge.benchmarks.crew import Worker, WorkerError
from shiftedge.benchmarks.entry import BenchSettings, Candidate, Entry
from shiftedge.benchmarks.machine import chosen_cores, installed_bytes, machine, pinned
from shiftedge.benchmarks.roofline import Roofline
from shiftedge.benchmarks.sensors.gauges import find_sensors, throttled_between
from shiftedge.benchmarks.soak import Soak
from shiftedge.benchmarks.work import StepWork, step_work
from shiftedge.benchmarks.workloads import record
from shiftedge.export.agreement import FRAMES, Outputs, compare
from shiftedge.runtime.errors import NumericsError, ShiftedgeError, VerificationError
from shiftedge.runtime.process.files import work_folder
from shiftedge.runtime.process.signals import exit_status
from shiftedge.runtime.spec import METADATA_KEY, ModelSpec

WARM_UP_MOST = 200
"""Units of a warm-up at most; it ends when times are steady."""
WARM_UP_S = 1.5
"""Of the first process of an engine, at most; later ones find the machine warm."""
RESTART_WARM_UP_S = 0.3
LEAD_IN = 1
"""Untimed units at the start of each turn, which wake threads and caches."""
TURN_S = 1.5
"""A turn of a slow engine ends then, with the units that it has taken."""
TURNS_S = 60.0
"""Of all engines in all their rounds, in equal shares, of which none is above :data:`SHARE_S`. One
that would take longer sits out rounds, as many after each turn."""
SHARE_S = 10.0
LOOKS = 30
"""How often the peak and the sensors are looked at, spread over the rounds."""
RESTART_S = 2.0
"""An engine that takes longer to load is not started again."""
LEAK_MB = 256.0
"""Growth of a process, after its first turn, that ends it."""
PROFILE_FRAMES = 100
ENERGY_S = 2.0
"""Of steps without a pause on each engine, where the board has an energy meter."""
ENERGY_UNITS = 100
"""Of a turn meanwhile: as many frames are drawn before it."""


@dataclass
class Bench:
    """One run. :meth:`run` fills the attributes; Ctrl-C ends it early with what there is."""

    candidates: Sequence[Candidate]
    """In the order of the report."""
    settings: BenchSettings
    _: KW_ONLY
    onnx: Path | None
    """The model, for the reference and the count of operations; None where only a bundle is at
    hand."""
    reference: str
    """``module:Class`` of the contender that the others must agree with."""
    bundle: Path | None = None
    """The compiled model's folder, whose manifest says what its kernels multiply."""
    source: str | None = None
    """Recording or camera whose frames are used; None is a rendered scene."""
    profile: bool = False
    """Measure each kernel of the engines that tell."""
    soak_minutes: float = 0.0
    """Of steps without a pause, at the end, on the first engine that was measured."""

    def __post_init__(self) -> None:
        self.spec: ModelSpec | None = None
        self.work = StepWork(reason="Interrupted before the operations were counted.")
        """What a step multiplies."""
        self.roofline: Roofline | None = None
        self.exit_status = 0
        """That goes with the signal that interrupted it; 0 of a run that came to its end."""
        self.machine = machine()
        """Before the run: the load is that of others."""
        self.notes: list[str] = []
        """Sentences that a reader of the figures should know."""
        self.entries = [
            Entry(candidate, threads, workload)
            for workload in self.settings.workloads
            for threads in self.settings.threads
            for candidate in self.candidates
        ]
        self.source_frames: int | None = None
        self.round_starts = self.settings.round_starts()
        """For each round that was begun, the start it belongs to."""
        self.kernel_seconds: dict[tuple[int, str], dict[str, float]] = {}
        """Of the engines that tell, by threads and precision."""
        self.soak: Soak | None = None
        self.sensors = find_sensors()
        self.samples: list[dict[str, Any]] = []
        """The sensors before the first round, and after some."""
        self._scene: Path | None = None
        self._expected: list[Outputs] | None = None
        self._count = len(self.entries)
        """Entries that the time is shared among."""

    @counter("measuring")
    def run(self) -> None:
        """Measure everything. No process is left when this returns or raises.

        Raises:
            ShiftedgeError: the model cannot be loaded by the reference either, or gives NaN.
        """
        try:
            with work_folder() as scratch:
                if self.source is not None:
                    self._scene = scratch / "scene.npy"
                    self.source_frames = record(self.source, self._scene)
                with counter("preparing", len(self.entries) + 2, "engines") as advance:
                    self._load_reference()
                    advance(1)
                    self.work = step_work(self.onnx, self.spec, self.bundle)
                    self.roofline = Roofline(list(self.settings.threads), self.work.measured)
                    advance(1)
                    for entry in self.entries:
                        self._prepare(entry)
                        advance(1)
                self._take_rounds(self.roofline)
                self._take_energy()
                if self.profile:
                    self._take_profiles()
                if self.soak_minutes:
                    self._take_soak()
        except KeyboardInterrupt as error:
            self.exit_status = exit_status(error)
        finally:
            for entry in self.entries:
                entry.rest()
                if any(entry.rounds_ns) and entry.status == "waiting":
                    entry.status = "ok"
                elif entry.status == "waiting":
                    entry.end("interrupted", "Interrupted before it was timed.")
            self._take_notes()

    def _load_reference(self) -> None:
        if self.onnx is None:
            self.notes.append(
                "Not checked against a reference: that takes the .onnx file that the bundle was "
                "made from (shiftedge bench MODEL.onnx --bundle FOLDER)."
            )
            return
        try:
            with self._worker(self.reference, self.onnx, 1) as worker:
                self.spec = worker.ready()["spec"]
                outputs: list[Outputs] = worker.ask("outputs", frames=FRAMES)
        except WorkerError as error:
            if error.status != "unavailable":
                raise ShiftedgeError(f"The model cannot be benchmarked: {error}") from error
            self.spec = spec_by_onnx(self.onnx)
            self.notes.append(
                "Not checked against a reference: that takes onnxruntime, which is not installed."
            )
            return
        if not all(np.isfinite(values).all() for step in outputs for values in step.values()):
            raise NumericsError(
                "The model gives NaN or infinity on the benchmark's frames, so engines cannot be "
                "compared; check the weights with `shiftedge export`."
            )
        self._expected = outputs

    def _prepare(self, entry: Entry) -> None:
        """Start the worker, check it, warm it up; on failure the entry says why."""
        if entry.candidate.path is None:
            entry.end("unavailable", entry.candidate.reason or "There is nothing for it to load.")
            return
        try:
            worker = self._start(entry, entry.candidate.path)
            self._check(entry, worker)
            if entry.alive:
                entry.warm_up = self._warm_up(worker)
        except WorkerError as error:
            entry.end(error.status, str(error))
        except VerificationError as error:
            entry.end("disagrees", str(error))

    def _start(self, entry: Entry, path: Path) -> Worker:
        """A new process for an entry.

        Raises:
            WorkerError: it did not load.
        """
        candidate = entry.candidate
        worker = entry.worker = self._worker(candidate.factory, path, entry.threads, entry.workload)
        ready = worker.ready()
        # What is installed does not change, and to add it up may take a second.
        entry.ready = entry.ready or {
            **ready,
            "engine_bytes": installed_bytes(ready["packages"]),
        }
        entry.load_ms.append(ready["load_ms"])
        entry.first_ms.append(ready["first_prediction_ms"])
        entry.settled_mb = None
        return worker

    def _warm_up(self, worker: Worker, most_s: float = WARM_UP_S) -> dict[str, Any]:
        found: dict[str, Any] = worker.ask("warm_up", most=WARM_UP_MOST, most_s=most_s)
        return found

    def _restart(self, entry: Entry) -> None:
        """The entry's process anew; one that loads slowly goes on as it is."""
        path = entry.candidate.path
        if path is None or not entry.alive or entry.load_ms[0] > 1e3 * RESTART_S:
            return
        entry.rest()
        try:
            self._warm_up(self._start(entry, path), RESTART_WARM_UP_S)
        except WorkerError as error:
            entry.end(error.status, str(error))

    def _check(self, entry: Entry, worker: Worker) -> None:
        spec: ModelSpec = entry.ready["spec"]
        if self.spec is None:
            self.spec = spec
        elif not same_model(spec, self.spec):
            entry.end("disagrees", f"It holds another model ({spec.name}, not {self.spec.name}).")
            return
        if self._expected is None or not entry.ready["checked"]:
            return
        outputs = worker.ask("outputs", frames=FRAMES)
        accepted = entry.ready["tolerance"]
        # An engine may show no states.
        expected = [{name: step[name] for name in outputs[0]} for step in self._expected]
        entry.agreement = compare("reference / engine", expected, outputs, tolerance=accepted)
        worst = entry.agreement[0]
        if not worst.passed:
            entry.end(
                "disagrees",
                f"{worst.tensor} differs from the reference by {worst.relative:.2g} of "
                f"its largest value over {FRAMES} frames; accepted is {accepted:g}.",
            )

    def _take_rounds(self, roofline: Roofline) -> None:
        turns: list[Entry | int] = [*self.entries, *roofline.threads]
        total = sum(entry.alive for entry in self.entries) * self.settings.frames
        self._count = sum(entry.alive for entry in self.entries)
        begin, start = WARM_UP_MOST, 0
        self.samples.append(self.sensors.sample())
        with counter("measuring", total, "frames") as advance:
            for index, units in enumerate(self.settings.round_frames()):
                looking = index % -(-self.settings.rounds // LOOKS) == 0
                if self.round_starts[index] != start:
                    start = self.round_starts[index]
                    for entry in self.entries:
                        self._restart(entry)
                first = index % len(turns)
                for turn in (*turns[first:], *turns[:first]):
                    if isinstance(turn, int):
                        if looking:
                            with pinned(chosen_cores(turn)):
                                roofline.measure(turn)
                    elif turn.worker is not None and index % self._stride(turn) == 0:
                        try:
                            self._turn(turn, turn.worker, begin, units)
                        except WorkerError as error:
                            turn.end(error.status, str(error))
                        advance(units)
                    else:
                        turn.rounds_ns.append([])
                        turn.frame_rounds_ns.append([])
                        advance(units if turn.alive else 0)
                begin += LEAD_IN + units
                if looking:
                    self.samples.append(self.sensors.sample())

    def _stride(self, entry: Entry) -> int:
        """It has a turn in one of so many rounds, and in some of each process start."""
        rounds, starts = self.settings.rounds, self.settings.starts
        units = LEAD_IN * rounds + self.settings.frames
        unit_s = float(entry.warm_up.get("unit_s", 0.0))
        share_s = min(SHARE_S, TURNS_S / max(1, self._count))
        wanted = math.ceil(units * unit_s / share_s)
        return max(1, min(wanted, rounds // starts))

    def _turn(self, entry: Entry, worker: Worker, begin: int, units: int) -> None:
        answer = worker.ask("turn", begin=begin, lead_in=LEAD_IN, frames=units, most_s=TURN_S)
        entry.rounds_ns.append(answer["step_ns"])
        entry.frame_rounds_ns.append(answer["frame_ns"])
        entry.rss_mb = max(entry.rss_mb or 0.0, answer["rss_mb"] or 0.0) or None
        entry.idle_wall_ms += answer["idle"]["wall_ms"]
        entry.idle_cpu_ms += answer["idle"]["cpu_ms"]
        now_mb = answer["now_mb"]
        if now_mb is not None:
            entry.settled_mb = entry.settled_mb or now_mb
            grown = now_mb - entry.settled_mb
            entry.grown_mb = max(entry.grown_mb, grown)
            if grown > LEAK_MB:
                entry.end(
                    "leaks", f"Its memory grew by {grown:.0f} MB while it was measured; ended."
                )

    def _take_energy(self) -> None:
        """Turns without a pause, since sensors are slower than a step. What is counted is all that
        the board spends meanwhile, idle cores included."""
        meter = self.sensors.meter
        turn = {"begin": WARM_UP_MOST, "lead_in": 0, "frames": ENERGY_UNITS}
        for entry, worker in self._living("measuring energy"):

            def spend(seconds: float, entry: Entry = entry, worker: Worker = worker) -> None:
                entry.energy_units += len(worker.ask("turn", **turn, most_s=seconds)["step_ns"])

            try:
                spent = meter.measure(ENERGY_S, spend)
                entry.energy_j, entry.energy_reason = spent.joules or 0.0, spent.reason
            except WorkerError as error:
                entry.energy_reason = str(error)

    def _take_profiles(self) -> None:
        for entry, worker in self._living("profiling"):
            if entry.workload == "step" and not entry.candidate.peer:
                try:
                    key = (entry.threads, str(entry.ready.get("precision")))
                    self.kernel_seconds[key] = worker.ask("profile", frames=PROFILE_FRAMES)
                except WorkerError as error:
                    self.notes.append(f"{entry.name} was not profiled: {error}")

    def _living(self, what: str) -> Iterator[tuple[Entry, Worker]]:
        """The entries that have a process, with progress."""
        with counter(what, len(self.entries), "engines") as advance:
            for entry in self.entries:
                if entry.worker is not None:
                    yield entry, entry.worker
                advance(1)

    def _take_soak(self) -> None:
        for entry in self.entries:
            if entry.worker is not None and entry.workload == "step" and entry.ready["checked"]:
                self.soak = Soak(
                    entry.candidate.engine, entry.threads, self.soak_minutes, self.sensors.sample
                )
                seconds = int(60 * self.soak_minutes)
                with counter("soaking", seconds, "seconds") as advance:
                    self.soak.run(entry.worker, WARM_UP_MOST + self.settings.frames, advance)
                return
        self.notes.append("There was no soak: no engine could be measured.")

    def _worker(self, factory: str, path: Path, threads: int, workload: str = "step") -> Worker:
        streams = int(workload.partition("-")[2] or 1)
        with pinned(chosen_cores(threads * streams)):
            return Worker(
                factory,
                path,
                threads,
                spec=self.spec,
                workload=workload,
                scene=self._scene,
                timeout_s=self.settings.timeout_s,
            )

    def _take_notes(self) -> None:
        if len(self.samples) > 1:
            words = throttled_between(self.samples[0], self.samples[-1])
            if words:
                self.notes.append(f"The machine was throttled meanwhile: {', '.join(words)}.")
        for entry in self.entries:
            used = entry.ready.get("settings", {}).get("threads", entry.threads)
            if used != entry.threads:
                self.notes.append(f"{entry.name} ran with {used}.")
            stride = self._stride(entry)
            if entry.status == "ok" and stride > 1:
                self.notes.append(
                    f"{entry.name} is slow, and had a turn in one of {stride} rounds."
                )
            if entry.warm_up and not entry.warm_up["steady"]:
                self.notes.append(f"{entry.name} was not steady after {entry.warm_up['units']}.")
            if entry.grown_mb > 1.0:
                self.notes.append(f"{entry.name} grew by {entry.grown_mb:.1f} MB in its turns.")
            if entry.idle_cpu_ms > 0.05 * entry.idle_wall_ms:
                share = entry.idle_cpu_ms / entry.idle_wall_ms
                self.notes.append(
                    f"{entry.name} kept {share:.0%} of a core busy while others had turns."
                )


def same_model(spec: ModelSpec, reference: ModelSpec) -> bool:
    """True where both take the same frames, hold the same states and give the same classes."""
    keys = ("labels", "height", "width", "mean", "std")
    return all(getattr(spec, key) == getattr(reference, key) for key in keys) and (
        [state.shape for state in spec.states] == [state.shape for state in reference.states]
    )


def spec_by_onnx(path: Path) -> ModelSpec | None:
    """From the file's metadata, without any engine; None where the onnx package is not there, or
    the file is damaged, which its reader will say."""
    try:
        import onnx

        entries = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        return ModelSpec.from_json(entries[METADATA_KEY])
    except Exception:  # noqa: BLE001 - a damaged protobuf raises what it likes
        return None
