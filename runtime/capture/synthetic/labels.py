"""The gestures that the renderer can act out, by Jester's names.

Jester names a swipe from the performer's point of view, and its images are not mirrored: in
"Swiping Left" the hand travels from the left of the image to its right.
"""

from __future__ import annotations

__all__ = ["IGNORED", "LABELS", "MIRRORED", "NO_GESTURE", "OPPOSITE", "OTHER", "SWIPES"]

SWIPES = ("Swiping Left", "Swiping Right", "Swiping Up", "Swiping Down")
NO_GESTURE = "No gesture"
OTHER = "Doing other things"

LABELS: tuple[str, ...] = (*SWIPES, NO_GESTURE, OTHER)
"""Every label, in the order of the indices in ``Clip.frame_labels``."""

MIRRORED = {"Swiping Left": "Swiping Right", "Swiping Right": "Swiping Left"}
"""What a label becomes when the image is mirrored left to right; others stay as they are."""

OPPOSITE = {
    "Swiping Left": "Swiping Right",
    "Swiping Right": "Swiping Left",
    "Swiping Up": "Swiping Down",
    "Swiping Down": "Swiping Up",
}
"""The swipe that leads back."""

IGNORED = -1
"""Frame label of a frame that is not decidable yet, or may be taken either way."""
