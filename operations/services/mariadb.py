"""MariaDB, of the system's packages."""

from pathlib import Path

from operations.services.packaged import PackagedServer, find_program
from operations.services.ports import LOOPBACK
from operations.services.service import Setting

PACKAGES = "mariadb-server mariadb-client"
# Run at each start; the second line is for clients of other machines, where it listens for those.
INIT = """CREATE DATABASE IF NOT EXISTS tinytags CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS tinytags@'%', tinytags@localhost;
GRANT ALL ON *.* TO tinytags@'%';
GRANT ALL ON *.* TO tinytags@localhost;
"""


class MariaDb(PackagedServer):
    """One MariaDB server."""

    name = "mariadb"
    settings = (Setting("MARIADB_PORT", 3306, "MariaDB"),)
    package_user = "mysql"

    def __init__(self, directory: Path | str, port: int = 3306, host: str = LOOPBACK) -> None:
        super().__init__(directory, port, host)
        self.url = f"mariadb://tinytags@{host}:{port}/tinytags"

    def prepare(self, java: str, jars: Path) -> None:
        server, install = find_program("mariadbd", PACKAGES), find_program("mariadb-install-db", PACKAGES)
        command = [install, "--no-defaults", f"--datadir={self._data}", "--skip-test-db"]
        self.make_data([*command, "--auth-root-authentication-method=normal"])
        init = self.directory / "init.sql"
        init.write_text(INIT)
        self._server.main = [
            server, "--no-defaults", f"--datadir={self._data}", f"--init-file={init}",
            # Relative to the data: the path of a socket has 107 characters at most.
            "--socket=mariadb.sock", f"--port={self._port}", f"--bind-address={self._host}",
        ]  # fmt: skip

    def ping(self) -> list[str]:
        command = [find_program("mariadb-admin", PACKAGES), "--no-defaults", "-u", "tinytags"]
        return [
            *command,
            "--protocol=tcp",
            "-h",
            self._host,
            "-P",
            str(self._port),
            "--connect-timeout=5",
            "ping",
        ]
