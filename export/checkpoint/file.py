"""A checkpoint file -> plain containers and tensors, with nothing of it executed.

torch's files go through its ``weights_only`` reader, which builds tensors and plain containers and
refuses anything that would run code; safetensors hold nothing to run. Any other file is told by its
first bytes, so that the sentence names what it is.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import pickle
import re
import warnings
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shiftedge.runtime.errors import CheckpointError
from shiftedge.runtime.process.extras import require

_HEAD_BYTES = 512
_HEADER_MOST = 100_000_000
"""Bytes of a header of safetensors; the limit of the format's own reader."""
_KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.bool)  # fmt: skip
"""Numbers that stand for themselves; those of 8 bits and less come with scales of their own."""
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
"""Weights in a folder that a trainer (Hugging Face, accelerate) wrote."""

_OTHER_FILES = (
    (rb"version https://git-lfs\.github\.com", "is a Git LFS pointer, not the file itself: fetch "
     "it with `git lfs pull`"),
    (rb"\s*<(!doctype|html|\?xml|head)", "is a web page, saved in place of the file: download the "
     "file itself"),
    (rb"\x1f\x8b", "is compressed with gzip: unpack it with gunzip (or tar xzf) first"),
    (rb"BZh", "is compressed with bzip2: unpack it with bunzip2 (or tar xjf) first"),
    (rb"\xfd7zXZ\x00", "is compressed with xz: unpack it with unxz (or tar xJf) first"),
    (rb"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it with unzstd first"),
    (rb"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it first"),
    (rb"Rar!", "is a RAR archive: unpack it first"),
    (rb"\x89HDF", "is an HDF5 file, as Keras writes: convert its weights to a torch state_dict"),
    (rb"\x93NUMPY", "is a NumPy array: save the whole state_dict with torch.save"),
    (rb".{4}TFL3", "is a TFLite model, which cannot be trained or exported again: take the "
     "checkpoint that it was made from"),
    (rb"\x08[\x01-\x0f](\x12|\x1a|:|B)", "looks like an ONNX model, which is exported already: "
     "`shiftedge run` and `shiftedge compile` take it as it is"),
)  # fmt: skip
"""First bytes of what is taken for a checkpoint by mistake, and what to say."""


def _plain_types() -> list[Any]:
    """Types that trainers put beside the weights and that hold values alone: building one of them
    runs nothing. With the names that pickles of older versions give them."""
    kinds: list[Any] = [argparse.Namespace, defaultdict, dict, np.dtype, np.ndarray]
    kinds += [pathlib.PurePosixPath, pathlib.PosixPath]
    kinds += [type(np.dtype(code)) for code in "?bBhHiIlLqQefdU"]
    for home in ("numpy.core", "numpy._core"):  # the scalars' and the arrays' own builders
        kinds.append((np.float64(0).__reduce__()[0], f"{home}.multiarray.scalar"))
        kinds.append((np.zeros(1).__reduce__()[0], f"{home}.multiarray._reconstruct"))
    return kinds


def read_file(path: Path) -> Any:
    """What the file holds, as torch's reader or the one of safetensors gives it.

    Args:
        path: of the file, or of a folder that a trainer wrote, with one file of weights in it.

    Raises:
        CheckpointError: unreadable, unsafe, damaged, or another kind of file.
    """
    if path.is_dir():
        path = _in_folder(path)
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the checkpoint {path}: {error.strerror}; name an existing file."
        ) from error
    try:
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_MOST:
            return _safetensors(path)
        if head.startswith(b"PK"):
            _check_archive(path)
        with (
            open(path, "rb") as file,  # by its name alone, torch would take it for safetensors
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_plain_types()),
        ):
            # torch warns of the legacy format the official file has
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))  # the name it would have called
        if wanted is not None:
            raise CheckpointError(
                f"{path} asks to run code when it is opened ({wanted[1]}), which shiftedge never "
                "does; load it where you trust it and save its state_dict alone."
            ) from error
        raise _unreadable(path, head, size) from error
    except (
        RuntimeError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        IndexError,
        OSError,
        AttributeError,
        AssertionError,
        OverflowError,
        MemoryError,
        RecursionError,
        zipfile.BadZipFile,
    ) as error:  # whatever a damaged file leads torch's reader to
        raise _unreadable(path, head, size) from error


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file that begins as one of safetensors does: the length of a header in JSON.

    Raises:
        CheckpointError: the file does not keep the form, or has numbers of another kind.
    """
    library = require("safetensors")
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except library.SafetensorError as error:
        raise CheckpointError(
            f"{path} looks like safetensors and is not whole ({error}); fetch or copy it again."
        ) from error
    for name, value in tensors.items():
        if value.dtype not in _KINDS:
            raise CheckpointError(
                f"{path}: the tensor {name!r} is {_kind(value.dtype)}; expected one of "
                f"{', '.join(map(_kind, _KINDS))}: save the weights as float32."
            )
    return tensors


def _kind(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _in_folder(folder: Path) -> Path:
    """The one file of weights in a folder."""
    for name in _FOLDER_FILES:
        if (folder / name).is_file():
            return folder / name
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the folder {folder}: {error.strerror}; name a checkpoint file."
        ) from error
    if any(name.endswith(".distcp") for name in names):
        raise CheckpointError(
            f"{folder} holds a checkpoint in shards (torch.distributed.checkpoint); join them with "
            f"`python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} all.pt`."
        )
    if any(name.endswith(".index.json") for name in names):
        raise CheckpointError(
            f"{folder} holds its weights in several files; load the model where it was trained and "
            "save its state_dict as one."
        )
    found = ", ".join(names[:5]) or "nothing"
    raise CheckpointError(
        f"{folder} is a folder with {found} in it; name the checkpoint file itself."
    )


def _check_archive(path: Path) -> None:
    """Refuse zip archives that are no checkpoints: programs, arrays, a file that was zipped."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        raise CheckpointError(
            f"{path} is a TorchScript archive, a program and not weights alone; where you trust "
            f'it, save them: torch.save(torch.jit.load("{path.name}").state_dict(), "weights.pt").'
        )
    if "data.pkl" in inner:
        return
    if any(name.startswith(("archive_format", "models/")) for name in inner):
        raise CheckpointError(
            f"{path} is a program of torch.export, not weights alone; where you trust it, save "
            f'them: torch.save(torch.export.load("{path.name}").state_dict, "weights.pt").'
        )
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(
            f"{path} is an archive of NumPy arrays; save the weights with torch.save(state_dict)."
        )
    found = ", ".join(names[:3]) or "nothing"
    raise CheckpointError(
        f"{path} is a zip archive with {found} in it, not a torch checkpoint; unpack it first."
    )


def _unreadable(path: Path, head: bytes, size: int) -> CheckpointError:
    for start, what in _OTHER_FILES:
        if re.match(start, head, re.IGNORECASE | re.DOTALL):
            return CheckpointError(f"{path} {what}.")
    if head[257:262] == b"ustar":
        return CheckpointError(f"{path} is a tar archive: unpack it with tar xf first.")
    words = b" ".join(head.split())
    if words.isascii() and words and words.decode("ascii").isprintable():
        return CheckpointError(
            f"{path} is not a whole torch checkpoint: it is text ({words[:30].decode('ascii')!r}"
            "...); name the file with the weights."
        )
    return CheckpointError(
        f"{path} ({size:,} bytes) is not a whole torch checkpoint: it is truncated, damaged or "
        "another kind of file; fetch or copy it again."
    )
