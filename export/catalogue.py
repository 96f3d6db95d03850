"""The models that shiftedge knows by name: the bundled one and those that can be fetched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from shiftedge.runtime.errors import DownloadError

JESTER_LABELS = (
    "Doing other things", "Drumming Fingers", "No gesture",
    "Pulling Hand In", "Pulling Two Fingers In", "Pushing Hand Away", "Pushing Two Fingers Away",
    "Rolling Hand Backward", "Rolling Hand Forward", "Shaking Hand",
    "Sliding Two Fingers Down", "Sliding Two Fingers Left", "Sliding Two Fingers Right",
    "Sliding Two Fingers Up", "Stop Sign",
    "Swiping Down", "Swiping Left", "Swiping Right", "Swiping Up", "Thumb Down", "Thumb Up",
    "Turning Hand Clockwise", "Turning Hand Counterclockwise",
    "Zooming In With Full Hand", "Zooming In With Two Fingers",
    "Zooming Out With Full Hand", "Zooming Out With Two Fingers",
)  # fmt: skip
"""The 27 Jester classes in the order of the official online checkpoint's logits.

Source: mit-han-lab/temporal-shift-module, ``online_demo/main.py`` at commit 0f4356b.
"""

JESTER_SILENT_LABELS = ("Doing other things", "No gesture")
"""Jester's two classes for a person who shows no gesture."""


@dataclass(frozen=True)
class CatalogueEntry:
    """One model by name. ``urls`` is empty for the bundled model, which needs no fetching."""

    name: str
    summary: str
    licence: str
    """What a user has to know before shipping it."""
    file_name: str
    urls: tuple[str, ...] = ()
    """The same file at several places, in the order to try them; http or https."""
    size_bytes: int = 0
    blob_id: str = ""
    """Git's id of the genuine content: SHA-1 of ``blob <size>\\0`` and the bytes, in hex."""
    labels: tuple[str, ...] = ()
    """In the order of the logits; empty where the file itself holds them."""
    silent_labels: tuple[str, ...] = ()

    @property
    def bundled(self) -> bool:
        """True when the model is part of the installed package."""
        return not self.urls

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: every field, and ``bundled``."""
        return {**asdict(self), "bundled": self.bundled}


CATALOGUE = (
    CatalogueEntry(
        name="gestures",
        summary="a small network for a few hand gestures, trained on rendered hands; the default",
        licence="Apache-2.0, as shiftedge itself.",
        file_name="gestures.onnx",
    ),
    CatalogueEntry(
        name="jester",
        summary="MobileNetV2 with online shift, 27 Jester gestures: the official TSM checkpoint",
        licence=(
            "Published by the authors of TSM, whose code is under the MIT licence. The weights "
            "come without a licence of their own and were trained on the Jester data set, which "
            "has its own terms of use: read them before you build a product on these weights."
        ),
        file_name="mobilenetv2_jester_online.pth.tar",
        urls=(
            "https://hanlab18.mit.edu/projects/tsm/models/mobilenetv2_jester_online.pth.tar",
            "https://file.lzhu.me/projects/tsm/models/mobilenetv2_jester_online.pth.tar",
        ),
        size_bytes=9_225_904,
        blob_id="564d915d8207b4edcc079b9711ce33c9c9a040d1",
        labels=JESTER_LABELS,
        silent_labels=JESTER_SILENT_LABELS,
    ),
)
"""Every entry, in the order in which ``shiftedge models list`` shows them."""


def find(name: str) -> CatalogueEntry:
    """The entry called ``name``.

    Raises:
        DownloadError: there is none; the message lists the names.
    """
    for entry in CATALOGUE:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in CATALOGUE)
    raise DownloadError(f"There is no model named {name!r} in the catalogue; it holds {known}.")
