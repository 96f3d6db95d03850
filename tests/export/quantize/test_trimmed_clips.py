"""Calibration on clips that were trimmed without encoding, as phones and editors do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from kit.films import trimmed

from shiftedge.export.quantize.source import read_clips
from shiftedge.runtime.spec import ModelSpec


def moving(path: Path, frames: int) -> bytes:
    """Of 20 frames a second."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 20.0, (64, 48)
    )
    for i in range(frames):
        image = np.full((48, 64, 3), 60, np.uint8)
        image[:, i : i + 9] = 200
        writer.write(image)
    writer.release()
    return path.read_bytes()


def test_a_folder_of_trimmed_clips_calibrates(
    tmp_path: Path, spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    whole = moving(tmp_path / "0.mp4", 50)
    for number in (1, 2, 3):
        (tmp_path / f"{number}.mp4").write_bytes(trimmed(whole, 15, 30, 20.0))
    clips = read_clips(str(tmp_path), spec)
    assert clips.notes == ()
    # At the model's 12 a second, in whatever order the folder is read.
    assert sorted(map(len, clips.clips)) == [18, 18, 18, 30]
    assert caplog.records == []
