"""What a label becomes in a mirrored image: left and right change places.

Training shows clips mirrored too, which is worth twice the clips, and would teach that "left" and
"right" are the same if the label did not go with the image. So a label with a direction in its name
takes that of its partner; where there is none, its clips are never mirrored, and neither are those
of a label whose name says nothing, such as a number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shiftedge.export.data.silent import plain_name

__all__ = ["mirror_table"]

_PAIRS = (
    ("counterclockwise", "clockwise"),
    ("left", "right"),
    ("links", "rechts"),
    ("gauche", "droite"),
    ("izquierda", "derecha"),
    ("esquerda", "direita"),
    ("sinistra", "destra"),
    ("左", "右"),
)
_SWAP = {**dict(_PAIRS), **{second: first for first, second in _PAIRS}}
_DIRECTION = re.compile("|".join(_SWAP))
_SHORT = {"l": "left", "r": "right", "cw": "clockwise", "ccw": "counterclockwise"}
_NAMELESS = re.compile(r"(?:class|label|gesture|action|g|c)?[0-9]*")


def mirror_table(names: Sequence[str]) -> NDArray[np.int64]:
    """Index of what each label becomes in a mirrored image; -1 where its clips are not mirrored."""
    spelled = [_spelled(name) for name in names]
    place = {text: index for index, text in enumerate(spelled)}
    partners = []
    for text in spelled:
        mirrored = _DIRECTION.sub(lambda found: _SWAP[found[0]], text)
        partners.append(-1 if _NAMELESS.fullmatch(text) else place.get(mirrored, -1))
    return np.array(partners, np.int64)


def _spelled(name: str) -> str:
    """A name without case and signs, its abbreviated directions written out."""
    words = re.findall(r"[^\W_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))
    whole = "".join(_SHORT.get(word.lower(), plain_name(word)) for word in words)
    return re.sub("anticlockwise|counterclock(?!wise)|anticlock(?!wise)", "counterclockwise", whole)
