"""Counting energy: integrals, counters that go round, sensors that fail meanwhile; programs."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.recorded_boards import INTEL_LAPTOP, ORIN_INA, ORIN_NANO, PI_5, PMIC, RAPL

from shiftedge.benchmarks.sensors import files as files_module
from shiftedge.benchmarks.sensors.energy import (
    EnergyMeter,
    counted,
    parse_pmic,
    power_integral,
    rapl_joules,
)
from shiftedge.benchmarks.sensors.files import (
    Files,
    MissingSensorError,
    SensorError,
    Vcgencmd,
    attempt,
    readable,
    run_program,
)
from shiftedge.benchmarks.sensors.gauges import BITS, parse_throttled

# Parsers


@given(st.integers(0, 2**32 - 1))
def test_every_bit_has_its_word(bits):
    words = parse_throttled(f"throttled={bits:#x}\n")
    assert len(words) == bits.bit_count()
    assert {words[0]} <= {*BITS.values(), *(f"bit {n}" for n in range(32))} if words else not bits
    assert parse_throttled(f"{bits:x}\n") == words


@given(st.text())
def test_whatever_get_throttled_says(text):
    found = attempt(lambda: parse_throttled(text))
    if isinstance(found, SensorError):
        assert "which is not throttled=0x0" in str(found)
        assert len(str(found)) < 800
    else:
        assert all(isinstance(word, str) for word in found)


@given(st.text() | st.text(st.sampled_from("AV3_SYS current()=0.1volt\n ")))
def test_whatever_the_pmic_says(text):
    found = attempt(lambda: parse_pmic(text))
    if isinstance(found, SensorError):
        assert str(found).startswith("pmic_read_adc ")
    else:
        assert found >= 0


def test_a_recorded_answer_of_the_pmic():
    assert parse_pmic(PMIC) == pytest.approx(2.72276, abs=1e-5)


rails = st.dictionaries(
    st.from_regex(r"[0-9A-Z]{2,5}(_[A-Z]{2,4})?", fullmatch=True),
    st.tuples(st.floats(0, 10), st.floats(0, 6)),
    min_size=1,
)


@given(rails, st.randoms())
def test_the_pmic_is_the_sum_over_its_rails(values, random):
    lines = [f"{rail}_A current({i})={a:.8f}A" for i, (rail, (a, _)) in enumerate(values.items())]
    lines += [f"  {rail}_V volt({i})={v:.8f}V" for i, (rail, (_, v)) in enumerate(values.items())]
    lines += ["EXT5V_V volt(24)=5.1V", "something new=1"]
    random.shuffle(lines)
    expected = sum(amperes * volts for amperes, volts in values.values())
    assert parse_pmic("\n".join(lines)) == pytest.approx(expected, abs=1e-6)


# Counters that go round


@given(st.data())
def test_a_counter_that_goes_round(data):
    highest = data.draw(st.integers(1, 2**48))
    before = data.draw(st.integers(0, highest))
    way = data.draw(st.integers(0, highest))
    after = (before + way) % (highest + 1)
    assert counted(before, after, highest) == way


@given(st.integers(0, 10**6), st.integers(10**6 + 1, 10**9))
def test_a_counter_beyond_its_range(inside, beyond):
    for before, after in ((inside, beyond), (beyond, inside), (inside, -beyond)):
        with pytest.raises(SensorError, match="not between 0 and 1000000"):
            counted(before, after, 10**6)


@pytest.fixture
def rapl(lay):
    """A counter of one package, with a clock to be set."""
    laid = lay(INTEL_LAPTOP)
    clock = {"s": 0.0}
    joules = rapl_joules(
        Files(laid.root), ["sys/class/powercap/intel-rapl:0"], clock=lambda: clock["s"]
    )

    def poll(seconds: float, energy_uj: int | str) -> float:
        clock["s"] = seconds
        laid.write(f"{RAPL}/energy_uj", f"{energy_uj}\n")
        return next(joules)

    return poll


def test_rapl_over_its_end(rapl):
    assert rapl(0.0, 262143328850 - 4_000_000) == 0.0
    assert rapl(1.0, 6_000_000 - 1) == pytest.approx(10.0)
    assert rapl(21.0, 206_000_000 - 1) == pytest.approx(210.0)


def test_rapl_that_someone_set_back(rapl):
    rapl(0.0, 90_000_000)
    with pytest.raises(SensorError, match=r"went from 90000000 to 0 in 1 s: it was set back"):
        rapl(1.0, 0)


def test_rapl_that_says_nonsense(rapl):
    rapl(0.0, 90_000_000)
    with pytest.raises(SensorError, match="not a number"):
        rapl(1.0, "lots")


def test_rapl_of_two_packages(lay):
    laid = lay(INTEL_LAPTOP)
    laid.write("sys/class/powercap/intel-rapl:1/name", "package-1\n")
    meter = laid.find().meter
    assert meter.scope == "2 CPU packages"

    def turn(seconds):
        laid.write(f"{RAPL}/energy_uj", "15300000\n")
        laid.write("sys/class/powercap/intel-rapl:1/energy_uj", "99200000\n")
        time.sleep(seconds)

    assert meter.measure(0.02, turn).joules == pytest.approx(0.5)


def test_rapl_that_stands_still_is_not_zero(lay):
    meter = lay(INTEL_LAPTOP).find().meter
    assert meter.measure(0.01, time.sleep).reason == "the sensor counted no energy"


# Power over time


@given(
    st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.0, 60.0)), min_size=1, max_size=20),
)
def test_the_integral_of_power(readings):
    """Against the same sum written down another way; a constant power gives power times time."""
    moments, now = [0.0], 0.0
    for wait, _ in readings:
        now += wait
        moments.append(now)
    watts = [7.0, *(power for _, power in readings)]
    ticks = iter([moment for moment in moments for _ in range(2)])
    powers = iter(watts)
    *_, joules = zip(
        moments, power_integral(lambda: next(powers), lambda: next(ticks)), strict=False
    )
    expected = sum(
        (moments[i + 1] - moments[i]) * (watts[i] + watts[i + 1]) / 2 for i in range(len(readings))
    )
    assert joules[1] == pytest.approx(expected)


def meter_of(watts, period_s=0.005) -> EnergyMeter:
    return EnergyMeter("fake", "nothing", period_s, lambda: power_integral(watts))


def test_a_constant_power_over_some_turns():
    turns = []
    meter = meter_of(lambda: 4.0, period_s=0.05)
    begin_s = time.monotonic()
    energy = meter.measure(0.3, lambda s: turns.append(s) or time.sleep(s))
    assert 0.95 * 4.0 * 0.3 <= energy.joules <= 4.0 * (time.monotonic() - begin_s)
    assert 1 <= len(turns) <= 7
    assert max(turns) <= 0.05


def test_what_is_measured_may_fail():
    def turn(seconds):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        meter_of(lambda: 1.0).measure(0.1, turn)


def test_a_sensor_that_vanishes_in_a_turn(lay):
    laid = lay(ORIN_NANO)
    meter = laid.find().meter
    energy = meter.measure(0.2, lambda seconds: laid.remove(f"{ORIN_INA}/curr1_input"))
    assert energy.joules is None
    assert energy.reason == f"/{ORIN_INA}/curr1_input is gone"
    laid.write(f"{ORIN_INA}/curr1_input", "1856\n")
    assert meter.measure(0.01, time.sleep).reason is None


def test_vcgencmd_that_hangs_in_a_turn(lay):
    laid = lay(PI_5)
    meter = laid.find().meter

    def turn(seconds):
        laid.answers["pmic_read_adc"] = subprocess.TimeoutExpired(["vcgencmd"], 2.0)

    assert meter.measure(5.0, turn).reason == (
        "vcgencmd pmic_read_adc gave no answer within 2 s; not asked again"
    )


def test_a_sensor_that_is_gone_when_it_starts():
    def gone():
        raise MissingSensorError
        yield

    assert EnergyMeter("fake", "nothing", 1.0, gone).measure(0.1, time.sleep).reason == "no sensor"


@pytest.mark.parametrize("watts", [0.0, -0.4, float("nan")])
def test_energy_that_was_not_measured_is_not_zero(watts):
    assert meter_of(lambda: watts).measure(0.02, time.sleep).joules is None


def test_nothing_to_read():
    with pytest.raises(MissingSensorError, match="no sensor"):
        readable([])


# Programs


def test_a_program():
    assert run_program([sys.executable, "-c", "print('temp=48.3')"]) == "temp=48.3\n"


def test_a_program_that_fails():
    program = "import sys; print('out'); sys.exit('why')"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_program([sys.executable, "-c", program])
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "why\n")


def test_a_program_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(files_module, "TIMEOUT_S", 0.2)
    begin_s = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        run_program([sys.executable, "-c", "import time; time.sleep(60)"])
    assert time.monotonic() - begin_s < 5.0


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_program([str(tmp_path / "vcgencmd")])


def test_a_vcgencmd_that_nobody_may_run_is_none(tmp_path, monkeypatch):
    (tmp_path / "vcgencmd").write_text("not executable")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingSensorError):
        Vcgencmd().ask("get_throttled")


def test_no_vcgencmd_is_looked_for_once():
    asked = []

    def run(command):
        asked.append(command)
        raise FileNotFoundError(2, "No such file", command[0])

    vcgencmd = Vcgencmd(run)
    for _ in range(3):
        with pytest.raises(MissingSensorError, match=r"^no sensor$"):
            vcgencmd.ask("get_throttled")
    assert asked == [("vcgencmd", "get_throttled")]
