"""Every error a user can meet, as one tree.

::

    ShiftedgeError
    ├── MissingExtraError   an optional package is not installed (also an ImportError)
    ├── SpecError           model metadata: absent, malformed, or from a newer version
    ├── ModelError          a model file that cannot be run as its spec says
    │   ├── BundleError         a compiled bundle: damaged, incomplete, or not for this machine
    │   └── DeviceError         a GPU, or its driver, that is not there or failed
    ├── CheckpointError     a checkpoint that cannot be read or does not fit the network
    │   └── TwoWayCheckpointError   weights that do not say whether they were trained two-way
    ├── FrameError          one image or its timestamp is unusable (also a ValueError)
    ├── NumericsError       NaN or infinity where numbers were expected
    ├── SnapshotError       saved state of another model, or damaged
    ├── SourceError         a camera, file, pipe or folder that gives no frames
    │   └── SourceLostError     it gave frames, then stopped, and did not come back
    ├── DataError           training or calibration data that cannot be used
    ├── DownloadError       a file could not be fetched whole and genuine
    ├── OutputError         a result could not be written
    ├── SettingError        an environment variable, or a file of settings, holds what it cannot
    ├── DeployError         a bundle could not be put on a board
    ├── VerificationError   two forms of one model disagree
    └── CompileError        a model that the compiler cannot translate

Each message is a sentence that says what was wrong, what was expected, and what to do. The command
line prints it and exits with 1; a library caller may catch :class:`ShiftedgeError` for all of them.
"""

from __future__ import annotations

from shiftedge.runtime.words import plain


class ShiftedgeError(Exception):
    """Base of all errors raised on purpose by shiftedge.

    The message is made safe to print, see :func:`shiftedge.runtime.words.plain`: it names files,
    models and devices, which others have named.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(plain(message, lines=True))


class MissingExtraError(ShiftedgeError, ImportError):
    """An optional package is needed and not installed; the message holds the pip line."""


class SpecError(ShiftedgeError):
    """A model's metadata is absent, malformed, or written by a newer version."""


class ModelError(ShiftedgeError):
    """A model file cannot be loaded, or does not do what its spec says."""


class DeviceError(ModelError):
    """There is no GPU that the model was compiled for, or no driver of it, or it failed."""


class BundleError(ModelError):
    """A compiled bundle is damaged, incomplete, or holds nothing that this machine can run."""


class CheckpointError(ShiftedgeError):
    """A checkpoint cannot be read safely, or its weights do not fit the network."""


class TwoWayCheckpointError(CheckpointError):
    """Weights that do not say whether they were trained with frames of the future."""


class FrameError(ShiftedgeError, ValueError):
    """A frame has the wrong dtype, shape or values, or its timestamp is unusable."""


class NumericsError(ShiftedgeError):
    """NaN or infinity appeared where finite numbers were expected."""


class SnapshotError(ShiftedgeError):
    """A snapshot belongs to another model or engine, or is damaged."""


class SourceError(ShiftedgeError):
    """A frame source cannot be opened or read."""


class SourceLostError(SourceError):
    """A live source stopped giving frames and did not come back."""


class DataError(ShiftedgeError):
    """Training or calibration data cannot be used."""


class DownloadError(ShiftedgeError):
    """A download did not end with the whole, genuine file."""


class OutputError(ShiftedgeError):
    """A result could not be written where it was asked for."""


class SettingError(ShiftedgeError):
    """An environment variable of ours, or a file of settings, holds something that it cannot."""


class DeployError(ShiftedgeError):
    """A bundle could not be put on a board; what stood there before is still there."""


class VerificationError(ShiftedgeError):
    """Two forms of one model gave different numbers."""


class CompileError(ShiftedgeError):
    """The compiler has no translation for a part of the model; the message names it."""
