"""How good a model is on streams: events right against false events an hour, with intervals.

``films`` says what is scored and ``stream`` takes it through models; ``decoding`` makes events of
logits at many settings at once and matches them with the truth; ``curve`` and ``intervals`` make
figures of that, ``targets`` holds them against what was promised, and ``report``, ``text`` and
``page`` tell it.
"""

from shiftedge.export.score.stream import Streamed

__all__ = ["Streamed"]
