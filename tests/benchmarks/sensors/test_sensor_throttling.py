"""Flags, counters and cooling devices; vcgencmd in all its moods."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_boards import CPU, Board, Firmware, hang

from shiftedge.benchmarks.sensors.base import NoSensor
from shiftedge.benchmarks.sensors.throttling import (
    CoolingThrottling,
    IntelThrottling,
    JetsonThrottling,
    PiThrottling,
    Throttle,
    Throttling,
    throttle_words,
)
from shiftedge.benchmarks.sensors.vcgencmd import Vcgencmd

Make = Callable[..., Board]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("throttled=0x0", []),
        ("throttled=0x50000\n", ["under-voltage has occurred", "throttled has occurred"]),
        ("throttled=0x4", ["throttled"]),
        ("throttled=0xA000a", None),
        ("throttled=0x10", ["bit 4"]),
    ],
)
def test_bits_of_the_pi(text: str, words: list[str] | None):
    expected = words or []
    if words is None:
        expected = ["frequency capped", "soft temperature limit"]
        expected += [f"{word} has occurred" for word in expected]
    assert throttle_words(text) == expected


@given(st.text())
def test_any_text_gives_words_or_a_reason(text: str):
    assert isinstance(throttle_words(text), list | NoSensor)


@given(st.integers(0, 2**32 - 1))
def test_every_bit_has_a_word(value: int):
    words = throttle_words(f"throttled={value:#x}")
    assert isinstance(words, list)
    assert len(words) == bin(value).count("1") == len(set(words))


@pytest.mark.parametrize("text", ["", "throttled=", "throttled=0x", "0x0", "throttled=0x0 0x1"])
def test_malformed_flags(text: str):
    value = PiThrottling(Vcgencmd(Firmware(get_throttled=text))).read()
    assert isinstance(value, NoSensor)
    assert value.present


def test_a_vcgencmd_that_is_missing_is_asked_once():
    firmware = Firmware()
    vcgencmd = Vcgencmd(firmware)
    for _ in range(3):
        value = vcgencmd.ask("get_throttled")
        assert isinstance(value, NoSensor)
        assert not value.present
    assert firmware.asked == ["get_throttled"]


def test_a_vcgencmd_that_hangs_costs_one_timeout():
    firmware = Firmware(get_throttled=hang())
    vcgencmd = Vcgencmd(firmware)
    for _ in range(3):
        value = vcgencmd.ask("get_throttled")
        assert isinstance(value, NoSensor)
        assert "did not answer within 2 s" in value.reason
    assert len(firmware.asked) == 1


def test_a_vcgencmd_that_may_not_be_started():
    firmware = Firmware(get_throttled=PermissionError(13, "Permission denied"))
    value = Vcgencmd(firmware).ask("get_throttled")
    assert isinstance(value, NoSensor)
    assert "cannot be started" in value.reason


def test_a_vcgencmd_that_fails():
    firmware = Firmware(get_throttled="", other='error=2 error_msg="Invalid arguments"\n')
    vcgencmd = Vcgencmd(firmware)
    firmware.code, firmware.stderr = 255, "Can't open device file: /dev/vcio\n"
    value = vcgencmd.ask("get_throttled")
    assert isinstance(value, NoSensor)
    assert "usermod -aG video" in value.reason
    firmware.code, firmware.stderr = -9, "x" * 500
    value = vcgencmd.ask("get_throttled")
    assert isinstance(value, NoSensor)
    assert value.present
    assert len(value.reason) < 100
    firmware.code, firmware.stderr = 0, ""
    assert vcgencmd.ask("other") == NoSensor(
        "vcgencmd other is not answered here: Invalid arguments"
    )
    assert vcgencmd.ask("get_throttled") == NoSensor(
        "vcgencmd get_throttled printed nothing", present=True
    )


def test_intel_counters(make_board: Make):
    board = make_board("laptop")
    value = IntelThrottling(board.files).read()
    assert isinstance(value, Throttle)
    assert value.counts == {"thermal throttling of a core": 1, "thermal throttling of a package": 7}
    assert "thermal throttling of a core has occurred" in value.words
    for core in (0, 1):
        for kind in ("core", "package"):
            path = f"{CPU}/cpu{core}/thermal_throttle/{kind}_throttle_count"
            board.write(path, "many" if kind == "core" else "0")
    value = IntelThrottling(board.files).read()
    assert value == Throttle([], {"thermal throttling of a package": 0})
    for core in (0, 1):
        board.remove(f"{CPU}/cpu{core}/thermal_throttle/package_throttle_count")
    value = IntelThrottling(board.files).read()
    assert isinstance(value, NoSensor)
    assert "'many'" in value.reason


def test_jetson_counters(make_board: Make):
    board = make_board("orin")
    assert JetsonThrottling(board.files).read() == Throttle(
        ["instantaneous over-current has occurred"],
        {"under-voltage": 0, "average over-current": 0, "instantaneous over-current": 4},
    )
    board.write("proc/device-tree/compatible", "nvidia,tegra194\0")
    value = JetsonThrottling(board.files).read()
    assert isinstance(value, Throttle)
    assert value.words == ["over-current event OC3 has occurred"]
    for number in (1, 2, 3):
        board.write(f"sys/class/hwmon/hwmon3/oc{number}_event_cnt", "")
    value = JetsonThrottling(board.files).read()
    assert isinstance(value, NoSensor)
    assert value.present


def test_cooling_devices(make_board: Make):
    board = make_board("orin")
    state = "sys/class/thermal/cooling_device1/cur_state"
    assert CoolingThrottling(board.files).read() == Throttle()  # the fan is none
    board.write(state, "3\n")
    assert CoolingThrottling(board.files).read() == Throttle(["CPU clock limited by heat"])
    board.remove(state)
    assert CoolingThrottling(board.files).read() == NoSensor(f"there is no /{state}")


def test_sources_are_put_together(make_board: Make):
    board = make_board("orin")
    firmware = Firmware(get_throttled="throttled=0x1")
    value = Throttling(
        [PiThrottling(Vcgencmd(firmware)), JetsonThrottling(board.files)],
    ).read()
    assert isinstance(value, Throttle)
    assert value.words == ["under-voltage", "instantaneous over-current has occurred"]
    assert value.counts["instantaneous over-current"] == 4


def test_no_source(make_board: Make):
    files = make_board("vm").files
    value = Throttling([IntelThrottling(files), JetsonThrottling(files)]).read()
    assert value == NoSensor(
        "there are no thermal_throttle counters; there are no over-current counters"
    )
