"""From a file, a bundle or nothing to a model: which engine, precision and device run it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shiftedge.runtime.errors import BundleError, DeviceError, ModelError
from shiftedge.runtime.manifest import MANIFEST_NAME
from shiftedge.runtime.model import Model
from shiftedge.runtime.packaged import packaged_bundle, packaged_file
from shiftedge.runtime.process.cpu import chosen_threads
from shiftedge.runtime.spec import PRECISIONS
from shiftedge.runtime.words import note, shown

if TYPE_CHECKING:
    from shiftedge.runtime.bundle import Bundle
    from shiftedge.runtime.engines.onnxruntime import Provider
    from shiftedge.runtime.manifest import Variant

ENGINES = ("native", "onnxruntime")
"""Names that :func:`load` takes as ``engine``."""

BUNDLED_NAME = "gestures.onnx"
"""The model that ships with the package, in ``shiftedge.runtime.assets``."""


def load(
    path: str | Path | None = None,
    *,
    engine: str | None = None,
    threads: int | None = None,
    providers: Provider | Sequence[Provider] | None = None,
    trusted_keys: str | Path | Sequence[str | Path] | None = None,
    precision: str | None = None,
    device: str = "auto",
) -> Model:
    """Load a model and check it against its spec.

    Args:
        path: an .onnx file that ``shiftedge export`` wrote, or the folder of a bundle that
            ``shiftedge compile`` made; None is the bundled model: compiled, in a wheel for this
            kind of machine, else an .onnx file.
        engine: a name from :data:`ENGINES`; None chooses by the path: "native" for a folder,
            "onnxruntime" for a file, and for the bundled one where this CPU is too old.
        threads: for one step, from 1; more than the cores that this process may use are lowered to
            them. None is those cores, at most 4.
        providers: ONNX Runtime execution providers in order of preference, such as
            ``["cuda", "cpu"]``, or one of them; None is the CPU.
        trusted_keys: PEM files of public keys, or one such file; only a bundle whose manifest one
            of them has signed is loaded. None asks for no signature: loading a bundle is running
            its code.
        precision: "fp32", "bf16", "fp16" or "int8", where a bundle holds several; None takes the
            first in the bundle's order that this machine can run, which is the quickest one. A
            file has one precision, the bundled one fp32, and another is refused.
        device: of a bundle: "cpu"; "cuda", the first NVIDIA GPU, or "cuda:1" and so on; or "auto",
            the first GPU where the bundle has code for it and it can be used, and the CPU
            otherwise, with a line on stderr that says why. A file runs on its ``providers``.

    Raises:
        ModelError: no such file, not a model, not as its spec says, an unknown engine, or one
            that does not fit the path, or a precision that the file has not.
        BundleError: the folder is no bundle, is damaged, or holds nothing that this CPU can run, or
            no code for the GPU that is asked for.
        DeviceError: that GPU is not there, or its driver, or it failed.
        SpecError: the file's spec is absent, malformed or from a newer version.
        MissingExtraError: the engine's package is not installed.
    """
    if engine is not None and engine not in ENGINES:
        raise ModelError(f"There is no engine {shown(engine)}; known are {', '.join(ENGINES)}.")
    if precision is not None and (not isinstance(precision, str) or precision not in PRECISIONS):
        raise ModelError(
            f"There is no precision {shown(precision)}; known are {', '.join(PRECISIONS)}."
        )
    gpu = gpu_of(device)
    chosen_threads(threads)  # a number for either engine, before anything is read
    path = None if path is None else _model_path(path)
    plain = providers is None and trusted_keys is None
    if path is None and plain and engine in (None, "native"):
        compiled = _load_bundled(threads, precision, device, needed=engine == "native")
        if compiled is not None:
            return compiled
    if gpu is not None and device != "auto" and (path is None or not path.is_dir()):
        raise ModelError(
            f"The device {device} is for compiled bundles; an .onnx file runs there with "
            "providers=['cuda'] (--provider cuda), or compile it with `shiftedge compile`."
        )
    if trusted_keys is not None and (path is None or not path.is_dir()):
        raise ModelError(
            "trusted_keys is for compiled bundles, which are signed folders; an .onnx file holds "
            "no code and no signature: leave the keys out."
        )
    if path is None:
        if engine == "native":
            raise ModelError(_not_compiled(f"the bundled model, {BUNDLED_NAME},"))
        with packaged_file(BUNDLED_NAME) as file:
            return _load_onnx(file, threads, providers, precision)
    if path.is_dir():
        if engine == "onnxruntime":
            raise ModelError(
                f"The engine onnxruntime runs an .onnx file, and {path} is a folder; leave the "
                "engine out, or name the .onnx file that it was compiled from."
            )
        return _load_bundle(path, threads, providers, trusted_keys, precision, device)
    if path.name == MANIFEST_NAME or path.suffix == ".so":
        raise ModelError(
            f"{path} is a file of a bundle; name the bundle's folder, the one with "
            f"{MANIFEST_NAME} in it."
        )
    if path.suffix in (".pth", ".pt", ".tar", ".ckpt", ".safetensors"):
        raise ModelError(
            f"{path} looks like a checkpoint; turn it into a model first with "
            "`shiftedge export --checkpoint`."
        )
    if engine == "native":
        raise ModelError(
            _not_compiled(str(path))
            if path.exists()
            else f"There is no bundle folder {path}; check the path."
        )
    return _load_onnx(path, threads, providers, precision)


def _load_bundled(
    threads: int | None, precision: str | None, device: str, *, needed: bool
) -> Model | None:
    """The bundled model, compiled; None where this installation has it not, or this CPU cannot run
    it and it is not ``needed``."""
    folder = packaged_bundle()
    if folder is None:
        return None
    try:
        return _load_bundle(folder, threads, None, None, precision, device)
    except BundleError as error:
        if needed:
            raise
        note(f"{error} The bundled model is run by ONNX Runtime instead.")
        return None


def _model_path(path: object) -> Path:
    if not isinstance(path, (str, os.PathLike)) or isinstance(path, bytes):
        raise ModelError(
            f"The model is {shown(path)}; expected the path of an .onnx file or of a bundle's "
            "folder, as text or a pathlib.Path."
        )
    if path == "":
        raise ModelError(
            "The model's path is empty; expected an .onnx file or a bundle's folder, or None for "
            "the bundled model."
        )
    found = Path(path)
    try:
        found.is_dir()
    except (OSError, ValueError) as error:  # too long, or in a folder not to be looked into; a NUL
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"There is no model file {found} ({reason}); check the path.") from error
    return found


def _load_onnx(
    path: Path,
    threads: int | None,
    providers: Provider | Sequence[Provider] | None,
    precision: str | None,
) -> Model:
    from shiftedge.runtime.engines.onnxruntime import OnnxRuntimeEngine

    model = Model(OnnxRuntimeEngine(path, threads=threads, providers=providers))
    if precision not in (None, model.spec.precision):
        raise ModelError(
            f"{path} computes in {model.spec.precision}, and {precision} is asked for: name a file "
            "of that precision (`shiftedge quantize` makes int8 ones), or leave the precision out."
        )
    return model


def _not_compiled(what: str) -> str:
    return (
        f"The engine native runs a compiled bundle, and {what} is not compiled: make a bundle with "
        "`shiftedge compile` and name its folder, or use engine='onnxruntime'."
    )


def _load_bundle(
    path: Path,
    threads: int | None,
    providers: Provider | Sequence[Provider] | None,
    trusted_keys: str | Path | Sequence[str | Path] | None,
    precision: str | None,
    device: str,
) -> Model:
    from shiftedge.runtime.bundle import Bundle

    if providers is not None:
        raise ModelError(
            f"Execution providers belong to ONNX Runtime, and {path} is a compiled bundle, whose "
            "target was chosen when it was compiled; leave the provider out, or name an .onnx "
            "file."
        )
    bundle = Bundle.open(path, trusted_keys=trusted_keys)
    gpu = gpu_of(device)
    failed: DeviceError | None = None
    for each in [] if gpu is None else bundle.gpu_variants(precision=precision):
        try:
            return _open_variant(bundle, each, threads, gpu or 0)
        except DeviceError as error:  # noqa: PERF203 - of a few turns at most
            failed = error
    if device.startswith("cuda"):
        raise failed or BundleError(
            f"{path} has no code for a GPU of this machine: compile the model for one "
            "(`shiftedge compile --list-targets` shows which there are), or use the device cpu."
        )
    try:
        variant = bundle.variant(precision=precision)
    except BundleError as error:
        raise failed or error from error
    if failed:
        note(f"on the processor, as {variant.name}: {failed}")
    return _open_variant(bundle, variant, threads, 0)


def _open_variant(bundle: Bundle, variant: Variant, threads: int | None, gpu: int) -> Model:
    from shiftedge.runtime.engines.native import NativeEngine

    entry = bundle.manifest.files[variant.library]
    library = bundle.folder / variant.library
    engine = NativeEngine(library, threads=threads, sha256=entry.sha256, gpu=gpu)
    if engine.spec != bundle.manifest.builds[variant.precision].spec:
        raise BundleError(
            f"{bundle.folder} has one spec in its manifest and another in {variant.library}, so "
            "its files are not of one model: compile the bundle again."
        )
    return Model(engine, variant.device)


def gpu_of(device: object) -> int | None:
    """The number of the GPU that a device is, or may be; None of the processor.

    Raises:
        ModelError: it is no device.
    """
    if device == "cpu":
        return None
    if device in ("auto", "cuda"):
        return 0
    found = re.fullmatch(r"cuda:(\d{1,4})", device) if isinstance(device, str) else None
    if found is None:
        raise ModelError(
            f"There is no device {shown(device)}; expected cpu, cuda, cuda:1 and so on, or auto."
        )
    return int(found[1])
