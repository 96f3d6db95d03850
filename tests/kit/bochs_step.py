"""Steps a compiled model on an emulated x86-64 processor and writes what it gave:

    python bochs_step.py PROCESSOR LIBRARY IMAGES.npy OUTPUT

OUTPUT holds, for each frame, the logits and then the state block, as ``emulation.qemu.stream``
writes them for ARM. A process of its own, since the processor's memory is that of the process.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from kit.bochs_cpu import Cpu
from shiftedge.runtime.engines.native import OVERSUBSCRIBE, Options


def main(processor: str, library: str, images: str, output: str) -> int:
    model = ctypes.CDLL(library)
    model.shiftedge_state_size.restype = ctypes.c_size_t
    model.shiftedge_last_error.restype = ctypes.c_char_p
    model.shiftedge_spec_json.restype = ctypes.c_char_p
    frames = np.load(images)
    with tempfile.TemporaryDirectory() as folder:
        cpu = Cpu(processor, Path(folder))
    options, opened = Options(ctypes.sizeof(Options), 1, OVERSUBSCRIBE), ctypes.c_void_p()
    handles = ctypes.addressof(options), ctypes.addressof(opened)
    if cpu.call(model.shiftedge_open, *handles) & 0xFFFF_FFFF:
        print(model.shiftedge_last_error().decode(), file=sys.stderr)
        return 1
    size = model.shiftedge_state_size()
    state = np.zeros(size + 64, np.uint8)
    state = state[-state.ctypes.data % 64 :][:size]
    logits = np.zeros(len(json.loads(model.shiftedge_spec_json())["labels"]), np.float32)
    with open(output, "wb") as file:
        for frame in frames:
            where = opened.value, state.ctypes.data, frame.ctypes.data, frame.strides[0]
            if cpu.call(model.shiftedge_step, *where, logits.ctypes.data) & 0xFFFF_FFFF:
                print(model.shiftedge_last_error().decode(), file=sys.stderr)
                return 1
            file.write(logits.tobytes() + state.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
