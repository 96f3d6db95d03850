"""A device that one thread reads and any thread may close."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Handle"]

T = TypeVar("T")


class Handle(Generic[T]):
    """Owns ``resource`` and releases it exactly once, never under a thread that is using it.

    OpenCV crashes when a capture is released during a read. So :meth:`close` does not wait for a
    reader that is blocked in the device: it marks the handle, and the reader releases the resource
    when it comes back.
    """

    def __init__(self, resource: T, release: Callable[[T], None]) -> None:
        self._resource: T | None = resource
        self._release = release
        self._lock = threading.Lock()
        self._closing = False

    @contextlib.contextmanager
    def use(self) -> Iterator[T | None]:
        """Give the resource to the calling thread for the body; None once it was closed."""
        try:
            with self._lock:
                yield None if self._closing else self._resource
        finally:
            # After the lock is free: had close() come while we held it, nobody else would release.
            if self._closing:
                self._free()

    def close(self) -> None:
        """Release the resource now, or when its user is done with it. Returns at once."""
        self._closing = True
        self._free()

    def _free(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                resource, self._resource = self._resource, None
                if resource is not None:
                    self._release(resource)
            finally:
                self._lock.release()
