"""What is opened and must be closed, usable as a context."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import TypeVar

__all__ = ["Closing"]

SelfT = TypeVar("SelfT", bound="Closing")  # typing.Self is newer than Python 3.10


class Closing(abc.ABC):
    """``with thing:`` closes it at the end, whatever happens inside."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give the device, file or process back. May be called twice."""

    def __enter__(self: SelfT) -> SelfT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
