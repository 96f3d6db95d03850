"""Each recorded board: what is found, what is said where nothing is, what happens on bad input."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time

import pytest
from kit.recorded_boards import (
    AGX_ORIN,
    AMD_DESKTOP,
    BOARDS,
    INTEL_LAPTOP,
    JETSON_NANO,
    NANO_INA,
    ORIN_NANO,
    ORIN_OC,
    PI_4,
    PI_5,
    PMIC,
    RAPL,
    VIRTUAL_MACHINE,
)

from shiftedge.benchmarks.sensors.energy import Energy
from shiftedge.benchmarks.sensors.gauges import describe, find_sensors

KEYS = {
    "cpu_mhz",
    "governor",
    "gpu_mhz",
    "temperature_c",
    "hottest",
    "throttled",
    "throttle_events",
}


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_tells_what_it_has_and_says_what_it_has_not(lay, name):
    board = BOARDS[name]
    sensors = lay(board).find()
    sample = sensors.sample()
    reasons = sample.pop("reasons")
    assert set(sample) == KEYS
    for key, value in sample.items():
        if key in board.expected:
            expected = board.expected[key]
            assert value == (pytest.approx(expected) if key == "cpu_mhz" else expected)
        else:
            assert value is None
            assert reasons[key] == "no sensor"
    assert set(reasons) == KEYS - set(board.expected)
    assert json.loads(json.dumps(sample)) == sample
    assert {key for key, source in sensors.sources().items() if source} - {"energy"} == set(
        board.expected
    )


@pytest.mark.parametrize("name", BOARDS)
def test_the_energy_meter_of_a_board(lay, name):
    board = BOARDS[name]
    sensors = lay(board).find()
    meter = sensors.meter
    assert sensors.sources()["energy"] == board.meter
    begin_s = time.monotonic()
    energy = meter.measure(0.02, time.sleep)
    took_s = time.monotonic() - begin_s
    if board.meter is None:
        assert meter.reason
        assert energy == Energy(None, meter.reason)
    elif board.watts is not None:
        assert energy.reason is None
        assert 0.8 * 0.02 * board.watts <= energy.joules <= 1.2 * took_s * board.watts


def test_rails_that_do_not_feed_the_whole_board_are_not_added_up(lay):
    meter = lay(AGX_ORIN).find().meter
    assert meter.reason == (
        "no sensor of the whole board, only of VDD_CPU_CV, VDD_GPU_SOC, VIN_SYS_5V0"
    )


def test_this_machine_raises_nothing():
    sensors = find_sensors()
    before, meter = sensors.sample(), sensors.meter
    energy = meter.measure(0.01, time.sleep)
    after = sensors.sample()
    for sample in (before, after):
        json.dumps(sample)
        assert {key for key in KEYS if sample[key] is None} == set(sample["reasons"])
    assert (energy.joules is None) == (energy.reason is not None)
    assert describe(before, after)


# Permission


def test_rapl_is_for_root_alone(lay):
    laid = lay(INTEL_LAPTOP)
    laid.denied.add(f"{RAPL}/energy_uj")
    meter = laid.find().meter
    assert meter.reason.startswith("no permission to read RAPL's energy_uj")
    assert "run as root" in meter.reason
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in meter.reason


def test_a_file_that_may_not_be_read(lay):
    laid = lay(PI_4)
    laid.denied.add("sys/class/thermal/thermal_zone0/temp")
    sample = laid.find().sample()
    assert sample["temperature_c"] is None
    assert sample["reasons"]["temperature_c"] == (
        "no permission to read /sys/class/thermal/thermal_zone0/temp: run as root, or allow it "
        "until the next boot with `sudo chmod a+r /sys/class/thermal/thermal_zone0/temp`"
    )
    assert str(laid.root) not in json.dumps(sample)


def test_a_user_outside_of_the_group_video(lay):
    laid = lay(PI_4)
    said = "Can't open device file: /dev/vcio\nTry creating a device file with: mknod /dev/vcio"
    laid.answers["get_throttled"] = subprocess.CalledProcessError(255, ["vcgencmd"], "", said)
    reason = laid.find().sample()["reasons"]["throttled"]
    assert reason.startswith("no permission: vcgencmd get_throttled failed")
    assert "sudo usermod -aG video $USER" in reason


# What vanishes or changes


def test_sensors_that_vanish_in_the_middle(lay):
    laid = lay(PI_4)
    sensors = laid.find()
    assert sensors.sample()["temperature_c"] == 62.32
    laid.remove("sys/class/thermal/thermal_zone0/temp")
    for core in range(4):
        laid.remove(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq")
    laid.answers = None
    sample = sensors.sample()
    assert sample["temperature_c"] is None
    assert sample["reasons"]["temperature_c"] == "/sys/class/thermal/thermal_zone0/temp is gone"
    assert sample["cpu_mhz"] is None
    assert "is gone" in sample["reasons"]["cpu_mhz"]
    assert sample["throttled"] is None
    assert sample["reasons"]["throttled"] == "no sensor"
    assert sample["governor"] == "ondemand"


def test_a_core_that_goes_offline_is_left_out(lay):
    laid = lay(INTEL_LAPTOP)
    sensors = laid.find()
    for core in (2, 3):
        laid.remove(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq")
    assert sensors.sample()["cpu_mhz"] == {"mean": 800.0, "min": 800.0, "max": 800.0}


def test_cores_with_other_governors(lay):
    laid = lay(INTEL_LAPTOP)
    laid.write("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance\n")
    assert laid.find().sample()["governor"] == "powersave, performance"


def test_only_the_given_cores_count(lay):
    laid = lay(INTEL_LAPTOP)
    sample = find_sensors(laid.root, run=laid.run, cores=[2]).sample()
    assert sample["cpu_mhz"]["mean"] == 3400.0
    assert sample["throttle_events"] == {"core too hot": 4, "package too hot": 12}


@pytest.mark.parametrize(
    "text", ["", "\n", "<unknown>", "-1", "0", "1_500_000", "1.5e6", "٣", "9" * 5000, "\0\xff"]
)
def test_malformed_numbers(lay, text):
    laid = lay(PI_4)
    for core in range(4):
        laid.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", text)
    sample = laid.find().sample()
    assert sample["cpu_mhz"] is None
    assert "scaling_cur_freq" in sample["reasons"]["cpu_mhz"]
    assert len(sample["reasons"]["cpu_mhz"]) < 200


def test_a_zone_that_answers_with_an_error_is_passed_over(lay):
    laid = lay(ORIN_NANO)
    laid.failing["sys/class/thermal/thermal_zone4/temp"] = OSError(errno.EAGAIN, "Try again")
    sensors = laid.find()
    assert sensors.sample()["hottest"] == {"zone": "cpu-thermal", "temperature_c": 52.25}
    for zone in range(4):
        laid.failing[f"sys/class/thermal/thermal_zone{zone}/temp"] = OSError(errno.ENODEV, "gone")
    reason = sensors.sample()["reasons"]["temperature_c"]
    assert reason == "/sys/class/thermal/thermal_zone0/temp cannot be read (ENODEV)"


def test_a_temperature_that_cannot_be(lay):
    laid = lay(PI_4)
    laid.write("sys/class/thermal/thermal_zone0/temp", "-256000")
    assert "-256 °C, which cannot be" in laid.find().sample()["reasons"]["temperature_c"]


def test_a_gpu_that_is_switched_off_is_not_at_zero(lay):
    laid = lay(JETSON_NANO)
    laid.write("sys/class/devfreq/57000000.gpu/cur_freq", "0\n")
    sample = laid.find().sample()
    assert sample["gpu_mhz"] is None
    assert sample["reasons"]["gpu_mhz"].endswith("it is switched off")


def test_a_counter_that_says_nonsense(lay):
    laid = lay(ORIN_NANO)
    laid.write(f"{ORIN_OC}/oc3_event_cnt", "many")
    assert "'many', which is not a number" in laid.find().sample()["reasons"]["throttle_events"]


@pytest.mark.parametrize("name", ["rail_name_0", "in_power0_input"])
def test_a_malformed_rail(lay, name):
    laid = lay(JETSON_NANO)
    laid.write(f"{NANO_INA}/{name}", "")
    meter = laid.find().meter
    assert meter.reason == f"/{NANO_INA}/{name} is empty"


def test_a_fault_of_ours_costs_no_measurement(lay, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("ours")

    laid = lay(AMD_DESKTOP)
    monkeypatch.setattr("shiftedge.benchmarks.sensors.gauges._zones", broken)
    monkeypatch.setattr("shiftedge.benchmarks.sensors.energy._from_hwmon", broken)
    sample = laid.find().sample()
    assert sample["reasons"]["temperature_c"] == (
        "reading the sensor failed (ZeroDivisionError: ours)"
    )
    assert sample["governor"] == "schedutil"


# vcgencmd


def test_vcgencmd_that_hangs_is_asked_once(lay):
    laid = lay(PI_5)
    laid.answers["get_throttled"] = subprocess.TimeoutExpired(["vcgencmd"], 2.0)
    sensors = laid.find()
    reason = "vcgencmd get_throttled gave no answer within 2 s; not asked again"
    for _ in range(3):
        assert sensors.sample()["reasons"]["throttled"] == reason
    assert sensors.meter.reason == reason
    assert laid.asked == ["get_throttled"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (subprocess.CalledProcessError(1, ["x"], "", "no\nluck\n"), "failed with status 1: luck"),
        (subprocess.CalledProcessError(-11, ["x"], None, None), "failed with status -11"),
        (OSError(errno.ENOEXEC, "Exec format error"), "did not start (Exec format error)"),
        (PermissionError(13, "Permission denied"), "no permission to run vcgencmd: run as root"),
        ("throttled=0x", "which is not throttled=0x0"),
        ("", "get_throttled says ''"),
    ],
)
def test_vcgencmd_that_fails(lay, answer, reason):
    laid = lay(PI_4)
    laid.answers["get_throttled"] = answer
    assert reason in laid.find().sample()["reasons"]["throttled"]


@pytest.mark.parametrize(
    "name",
    [
        "sys/devices/platform/soc/soc:firmware/get_throttled",
        "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
    ],
)
def test_without_vcgencmd_the_flags_are_those_of_sysfs(lay, name):
    laid = lay(PI_4)
    laid.answers = None
    laid.write(name, "80008\n")
    assert laid.find().sample()["throttled"] == [
        "soft temperature limit",
        "soft temperature limit has occurred",
    ]


def test_a_pmic_whose_answer_is_cut_short(lay):
    laid = lay(PI_5)
    laid.answers["pmic_read_adc"] = PMIC[: PMIC.index("VDD_CORE_V")]
    assert laid.find().meter.reason == (
        "pmic_read_adc tells no voltage of 0V8_AON, 3V3_ADC, 3V3_DAC, HDMI, VDD_CORE"
    )


def test_a_virtual_machine_without_anything(lay):
    sensors = lay(VIRTUAL_MACHINE).find()
    assert sensors.meter.reason == "no sensor"
    assert set(sensors.sources().values()) == {None}


# The modules


def test_importing_it_loads_nothing_heavy():
    program = (
        "import sys\nbefore = set(sys.modules)\nimport shiftedge.benchmarks.sensors.gauges\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    loaded = {name for name in out.split() if "cython" not in name}  # numpy's helpers
    assert loaded <= {*sys.stdlib_module_names, "numpy", "shiftedge"}
