"""Percentiles, paired ratios and the comparison of outputs."""

from __future__ import annotations

import functools
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftedge.benchmarks.bench import same_model
from shiftedge.benchmarks.ratios import paired_ratio, percentiles_ms, unpaired_ratio
from shiftedge.export.agreement import compare
from shiftedge.runtime.errors import VerificationError

times = st.lists(st.integers(1, 10**9), min_size=1, max_size=60)
rounds = st.lists(st.lists(st.integers(1000, 10**6), min_size=1, max_size=5), max_size=8)


@given(times)
def test_percentiles_are_numpys_and_in_order(step_ns):
    found = percentiles_ms(step_ns)
    for key, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert found[key] == pytest.approx(np.quantile(step_ns, share) / 1e6)
    assert found["p50"] == pytest.approx(statistics.median(step_ns) / 1e6)
    assert found["max"] == max(step_ns) / 1e6
    assert found["p50"] <= found["p90"] <= found["p99"] <= found["max"]


def test_no_times():
    with pytest.raises(ValueError, match="no step times"):
        percentiles_ms([])
    with pytest.raises(ValueError, match="no round"):
        paired_ratio([[1], []], [[], [1]])


several = rounds.filter(lambda found: len(found) > 1)


@given(several, st.floats(0.1, 10.0))
def test_a_drift_that_hits_both_does_not_change_the_ratio(theirs, factor):
    ours = [[time * factor for time in row] for row in theirs]
    ratio = paired_ratio(ours, theirs)
    assert ratio.value == pytest.approx(factor)
    assert ratio.low == pytest.approx(factor)
    assert ratio.high == pytest.approx(factor)


@given(rounds.filter(bool), rounds.filter(bool))
def test_the_interval_holds_the_ratio_and_is_repeatable(ours, theirs):
    ratio = paired_ratio(ours, theirs)
    assert ratio.low <= ratio.value * (1 + 1e-9)
    assert ratio.value <= ratio.high * (1 + 1e-9)
    assert ratio == paired_ratio(ours, theirs)


def test_one_round_tells_nothing_of_the_noise():
    ratio = paired_ratio([[3, 3]], [[2, 2]])
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(1.5), 0.0, float("inf"))
    assert ratio.spans_one


def run_of(
    generator,
    factor=1.0,
    starts=5,
    process=0.004,
    rounds_each=60,
    disturbed=False,
    neighbour=False,
):
    """Rounds of a bench: each process has a level of its own, each round and step some noise.

    On a disturbed machine another takes two fifths of a core's speed half of the time. With a
    neighbour some rounds take one engine 1.3 times as long and the other 1.4 times; how many they
    are is another number in each run.
    """
    share = generator.uniform(0.2, 0.8)
    count, steps = starts * rounds_each, 30 if rounds_each < 10 else 1
    groups = np.repeat(np.arange(starts), rounds_each)
    drift = generator.uniform(1.0, 1.3, count)
    taken = neighbour & (generator.random(count) < share)
    sides = []
    for speed, longer in ((factor, 1.3), (1.0, 1.4)):
        level = speed * np.exp(generator.normal(0.0, process, starts))[groups]
        level *= drift * np.where(taken, longer, 1.0) * generator.lognormal(0.0, 0.002, count)
        level *= np.where(disturbed & (generator.random(count) < 0.5), 1.4, 1.0)
        noise = generator.lognormal(0.0, 0.02, (count, steps))
        sides.append((1e6 * level[:, None] * noise).tolist())
    return *sides, groups.tolist()


def ratio_of(generator, **changes):
    ours, theirs, groups = run_of(generator, **changes)
    return paired_ratio(ours, theirs, starts=groups)


MACHINES = {
    "calm": {},
    "disturbed": {"disturbed": True},
    "processes differ": {"process": 0.02},
    "few rounds": {"rounds_each": 2},
    "one start": {"starts": 1, "process": 0.008, "rounds_each": 150},
    "a neighbour": {"neighbour": True},
}


@functools.cache
def drawn_runs(machine):
    """The ratios of 200 runs of two engines that are equally quick."""
    generator = np.random.default_rng(1)
    return [ratio_of(generator, **MACHINES[machine]) for _ in range(200)]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_second_run_falls_into_the_interval_of_the_first(machine):
    """19 of 20 times; as many as 100 pairs can tell."""
    runs = drawn_runs(machine)
    pairs = zip(runs[:100], runs[100:], strict=True)
    assert sum(first.low <= second.value <= first.high for first, second in pairs) >= 93


@pytest.mark.parametrize("factor", [1.05, 1.1])
@pytest.mark.parametrize("machine", ["calm", "disturbed"])
def test_five_and_ten_percent_are_told_apart(machine, factor):
    """Times that are all longer by a factor give a ratio and an interval that are."""
    assert sum(run.low * factor > 1.0 for run in drawn_runs(machine)) >= 190


def test_a_factor_is_found():
    ours, theirs, starts = run_of(np.random.default_rng(5), factor=1.05)
    plain, _, _ = run_of(np.random.default_rng(5))
    slowed = paired_ratio(ours, theirs, starts=starts)
    assert slowed.low == pytest.approx(1.05 * paired_ratio(plain, theirs, starts=starts).low)
    assert slowed.value == pytest.approx(1.05, abs=0.01)


@pytest.mark.parametrize("machine", [each for each in MACHINES if each != "a neighbour"])
def test_equals_are_hardly_ever_told_apart(machine):
    assert sum(not run.spans_one for run in drawn_runs(machine)) <= 10


def test_the_interval_of_two_runs_at_different_times():
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(100):
        medians = []
        for _ in range(2):
            ours, _, _ = run_of(generator)
            ours = [np.median(row) for row in ours]
            medians.append([ours[60 * start : 60 * start + 60] for start in range(5)])
        held += unpaired_ratio(medians[0], medians[1]).spans_one
    assert held >= 95
    with pytest.raises(ValueError, match="no round"):
        unpaired_ratio([[]], [[1.0]])


def test_rounds_that_one_lacks_are_left_out():
    assert paired_ratio([[2], [4], [9]], [[1], [2]]).value == 2.0


def outputs(**changes):
    base = {"logits": np.array([[1.0, -2.0]]), "next_state_0": np.array([[0.5, 4.0]])}
    named = {**base, **changes}.items()
    return [{name: np.array(value[0], np.float32) for name, value in named}]


def agree(ours, theirs):
    return compare("reference / engine", theirs, ours, tolerance=1e-4)


def test_agreement():
    worst, state = agree(outputs(logits=[[1.0, -2.0001]]), outputs())
    assert worst.passed
    assert (worst.tensor, state.tensor) == ("logits", "next_state_0")
    assert worst.worst == pytest.approx(1e-4, rel=0.01)
    assert worst.relative == pytest.approx(5e-5, rel=0.01)


def test_a_state_that_differs_is_a_disagreement():
    worst, logits = agree(outputs(next_state_0=[[0.5, 4.01]]), outputs())
    assert not worst.passed
    assert worst.tensor == "next_state_0"
    assert logits.worst == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_agrees(value):
    with pytest.raises(VerificationError, match="NaN or infinity"):
        agree(outputs(logits=[[1.0, value]]), outputs())


def test_what_has_another_shape_never_agrees():
    with pytest.raises(VerificationError, match="has shape"):
        agree(outputs(logits=[[1.0]]), outputs())


def test_same_model(spec):
    assert same_model(replace(spec, name="other"), spec)
    assert not same_model(replace(spec, mean=(0.5, 0.5, 0.5)), spec)
    assert not same_model(replace(spec, states=spec.states[:1]), spec)
