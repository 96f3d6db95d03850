"""How long predictions take here, all in turns, in torch's eager mode for every network: no engine
of ours, so that a 3-D network and an online step are measured by the same means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from shiftedge.benchmarks.complexity.nets import WINDOW, Network
from shiftedge.benchmarks.counter import counter
from shiftedge.export.models import StreamingModel
from shiftedge.runtime.process.signals import exit_status


class Time(NamedTuple):
    """Of one prediction, in nanoseconds."""

    wall: int
    cpu: int
    """That this process had a processor, summed over its threads: what others do beside it is not
    in it, so on a busy machine it tells more than the wall clock."""


Rounds = list[list[Time]]
"""Times of each round."""


def measure(
    networks: Sequence[Network], size: int, *, threads: int, rounds: int
) -> tuple[dict[str, Rounds], int]:
    """Time all networks: each once in every round, in an order that turns with the rounds, after a
    run beforehand. Online steps, which are short, are taken :data:`WINDOW` times in a round, with
    the states carried on, and timed one by one.

    Returns:
        Key -> times; and 0, or the exit status of a signal that ended it early, which leaves fewer
        rounds.
    """
    timed: dict[str, Rounds] = {network.key: [] for network in networks}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    total = len(networks) * (rounds + 1)
    try:
        with torch.inference_mode(), counter("measuring", total, "predictions") as advance:
            turns: list[Callable[[], list[Time]]] = []
            for network in networks:
                turns.append(_turn(network, size))
                turns[-1]()
                advance(1)
            for index in range(rounds):
                for offset in range(len(networks)):
                    chosen = (index + offset) % len(networks)
                    timed[networks[chosen].key].append(turns[chosen]())
                    advance(1)
    except KeyboardInterrupt as error:
        return timed, exit_status(error)
    finally:
        torch.set_num_threads(before)
    return timed, 0


def _turn(network: Network, size: int) -> Callable[[], list[Time]]:
    """A function that makes a network's predictions of one round and gives their times."""
    net = network.build()
    image, *states = network.inputs(net, size)

    def clip() -> list[Time]:
        begin = _now()
        net(image)
        return [_since(begin)]

    def steps() -> list[Time]:
        times, held = [], states
        for _ in range(WINDOW):
            begin = _now()
            _, *held = net(image, *held)
            times.append(_since(begin))
        return times

    return steps if isinstance(net, StreamingModel) else clip


def _now() -> Time:
    return Time(time.perf_counter_ns(), time.process_time_ns())


def _since(begin: Time) -> Time:
    now = _now()
    return Time(now.wall - begin.wall, now.cpu - begin.cpu)
