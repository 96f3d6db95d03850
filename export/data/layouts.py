"""DATA as people have it, to clips that are learned from and clips that are checked with.

::

    DATA/<label>/<clip>                      a fifth of each label is checked with
    DATA/train/<label>/<clip>, DATA/val/...  as they are split; test is never read
    DATA/<list>, or DATA is a list           tables and lists, see :mod:`.lists`

A clip is a video or a folder of pictures.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shiftedge.export.data.files import Clip, Layout, entries, has_pictures, is_clip
from shiftedge.export.data.listed import (
    Lists,
    label_text,
    lists_in,
    lists_of,
    read_lists,
    refuse_other_lists,
)
from shiftedge.export.data.lists import Role, role_of
from shiftedge.runtime.errors import DataError
from shiftedge.runtime.process.files import expanded

_LOOKED_AT = 20
"""Entries of a folder that tell what it holds."""


def find_data(data: Path, classes: Path | None = None) -> Layout:
    """Every labelled clip of DATA.

    Args:
        classes: names of the classes that a list gives by number; left out: a file beside the list
            whose name says so (category.txt, jester-v1-labels.csv, classInd.txt, ...).

    Raises:
        DataError: nothing there, or not in a layout that is known; the sentence says what is.
    """
    data = expanded(data)
    if data.is_file():
        return read_lists(lists_of(data, classes), data)
    if not data.is_dir():
        raise DataError(
            f"{data} is no folder; expected a folder with one folder of clips for each label, a "
            "list of clips, or synthetic: for rendered clips."
        )
    lists = lists_in(data)
    if lists is None and not _has_labels(data):
        lists = _lists_below(data)
    if lists is None and classes is not None:
        raise DataError(
            f"{data} holds no list whose classes {classes} could name; folders of labels have "
            "their own names."
        )
    notes = []
    if lists is not None and (classes is not None or lists.by_name or not _has_labels(data)):
        try:
            return read_lists(replace(lists, classes=classes or lists.classes), data)
        except DataError as error:
            if classes is not None or not _has_labels(data):
                raise
            notes.append(f"the folders are read, not {lists.learn}: {error}")
    found = _split(data) or _labelled(data)
    return replace(found, notes=(*notes, *found.notes))


def _lists_below(data: Path) -> Lists | None:
    """Lists in a folder beside the clips' (``annotations``, ``labels``, ``ucfTrainTestlist``)."""
    beside = [folder for folder in _folders(data)[:_LOOKED_AT] if not has_pictures(folder)]
    for folder in beside:
        lists = lists_in(folder)
        if lists is not None and lists.by_name:
            return lists
    for folder in (data, *beside):
        refuse_other_lists(folder)
    return None


def _folders(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.is_dir()]


def _holds_labels(folder: Path) -> bool:
    """Whether a folder looks like ``folder/<label>/<clip>``."""
    return any(map(_holds_clips, _folders(folder)[:_LOOKED_AT]))


def _holds_clips(folder: Path) -> bool:
    return any(map(is_clip, entries(folder)))


def _has_labels(data: Path) -> bool:
    """Whether DATA has folders of labels, split or not, so that it needs no list."""
    folders = _folders(data)
    if any(role_of(path.name) for path in folders):
        return any(_holds_labels(path) for path in folders if role_of(path.name) == "learn")
    return len([path for path in folders if _holds_clips(path)]) > 1


def _split(data: Path) -> Layout | None:
    """DATA/train/<label>/<clip> and its like; None where no folder is named as a split."""
    sides: dict[Role, list[Path]] = {}
    others = []
    for path in _folders(data):
        role = role_of(path.name)
        if role is None:
            others.append(path)
        else:
            sides.setdefault(role, []).append(path)
    if not sides or (others and not any(_holds_labels(p) for side in sides.values() for p in side)):
        return None  # a gesture may be called test
    twice = [paths for paths in sides.values() if len(paths) > 1]
    if twice:
        raise DataError(
            f"{data} holds {' and '.join(path.name for path in twice[0][:2])}, which mean the "
            "same; keep one of them."
        )
    if "learn" not in sides:
        here = ", ".join(paths[0].name for paths in sides.values())
        raise DataError(
            f"{data} holds {here} and no folder train to learn from; expected train/<label>/<clip> "
            "beside it, or folders of labels alone."
        )
    (learn,) = sides["learn"]
    notes = []
    if not _holds_labels(learn):
        raise DataError(
            f"{learn} holds no folders of labels; expected {learn}/<label>/<clip>, or a list "
            f"beside it that says which label each clip has, such as {data / 'train.csv'}."
        )
    notes += [
        f"{path} is beside the split and not read."
        for path in others
        if _holds_labels(path) or _holds_clips(path)
    ]
    if "test" in sides:
        notes.append(f"{sides['test'][0]} is left for a test of yours, and not read.")
    learned = _clips_of(learn)
    checked = _clips_of(sides["check"][0]) if "check" in sides else None
    labels = tuple(sorted({clip.label for clip in learned}))
    strange = sorted({clip.label for clip in checked or ()} - set(labels))
    if strange:
        raise DataError(
            f"{sides['check'][0]} has the label {strange[0]!r}, and {learn} has not; expected "
            "the same folders in both, spelled alike."
        )
    if len(labels) < 2:
        raise _too_few_labels(learn, labels)
    return Layout(
        tuple(learned), None if checked is None else tuple(checked), labels, (), (*notes,)
    )


def _labelled(data: Path) -> Layout:
    clips = _clips_of(data)
    labels = tuple(sorted({clip.label for clip in clips}))
    if len(labels) < 2:
        raise _too_few_labels(data, labels)
    notes = []
    beside = data.absolute().parent
    if role_of(data.name) == "learn" and any(
        role_of(path.name) == "check" and _holds_labels(path) for path in _folders(beside)
    ):
        notes.append(
            f"{data} has clips to check with beside it; give {beside} as DATA to use them instead "
            "of a part of these."
        )
    return Layout(tuple(clips), None, labels, (), tuple(notes))


def _clips_of(data: Path) -> list[Clip]:
    """The clips of ``data/<label>/<clip>``, in the order of labels and names."""
    clips = []
    folders = _folders(data)
    if not folders:
        return []
    if not any(map(_holds_clips, folders[:_LOOKED_AT])) and any(map(is_clip, folders[:_LOOKED_AT])):
        raise DataError(
            f"{folders[0]} is a clip by itself and no folder of a label; expected {data}/<label>/"
            f"<clip>, a clip being a video or a folder of pictures.{_maybe_list(data)}"
        )
    for folder in folders:
        found = [path for path in entries(folder) if path.is_dir() or is_clip(path)]
        if not found:
            raise DataError(
                f"{folder} holds no clips; expected videos (.mp4, .webm, .gif, ...) or one folder "
                "of pictures for each clip. Remove it if it is no label."
            )
        deeper = (path for path in found if path.is_dir() and not is_clip(path))
        nested = next(filter(_holds_clips, deeper), None)
        if nested is not None:
            how = (
                "put train and val above the labels"
                if role_of(nested.name)
                else f"give {folder} as DATA"
                if len(folders) == 1
                else "move the clips up, or name them in a list (path,label)"
            )
            raise DataError(
                f"{nested} holds clips, one folder further down than expected: {data}/<label>/"
                f"<clip>; {how}."
            )
        clips += [Clip(_label(folder), path) for path in found]
    return clips


def _maybe_list(data: Path) -> str:
    """A hint where the lists lie beside the folder of the clips, as Jester's do."""
    try:
        lists = lists_in(data.absolute().parent)
    except DataError:
        return ""
    return "" if lists is None else f" If {lists.learn} lists them, give that as DATA."


def _label(folder: Path) -> str:
    label = label_text(folder.name)
    if label is None:
        raise DataError(f"The name of {folder} is not UTF-8 and cannot be a label; rename it.")
    return label


def _too_few_labels(data: Path, labels: tuple[str, ...]) -> DataError:
    inner = _folders(data)
    if len(inner) == 1 and _has_labels(inner[0]):
        return DataError(
            f"{data} holds {inner[0].name} alone, and the labels are in that; give {inner[0]} as "
            "DATA."
        )
    alone = f" ({labels[0]!r} alone)" if labels else ""
    return DataError(
        f"{data} has {len(_folders(data))} folders, and clips of {len(labels)} labels{alone}; "
        "expected one folder of clips for each label and at least two labels, such as "
        f"{data / 'Swiping Left'}/1.mp4 and {data / 'No gesture'}/1.mp4."
    )
