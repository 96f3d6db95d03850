"""Labels of a person who shows no gesture: never an event, and taught in every frame of a clip.

One function decides both, so that a label cannot be silent in one place alone. People name this
class in many ways (Jester "No gesture" and "Doing other things", EgoGesture "nongesture", IPN Hand
"D0X", IsoGD and others "background", "none", ...); the usual ones are known, and `--silent LABEL`
says it for any other.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence

from shiftedge.runtime.errors import SpecError

_NAMES = """
    nogesture nogestures nongesture nongestures notgesture notagesture nonegesture withoutgesture
    gestureless emptygesture othergesture othergestures unknowngesture randomgesture
    none nonelabel noneoftheabove noneofthese noneofthem nothing nothinghere donothing doingnothing
    null nil noclass nolabel nonclass nontarget unlabeled unlabelled unlabel
    noaction nonaction noactions noactivity nomovement nomotion noevent nohand nohands noperson
    nobody nosign nonsign
    background backgrounds bg bgd bkg bkgd backgroundclass
    negative negatives neg negativeclass negativesample negativesamples
    idle idling idlehand inactive inactivity rest resting restinghand restingstate restposition
    neutral neutralpose neutralposition standingstill sittingstill standstill
    other others otherclass otherclasses otherthing otherthings otheraction otheractions
    doingotherthing doingotherthings doingotherstuff doingsomethingelse somethingelse
    misc miscellaneous irrelevant garbage junk distractor distractors
    unknown unknowns unknownclass unk undefined undetermined d0x
"""
_NAMES_ELSEWHERE = """
    keine keinegeste keineaktion keinebewegung nichts hintergrund sonstige sonstiges andere
    aucun aucune aucungeste aucunmouvement rien arriereplan autre autres
    ninguno ninguna ningungesto singesto nada fondo otro otros
    nessuno nessuna nessungesto niente sfondo altro altri
    nenhum nenhuma nenhumgesto semgesto fundo outro outros
    无 无手势 没有手势 无动作 背景 其他 其它 静止 なし 何もしない その他 없음 배경 기타
"""
"""The same in German, French, Spanish, Italian, Portuguese, Chinese, Japanese and Korean."""
_USUAL = frozenset(
    "".join(letter for letter in unicodedata.normalize("NFKD", name) if letter.isalnum())
    for name in (_NAMES + _NAMES_ELSEWHERE).split()
)
"""As :func:`plain_name` gives them."""


def plain_name(label: str) -> str:
    """A label without case, spaces, signs and accents: ``No_Gesture`` is ``nogesture``."""
    spread = unicodedata.normalize("NFKD", label).casefold()
    return "".join(letter for letter in spread if letter.isalnum())


def looks_silent(label: str) -> bool:
    """Whether the name is a usual one of the class without a gesture; numbers around it, as in
    ``00_background`` or ``none2``, are no part of it."""
    plain = plain_name(label)
    return plain in _USUAL or re.sub(r"^[0-9]+|[0-9]+$", "", plain) in _USUAL


def nearest(name: str, among: Sequence[str], most: int = 3) -> list[str]:
    """Those of ``among`` that somebody who wrote ``name`` may have meant, the likeliest first."""
    plain = {label: plain_name(label) for label in among}
    scores = {
        label: difflib.SequenceMatcher(None, plain_name(name), other).ratio()
        for label, other in plain.items()
    }
    good = [label for label in among if scores[label] >= 0.5]
    return sorted(good, key=lambda label: -scores[label])[:most]


def silent_labels(
    labels: Sequence[str], named: Sequence[str] = (), *, usual: bool = True
) -> tuple[str, ...]:
    """Which of ``labels`` are silent, in their order.

    Args:
        named: labels that the user says are. Case, spaces and signs need not be the same where one
            label alone can be meant.
        usual: also those that :func:`looks_silent` knows by their names.

    Raises:
        SpecError: one of ``named`` is no label; the sentence has the nearest ones.
    """
    found = {_meant(name, labels) for name in named}
    return tuple(label for label in labels if label in found or (usual and looks_silent(label)))


def _meant(name: str, labels: Sequence[str]) -> str:
    if name in labels:
        return name
    alike = [label for label in labels if plain_name(label) == plain_name(name)]
    if len(alike) == 1:
        return alike[0]
    near = nearest(name, labels)
    shown = near or list(labels[:5])
    more = "" if near or len(labels) <= 5 else f" and {len(labels) - 5} more"
    raise SpecError(
        f"There is no label {name!r} to be silent; "
        f"{'the nearest' if near else 'the labels'} are {', '.join(map(repr, shown))}{more}."
        if len(shown) > 1
        else f"There is no label {name!r} to be silent; did you mean {shown[0]!r}?"
    )
