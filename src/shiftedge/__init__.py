"""shiftedge: stream a camera through a temporal shift model, one small step a frame."""

from __future__ import annotations

__version__ = "0.1.0"
