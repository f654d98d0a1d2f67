"""Servers of the system's packages: one process each, which asks for no password."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from conf.errors import TinyTagsError
from conf.java import MissingToolError
from operations.services.ports import LOOPBACK
from operations.services.process import failure_line
from operations.services.service import Daemon, Service


class PackagedServer(Service):
    """The base of these services; the first of ``settings`` is the port."""

    pom = None
    optional = True
    # Whom its package runs it as.
    package_user: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path | str, port: int, host: str = LOOPBACK) -> None:
        super().__init__(directory)
        self._data, self._host, self._port = self.directory / "data", host, port
        # These servers refuse to run as root.
        self._user = self.package_user if os.geteuid() == 0 else None
        self._server = Daemon(
            self.name, [], [port], self._data, self.logs, "", self._is_ready, host=host, user=self._user,
            stop_signal=self.stop_signal,
        )  # fmt: skip
        self.daemons = [self._server]

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        return cls(directory, values[cls.settings[0].name], values["SERVICES_HOST"])

    def ping(self) -> list[str]:
        """Return the command that ends with 0 once the server answers."""
        raise NotImplementedError

    def _is_ready(self) -> bool:
        try:
            return subprocess.run(self.ping(), capture_output=True).returncode == 0
        except MissingToolError:
            return False

    def make_data(self, command: Sequence[str]) -> None:
        """Let a command fill the data folder, where there is none yet, as the user of the server."""
        if self._data.exists():
            return
        self._data.mkdir(parents=True)
        if self._user:
            shutil.chown(self._data, self._user, self._user)
        done = subprocess.run(
            command, cwd=self._data, capture_output=True, text=True, user=self._user, group=self._user,
            extra_groups=None if self._user is None else [],
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(self._data)
            reason = failure_line(done.stderr + done.stdout)
            raise TinyTagsError(f"{self.name}: its data can't be created in {self._data}: {reason}")


def find_program(name: str, package: str, folders: Sequence[Path] = ()) -> str:
    """Return the path of a program, which may be in ``folders`` or on the PATH; raises `MissingToolError`."""
    # Debian has servers in /usr/sbin, which isn't on every user's PATH.
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin"])
    if program := shutil.which(name, path=path):
        return program
    fix = f"sudo apt-get install --no-install-recommends {package}"
    raise MissingToolError(f"no {name}, which is in the package {package}", fix)
