"""What a backend is, and the boards and variants that it is asked about.

A **board** (:class:`Target`) has devices (:class:`Device`); a device in a precision is a
**variant**, which gets a library of its own in a bundle, ``lib/<variant>/``. A **backend** makes
the code for one kind of device. The rest of the compiler knows no device: it asks

    ``targets``   which variants a board has, and why there is none         variants, refusal, here
    ``compile``   how a graph becomes kernels, and kernels files            lower, emit, explain
    ``link``      the board's C compiler, whatever the device; the files to link, the executor of
                  ``runtime/native`` and what that takes           emit, executor, sources, plan
    ``verify``    which code this machine can run in a variant's place      runs_here, stand_in
    ``cache``     nothing: its key holds the board, and what runs here
    manifest      the variant's name and features, and the rows of ``explain``

``cpu`` and ``cuda`` are there; a third brings a folder beside them and no change here, but for its
line in ``targets.BACKENDS``.
"""

from __future__ import annotations

import importlib.resources
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from shiftedge.export.compiler.graph.graph import Graph
from shiftedge.export.compiler.kernel_ir.calls import Step
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.kernel_ir.layout import MemoryLayout
from shiftedge.runtime.spec import ModelSpec


def native_folder() -> Path:
    """``runtime/native``."""
    return Path(str(importlib.resources.files("shiftedge.runtime.native")))


class Device(Protocol):
    """What runs kernels on a board; data only. Each backend has a class of its own."""

    @property
    def name(self) -> str:
        """Of its instructions, not of the board: names the folder of a library."""

    @property
    def features(self) -> tuple[str, ...]:
        """A machine must have all of them; of a processor, names as in /proc/cpuinfo."""

    def facts(self) -> Mapping[str, Any]:
        """What ``compile --list-targets --json`` says of it."""


@dataclass(frozen=True)
class Target:
    """A board to compile for."""

    name: str
    description: str
    architecture: str
    """As ``platform.machine()`` says there."""
    triple: str
    """LLVM's, for the kernels."""
    zig: str
    """``zig cc -target``: for the C parts, with the oldest glibc to run on."""
    devices: tuple[Device, ...]
    """Best first, processors last. Each is a variant of the same bundle; the first that fits is
    used."""
    cores: int = 4
    """To plan for; how many threads run is chosen when the model is opened."""
    source: str = ""
    """Where the numbers of the board and its devices are from."""

    @property
    def glibc(self) -> str:
        """The oldest C library that its bundles run with."""
        return self.zig.rpartition("-")[2].partition(".")[2]


@dataclass(frozen=True)
class TargetVariant:
    """A device of a board in a precision: one library of a bundle."""

    target: Target
    device: Device
    """As its kernels use it: with what the precision adds."""
    precision: str = "fp32"
    """What its kernels multiply in."""

    @property
    def name(self) -> str:
        """Of the library's folder in a bundle."""
        return self.device.name + ("" if self.precision == "fp32" else f"-{self.precision}")

    @property
    def architecture(self) -> str:
        """As ``platform.machine()`` says."""
        return self.target.architecture

    @property
    def features(self) -> tuple[str, ...]:
        """A machine must have all of them."""
        return self.device.features


D = TypeVar("D", bound=Device)
V = TypeVar("V", bound=TargetVariant)


class Backend(ABC, Generic[D, V]):
    """Makes the code for one kind of device."""

    # What there is.

    @abstractmethod
    def variants(self, target: Target, device: D, precision: str) -> Sequence[V]:
        """For machines with a device, best first; none where the precision is no quicker."""

    @abstractmethod
    def refusal(self, target: Target, precision: str) -> str:
        """Why a board has no variant of a precision, and what to do: a sentence."""

    @abstractmethod
    def check(self, target: Target, device: D) -> None:
        """Raises CompileError: the code generator does not know the device."""

    @abstractmethod
    def here(self, device: D) -> D:
        """The device with what this machine tells of its own: caches."""

    @abstractmethod
    def runs_here(self, variant: V) -> bool:
        """Whether this machine can run the variant's code."""

    @abstractmethod
    def stand_in(self, variant: V, host: V) -> V:
        """``host``, this machine's float32 variant, made to run the very kernels of another."""

    # What is made.

    executor: ClassVar[str]
    """Whose step loop runs the kernels: ``shiftedge_<executor>_executor``, see ``executor.h``."""

    def sources(self) -> Sequence[Path]:
        """The executor's C files; by default those of its folder of ``runtime/native``."""
        return list((native_folder() / self.executor).glob("*.c"))

    @abstractmethod
    def lower(self, graph: Graph, spec: ModelSpec, variant: V) -> Step:
        """A schedule, tiles and buffers for every kernel of ``graph``.

        Raises:
            CompileError: an operator has no rule; the message names its node.
        """

    @abstractmethod
    def emit(self, kernels: Sequence[Kernel], variant: V, folder: Path) -> Sequence[str]:
        """Writes the kernels' code into ``folder``; the names of the files to link."""

    @abstractmethod
    def plan(self, step: Step, places: MemoryLayout, variant: V) -> Iterable[str]:
        """Lines of C that define ``plan``, what the executor takes."""

    @abstractmethod
    def text(self, kernels: Sequence[Kernel], variant: V) -> Mapping[str, str]:
        """The code as text, for people, by the name of the file that it should stand in."""

    # Why it is so.

    @abstractmethod
    def explain(self, step: Step, variant: V) -> list[dict[str, Any]]:
        """A row a kernel, in order, as plain JSON types, for the manifest."""

    @abstractmethod
    def table(
        self,
        rows: Sequence[dict[str, Any]],
        variant: V,
        seconds: Sequence[float] | None,
        peak_flops: float | None,
    ) -> str:
        """These rows as text, with what :meth:`measure` found where it did."""

    @abstractmethod
    def measure(self, library: Path, variant: V) -> tuple[list[float], float]:
        """Each kernel's seconds and the peak, operations a second, of a variant that runs here."""
