"""What is asked of systemd, by a stand-in for its program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shiftedge.__main__ import main
from shiftedge.demos.service import manager as module
from shiftedge.demos.service.manager import Manager
from shiftedge.demos.service.unit import MARK, Service
from shiftedge.demos.settings import RunSettings
from shiftedge.runtime.errors import OutputError, SettingError

SYSTEMCTL = """#!/bin/sh
echo "$*" >> {asked}
case "$*" in
*show*) printf 'ActiveState=%s\\nSubState=running\\nStatusText=1 of 1\\nNRestarts=2\\n' {state} ;;
*{refused}*) echo "Unit is bad." >&2; exit 1 ;;
esac
"""


class Machine:
    """A folder with a systemctl, and what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.asked_file = folder, folder / "asked"
        self.asked_file.touch()
        self.answers()
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
        monkeypatch.setattr(module, "SYSTEM_RUNS", folder)
        monkeypatch.setattr(module, "SYSTEM_UNITS", folder)
        self.file = folder / "a.toml"
        self.file.write_text('[[source]]\nfrom = "0"\n')

    def answers(self, state: str = "active", refused: str = "nothing") -> None:
        program = self.folder / "systemctl"
        program.write_text(SYSTEMCTL.format(asked=self.asked_file, state=state, refused=refused))
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return self.asked_file.read_text().splitlines()

    def service(self) -> Service:
        return Service("hall", RunSettings(self.file), [], user=True)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_service_comes_and_goes(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    manager = Manager(user=True)
    path = manager.install(machine.service())
    assert path == machine.folder / "systemd" / "user" / "hall.service"
    assert path.read_text().startswith(MARK)
    assert machine.asked == [
        "--user daemon-reload",
        "--user enable hall.service",
        "--user restart hall.service",
    ]
    manager.install(machine.service())  # again, in its place
    assert main(["service", "status", "--user", "--name", "hall"]) == 0
    assert capsys.readouterr().out == ("hall: active (running), 1 of 1, started again 2 times\n")
    machine.answers("failed")
    assert main(["service", "status", "--user", "--name", "hall", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ActiveState"] == "failed"
    assert main(["service", "uninstall", "--user", "--name", "hall"]) == 0
    assert not path.exists()
    assert machine.asked[-2:] == ["--user disable --now hall.service", "--user daemon-reload"]


def test_the_system_is_asked_without_user(machine: Machine) -> None:
    path = Manager(user=False).install(machine.service())
    assert path == machine.folder / "hall.service"
    assert machine.asked[0] == "daemon-reload"


def test_systemd_refuses(machine: Machine) -> None:
    machine.answers(refused="enable")
    with pytest.raises(OutputError, match=r"enable hall.service` failed: Unit is bad"):
        Manager(user=True).install(machine.service())


def test_another_s_unit_stays(machine: Machine) -> None:
    path = machine.folder / "hall.service"
    path.write_text("[Service]\nExecStart=/bin/true\n")
    manager = Manager(user=False)
    with pytest.raises(OutputError, match="was not written by"):
        manager.install(machine.service())
    with pytest.raises(OutputError, match="was not written by"):
        manager.uninstall("hall")
    assert machine.asked == []


def test_there_is_none(machine: Machine) -> None:
    for ask in (Manager(user=True).uninstall, Manager(user=True).status):
        with pytest.raises(SettingError, match="There is no service hall"):
            ask("hall")


def test_no_systemd(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYSTEM_RUNS", machine.folder / "absent")
    with pytest.raises(SettingError, match="systemd does not run this machine"):
        Manager(user=True).status("hall")


def test_what_is_wrong_in_the_file_is_told_at_once(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.file.write_text('[[source]]\nfrom = "0"\n[[action]]\non = "Wave"\ncommand = ["true"]\n')
    assert main(["service", "install", str(machine.file), "--user"]) == 1
    assert "line 4: the model" in capsys.readouterr().err
    machine.file.write_text("[metrics]\n")
    assert main(["service", "install", str(machine.file), "--user"]) == 1
    assert "has no [[source]]" in capsys.readouterr().err
    assert machine.asked == []


def test_a_unit_to_be_looked_at(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install", str(machine.file), "--user", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(MARK)
    assert machine.asked == []
