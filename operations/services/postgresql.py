"""PostgreSQL, of the system's packages."""

import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from operations.services.java import MissingToolError
from operations.services.packaged import find_program, make_data, server_user
from operations.services.ports import LOOPBACK
from operations.services.service import Daemon, Service, Setting


class PostgreSql(Service):
    """One PostgreSQL server, which trusts everybody who reaches it."""

    name = "postgresql"
    pom = None
    optional = True
    settings = (Setting("POSTGRESQL_PORT", 5432, "PostgreSQL"),)

    def __init__(self, directory: Path | str, port: int = 5432, host: str = LOOPBACK) -> None:
        super().__init__(directory)
        self.url = f"postgresql://tinytags@{host}:{port}/postgres"
        self._data, self._host, self._port = self.directory / "data", host, port
        self._server = Daemon(
            "postgresql", [], [port], self._data, self.logs, "", self._is_ready, host=host,
            user=server_user("postgres"),
            stop_signal=signal.SIGINT,  # without waiting for clients to leave
        )  # fmt: skip
        self.daemons = [self._server]

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        return cls(directory, values["POSTGRESQL_PORT"], values["SERVICES_HOST"])

    def prepare(self, java: str, jars: Path) -> None:
        initdb = [_program("initdb"), "-D", str(self._data), "-U", "tinytags", "-A", "trust"]
        if not self._data.exists():
            # Compared byte by byte, in UTF-8, whatever the locale is.
            make_data(
                self._data, self._server.user, [*initdb, "--no-sync", "-E", "UTF8", "--no-locale"], self.name
            )
        self._server.main = [
            _program("postgres"), "-D", str(self._data), "-p", str(self._port),
            "-c", f"listen_addresses={self._host}", "-c", "unix_socket_directories=",
        ]  # fmt: skip

    def _is_ready(self) -> bool:
        try:
            command = [
                _program("pg_isready"),
                "-q",
                "-U",
                "tinytags",
                "-h",
                self._host,
                "-p",
                str(self._port),
            ]
        except MissingToolError:
            return False
        return subprocess.run(command).returncode == 0


def _program(name: str) -> str:
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    newest_first = sorted(versions, key=lambda path: -int(path.parent.name))
    return find_program(name, "postgresql", newest_first)
