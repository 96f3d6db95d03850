"""Samples as a line for people, and what happened between two of them."""

from __future__ import annotations

import pytest
from kit.recorded_boards import INTEL_LAPTOP, JETSON_NANO, ORIN_NANO, ORIN_OC, PI_4, VIRTUAL_MACHINE

from shiftedge.benchmarks.sensors.gauges import describe, throttled_between


def test_a_pi_with_a_weak_supply(lay):
    laid = lay(PI_4)
    laid.answers["get_throttled"] = "throttled=0x0"
    sensors = laid.find()
    before = sensors.sample()
    laid.answers["get_throttled"] = "throttled=0x50000"
    laid.write("sys/class/thermal/thermal_zone0/temp", "64260\n")
    laid.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "600000\n")
    after = sensors.sample()
    assert describe(before, after) == (
        "CPU 1.39 GHz (0.60 to 1.50), governor ondemand, 62.3 to 64.3 °C, "
        "throttled: under-voltage has occurred and throttling has occurred; "
        "no sensor: the GPU's clock"
    )


def test_what_had_occurred_before_is_told_apart(lay):
    laid = lay(PI_4)
    laid.answers["get_throttled"] = "throttled=0x50000"
    sample = laid.find().sample()
    assert throttled_between(sample, sample) == []
    assert (
        "not throttled, before, since the board was started: under-voltage has occurred and "
        "throttling has occurred"
    ) in describe(sample, sample)


def test_a_jetson(lay):
    laid = lay(ORIN_NANO)
    sensors = laid.find()
    before = sensors.sample()
    laid.write(f"{ORIN_OC}/oc3_event_cnt", "40\n")
    laid.write("sys/class/devfreq/17000000.gpu/cur_freq", "624750000\n")
    laid.write("sys/class/thermal/thermal_zone4/temp", "53000\n")
    after = sensors.sample()
    assert describe(before, after) == (
        "CPU 1.51 GHz (1.51 to 1.51), governor schedutil, GPU 0.31 to 0.62 GHz, 52.2 °C, "
        "hottest tj-thermal 53.0 °C, "
        "throttled: gpu throttled and instantaneous over-current (3 times)"
    )


def test_counters_count_from_the_sample_before(lay):
    laid = lay(INTEL_LAPTOP)
    sensors = laid.find()
    before = sensors.sample()
    assert throttled_between(before, before) == []
    laid.write("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "13\n")
    assert throttled_between(before, sensors.sample()) == ["package too hot (1 time)"]


def test_no_sensor_for_throttling(lay):
    sample = lay(JETSON_NANO).find().sample()
    assert describe(sample, sample) == (
        "CPU 1.48 GHz (1.48 to 1.48), governor schedutil, GPU 0.92 GHz, 34.0 °C, "
        "hottest AO-therm 41.5 °C; no sensor: throttling"
    )


def test_nothing_at_all(lay):
    sample = lay(VIRTUAL_MACHINE).find().sample()
    assert describe(sample, sample) == (
        "no sensor: the CPU's clock, its governor, the GPU's clock, temperature, throttling"
    )


def test_reasons_are_told(lay):
    laid = lay(INTEL_LAPTOP)
    sensors = laid.find()
    before = sensors.sample()
    laid.remove("sys/class/thermal/thermal_zone2/temp")
    text = describe(before, sensors.sample())
    assert "61.0 °C" in text
    assert "/sys/class/thermal/thermal_zone2/temp is gone: temperature" in text


@pytest.mark.parametrize("key", ["throttled", "throttle_events"])
def test_a_sample_without_flags_says_nothing(key):
    assert throttled_between({key: None}, {key: None}) == []
    assert throttled_between({}, {}) == []
