"""A step's kernels on the emulated GPU, in the interpreter's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.compiler.backends.base import TargetVariant
from shiftedge.export.compiler.kernel_ir import interpret
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.targets import backend_of
from shiftedge.export.compiler.verify.gpu import machine
from shiftedge.runtime.errors import VerificationError


def emulated(
    kernels: Sequence[Kernel],
    variant: TargetVariant,
    tell: Callable[[machine.Launch], object] = lambda launch: None,
) -> Callable[..., object]:
    """What runs a kernel's code for the variant, for ``Interpreter``; ``tell`` is given what each
    launch did.

    It raises VerificationError where the code does what it must not: an access out of bounds, a
    race, and whatever else the emulated GPU finds.
    """
    (text,) = backend_of(variant.device).text(kernels, variant).values()
    module = machine.Module(text)

    def execute(kernel: Kernel, arrays: Mapping[str, NDArray[Any]]) -> None:
        done = machine.run(module, kernel, arrays)
        if done.faults:
            raise VerificationError(
                f"The code of {kernel.name} for {variant.name} has a fault, {done.faults[0]}"
                ": please report it. Nothing was written."
            )
        tell(done)

    return execute


class Beside:
    """Runs kernels, and behind the first ``skip`` of them the interpreter on the same arrays.

    Raises VerificationError where a result is off by more than ``accepted`` of the largest.
    """

    def __init__(self, execute: Callable[..., object], skip: int, accepted: float) -> None:
        self._execute, self._skip, self._accepted = execute, skip, accepted
        self.worst = 0.0
        """Difference so far, relative to the largest number of its array."""

    def __call__(self, kernel: Kernel, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._skip -= 1
        made = [each for each in kernel.buffers if each.role == "output"]
        theirs = {**arrays, **{each.name: arrays[each.name].copy() for each in made}}
        self._execute(kernel, arrays)
        if self._skip >= 0:
            return
        interpret.run(kernel, theirs)
        for buffer in made:
            ours, wanted = (each[buffer.name][: buffer.size] for each in (arrays, theirs))
            if np.array_equal(ours, wanted, equal_nan=True):
                continue
            far = float(np.abs(ours - wanted).max()) / max(float(np.abs(wanted).max()), 1e-6)
            if not far <= self._accepted:  # NaN too
                raise VerificationError(
                    f"The code of {kernel.name} makes other numbers than its schedule, by "
                    f"{far:.2g} of the largest: please report it. Nothing was written."
                )
            self.worst = max(self.worst, far)
