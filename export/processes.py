"""Work shared out among processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from shiftedge.runtime.process.signals import end_with_parent

T = TypeVar("T")
R = TypeVar("R")


def process_pool(workers: int) -> ProcessPoolExecutor:
    """So many processes, which end with this one."""
    # "spawn": a fork would copy the threads' locks of whatever the caller has imported.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=end_with_parent)


def mapped(work: Callable[[T], R], things: Sequence[T], workers: int) -> Generator[R, None, None]:
    """What ``work`` makes of each thing, in order; with one worker in this process."""
    if workers <= 1 or len(things) < 2:
        yield from map(work, things)
        return
    with process_pool(workers) as pool:
        try:
            yield from pool.map(work, things)
        finally:  # where the work is over before its time, what has not begun is not waited for
            pool.shutdown(cancel_futures=True)
