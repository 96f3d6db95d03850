"""Meters: RAPL with its wrap, INA3221 in both layouts, the Pi 5's PMIC, sampling."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_boards import NANO_INA, ORIN_INA, PMIC_TEXT, PMIC_W, RAPL, Board, Firmware, hang

from shiftedge.benchmarks.sensors.base import EnergyMeter, NoSensor
from shiftedge.benchmarks.sensors.ina3221 import find_ina3221
from shiftedge.benchmarks.sensors.pmic import find_pmic, rails_w
from shiftedge.benchmarks.sensors.powercap import RaplMeter, find_rapl, used_uj
from shiftedge.benchmarks.sensors.sampling import PowerMeter
from shiftedge.benchmarks.sensors.vcgencmd import Vcgencmd

Make = Callable[..., Board]
ENERGY = f"{RAPL}/intel-rapl:0/energy_uj"


def meter_of(found: EnergyMeter | NoSensor) -> EnergyMeter:
    assert isinstance(found, EnergyMeter), found
    return found


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "energy-meter"]


def test_rapl_counts_the_package_once(make_board: Make):
    board = make_board("laptop")
    meter = meter_of(find_rapl(board.files))
    assert meter.scope == "processor package"
    for used in (2_500_000, 40):
        board.write(ENERGY, 1_000_000)
        meter.start()
        board.write(ENERGY, 1_000_000 + used)
        assert meter.stop() == used / 1e6


def test_rapl_of_two_packages(make_board: Make):
    board = make_board("laptop", {f"{RAPL}/intel-rapl:2/name": "package-1"})
    board.write(f"{RAPL}/intel-rapl:2/energy_uj", "5")
    meter = meter_of(find_rapl(board.files))
    assert meter.scope == "2 processor packages"
    meter.start()
    board.write(ENERGY, 1_000_010)
    board.write(f"{RAPL}/intel-rapl:2/energy_uj", "10")
    assert meter.stop() == pytest.approx(15e-6)


def test_a_rapl_counter_wraps(make_board: Make):
    board = make_board("laptop")
    meter = meter_of(find_rapl(board.files))
    board.write(ENERGY, 262143328850)
    meter.start()
    board.write(ENERGY, 999_999)
    assert meter.stop() == 1.0
    board.remove(f"{RAPL}/intel-rapl:0/max_energy_range_uj")
    meter = meter_of(find_rapl(board.files))
    meter.start()
    board.write(ENERGY, 5)
    stopped = meter.stop()
    assert isinstance(stopped, NoSensor)
    assert "wrapped around" in stopped.reason


@given(st.integers(1, 2**40), st.data())
def test_a_wrapped_counter_gives_what_was_used(range_uj: int, data: st.DataObject):
    before = data.draw(st.integers(0, range_uj))
    used = data.draw(st.integers(0, range_uj))
    assert used_uj(before, (before + used) % (range_uj + 1), range_uj) == used


@given(st.integers(), st.integers(), st.none() | st.integers(1))
def test_used_energy_is_never_negative(before: int, after: int, range_uj: int | None):
    used = used_uj(before, after, range_uj)
    assert isinstance(used, NoSensor) or used >= 0


def test_rapl_is_for_root(make_board: Make, deny: Callable[[str], None]):
    board = make_board("laptop")
    meter = meter_of(find_rapl(board.files))
    meter.start()
    deny("energy_uj")
    for found in (find_rapl(board.files), meter.stop()):
        assert isinstance(found, NoSensor)
        assert found.present
        assert "run with sudo" in found.reason
        assert "chmod a+r" in found.reason


@pytest.mark.parametrize("text", ["", "lots", "-4", "3.5"])
def test_malformed_rapl(make_board: Make, text: str):
    board = make_board("laptop")
    meter = meter_of(find_rapl(board.files))
    meter.start()
    board.write(ENERGY, text)
    stopped = meter.stop()
    assert isinstance(stopped, NoSensor)
    assert stopped.present


def test_rapl_that_vanishes_or_stands_still(make_board: Make):
    board = make_board("laptop")
    meter = meter_of(find_rapl(board.files))
    meter.start()
    assert meter.stop() == NoSensor("the processor's energy counters stand still", present=True)
    meter.start()
    board.remove(ENERGY)
    assert meter.stop() == NoSensor(f"there is no /{ENERGY}", present=True)
    meter.start()
    assert isinstance(meter.stop(), NoSensor)
    board.write(ENERGY, 1)
    meter.start()
    board.write(ENERGY, 2_000_001)
    assert meter.stop() == 2.0


def test_the_whole_nano(make_board: Make):
    board = make_board("nano")
    meter = meter_of(find_ina3221(board.files))
    assert meter.scope == "power rails POM_5V_IN"
    begin = time.perf_counter()
    meter.start()
    time.sleep(0.25)
    joules = meter.stop()
    most = time.perf_counter() - begin
    assert isinstance(joules, float)
    assert 3.245 * 0.24 < joules <= 3.245 * most


def test_the_whole_orin(make_board: Make):
    board = make_board("orin")
    meter = meter_of(find_ina3221(board.files))
    assert meter.scope == "power rails VDD_IN"
    meter.start()
    time.sleep(0.02)
    joules = meter.stop()
    assert isinstance(joules, float)
    assert joules > 4.984 * 0.019


def test_a_module_without_a_whole_rail(make_board: Make):
    board = make_board("orin")
    for channel, label in enumerate(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), 1):
        board.write(f"{ORIN_INA}/in{channel}_label", label)
        board.write(f"{ORIN_INA}/in{channel}_input", 5000)
        board.write(f"{ORIN_INA}/curr{channel}_input", 1000)
    meter = meter_of(find_ina3221(board.files))
    assert meter.scope == "power rails VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    meter.start()
    time.sleep(0.02)
    joules = meter.stop()
    assert isinstance(joules, float)
    assert joules > 15.0 * 0.019
    board.write(f"{ORIN_INA}/in3_label", "NC")
    found = find_ina3221(board.files)
    assert isinstance(found, NoSensor)
    assert found.reason.endswith("VDD_GPU_SOC, VDD_CPU_CV, NC")


@pytest.mark.parametrize(
    ("name", "path"), [("nano", f"{NANO_INA}/in_power0_input"), ("orin", f"{ORIN_INA}/curr1_input")]
)
def test_an_ina3221_that_fails(make_board: Make, name: str, path: str):
    board = make_board(name)
    meter = meter_of(find_ina3221(board.files))
    meter.start()
    board.remove(path)
    assert meter.stop() == NoSensor(f"there is no /{path}", present=True)
    assert isinstance(find_ina3221(board.files), NoSensor)
    board.write(path, "0")
    meter.start()
    stopped = meter.stop()
    assert isinstance(stopped, NoSensor)
    assert "shows no power" in stopped.reason
    board.write(path, "??")
    meter.start()
    stopped = meter.stop()
    assert isinstance(stopped, NoSensor)
    assert "'??'" in stopped.reason


def test_the_rails_of_a_pi_5():
    rails = rails_w(PMIC_TEXT)
    assert not isinstance(rails, NoSensor)
    assert rails.keys() == {"3V7_WL_SW", "3V3_SYS", "VDD_CORE"}  # the input tells volts only
    assert sum(rails.values()) == pytest.approx(PMIC_W)
    meter = meter_of(find_pmic(Vcgencmd(Firmware(pmic_read_adc=PMIC_TEXT))))
    meter.start()
    time.sleep(0.03)
    joules = meter.stop()
    assert isinstance(joules, float)
    assert joules > PMIC_W * 0.029


@given(st.text() | st.lists(st.sampled_from([*PMIC_TEXT.splitlines(), "?"])).map("\n".join))
def test_any_text_gives_rails_or_a_reason(text: str):
    rails = rails_w(text)
    assert isinstance(rails, NoSensor) or all(value >= 0 for value in rails.values())


@given(st.integers(0, len(PMIC_TEXT.strip())))
def test_a_text_cut_short_is_not_less_power(length: int):
    rails = rails_w(PMIC_TEXT.strip()[:length])
    if not isinstance(rails, NoSensor):
        assert sum(rails.values()) == pytest.approx(PMIC_W)


def test_a_pi_4_has_no_currents():
    found = find_pmic(Vcgencmd(Firmware(get_throttled="throttled=0x0")))
    assert isinstance(found, NoSensor)
    assert not found.present


def test_a_pmic_that_hangs_in_the_middle():
    firmware = Firmware(pmic_read_adc=PMIC_TEXT)
    meter = meter_of(find_pmic(Vcgencmd(firmware)))
    meter.start()
    firmware.answers["pmic_read_adc"] = hang()
    for _ in range(2):
        stopped = meter.stop()
        assert isinstance(stopped, NoSensor)
        assert "did not answer" in stopped.reason
        meter.start()
    assert isinstance(meter.stop(), NoSensor)


def test_the_trapezoid_rule():
    seconds, watts = iter([0.0, 0.0, 2.0, 2.0]), iter([1.0, 3.0])
    meter = PowerMeter("a rail", 1000.0, lambda: next(watts), clock=lambda: next(seconds))
    meter.start()
    assert meter.stop() == 4.0


def test_a_thread_lives_between_start_and_stop_only():
    looks: list[float] = []

    def watts() -> float:
        looks.append(time.perf_counter())
        return 2.0

    before = threading.active_count()
    meter = PowerMeter("a rail", 0.01, watts)
    assert threading.active_count() == before
    meter.start()
    assert threading.active_count() == before + 1
    deadline = time.monotonic() + 5.0
    while len(looks) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    joules = meter.stop()
    assert threading.active_count() == before
    assert len(looks) >= 6
    assert joules == pytest.approx(2.0 * (looks[-1] - looks[0]), abs=0.02)


def test_a_second_start_begins_anew():
    watts = iter([100.0, 2.0, 2.0])
    seconds = iter([0.0, 0.0, 9.0, 9.0, 10.0, 10.0])
    before = threading.active_count()
    meter = PowerMeter("a rail", 1000.0, lambda: next(watts), clock=lambda: next(seconds))
    meter.start()
    meter.start()
    assert threading.active_count() == before + 1
    assert meter.stop() == 2.0
    assert meter.stop() == NoSensor("the meter was not started")


def test_a_sensor_that_raises_or_vanishes_in_the_middle():
    values: list[float | NoSensor | Exception] = [1.0, NoSensor("gone", present=True), 1.0]

    def watts() -> float | NoSensor:
        value = values.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    meter = PowerMeter("a rail", 0.005, watts)
    meter.start()
    deadline = time.monotonic() + 5.0
    while len(values) > 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert meter.stop() == NoSensor("gone", present=True)
    assert values == [1.0]  # it was not looked at again
    values[:] = [RuntimeError("broken")]
    meter.start()
    stopped = meter.stop()
    assert isinstance(stopped, NoSensor)
    assert "broken" in stopped.reason


def test_a_sensor_that_hangs_does_not_keep_the_benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shiftedge.benchmarks.sensors.sampling.JOIN_S", 0.05)
    wake, hung = threading.Event(), threading.Event()

    def watts() -> float:
        if threading.current_thread() is not threading.main_thread():
            hung.set()
            wake.wait(10.0)
        return 1.0

    meter = PowerMeter("a rail", 0.001, watts)
    meter.start()
    assert hung.wait(5.0)
    assert meter.stop() == NoSensor("the sensor hangs", present=True)
    meter.start()
    assert meter.stop() == NoSensor("the sensor hangs", present=True)
    wake.set()
    for thread in threading.enumerate():
        if thread.name == "energy-meter":
            thread.join(5.0)
    monkeypatch.setattr("shiftedge.benchmarks.sensors.sampling.JOIN_S", 5.0)
    meter.start()
    assert isinstance(meter.stop(), float)


def test_a_meter_takes_a_long_turn_with_several_wraps(make_board: Make):
    board = make_board("laptop", {f"{RAPL}/intel-rapl:0/max_energy_range_uj": "99"})
    board.write(ENERGY, 90)
    meter = find_rapl(board.files)
    assert isinstance(meter, RaplMeter)
    meter.start()
    for value in (40, 95, 10):  # +50, +55, +15
        board.write(ENERGY, value)
        assert meter._look() is None
    assert meter.stop() == pytest.approx(120e-6)
