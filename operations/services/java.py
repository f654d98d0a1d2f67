"""The servers' jars from Maven Central, and how their Java is started."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from conf.command import note
from conf.errors import TinyTagsError
from conf.java import MissingToolError
from operations.services.process import failure_line, locked

INSTALL_MAVEN = "sudo apt-get install --no-install-recommends maven"
JVM_OPTIONS = [
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Duser.timezone=UTC",
    "-XX:+ExitOnOutOfMemoryError",
]
# Half the memory and a faster start; on small machines as fast at moving bytes.
LIGHT_JVM_OPTIONS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def jars_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the jars, which all clones of the project share: TINYTAGS_JARS_DIR, else in the user's cache."""
    if environ.get("TINYTAGS_JARS_DIR"):
        return Path(environ["TINYTAGS_JARS_DIR"]).absolute()
    cache = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "tinytags" / "jars"


def jars_folder(pom: Path, profile: str | None = None, directory: Path | None = None) -> Path:
    """Return the folder for the jars of a Maven project file and its profile; it exists once they are fetched."""
    name = profile or pom.parent.name
    return (directory or jars_directory()) / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def class_archive(java: str, jars: Path) -> Path:
    """Return where an archive of the classes that this Java loads from these jars is, if `services.class_archive` made one."""
    release = Path(java).resolve().parent.parent / "release"
    key = hashlib.sha256(release.read_bytes() if release.exists() else b"").hexdigest()[:12]
    return jars.with_name(f"{jars.name}-{key}.jsa")


def archive_options(java: str, jars: Path) -> list[str]:
    """Return the options of a JVM that uses the archive; none where there is no archive."""
    path = class_archive(java, jars)
    # Java checks that it belongs to it and to these jars, and would warn where not.
    return [f"-XX:SharedArchiveFile={path}", "-Xshare:auto", "-Xlog:cds*=off"] if path.exists() else []


def fetch_jars(pom: Path, profile: str | None = None, directory: Path | None = None) -> Path:
    """Return the folder with the jars of a Maven project file and its profile; fetched once for each content of the file.

    A folder under its final name is complete: Maven copies into a temporary one, which is then renamed.
    """
    jars = jars_folder(pom, profile, directory)
    directory, name = jars.parent, profile or pom.parent.name
    if jars.is_dir():
        return jars
    if not shutil.which("mvn"):
        reason = f"no mvn on the PATH, and the jars of {name} are not in {directory} yet"
        raise MissingToolError(reason, INSTALL_MAVEN)
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
            # Offline first: 3 s when Maven has them all, and 2 s lost when it has not.
            if subprocess.run([*command, "-o"], capture_output=True).returncode:
                note(f"fetching the jars of {name} from Maven Central (once, about a minute)")
                maven = subprocess.run(command, capture_output=True, text=True)
                if maven.returncode:
                    # The first error; advice follows. No ^ in the pattern: Maven puts colour codes before it.
                    errors = re.findall(r"\[ERROR\] (.+)", maven.stdout + maven.stderr)
                    reason = errors[0].split(" -> [Help")[0] if errors else failure_line(maven.stderr)
                    raise TinyTagsError(f"Maven could not fetch the jars of {name}: {reason}")
            os.rename(f"{temporary}/jars", jars)
    return jars
