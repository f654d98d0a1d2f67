"""Java, and the jars that the servers are made of, from Maven Central."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from conf.command import note
from conf.errors import TinyTagsError
from operations.services.process import locked, telling_line

JAVA_AT_LEAST = 17
INSTALL_JAVA = "sudo apt-get install --no-install-recommends default-jre-headless"
INSTALL_MAVEN = "sudo apt-get install --no-install-recommends maven"


def java_command(environ=os.environ) -> str:
    """The path of `java`: JAVA_HOME's, else the one on the PATH. Raises when there is none, or one older than 17."""
    home = environ.get("JAVA_HOME")
    path = f"{home}/bin/java" if home else shutil.which("java", path=environ.get("PATH", ""))
    if not path or not os.access(path, os.X_OK):
        where = f"JAVA_HOME {home!r} has no bin/java" if home else "no java on the PATH"
        raise TinyTagsError(f"{where}: the servers need Java {JAVA_AT_LEAST} or newer; {INSTALL_JAVA}")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60)
    version = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    if not version:
        raise TinyTagsError(f"{path} -version does not tell a version: {telling_line(said.stderr)!r}")
    if int(version[1]) < JAVA_AT_LEAST:
        raise TinyTagsError(
            f"{path} is Java {version[1]}: the servers need {JAVA_AT_LEAST} or newer; {INSTALL_JAVA}, or set JAVA_HOME"
        )
    return path


def jars_directory(environ=os.environ) -> Path:
    """Where jars are kept for every clone of the project: TINYTAGS_JARS_DIR, else in the user's cache."""
    if environ.get("TINYTAGS_JARS_DIR"):
        return Path(environ["TINYTAGS_JARS_DIR"]).absolute()
    cache = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "tinytags" / "jars"


def jars_folder(pom: Path, profile: str | None = None, directory: Path | None = None) -> Path:
    """The folder that has the jars of a Maven project file and its profile once they are fetched."""
    name = profile or pom.parent.name
    return (directory or jars_directory()) / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def fetch_jars(pom: Path, profile: str | None = None, directory: Path | None = None) -> Path:
    """The folder with the jars of a Maven project file and its profile; fetched once for each content of the file.

    A folder under its final name is complete: Maven copies into a temporary one, which is then renamed.
    """
    jars = jars_folder(pom, profile, directory)
    directory, name = jars.parent, profile or pom.parent.name
    if jars.is_dir():
        return jars
    if not shutil.which("mvn"):
        raise TinyTagsError(
            f"no mvn on the PATH, and the jars of {name} are not in {directory} yet; {INSTALL_MAVEN}"
        )
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / "lock"):
        if jars.is_dir():
            return jars
        for leftover in directory.glob("fetching-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix="fetching-", dir=directory, ignore_cleanup_errors=True
        ) as temporary:
            command = ["mvn", "-q", "-B", "-ntp", "-f", str(pom), "dependency:copy-dependencies"]
            command += ["-DincludeScope=runtime", f"-DoutputDirectory={temporary}/jars"]
            command += [f"-P{profile}"] if profile else []
            # Without the network first: 3 s when Maven has them all, and 2 s lost when it has not.
            if subprocess.run([*command, "-o"], capture_output=True).returncode:
                note(f"fetching the jars of {name} from Maven Central (once, about a minute)")
                maven = subprocess.run(command, capture_output=True, text=True)
                if maven.returncode:
                    # The first one; after it comes advice. No ^: Maven puts colour codes before it.
                    errors = re.findall(r"\[ERROR\] (.+)", maven.stdout + maven.stderr)
                    why = errors[0].split(" -> [Help")[0] if errors else telling_line(maven.stderr)
                    raise TinyTagsError(f"Maven could not fetch the jars of {name}: {why}")
            os.rename(f"{temporary}/jars", jars)
    return jars


JVM_OPTIONS = [
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Duser.timezone=UTC",
    "-XX:+ExitOnOutOfMemoryError",
]
