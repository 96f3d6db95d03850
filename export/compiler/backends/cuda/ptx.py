"""TIR to PTX, through TVM's own LLVM: no file of NVIDIA's is needed.

What was found about TVM 0.27 and LLVM 22, and why this module looks as it does:

- TVM's nvptx target insists on a libdevice. Any LLVM file does, text too: here it holds products of
  matrices, which are inlined.
- As TVM leaves it the code is poor: kernels are ``.func``, their loads generic and scalar. So its
  LLVM text is corrected and handed to LLVM again: kernels get the calling convention
  ``ptx_kernel`` (then parameters are in global memory), vectors their alignment (``lower`` writes
  none that is not aligned), and shared arrays are internal, or two kernels of one module would
  share one. A module flag names the processor.
- "Cannot select" ends the process. TVM's first pass over the code is therefore for ``sm_90``, which
  has every instruction.

Nothing that is not understood passes: :func:`refuse_bad` reads what came out.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from shiftedge.export.compiler.backends.cuda.devices import Gpu
from shiftedge.export.compiler.backends.cuda.lower import lower
from shiftedge.export.compiler.kernel_ir import kernel as ir
from shiftedge.export.compiler.kernel_ir.fragments import FRAGMENTS, SUMS
from shiftedge.runtime.errors import CompileError
from shiftedge.runtime.process.files import work_folder

_FIRST = "sm_90"
"""What TVM builds for, before the text is corrected."""
_TRIPLE = "nvptx64-nvidia-cuda"
_BYTES = {"float": 4, "i32": 4, "half": 2}
_WORD = 4
"""Bytes. Of narrower elements LLVM makes vectors by itself, and says rightly that they are aligned
as one element is; those of ``lower`` are words, whatever LLVM calls them then."""


def generate(kernels: Sequence[ir.Kernel], gpu: Gpu) -> str:
    """PTX of kernels for a device.

    Raises:
        CompileError: what LLVM made of them must not run, which is a fault of ours.
    """
    if len({each.name for each in kernels}) != len(kernels):
        raise ValueError("two kernels have one name")
    with work_folder() as folder:
        (folder / "linked.ll").write_text(f'target triple = "{_TRIPLE}"\n{_matrices()}')
        tvm_ffi.register_global_func(
            "tvm_callback_libdevice_path", lambda _: str(folder / "linked.ll"), override=True
        )
        target = tvm.target.Target({"kind": "nvptx", "mcpu": _FIRST, "max_num_threads": 1024})
        functions = {each.name: lower(each).with_attr("target", target) for each in kernels}
        made = tvm.get_global_func("target.build.nvptx")(tvm.IRModule(functions), target)
        (folder / "kernels.ll").write_text(corrected(str(made.inspect_source("ll")), gpu))
        load: Any = tvm.get_global_func("ffi.Module.load_from_file.ll")
        text = str(load(str(folder / "kernels.ll"), "ll").inspect_source("asm"))
    refuse_bad(text, gpu)
    return text


def _matrices() -> str:
    """LLVM's text of products of matrices over vectors, ``mma_m16n8k16(sums, a, b)``: its own take
    registers one by one and return a structure."""
    result = []
    for shape, kind in FRAGMENTS.items():
        lines, given = [], []
        for name, count in zip("ab", (each // 2 for each in kind.elements), strict=True):
            lines.append(f"%{name}h = bitcast <{2 * count} x half> %{name} to <{count} x i32>")
            for place in range(count):
                taken = f"extractelement <{count} x i32> %{name}h, i32 {place}"
                lines.append(f"%{name}i{place} = {taken}")
                lines.append(f"%{name}{place} = bitcast i32 %{name}i{place} to <2 x half>")
                given.append(f"<2 x half> %{name}{place}")
        for place in range(SUMS):
            lines.append(f"%c{place} = extractelement <{SUMS} x float> %c, i32 {place}")
            given.append(f"float %c{place}")
        made = f"{{{', '.join(['float'] * SUMS)}}}"
        intrinsic = f"@llvm.nvvm.mma.{shape}.row.col.f32.f32"
        lines.append(f"%made = call {made} {intrinsic}({', '.join(given)})")
        last, vector = "undef", f"<{SUMS} x float>"
        for place in range(SUMS):
            lines.append(f"%r{place} = extractvalue {made} %made, {place}")
            lines.append(f"%v{place} = insertelement {vector} {last}, float %r{place}, i32 {place}")
            last = f"%v{place}"
        a, b = (f"<{each} x half> %{name}" for name, each in zip("ab", kind.elements, strict=True))
        result += [
            f"declare {made} {intrinsic}({', '.join(each.rpartition(' ')[0] for each in given)})",
            f"define {vector} @mma_{shape}({vector} %c, {a}, {b}) alwaysinline {{",
            *lines, f"ret {vector} {last}", "}",
        ]  # fmt: skip
    return "\n".join([*result, ""])


def corrected(text: str, gpu: Gpu) -> str:
    """LLVM's text of TVM's, as it should be; see the module's docstring."""
    for name in re.findall(r'!\{ptr @(\w+), !"kernel"', text):
        head = re.search(rf"^define (?:dllexport )?void @{name}\((.*?)\)(?= )", text, re.M)
        if head is None:
            raise CompileError(f"TVM wrote no function {name} into its LLVM text.")
        parameters = re.sub(r"ptr ((?:[\w()]+ )*)%", r"ptr \1align 16 %", head.group(1))
        text = text.replace(head.group(0), f"define ptx_kernel void @{name}({parameters})")
    # TVM's conversions of half precision, which nothing calls, and what was inlined.
    text = re.sub(r"^define (?:weak dso_local |[^\n]*@mma_).*?^}\n", "", text, flags=re.M | re.S)
    text = re.sub(r"^(@\S+) = .*?addrspace\(3\)", r"\1 = internal addrspace(3)", text, flags=re.M)
    text = re.sub(r'"target-cpu"="\w+"', f'"target-cpu"="{gpu.arch}"', text)

    def aligned(found: re.Match[str]) -> str:
        if int(found[4]) < _WORD:
            return found[0]
        return f"{found[1]}, align {int(found[2]) * _BYTES[found[3]]}"

    kinds = "|".join(_BYTES)
    text = re.sub(rf"((?:load|store) <(\d+) x ({kinds})>.*), align (\d+)", aligned, text)
    wanted = {"kind": "llvm", "mtriple": _TRIPLE, "mcpu": gpu.arch}
    if gpu.ptx_attribute:
        wanted["mattr"] = [gpu.ptx_attribute]  # type: ignore[assignment]
    flag = json.dumps(wanted, separators=(",", ":")).replace('"', "\\22")
    return (
        f'{text}\n!llvm.module.flags = !{{!9999}}\n!9999 = !{{i32 2, !"tvm_target", !"{flag}"}}\n'
    )


_BAD = (
    (r"\.func\b", "a function beside the kernels"),
    (r"\bcall\b", "a call"),
    (r"\.extern\b", "a symbol of elsewhere"),
    (r"^\s*\.local\b|\b(?:ld|st)\.local\b", "memory of a thread's own, where registers should be"),
    (r"\b(?:ld|st)\.(?!global|shared|param)[\w.]+", "a load or store without a memory space"),
)


def refuse_bad(text: str, gpu: Gpu) -> None:
    """Raises CompileError where PTX holds what would be slow, or what no driver would load."""
    for pattern, what in _BAD:
        found = re.search(pattern, text, re.M)
        if found:
            line = text[text.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0].strip()
            raise CompileError(f"The PTX for {gpu.arch} holds {what} ({line!r}); please report it.")
    version = re.search(r"^\.version (\d+)\.(\d+)$", text, re.M)
    target = re.search(r"^\.target (\w+)", text, re.M)
    if version is None or target is None or target.group(1) != gpu.arch:
        raise CompileError(f"The PTX is not for {gpu.arch}; please report it.")
    if tuple(map(int, version.groups())) > gpu.ptx:
        most = ".".join(map(str, gpu.ptx))
        raise CompileError(
            f"The PTX for {gpu.arch} is of version {version[1]}.{version[2]}, and the oldest "
            f"driver of its boards loads {most}; please report it."
        )


@dataclass(frozen=True)
class Assembled:
    """What ptxas says of a kernel."""

    registers: int
    """Of a thread."""
    spilled_bytes: int
    """Stored to a thread's own memory for want of registers."""
    shared_bytes: int
    """Of a block."""


def find_ptxas(gpu: Gpu) -> str | None:
    """NVIDIA's assembler, of the path or of the package nvidia-cuda-nvcc-cu11 or -cu12: one that
    knows the device, which of version 13 on those before sm_75 are not."""
    found, spec = [shutil.which("ptxas")], importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        found += map(str, sorted(Path(folder).glob("cuda_nvcc/bin/ptxas")))
    for each in filter(None, found):
        told = subprocess.run([each, "--help"], capture_output=True, text=True, check=False)
        if f"'{gpu.arch}'" in told.stdout:
            return each
    return None


def assemble(text: str, gpu: Gpu, ptxas: str) -> dict[str, Assembled]:
    """What NVIDIA's assembler makes of PTX, by kernel.

    Raises:
        CompileError: it refuses; or registers are spilled, or there is too much shared memory.
    """
    with work_folder() as folder:
        (folder / "kernels.ptx").write_text(text)
        done = subprocess.run(
            [ptxas, "-v", "-arch", gpu.arch, "kernels.ptx", "-o", "kernels.cubin"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise CompileError(f"ptxas refuses the code for {gpu.arch}: {said}")
    result = {}
    for name, rest in re.findall(
        r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry|\Z)", done.stderr, re.S
    ):
        spilled = re.search(r"(\d+) bytes spill stores", rest)
        shared = re.search(r"(\d+) bytes smem", rest)
        used = re.search(r"Used (\d+) registers", rest)
        made = Assembled(*(int(each[1]) if each else 0 for each in (used, spilled, shared)))
        if made.spilled_bytes or made.shared_bytes > gpu.shared_per_block:
            raise CompileError(
                f"{name} spills {made.spilled_bytes} bytes of registers and takes "
                f"{made.shared_bytes} of shared memory on {gpu.arch}; please report it."
            )
        result[name] = made
    return result
