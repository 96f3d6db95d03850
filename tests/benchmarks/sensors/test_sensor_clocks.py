"""Clocks, governor, temperatures on boards as folders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sensor_boards import CPU, ZONE, Board

from shiftedge.benchmarks.sensors.base import Files, NoSensor
from shiftedge.benchmarks.sensors.clocks import CpuClocks, Governor, GpuClock, usable
from shiftedge.benchmarks.sensors.thermal import CpuTemperature, HottestTemperature, zones_c

Make = Callable[..., Board]


@pytest.mark.parametrize(
    ("name", "clocks", "governor", "gpu"),
    [
        ("nano", (1479.0, 1479.0, 1479.0), "schedutil", 921.6),
        ("orin", (729.6, 1120.0, 1510.4), "schedutil", 306.0),
        ("pi4", (1500.0, 1500.0, 1500.0), "ondemand", None),
        ("laptop", (800.0, 2100.1, 3400.123), "powersave", None),
    ],
)
def test_clocks(make_board: Make, name: str, clocks: Any, governor: str, gpu: float | None):
    files = make_board(name).files
    cores = range(4)
    assert CpuClocks(files, cores).read() == dict(zip(("min", "mean", "max"), clocks, strict=True))
    assert Governor(files, cores).read() == governor
    clock = GpuClock(files).read()
    assert clock == gpu if gpu else clock == NoSensor("there is no GPU in /sys/class/devfreq")


def test_only_the_usable_cores_count(make_board: Make):
    board = make_board("laptop")
    assert CpuClocks(board.files, [1]).read() == {"min": 800.0, "mean": 800.0, "max": 800.0}
    board.write(f"{CPU}/cpu1/cpufreq/scaling_governor", "performance")
    assert Governor(board.files, [0, 1]).read() == "performance, powersave"
    assert usable()


def test_a_machine_without_cpufreq(make_board: Make):
    files = make_board("vm").files
    for gauge in (CpuClocks(files, [0]), Governor(files, [0])):
        value = gauge.read()
        assert isinstance(value, NoSensor)
        assert not value.present
        assert "no cpufreq" in value.reason


@pytest.mark.parametrize("text", ["", "<unknown>", "1.5e6", "0", "-5", "٣", "9" * 30, "\xff"])
def test_malformed_clocks_are_told(make_board: Make, text: str):
    path = f"{CPU}/cpu0/cpufreq/scaling_cur_freq"
    value = CpuClocks(make_board("vm", {path: text}).files, [0]).read()
    assert isinstance(value, NoSensor)
    assert value.present


def test_a_malformed_governor_is_told(make_board: Make):
    path = f"{CPU}/cpu0/cpufreq/scaling_governor"
    value = Governor(make_board("vm", {path: "per\nform"}).files, [0]).read()
    assert value == NoSensor("cpufreq tells 'per\\nform'", present=True)


def test_a_gpu_that_is_off_has_no_clock(make_board: Make):
    board = make_board("nano")
    board.write("sys/class/devfreq/57000000.gpu/cur_freq", "0\n")
    value = GpuClock(board.files).read()
    assert isinstance(value, NoSensor)
    assert "it is off" in value.reason
    board.write("sys/class/devfreq/57000000.gpu/cur_freq", "fast")
    assert isinstance(GpuClock(board.files).read(), NoSensor)


@pytest.mark.parametrize(
    ("name", "cpu", "hottest"),
    [
        ("nano", 38.5, 45.0),  # neither the fixed 100 degrees nor the fan's estimate
        ("orin", 48.312, 51.0),  # a zone that is off tells -256
        ("pi4", 52.582, 52.582),
        ("laptop", 61.0, 61.0),
    ],
)
def test_temperatures(make_board: Make, name: str, cpu: float, hottest: float):
    files = make_board(name).files
    assert CpuTemperature(files).read() == cpu
    assert HottestTemperature(files).read() == hottest


def test_an_amd_processor_has_hwmon_only(make_board: Make):
    hwmon = "sys/class/hwmon/hwmon2"
    files = make_board(
        "vm", {f"{hwmon}/name": "k10temp\n", f"{hwmon}/temp1_input": "71250\n"}
    ).files
    assert CpuTemperature(files).read() == 71.25
    assert HottestTemperature(files).read() == 71.25


def test_a_machine_without_zones(make_board: Make):
    files = make_board("vm").files
    assert CpuTemperature(files).read() == NoSensor("no thermal zone names the CPU")
    assert HottestTemperature(files).read() == NoSensor("there are no thermal zones")


def test_a_zone_that_vanishes_or_lies(make_board: Make):
    board = make_board("pi4")
    for text in ("0", "hot", "999999"):
        board.write(f"{ZONE}0/temp", text)
        value = CpuTemperature(board.files).read()
        assert isinstance(value, NoSensor)
        assert value.present
    board.remove(f"{ZONE}0/temp")
    assert CpuTemperature(board.files).read() == NoSensor(f"there is no /{ZONE}0/temp")
    board.remove(f"{ZONE}0/type")
    assert zones_c(board.files) == []


def test_files_tell_why(make_board: Make, deny: Callable[[str], None]):
    board = make_board("vm", {"sys/full": "a" * 100, "sys/a/x": "1"})
    assert board.files.text("sys/none") == NoSensor("there is no /sys/none")
    assert board.files.text("sys/a").reason == "/sys/a cannot be read: Is a directory"  # type: ignore[union-attr]
    assert len(board.files.integer("sys/full").reason) < 100  # type: ignore[union-attr]
    deny("full")
    assert board.files.text("sys/full") == NoSensor("no permission to read /sys/full", present=True)
    assert board.files.match("sys/../..") is not None
    assert Files(board.root / "nowhere").match("sys/*") == []


def test_matches_are_sorted_by_number(make_board: Make):
    board = make_board("vm", {f"sys/z{n}/t": "1" for n in (10, 9, 1)})
    assert board.files.match("sys/z*/t") == ["sys/z1/t", "sys/z9/t", "sys/z10/t"]
