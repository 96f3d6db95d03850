"""All sensors of a board together; what they say to people; the package's names."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sensor_boards import BOARDS, CPU, PMIC_TEXT, RAPL, Board, Firmware, hang

import shiftedge.benchmarks.sensors as package
from shiftedge.benchmarks.sensors import (
    EnergyMeter,
    NoSensor,
    Sensors,
    describe,
    find_sensors,
    throttled_since,
)
from shiftedge.benchmarks.sensors.base import Gauge
from shiftedge.benchmarks.sensors.throttling import Throttle

Make = Callable[..., Board]
MODULES = sorted(Path(package.__file__).parent.glob("*.py"))
KEYS = {
    *("cpu_mhz", "governor", "gpu_mhz", "temperature_c", "hottest_c"),
    *("throttled", "throttle_counts", "reasons"),
}
FIRMWARES = {
    "pi4": {"get_throttled": "throttled=0x50000\n"},
    "pi5": {"get_throttled": "throttled=0x0\n", "pmic_read_adc": PMIC_TEXT},
}
SCOPES = {
    "nano": "power rails POM_5V_IN",
    "orin": "power rails VDD_IN",
    "pi5": "rails of the PMIC, without its losses and USB devices",
    "laptop": "processor package",
}


def sensors_of(board: Board, name: str = "") -> Sensors:
    return find_sensors(board.root, Firmware(**FIRMWARES.get(name, {})), cores=range(4))


@pytest.mark.parametrize("name", BOARDS)
def test_a_sample_of_each_board(make_board: Make, name: str):
    sensors = sensors_of(make_board(name), name)
    sample = sensors.sample()
    assert sample.keys() == KEYS
    assert json.loads(json.dumps(sample)) == sample
    for key in KEYS - {"reasons", "throttle_counts"}:
        assert (sample[key] is None) == (key in sample["reasons"]), key
        assert sample[key] != 0
    meter = sensors.energy_meter()
    assert isinstance(meter, EnergyMeter) == (name in SCOPES)
    if isinstance(meter, EnergyMeter):
        assert meter.scope == SCOPES[name]
    assert "\n" not in describe(sample, sample, 0.5)


def test_a_machine_without_anything(make_board: Make):
    sensors = sensors_of(make_board("vm"))
    sample = sensors.sample()
    assert all(sample[key] is None for key in KEYS - {"reasons"})
    assert all(text.startswith("no sensor: ") for text in sample["reasons"].values())
    meter = sensors.energy_meter()
    assert isinstance(meter, NoSensor)
    assert not meter.present
    for word in ("INA3221", "vcgencmd", "RAPL"):
        assert word in meter.reason
    assert sensors.describe(sample, sample, meter) == (
        "CPU clock: no sensor; temperature: no sensor; throttling: no sensor; energy: no sensor"
    )
    assert sensors.throttled_since(sample, sample) == []


def test_a_sensor_that_may_not_be_read_outweighs_those_that_are_not_there(
    make_board: Make, deny: Callable[[str], None]
):
    deny("energy_uj")
    sensors = sensors_of(make_board("laptop"))
    sample, meter = sensors.sample(), sensors.energy_meter()
    assert isinstance(meter, NoSensor)
    assert meter.reason.startswith("the processor's energy counters are for root alone")
    assert "run with sudo" in sensors.describe(sample, sample, meter)


def test_lines_for_people(make_board: Make):
    board = make_board("orin")
    sensors = sensors_of(board)
    before = sensors.sample()
    board.write("sys/class/thermal/thermal_zone0/temp", "61000")
    board.write("sys/class/hwmon/hwmon3/oc3_event_cnt", "7")
    after = sensors.sample()
    assert sensors.throttled_since(before, after) == ["instantaneous over-current (3 times)"]
    assert sensors.describe(before, after, 0.01234) == (
        "CPU 1120 MHz (730 to 1510), schedutil; GPU 306 MHz; CPU 48 to 61 °C; throttled: "
        "instantaneous over-current (3 times); energy 12.3 mJ a frame"
    )
    assert "not throttled" in sensors.describe(after, after)
    assert "energy" not in sensors.describe(after, after)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("0x0", "0x0", []),
        ("0x50000", "0x50000", []),  # old: nothing is known of the time in between
        ("0x0", "0x50000", ["under-voltage", "throttled"]),
        ("0x0", "0x50005", ["under-voltage", "throttled"]),
        ("0x50005", "0x50000", ["under-voltage", "throttled"]),
        ("0x50000", "0xd0000", ["soft temperature limit"]),
    ],
)
def test_flags_between_two_samples(make_board: Make, before: str, after: str, told: list[str]):
    firmware = Firmware(get_throttled=f"throttled={before}")
    sensors = find_sensors(make_board("pi4").root, firmware)
    first = sensors.sample()
    firmware.answers["get_throttled"] = f"throttled={after}"
    assert throttled_since(first, sensors.sample()) == told


def test_counters_that_come_go_or_begin_anew():
    none = {"throttled": None, "throttle_counts": None}
    some = {"throttled": ["heat has occurred"], "throttle_counts": {"heat": 3}}
    less = {"throttled": [], "throttle_counts": {"heat": 0}}
    assert throttled_since(none, some) == []
    assert throttled_since(some, none) == []
    assert throttled_since(some, less) == []
    assert throttled_since(less, some) == ["heat (3 times)"]
    assert throttled_since({}, {}) == []
    assert describe({}, {}) == describe(none, none)


def test_sensors_that_vanish_in_the_middle(make_board: Make):
    board = make_board("pi5")
    firmware = Firmware(**FIRMWARES["pi5"])
    sensors = find_sensors(board.root, firmware, cores=[0])
    before = sensors.sample()
    meter = sensors.energy_meter()
    assert isinstance(meter, EnergyMeter)
    board.remove(f"{CPU}/cpu0/cpufreq/scaling_cur_freq")
    board.remove("sys/class/thermal/thermal_zone0/temp")
    firmware.answers["get_throttled"] = hang()
    meter.start()
    after = sensors.sample()
    assert isinstance(meter.stop(), NoSensor)
    assert {"cpu_mhz", "temperature_c", "throttled"} <= after["reasons"].keys()
    assert "did not answer" in after["reasons"]["throttled"]
    assert describe(before, after).startswith("CPU clock: no sensor")


def test_what_nobody_thought_of_is_a_reason_too():
    class Broken(Gauge[Throttle]):
        def read(self) -> Throttle:
            raise ZeroDivisionError

    sample = Sensors({"cpu_mhz": Broken()}, Broken(), NoSensor("none")).sample()
    assert sample["cpu_mhz"] is None
    assert sample["throttled"] is None
    assert "ZeroDivisionError" in sample["reasons"]["cpu_mhz"]

    def run(*_: object, **__: object) -> None:
        raise MemoryError

    sensors = find_sensors(Path("/nowhere"), run)  # type: ignore[arg-type]
    assert isinstance(sensors.energy_meter(), NoSensor)
    assert sensors.sample()["throttled"] is None


def test_the_widest_meter_is_taken(make_board: Make):
    board = make_board("orin", {f"{RAPL}/intel-rapl:0/name": "package-0"})
    board.write(f"{RAPL}/intel-rapl:0/energy_uj", "5")
    meter = sensors_of(board).energy_meter()
    assert isinstance(meter, EnergyMeter)
    assert meter.scope == "power rails VDD_IN"


def test_this_machine_can_be_asked():
    sample = find_sensors().sample()
    assert json.dumps(sample)
    assert sample.keys() == KEYS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_all_equals_the_public_names(path: Path):
    name = "shiftedge.benchmarks.sensors" + (path.stem != "__init__") * f".{path.stem}"
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, each) for each in module.__all__)
    if path.stem != "__init__":
        kinds = (ast.FunctionDef, ast.ClassDef)
        nodes = ast.parse(path.read_text()).body
        public = {n.name for n in nodes if isinstance(n, kinds) and not n.name.startswith("_")}
        assert public <= set(module.__all__)
    assert len(path.read_text().splitlines()) < 500
