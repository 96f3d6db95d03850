"""The unit that is written."""

from __future__ import annotations

import configparser
import grp
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shiftedge.demos.actions import sources_of
from shiftedge.demos.service.unit import MARK, Service, quoted
from shiftedge.demos.settings import RunSettings
from shiftedge.runtime.errors import SettingError

CAMERA = '[[source]]\nfrom = "0"\n'


def service(folder: Path, text: str = CAMERA, name: str = "a.toml", **how: object) -> Service:
    file = folder / name
    file.write_text(text)
    settings = RunSettings(file)
    return Service("hall", settings, sources_of(settings), **how)  # type: ignore[arg-type]


def keys(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_of_the_system(tmp_path: Path) -> None:
    text = service(tmp_path).text()
    assert text.startswith(MARK)
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.read_string(text)
    assert parser.sections() == ["Unit", "Service", "Install"]
    said = keys(text)
    assert said["Type"] == ["notify"]
    assert said["DynamicUser"] == ["yes"]
    assert "User" not in said
    assert said["WantedBy"] == ["multi-user.target"]
    assert said["DevicePolicy"] == ["closed"]
    assert "/dev/uinput rw" not in said["DeviceAllow"]
    (run,) = said["ExecStart"]
    assert shlex.split(run) == [
        *(sys.executable, "-m", "shiftedge", "run", "--service", "--live", "--actions"),
        str((tmp_path / "a.toml").resolve()),
    ]


def test_of_a_user(tmp_path: Path) -> None:
    said = keys(service(tmp_path, user=True).text())
    assert said["WantedBy"] == ["default.target"]
    assert said["NoNewPrivileges"] == ["yes"]
    # What takes root, systemd's manager of a user refuses.
    assert not {"DynamicUser", "User", "ProtectSystem", "CapabilityBoundingSet"} & set(said)


def test_as_somebody(tmp_path: Path) -> None:
    made = service(tmp_path, run_as="pi")
    said = keys(made.text())
    assert said["User"] == ["pi"]
    assert "DynamicUser" not in said
    assert made.unreadable() == []


def test_groups_are_those_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(*names: str) -> list[str]:
        every = [grp.struct_group((name, "x", 1, [])) for name in names]
        monkeypatch.setattr(grp, "getgrall", lambda: every)
        return keys(service(tmp_path).text()).get("SupplementaryGroups", [])

    assert groups("root", "input", "video") == ["video input"]
    assert groups("root") == []


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        (CAMERA, True),
        ('[[source]]\nfrom = "rtsp://camera/x"\n', True),
        ('[[source]]\nfrom = "rpicam:"\n', False),
        ('[[source]]\nfrom = "pipe:cat film.y4m"\n', False),
        ('[model]\ndevice = "cuda"\n' + CAMERA, False),
    ],
)
def test_devices(tmp_path: Path, text: str, devices: bool) -> None:
    assert ("DeviceAllow" in keys(service(tmp_path, text).text())) == devices


def test_keys_want_their_device(tmp_path: Path) -> None:
    text = CAMERA + '[[action]]\non = "*"\nkeys = "PageUp"\n'
    assert "/dev/uinput rw" in keys(service(tmp_path, text).text())["DeviceAllow"]


@pytest.mark.parametrize("name", ["", "a b", "../a", "a.service", "-x", "a" * 62, "a\n"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    made = service(tmp_path)
    with pytest.raises(SettingError, match="expected letters"):
        Service(name, made.settings, made.sources)


def test_a_file_that_its_own_user_may_not_read(tmp_path: Path) -> None:
    made = service(tmp_path)
    file = made.settings.path
    file.chmod(0o600)
    assert made.unreadable()[0] == file.resolve()
    secret = service(tmp_path, CAMERA + '[mqtt]\nbroker = "b"\npassword_file = "word"\n', "b.toml")
    (tmp_path / "word").write_text("x")
    (tmp_path / "word").chmod(0o600)
    assert tmp_path / "word" in secret.unreadable()


def test_a_control_code_in_a_name(tmp_path: Path) -> None:
    made = service(tmp_path, name="a\nExecStart=b.toml")
    with pytest.raises(SettingError, match="control code"):
        made.text()


def test_words_of_a_command() -> None:
    assert quoted("plain-word_1./x") == "plain-word_1./x"
    assert quoted('a "b" \\ %h $HOME') == '"a \\"b\\" \\\\ %%h $$HOME"'
    assert quoted("$HOME") == "$$HOME"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("user", [False, True])
def test_systemd_takes_it(tmp_path: Path, user: bool) -> None:
    text = CAMERA + '[[action]]\non = "*"\nkeys = "PageUp"\n'
    unit = tmp_path / "hall.service"
    unit.write_text(service(tmp_path, text, "a b% $x.toml", user=user).text())
    done = subprocess.run(
        ["systemd-analyze", "verify", *(["--user"] if user else []), str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr
