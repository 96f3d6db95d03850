"""Names of splits: what is learned from, what is checked with, and what is left for a test."""

from __future__ import annotations

from typing import Literal

__all__ = ["Role", "role_among", "role_of"]

Role = Literal["learn", "check", "test"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trainset", "trn", "learn"), "learn"),
    **dict.fromkeys(
        ("val", "valid", "validation", "validate", "valset", "dev", "eval", "evaluation", "check"),
        "check",
    ),
    **dict.fromkeys(("test", "testing", "testset", "tst"), "test"),
}
_FILLERS = frozenset(
    {
        "set",
        "data",
        "dataset",
        "split",
        "clips",
        "videos",
        "video",
        "frames",
        "images",
        "rawframes",
        "rgb",
    }
)
"""Words beside that change nothing, as in ``train_videos``."""


def role_of(name: str) -> Role | None:
    """What a folder of that name, or a row with that word, is for; None: it names no split.

    ``train``, ``Validation`` and ``val_videos`` do; ``train whistle`` is somebody's label.
    """
    words = name.replace("-", "_").replace(" ", "_").lower().split("_")
    kept = [word for word in words if word and word not in _FILLERS]
    return _ROLES.get(kept[0]) if len(kept) == 1 else None


def role_among(words: list[str]) -> Role | None:
    """What a list is for whose file's name has these words, such as jester, v1, train."""
    found = [_ROLES[word] for word in words if word in _ROLES]
    joined = [
        role for word in words for start, role in _ROLES.items() if word == f"{start}list"
    ]  # UCF-101's trainlist01.txt
    return next(iter(found + joined), None)
