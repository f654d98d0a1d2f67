"""PostgreSQL, of the system's packages."""

import signal
from pathlib import Path

from operations.services.packaged import PackagedServer, find_program
from operations.services.ports import LOOPBACK
from operations.services.service import Setting


class PostgreSql(PackagedServer):
    """One PostgreSQL server."""

    name = "postgresql"
    settings = (Setting("POSTGRESQL_PORT", 5432, "PostgreSQL"),)
    package_user = "postgres"
    stop_signal = signal.SIGINT  # without waiting for clients to leave

    def __init__(self, directory: Path | str, port: int = 5432, host: str = LOOPBACK) -> None:
        super().__init__(directory, port, host)
        self.url = f"postgresql://tinytags@{host}:{port}/postgres"

    def prepare(self, java: str, jars: Path) -> None:
        command = [_program("initdb"), "-D", str(self._data), "-U", "tinytags", "-A", "trust", "--no-sync"]
        # Compared byte by byte, in UTF-8, whatever the locale is.
        self.make_data([*command, "-E", "UTF8", "--no-locale"])
        self._server.main = [
            _program("postgres"), "-D", str(self._data), "-p", str(self._port),
            "-c", f"listen_addresses={self._host}", "-c", "unix_socket_directories=",
        ]  # fmt: skip

    def ping(self) -> list[str]:
        return [_program("pg_isready"), "-q", "-U", "tinytags", "-h", self._host, "-p", str(self._port)]


def _program(name: str) -> str:
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    newest_first = sorted(versions, key=lambda path: -int(path.parent.name))
    return find_program(name, "postgresql", newest_first)
