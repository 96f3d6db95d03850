"""Nothing leaves this machine: the switches that keep the packages we import from sending.

They are environment variables, since packages read them while they are imported, and since child
processes inherit them. ``import shiftedge`` sets them before it imports anything else, so every
process of ours has them: the command line, a program that uses the library, the engines of
``shiftedge bench``, the workers of training, guests under emulation. ``docs/privacy.md`` has all
the packages that were looked at, and how.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import MutableMapping
from typing import Any, cast

SWITCHES = {"ORT_DISABLE_TELEMETRY": "1"}
"""Environment variables that turn telemetry off, read at a package's import or at its first use,
once for the life of the process.

onnxruntime sends from 1.29 on, outside Windows too: from its import on, a lasting device id and a
database of events in the user's cache; about ten seconds later, processor, system, container, names
and hashes of the model to mobile.events.data.microsoft.com (microsoft/onnxruntime pull request
27379, docs/Privacy.md)."""

SENDERS = ("openvino_telemetry",)
"""Modules that do nothing but send, and that what imports them can do without. ``import openvino``
alone tells Google Analytics of itself, with a lasting id in ``~/intel``, unless a file there or
``CI`` in the environment forbids it (openvino/tools/ovc/__init__.py, 2026.4); where the module is
not installed, it has a stub of its own instead (telemetry_stub.py)."""

SENDS_SINCE = (1, 29)
"""The first onnxruntime that sends from Linux."""


def switch_off(environment: MutableMapping[str, str] | None = None) -> None:
    """Set every switch that is not set yet, for this process and for those that it starts.

    A variable that the user has set is left: ``ORT_DISABLE_TELEMETRY=0`` is somebody's wish. An
    empty one says nothing, and is set.

    Where onnxruntime was imported before shiftedge, the switch comes too late: what that version
    can still be asked for, which is to report no more than that it was started, is asked for, and
    a warning says what to do.
    """
    own = os.environ if environment is None else environment
    loaded = sys.modules.get("onnxruntime") if environment is None else None
    late = loaded is not None and not own.get("ORT_DISABLE_TELEMETRY")
    for variable, value in SWITCHES.items():
        if not own.get(variable):
            own[variable] = value
    if late:
        _quieten(loaded)


def keep_out_senders() -> None:
    """Have this process look as if :data:`SENDERS` were not installed.

    For processes that are ours alone, such as the engines of ``shiftedge bench``: a program that
    uses the library may want to import them.
    """
    for name in SENDERS:
        cast(Any, sys.modules).setdefault(name, None)  # None: "is not found", by Python's reference


def _quieten(onnxruntime: object) -> None:
    """Ask an onnxruntime that is running already to send no more; say that it is too late."""
    stop = getattr(onnxruntime, "disable_telemetry_events", None)
    if stop is not None:
        stop()
    version = str(getattr(onnxruntime, "__version__", ""))
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if not (major.isdecimal() and minor.isdecimal()) or (int(major), int(minor)) < SENDS_SINCE:
        return
    warnings.warn(
        f"onnxruntime {version} was imported before shiftedge, and had begun to send telemetry: "
        "import shiftedge first, or set ORT_DISABLE_TELEMETRY=1 in the environment.",
        stacklevel=4,
    )
