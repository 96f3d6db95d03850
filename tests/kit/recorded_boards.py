"""What some boards answer, for the tests of ``shiftedge.benchmarks.sensors``.

A board is its files (name below the root -> text, None for a folder) and what vcgencmd says. They
are kept here as text and laid out below a temporary folder by ``conftest.py``, because git on some
systems cannot hold names such as ``intel-rapl:0``.

None was recorded on a board of ours. Where the forms are from:

JETSON_NANO
    L4T 32 (JetPack 4). ``rail_name_*`` and ``in_power*_input`` in mW of the driver ina3221x, and
    the rails POM_5V_IN, POM_5V_GPU, POM_5V_CPU at 6-0040: NVIDIA's "Power Management for Jetson
    Nano Devices". Zones, with PMIC-Die at a constant 100 °C: as published outputs of
    ``paste thermal_zone*/type thermal_zone*/temp`` show. GPU 57000000.gpu: NVIDIA's device tree.
ORIN_NANO
    L4T 36 (JetPack 6). hwmon ina3221 at 1-0040 with VDD_IN, VDD_CPU_GPU_CV, VDD_SOC and the sum of
    shunt voltages: NVIDIA's Developer Guide and kernel docs, hwmon/ina3221.rst. soctherm_oc and its
    counters: the driver tegra23x-oc-event.c. Cooling devices and zones: device tree tegra234.
AGX_ORIN
    As ORIN_NANO, with that board's rails, none of which feeds the whole module.
PI_4, PI_5
    ``vcgencmd get_throttled``: Raspberry Pi documentation, computers/os.html. The answer to
    ``pmic_read_adc`` is one published in https://github.com/jfikar/RPi5-power, with other numbers
    for VDD_CORE_A; a Pi 4 says that the command is not registered, with status 255.
INTEL_LAPTOP
    powercap: kernel ABI sysfs-class-powercap; zones as on a machine with psys and the duplicate
    intel-rapl-mmio. thermal_throttle: kernel ABI sysfs-devices-system-cpu; two cores of two
    threads.
AMD_DESKTOP
    k10temp: kernel docs, hwmon/k10temp.rst.
VIRTUAL_MACHINE
    An AMD guest: no cpufreq, no zones, no powercap; the clock in /proc/cpuinfo is no reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "AGX_ORIN",
    "AMD_DESKTOP",
    "BOARDS",
    "INTEL_LAPTOP",
    "JETSON_NANO",
    "NOT_REGISTERED",
    "ORIN_NANO",
    "PI_4",
    "PI_5",
    "PMIC",
    "VIRTUAL_MACHINE",
    "Board",
]

NOT_REGISTERED = 'vc_gencmd_read_response returned -1\nerror=1 error_msg="Command not registered"\n'
PMIC = """\
 3V7_WL_SW_A current(0)=0.00000000A
   3V3_SYS_A current(1)=0.06245952A
   1V8_SYS_A current(2)=0.16102850A
  DDR_VDD2_A current(3)=0.00780744A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17566740A
    0V8_SW_A current(6)=0.32791250A
  VDD_CORE_A current(7)=1.87674000A
   3V3_DAC_A current(17)=0.00036630A
   3V3_ADC_A current(18)=0.00042735A
   0V8_AON_A current(16)=0.00579975A
      HDMI_A current(22)=0.01367520A
 3V7_WL_SW_V volt(8)=3.79999600V
   3V3_SYS_V volt(9)=3.30632200V
   1V8_SYS_V volt(10)=1.79828900V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.60476130V
   1V1_SYS_V volt(13)=1.10439400V
    0V8_SW_V volt(14)=0.80256330V
  VDD_CORE_V volt(15)=0.89745940V
   3V3_DAC_V volt(20)=3.30494200V
   3V3_ADC_V volt(21)=3.30219400V
   0V8_AON_V volt(19)=0.79736190V
      HDMI_V volt(23)=5.07056000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=3.01110800V
"""


@dataclass(frozen=True)
class Board:
    """``files``: name -> text. ``vcgencmd``: command -> answer; None where there is no vcgencmd."""

    files: dict[str, str]
    vcgencmd: dict[str, str] | None = None
    cores: tuple[int, ...] = (0, 1, 2, 3)
    expected: dict[str, object] = field(default_factory=dict)
    """Values of the sample; what is not named has no sensor."""
    meter: str | None = None
    watts: float | None = None


def cpufreq(cores: tuple[int, ...], khz: int, governor: str) -> dict[str, str]:
    found = {}
    for core in cores:
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        found[f"{folder}/scaling_cur_freq"] = f"{khz}\n"
        found[f"{folder}/scaling_governor"] = f"{governor}\n"
    return found


def zones(*pairs: tuple[str, int]) -> dict[str, str]:
    found = {}
    for index, (kind, millidegrees) in enumerate(pairs):
        found[f"sys/class/thermal/thermal_zone{index}/type"] = f"{kind}\n"
        found[f"sys/class/thermal/thermal_zone{index}/temp"] = f"{millidegrees}\n"
    return found


def hwmon_rails(folder: str, *rails: tuple[str, int, int]) -> dict[str, str]:
    found = {f"{folder}/name": "ina3221\n"}
    for index, (label, millivolts, milliamperes) in enumerate(rails, 1):
        found[f"{folder}/in{index}_label"] = f"{label}\n"
        found[f"{folder}/in{index}_input"] = f"{millivolts}\n"
        found[f"{folder}/curr{index}_input"] = f"{milliamperes}\n"
    found[f"{folder}/in7_label"] = "sum of shunt voltages\n"
    found[f"{folder}/in7_input"] = "1200\n"
    return found


def cooling(*pairs: tuple[str, int]) -> dict[str, str]:
    found = {}
    for index, (kind, state) in enumerate(pairs):
        found[f"sys/class/thermal/cooling_device{index}/type"] = f"{kind}\n"
        found[f"sys/class/thermal/cooling_device{index}/cur_state"] = f"{state}\n"
    return found


def clocks(mhz: float) -> dict[str, float]:
    return {"mean": mhz, "min": mhz, "max": mhz}


NANO_INA = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
ORIN_INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
ORIN_OC = "sys/class/hwmon/hwmon3"
RAPL = "sys/class/powercap/intel-rapl:0"

JETSON_NANO = Board(
    {
        **cpufreq((0, 1, 2, 3), 1479000, "schedutil"),
        **zones(
            ("AO-therm", 41500),
            ("CPU-therm", 34000),
            ("GPU-therm", 31000),
            ("PLL-therm", 31500),
            ("PMIC-Die", 100000),
            ("thermal-fan-est", 33000),
        ),
        **cooling(("thermal-cpufreq", 0), ("pwm-fan", 1)),
        "sys/class/devfreq/57000000.gpu/cur_freq": "921600000\n",
        f"{NANO_INA}/rail_name_0": "POM_5V_IN\n",
        f"{NANO_INA}/in_power0_input": "2875\n",
        f"{NANO_INA}/rail_name_1": "POM_5V_GPU\n",
        f"{NANO_INA}/in_power1_input": "165\n",
        f"{NANO_INA}/rail_name_2": "POM_5V_CPU\n",
        f"{NANO_INA}/in_power2_input": "1023\n",
    },
    expected={
        "cpu_mhz": clocks(1479.0),
        "governor": "schedutil",
        "gpu_mhz": 921.6,
        "temperature_c": 34.0,
        "hottest": {"zone": "AO-therm", "temperature_c": 41.5},
    },
    meter="INA3221: the whole board (POM_5V_IN)",
    watts=2.875,
)

ORIN_NANO = Board(
    {
        **cpufreq((0, 1, 2, 3, 4, 5), 1510400, "schedutil"),
        **zones(
            ("cpu-thermal", 52250),
            ("gpu-thermal", 51000),
            ("cv0-thermal", -256000),
            ("soc0-thermal", 50500),
            ("tj-thermal", 52250),
        ),
        **cooling(("pwm-fan", 1), ("cpu-throttle-alert", 0), ("gpu-throttle-alert", 1)),
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/15340000.vic/cur_freq": "729600000\n",
        **hwmon_rails(
            ORIN_INA,
            ("VDD_IN", 4984, 1856),
            ("VDD_CPU_GPU_CV", 4984, 480),
            ("VDD_SOC", 4976, 440),
        ),
        f"{ORIN_OC}/name": "soctherm_oc\n",
        f"{ORIN_OC}/oc1_event_cnt": "0\n",
        f"{ORIN_OC}/oc2_event_cnt": "15\n",
        f"{ORIN_OC}/oc3_event_cnt": "37\n",
    },
    cores=(0, 1, 2, 3, 4, 5),
    expected={
        "cpu_mhz": clocks(1510.4),
        "governor": "schedutil",
        "gpu_mhz": 306.0,
        "temperature_c": 52.25,
        "hottest": {"zone": "tj-thermal", "temperature_c": 52.25},
        "throttled": ["gpu throttled"],
        "throttle_events": {
            "under-voltage": 0,
            "average over-current": 15,
            "instantaneous over-current": 37,
        },
    },
    meter="INA3221: the whole board (VDD_IN)",
    watts=4.984 * 1.856,
)

AGX_ORIN = Board(
    hwmon_rails(
        ORIN_INA,
        ("VDD_GPU_SOC", 19752, 120),
        ("VDD_CPU_CV", 19760, 40),
        ("VIN_SYS_5V0", 5008, 808),
    )
)

PI_4 = Board(
    {**cpufreq((0, 1, 2, 3), 1500000, "ondemand"), **zones(("cpu-thermal", 62320))},
    vcgencmd={"get_throttled": "throttled=0x50005\n", "pmic_read_adc": NOT_REGISTERED},
    expected={
        "cpu_mhz": clocks(1500.0),
        "governor": "ondemand",
        "temperature_c": 62.32,
        "hottest": {"zone": "cpu-thermal", "temperature_c": 62.32},
        "throttled": [
            "under-voltage",
            "throttled",
            "under-voltage has occurred",
            "throttling has occurred",
        ],
    },
)

PI_5 = Board(
    {**cpufreq((0, 1, 2, 3), 2400000, "performance"), **zones(("cpu-thermal", 48950))},
    vcgencmd={"get_throttled": "throttled=0x0\n", "pmic_read_adc": PMIC},
    expected={
        "cpu_mhz": clocks(2400.0),
        "governor": "performance",
        "temperature_c": 48.95,
        "hottest": {"zone": "cpu-thermal", "temperature_c": 48.95},
        "throttled": [],
    },
    meter="PMIC: the board's rails, without USB and fan",
    watts=2.72276,
)

INTEL_LAPTOP = Board(
    {
        **cpufreq((0, 1), 800000, "powersave"),
        **cpufreq((2, 3), 3400000, "powersave"),
        **zones(("INT3400 Thermal", 20000), ("acpitz", 27800), ("x86_pkg_temp", 61000)),
        f"{RAPL}/name": "package-0\n",
        f"{RAPL}/energy_uj": "15000000\n",
        f"{RAPL}/max_energy_range_uj": "262143328850\n",
        f"{RAPL}:0/name": "core\n",
        f"{RAPL}:0/energy_uj": "9000000\n",
        f"{RAPL}:0/max_energy_range_uj": "262143328850\n",
        "sys/class/powercap/intel-rapl:1/name": "psys\n",
        "sys/class/powercap/intel-rapl:1/energy_uj": "99000000\n",
        "sys/class/powercap/intel-rapl:1/max_energy_range_uj": "262143328850\n",
        "sys/class/powercap/intel-rapl-mmio:0/name": "package-0\n",
        "sys/class/powercap/intel-rapl-mmio:0/energy_uj": "15000000\n",
        **{
            f"sys/devices/system/cpu/cpu{core}/{name}": text
            for core in range(4)
            for name, text in (
                ("topology/core_id", f"{core // 2}\n"),
                ("topology/physical_package_id", "0\n"),
                ("thermal_throttle/core_throttle_count", f"{3 + core // 2}\n"),
                ("thermal_throttle/package_throttle_count", "12\n"),
            )
        },
    },
    expected={
        "cpu_mhz": {"mean": 2100.0, "min": 800.0, "max": 3400.0},
        "governor": "powersave",
        "temperature_c": 61.0,
        "hottest": {"zone": "x86_pkg_temp", "temperature_c": 61.0},
        "throttle_events": {"core too hot": 7, "package too hot": 12},
    },
    meter="RAPL: CPU package",
)

AMD_DESKTOP = Board(
    {
        **cpufreq((0, 1, 2, 3), 3600000, "schedutil"),
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "38850\n",
        "sys/class/hwmon/hwmon2/name": "k10temp\n",
        "sys/class/hwmon/hwmon2/temp1_label": "Tctl\n",
        "sys/class/hwmon/hwmon2/temp1_input": "47875\n",
    },
    expected={
        "cpu_mhz": clocks(3600.0),
        "governor": "schedutil",
        "temperature_c": 47.875,
    },
)

VIRTUAL_MACHINE = Board({"proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2445.426\n"})

BOARDS = {
    "jetson-nano": JETSON_NANO,
    "orin-nano": ORIN_NANO,
    "agx-orin": AGX_ORIN,
    "pi-4": PI_4,
    "pi-5": PI_5,
    "intel-laptop": INTEL_LAPTOP,
    "amd-desktop": AMD_DESKTOP,
    "virtual-machine": VIRTUAL_MACHINE,
}
