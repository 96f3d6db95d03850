"""A step's kernels on the emulated GPU, in the interpreter's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from shiftedge.export.compiler.backends.cuda.devices import GpuVariant
from shiftedge.export.compiler.kernel_ir.kernel import Kernel
from shiftedge.export.compiler.targets import backend_of
from shiftedge.export.compiler.verify.gpu import machine
from shiftedge.runtime.errors import VerificationError


def emulated(kernels: Sequence[Kernel], variant: GpuVariant) -> Callable[..., object]:
    """What runs a kernel's code for the variant, for ``Interpreter``.

    It raises VerificationError where the code does what it must not: an access out of bounds, a
    race, and whatever else the emulated GPU finds.
    """
    (text,) = backend_of(variant.device).text(kernels, variant).values()
    module = machine.Module(text)

    def execute(kernel: Kernel, arrays: Mapping[str, NDArray[Any]]) -> None:
        done = machine.run(module, kernel, arrays)
        if done.faults:
            raise VerificationError(
                f"The code of {kernel.name} for {variant.device.arch} has a fault, {done.faults[0]}"
                ": please report it. Nothing was written."
            )

    return execute
