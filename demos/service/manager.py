"""Asks systemd, by its own program."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from shiftedge.demos.service.unit import MARK, Service
from shiftedge.runtime.errors import OutputError, SettingError
from shiftedge.runtime.process.files import atomic_path

SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEM_RUNS = Path("/run/systemd/system")
"""There where systemd is what runs the machine: sd_booted(3)."""
LIMIT_S = 60.0
SHOWN = ("ActiveState", "SubState", "StatusText", "NRestarts", "MainPID", "ActiveEnterTimestamp")


class Manager:
    """That of the system, or of the user who asks."""

    def __init__(self, *, user: bool) -> None:
        self._user = user

    def place(self, name: str) -> Path:
        """Where a unit's file belongs."""
        if not self._user:
            return SYSTEM_UNITS / f"{name}.service"
        config = os.environ.get("XDG_CONFIG_HOME", "")
        home = Path(config) if os.path.isabs(config) else Path.home() / ".config"
        return home / "systemd" / "user" / f"{name}.service"

    def install(self, service: Service) -> Path:
        """Write the unit, have it start with the machine, or the session, and now.

        Raises:
            SettingError: systemd does not run here.
            OutputError: another's unit is there, it may not be written, or systemd refuses.
        """
        self._need()
        path = self.place(service.name)
        if path.exists():
            self._own(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_text(service.text())
                temporary.chmod(0o644)
        except PermissionError as error:
            raise OutputError(
                f"{path} may not be written: use sudo, or --user for a service of yours alone."
            ) from error
        self._ask("daemon-reload")
        self._ask("enable", path.name)
        # What runs already is to run as the new unit says.
        self._ask("restart", path.name)
        return path

    def uninstall(self, name: str) -> Path:
        """Stop the unit and remove its file.

        Raises:
            SettingError: systemd does not run here, or there is no such unit.
            OutputError: it is another's, may not be removed, or systemd refuses.
        """
        self._need()
        path = self.place(name)
        if not path.exists():
            raise SettingError(f"There is no service {name} ({path}); nothing was changed.")
        self._own(path)
        self._ask("disable", "--now", path.name)
        try:
            path.unlink()
        except PermissionError as error:
            raise OutputError(f"{path} may not be removed: use sudo.") from error
        self._ask("daemon-reload")
        return path

    def status(self, name: str) -> dict[str, str]:
        """What systemd says of it.

        Raises:
            SettingError: systemd does not run here, or there is no such unit.
        """
        self._need()
        if not self.place(name).exists():
            raise SettingError(f"There is no service {name} ({self.place(name)}).")
        told = self._ask("show", f"{name}.service", f"--property={','.join(SHOWN)}")
        found = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        return {key: found.get(key, "") for key in SHOWN}

    def _need(self) -> None:
        if shutil.which("systemctl") is None or not SYSTEM_RUNS.is_dir():
            raise SettingError(
                "systemd does not run this machine; `shiftedge service install --print` shows the "
                "unit, and `shiftedge run --service` is what another manager is to start."
            )

    def _own(self, path: Path) -> None:
        if not path.read_text("utf-8", "replace").startswith(MARK):
            raise OutputError(
                f"{path} was not written by `shiftedge service install`; it stays as it is. Choose "
                "another --name."
            )

    def _ask(self, *words: str) -> str:
        command = ["systemctl", *(["--user"] if self._user else []), *words]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=True
            )
        except subprocess.TimeoutExpired as error:
            raise OutputError(
                f"`{' '.join(command)}` took longer than {LIMIT_S:g} s; look at `systemctl status`."
            ) from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout).strip() or f"status {error.returncode}"
            raise OutputError(f"`{' '.join(command)}` failed: {said}") from error
        return done.stdout
