"""The Java of this machine: where it is, and whether it is new enough for Spark and the servers."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from conf.errors import TinyTagsError

MINIMUM_JAVA = 17
INSTALL_JAVA = "sudo apt-get install --no-install-recommends default-jre-headless"


class MissingToolError(TinyTagsError):
    """Java or Maven is missing or too old; ``reason`` says which, ``fix`` is what installs it."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}; {fix}")
        self.reason, self.fix = reason, fix


def java_command(environ: Mapping[str, str] = os.environ, what: str = "the servers need") -> str:
    """Return the path of `java`: JAVA_HOME's, else the one on the PATH; raises `MissingToolError` without a Java >= 17.

    ``what`` needs it: the beginning of a sentence. Raises `TinyTagsError` for a program that prints no version.
    """
    home = environ.get("JAVA_HOME")
    path = f"{home}/bin/java" if home else shutil.which("java", path=environ.get("PATH", ""))
    needed = f"{what} Java {MINIMUM_JAVA} or newer"
    if not path or not os.access(path, os.X_OK):
        where = f"JAVA_HOME {home!r} has no bin/java" if home else "no java on the PATH"
        raise MissingToolError(f"{where}: {needed}", INSTALL_JAVA)
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TinyTagsError(f"{path} -version does not run: {error}") from None
    output = done.stderr + done.stdout
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if not version:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "no output")
        raise TinyTagsError(f"{path} -version prints no version: {last!r}")
    if int(version[1]) < MINIMUM_JAVA:
        raise MissingToolError(f"{path} is Java {version[1]}: {needed}", f"{INSTALL_JAVA}, or set JAVA_HOME")
    return path
