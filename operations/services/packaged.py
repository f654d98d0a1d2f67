"""Servers of the system's packages: where their programs are, and the user that they run as."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from conf.errors import TinyTagsError
from operations.services.java import MissingToolError
from operations.services.process import failure_line


def find_program(name: str, package: str, folders: Sequence[Path] = ()) -> str:
    """Return the path of a program, which may be in ``folders`` or on the PATH; raises `MissingToolError`."""
    # Debian has servers in /usr/sbin, which isn't on every user's PATH.
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin"])
    if found := shutil.which(name, path=path):
        return found
    fix = f"sudo apt-get install --no-install-recommends {package}"
    raise MissingToolError(f"no {name}, which is in the package {package}", fix)


def server_user(package_user: str) -> str | None:
    """Return the user of a package's server where root starts it, which these servers refuse to run as; else None."""
    return package_user if os.geteuid() == 0 else None


def make_data(data: Path, user: str | None, command: Sequence[str], service: str) -> None:
    """Let a command fill a server's new data folder, as the user of the server."""
    data.mkdir(parents=True)
    if user:
        shutil.chown(data, user, user)
    done = subprocess.run(
        command,
        cwd=data,
        capture_output=True,
        text=True,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    if done.returncode:
        shutil.rmtree(data)
        raise TinyTagsError(
            f"{service}: its data can't be created in {data}: {failure_line(done.stderr + done.stdout)}"
        )
