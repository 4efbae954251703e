"""An ssh server of the tests' own on loopback: own keys, own port, and whoever runs the tests as its only user."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
SSH = shutil.which("ssh")
KEYGEN = shutil.which("ssh-keygen")
SEPARATION_FOLDER = Path("/run/sshd")
START_SECONDS = 30.0

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
LogLevel ERROR
"""


def missing() -> str | None:
    """Why no server can be had here; None where it can."""
    if not (SSHD and SSH and KEYGEN):
        return "sshd, ssh or ssh-keygen is absent: install openssh-server and openssh-client"
    if not SEPARATION_FOLDER.is_dir() and os.geteuid() != 0:
        return f"{SEPARATION_FOLDER} is absent, which sshd needs"
    return None


class SshServer:
    """A running sshd.

    Args:
        folder: for its keys and its configuration; nothing else on this computer is read or written.

    Attributes:
        port: that it listens on.
    """

    def __init__(self, folder: Path) -> None:
        assert SSHD and KEYGEN
        self._folder = folder
        if os.geteuid() == 0:
            SEPARATION_FOLDER.mkdir(exist_ok=True)
        for name in ("host_key", "user_key"):
            command = [KEYGEN, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run(command, check=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        (folder / "sshd_config").write_text(CONFIGURATION.format(port=self.port, folder=folder))
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.PIPE)
        self._wait()

    def command(self, *remote: str, port: int | None = None) -> tuple[str, ...]:
        """The command line that runs `remote` behind this server.

        Args:
            port: another way to it.
        """
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "5",
        }
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        where = ["-F", "none", "-i", str(self._folder / "user_key"), "-p", str(port or self.port)]
        return (str(SSH), *where, *flags, f"{getpass.getuser()}@127.0.0.1", *remote)

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except ConnectionRefusedError:
                if self._process.poll() is not None:
                    raise AssertionError(f"sshd ended: {self._process.communicate()[1].decode()}") from None
                time.sleep(0.05)
        raise AssertionError(f"sshd does not listen after {START_SECONDS:.0f} s")
