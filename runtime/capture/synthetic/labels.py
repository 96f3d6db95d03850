"""The gestures that the renderer can act out, spelled and meant as in Jester.

Jester names a movement from the performer's point of view, and its images are not mirrored: in
"Swiping Left" the hand travels from the left of the image to its right. "Zooming In" spreads the
fingers, as on a telephone; "Pushing Hand Away" goes towards the camera, "Pulling Hand In" comes
back; "Shaking Hand" is an open hand that waves.
"""

from __future__ import annotations

SWIPES = ("Swiping Left", "Swiping Right", "Swiping Up", "Swiping Down")
SLIDES = tuple(f"Sliding Two Fingers {way}" for way in ("Left", "Right", "Up", "Down"))
HELD = ("Thumb Up", "Thumb Down", "Stop Sign", "Shaking Hand")
"""What holds as long as the hand shows it, where others are over with their stroke."""
_ZOOMS = ("Zooming In With Full Hand", "Zooming Out With Full Hand")
_PUSHES = ("Pushing Hand Away", "Pulling Hand In")
NO_GESTURE = "No gesture"
OTHER = "Doing other things"

SWIPE_LABELS: tuple[str, ...] = (*SWIPES, NO_GESTURE, OTHER)
"""What a model of the four swipes tells apart; the first of :data:`LABELS`, in their order."""

LABELS: tuple[str, ...] = (*SWIPE_LABELS, *HELD, *_ZOOMS, *_PUSHES, *SLIDES)
"""Every label, in the order of the indices in ``RenderedClip.frame_labels``."""

GESTURES: tuple[str, ...] = tuple(name for name in LABELS if name not in (NO_GESTURE, OTHER))
"""The labels that are events."""


def _swapped(first: str, second: str) -> dict[str, str]:
    pairs = {}
    for name in LABELS:
        for word, other in ((first, second), (second, first)):
            changed = name.replace(word, other)
            if changed != name and changed in LABELS:
                pairs[name] = changed
    return pairs


MIRRORED = _swapped(" Left", " Right")
"""What a label becomes when the image is mirrored left to right; others stay as they are."""

REVERSED = (
    MIRRORED
    | {
        f"{kind} {a}": f"{kind} {b}"
        for a, b in (("Up", "Down"), ("Down", "Up"))
        for kind in ("Swiping", "Sliding Two Fingers")
    }
    | dict(zip(_ZOOMS + _PUSHES, _ZOOMS[::-1] + _PUSHES[::-1], strict=True))
)
"""What a label becomes when the clip is played backwards; what is held stays as it is."""

IGNORED = -1
"""Frame label of a frame that is not decidable yet, or may be taken either way."""
