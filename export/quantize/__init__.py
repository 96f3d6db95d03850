"""From a float model to an int8 one, calibrated over streams.

::

    source -> clips -> statistics (streamed) -> ranges -> plan -> QDQ file -> proof
"""

from __future__ import annotations

from shiftedge.export.quantize.pipeline import Quantized, QuantizeSettings, quantize

__all__ = ["QuantizeSettings", "Quantized", "quantize"]
