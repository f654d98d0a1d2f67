"""MariaDB, of the system's packages."""

import subprocess
from pathlib import Path
from typing import Any, Self

from operations.services.java import MissingToolError
from operations.services.packaged import find_program, make_data, server_user
from operations.services.ports import LOOPBACK
from operations.services.service import Daemon, Service, Setting

PACKAGES = "mariadb-server mariadb-client"
# Run at each start; the second line is for clients of other machines, where it listens for those.
INIT = """CREATE DATABASE IF NOT EXISTS tinytags CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS tinytags@'%', tinytags@localhost;
GRANT ALL ON *.* TO tinytags@'%';
GRANT ALL ON *.* TO tinytags@localhost;
"""


class MariaDb(Service):
    """One MariaDB server, which asks for no password."""

    name = "mariadb"
    pom = None
    optional = True
    settings = (Setting("MARIADB_PORT", 3306, "MariaDB"),)

    def __init__(self, directory: Path | str, port: int = 3306, host: str = LOOPBACK) -> None:
        super().__init__(directory)
        self.url = f"mariadb://tinytags@{host}:{port}/tinytags"
        self._data, self._host, self._port = self.directory / "data", host, port
        user = server_user("mysql")
        self._server = Daemon(
            "mariadb", [], [port], self._data, self.logs, "", self._is_ready, host=host, user=user
        )
        self.daemons = [self._server]

    @classmethod
    def configured(cls, directory: Path, values: dict[str, Any], services: dict[str, Any]) -> Self:
        return cls(directory, values["MARIADB_PORT"], values["SERVICES_HOST"])

    def prepare(self, java: str, jars: Path) -> None:
        server, install = find_program("mariadbd", PACKAGES), find_program("mariadb-install-db", PACKAGES)
        if not self._data.exists():
            command = [install, "--no-defaults", f"--datadir={self._data}", "--skip-test-db"]
            command += ["--auth-root-authentication-method=normal"]
            make_data(self._data, self._server.user, command, self.name)
        init = self.directory / "init.sql"
        init.write_text(INIT)
        self._server.main = [
            server, "--no-defaults", f"--datadir={self._data}", f"--init-file={init}",
            # Relative to the data: the path of a socket has 107 characters at most.
            "--socket=mariadb.sock", f"--port={self._port}", f"--bind-address={self._host}",
        ]  # fmt: skip

    def _is_ready(self) -> bool:
        try:
            command = [find_program("mariadb-admin", PACKAGES), "--no-defaults", "-u", "tinytags"]
        except MissingToolError:
            return False
        command += ["--protocol=tcp", "-h", self._host, "-P", str(self._port), "--connect-timeout=5", "ping"]
        return subprocess.run(command, capture_output=True).returncode == 0
