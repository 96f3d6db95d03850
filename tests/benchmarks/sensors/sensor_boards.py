"""Boards as folders, built from the documented formats of their files; and a vcgencmd."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftedge.benchmarks.sensors.base import Files

CPU = "sys/devices/system/cpu"
ZONE = "sys/class/thermal/thermal_zone"
RAPL = "sys/class/powercap"
NANO_INA = "sys/bus/iio/devices/iio:device0"
ORIN_INA = "sys/class/hwmon/hwmon1"
PMIC_TEXT = """
     3V7_WL_SW_A current(0)=0.10000000A
       3V3_SYS_A current(1)=0.07061870A
      VDD_CORE_A current(7)=1.50000000A
     3V7_WL_SW_V volt(8)=3.70000000V
       3V3_SYS_V volt(9)=3.31481200V
      VDD_CORE_V volt(15)=0.80000000V
         EXT5V_V volt(24)=5.15550000V
          BATT_V volt(25)=0.00000000V
"""
PMIC_W = 0.1 * 3.7 + 0.0706187 * 3.314812 + 1.5 * 0.8


def cpufreq(khz: list[int], governor: str) -> dict[str, str]:
    """Files of cores."""
    files = {}
    for core, value in enumerate(khz):
        files[f"{CPU}/cpu{core}/cpufreq/scaling_cur_freq"] = f"{value}\n"
        files[f"{CPU}/cpu{core}/cpufreq/scaling_governor"] = f"{governor}\n"
    return files


def zones(*types: tuple[str, str]) -> dict[str, str]:
    """Files of thermal zones: type and temp."""
    files = {}
    for index, (kind, temperature) in enumerate(types):
        files[f"{ZONE}{index}/type"] = f"{kind}\n"
        files[f"{ZONE}{index}/temp"] = f"{temperature}\n"
    return files


BOARDS: dict[str, dict[str, str]] = {
    "nano": {
        **cpufreq([1479000, 1479000, 1479000, 1479000], "schedutil"),
        **zones(
            ("AO-therm", "45000"),
            ("CPU-therm", "38500"),
            ("GPU-therm", "36000"),
            ("PLL-therm", "37000"),
            ("PMIC-Die", "100000"),
            ("thermal-fan-est", "37500"),
        ),
        "sys/class/devfreq/57000000.gpu/cur_freq": "921600000\n",
        "proc/device-tree/compatible": "nvidia,p3449-0000-b00\0nvidia,jetson-nano\0nvidia,tegra210",
        **{f"{NANO_INA}/rail_name_{n}": t for n, t in enumerate(("POM_5V_IN", "POM_5V_GPU"))},
        f"{NANO_INA}/in_power0_input": "3245\n",
        f"{NANO_INA}/in_power1_input": "281\n",
    },
    "orin": {
        **cpufreq([729600, 1510400], "schedutil"),
        **zones(("cpu-thermal", "48312"), ("gpu-thermal", "51000"), ("cv0-thermal", "-256000")),
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0",
        f"{ORIN_INA}/name": "ina3221\n",
        f"{ORIN_INA}/in1_label": "VDD_IN\n",
        f"{ORIN_INA}/in1_input": "4984\n",
        f"{ORIN_INA}/curr1_input": "1000\n",
        f"{ORIN_INA}/in2_label": "VDD_CPU_GPU_CV\n",
        f"{ORIN_INA}/in2_input": "4984\n",
        f"{ORIN_INA}/curr2_input": "200\n",
        f"{ORIN_INA}/in7_label": "sum of shunt voltages\n",
        "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
        **{
            f"sys/class/hwmon/hwmon3/oc{n}_event_cnt": f"{c}\n" for n, c in ((1, 0), (2, 0), (3, 4))
        },
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "2\n",
        "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
        "sys/class/thermal/cooling_device1/cur_state": "0\n",
    },
    "pi4": {**cpufreq([1500000] * 4, "ondemand"), **zones(("cpu-thermal", "52582"))},
    "pi5": {**cpufreq([2400000] * 4, "ondemand"), **zones(("cpu-thermal", "49950"))},
    "laptop": {
        **cpufreq([3400123, 800000], "powersave"),
        **zones(("acpitz", "27800"), ("INT3400 Thermal", "20000"), ("x86_pkg_temp", "61000")),
        f"{RAPL}/intel-rapl:0/name": "package-0\n",
        f"{RAPL}/intel-rapl:0/energy_uj": "1000000\n",
        f"{RAPL}/intel-rapl:0/max_energy_range_uj": "262143328850\n",
        f"{RAPL}/intel-rapl:0:0/name": "core\n",
        f"{RAPL}/intel-rapl:0:0/energy_uj": "400000\n",
        f"{RAPL}/intel-rapl:1/name": "psys\n",
        f"{RAPL}/intel-rapl:1/energy_uj": "9\n",
        f"{RAPL}/intel-rapl-mmio:0/name": "package-0\n",
        f"{RAPL}/intel-rapl-mmio:0/energy_uj": "1000000\n",
        **{f"{CPU}/cpu{n}/thermal_throttle/core_throttle_count": f"{n}\n" for n in (0, 1)},
        **{f"{CPU}/cpu{n}/thermal_throttle/package_throttle_count": "7\n" for n in (0, 1)},
    },
    "vm": {"proc/cpuinfo": "model name : Virtual\n"},
}


class Board:
    """A folder of files that can change."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root
        self.files = Files(root)
        for path, text in files.items():
            self.write(path, text)

    def write(self, path: str, text: str | int) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}")

    def remove(self, path: str) -> None:
        (self.root / path).unlink()


class Firmware:
    """A ``subprocess.run`` of vcgencmd: answers by question; without answers it is missing."""

    def __init__(self, **answers: str | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.code = 0
        self.stderr = ""

    def __call__(self, words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert words[0] == "vcgencmd"
        assert 0 < options["timeout"] <= 5
        assert options["text"]
        assert options["capture_output"]
        self.asked.append(words[1])
        if not self.answers:
            raise FileNotFoundError(2, "No such file or directory", "vcgencmd")
        answer = self.answers.get(words[1], 'error=1 error_msg="Command not registered"\n')
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(words, self.code, answer, self.stderr)


def hang(words: str = "vcgencmd") -> subprocess.TimeoutExpired:
    """What ``subprocess.run`` raises after its timeout."""
    return subprocess.TimeoutExpired(words, 2.0)
