"""A board behind the loopback interface: a genuine sshd of this machine, with what it is given."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Sshd", "running"]

SSHD = "/usr/sbin/sshd"
WAIT_S = 30


@dataclass(frozen=True)
class Sshd:
    """A server that runs."""

    port: int
    folder: Path

    @property
    def words(self) -> list[str]:
        """Options of ``shiftedge deploy`` that reach it, whatever this user's configuration is."""
        known = self.folder / "known_hosts"
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": f'"{known}"',
            "GlobalKnownHostsFile": "none",
            "IdentitiesOnly": "yes",
            "ProxyJump": "none",
        }
        words = ["--port", str(self.port), "--identity", str(self.folder / "key")]
        for name, value in options.items():
            words += ["--ssh-option", f"{name}={value}"]
        return words

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


def _key(path: Path) -> None:
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(line, check=True, timeout=WAIT_S)


def _why_not() -> str:
    for program in (SSHD, "ssh", "scp", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"There is no {program}: run  apt-get install openssh-server openssh-client"
    if os.geteuid() == 0:
        try:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own wish
        except OSError as error:
            return f"sshd needs the folder /run/sshd: {error.strerror}"
    return ""


@contextlib.contextmanager
def running(folder: Path, environment: Mapping[str, str]) -> Iterator[Sshd | str]:
    """A server on a free port of 127.0.0.1, in an empty folder; or why there can be none.

    Args:
        folder: for its keys and its log.
        environment: what the programs that it starts find set.
    """
    if why := _why_not():
        yield why
        return
    for name in ("host", "key"):
        _key(folder / name)
    (folder / "authorized_keys").write_bytes((folder / "key.pub").read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host_key = (folder / "host.pub").read_text().strip()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    variables = " ".join(f'"{name}={value}"' for name, value in environment.items())
    (folder / "config").write_text(
        f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey "{folder}/host"
AuthorizedKeysFile "{folder}/authorized_keys"
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
AllowUsers {getpass.getuser()}
Subsystem sftp internal-sftp
LogLevel VERBOSE
{f"SetEnv {variables}" if variables else ""}
"""
    )
    log = (folder / "log").open("wb")
    line = [SSHD, "-D", "-e", "-f", str(folder / "config")]
    server = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert server.stderr is not None
    try:
        # It says so when it listens; then its words go on into the log.
        said = b""
        while b"Server listening" not in said:
            text = server.stderr.readline()
            said += text
            if not text:
                yield f"sshd does not start here: {said.decode('utf-8', 'replace').strip()}"
                return
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=log)
        try:
            found = Sshd(port, folder)
            yield _refused(found) or found
        finally:
            server.terminate()
            server.wait(WAIT_S)
            drain.terminate()  # a session that is still open may hold the pipe
            drain.wait(WAIT_S)
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
        log.close()


def _refused(server: Sshd) -> str:
    """Why nobody can log in, such as an account that is locked."""
    words = iter(server.words)
    options: list[str] = []
    for word, value in zip(words, words, strict=True):
        name = {"--port": "-p", "--identity": "-i", "--ssh-option": "-o"}[word]
        options += [name, value]
    line = ["ssh", *options, "--", f"{getpass.getuser()}@127.0.0.1", "true"]
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    if done.returncode == 0:
        return ""
    return f"nobody can log in to sshd here ({shlex.join(line)}): {done.stderr.strip()}"
