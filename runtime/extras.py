"""Optional packages, imported where they are needed and explained where they are missing."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from shiftedge.runtime.errors import MissingExtraError

__all__ = ["EXTRA_OF", "require"]

EXTRA_OF = {
    "MNN": "peers",
    "ai_edge_litert": "litert",
    "cryptography": "signing",
    "cv2": "camera",
    "matplotlib": "plots",
    "executorch": "peers",
    "litert_torch": "litert",
    "ncnn": "peers",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxruntime": "onnx",
    "onnxscript": "export",
    "openvino": "bench",
    "pnnx": "peers",
    "rich": "camera",
    "torch": "export",
    "tvm": "compile",
    "ziglang": "compile",
}
"""Import name of each optional package -> the extra of shiftedge that installs it."""


def require(module: str) -> Any:
    """Import ``module`` (a key of :data:`EXTRA_OF`, or a submodule of one) and return it.

    Raises:
        MissingExtraError: it is not installed; the message holds the exact pip line.
    """
    _name_a_home()
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        if (error.name or "").partition(".")[0] not in ("", top):
            raise  # something that the package itself needs is broken: not ours to explain away
        extra = EXTRA_OF[top]
        raise MissingExtraError(
            f"This needs the package {top}, which is not installed: "
            f"run  pip install 'shiftedge[{extra}]'"
        ) from error


def _name_a_home() -> None:
    """Let packages find no home where there is none, instead of failing as they are imported.

    A user who stands in no list, as of `docker run --user 1234`, has none, and Python then raises
    where a package asks for it. Debian's name for a home that is not there is not writable either.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"
