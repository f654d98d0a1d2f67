"""What Spark needs of the environment that it is started in: checked before anything is written, and by `tinytags doctor`."""

import functools
import importlib.util
import os
import pwd
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from conf.command import note
from conf.errors import TinyTagsError
from conf.java import MissingToolError, java_command
from jobs.runner import runner_kind, under_spark_submit

_SHELL = "pyspark-shell"
# Others have a scheme: spark://, k8s://, those of plugins.
_MASTERS = re.compile(r"local(\[(\d+|\*)(\s*,\s*\d+)?\])?|local-cluster\[.*\]|yarn|\w[\w+.-]*://.+")
_YARN_FOLDERS = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")  # Spark reads both
# Where Java keeps temporary files; it does not read TMPDIR.
_TEMPORARY = "/tmp"
# The verb that said that Spark starts, until the session starts: so that it is said once, and again for the next session.
_announced: list[str] = []


class EnvironmentFaultError(TinyTagsError):
    """Spark can't start here: ``what`` is wrong, and ``fix`` is what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"Spark can't start: {what}; {fix}")
        self.what, self.fix = what, fix


def check_master(master: str) -> None:
    """Raise `EnvironmentFaultError` where what runs tasks on ``master`` can't start here. Takes no time for processes."""
    if not runner_kind(master).spark or under_spark_submit():
        return
    without = "or use --master processes, which needs no Spark and no Java"
    if importlib.util.find_spec("pyspark") is None:
        raise EnvironmentFaultError("it is not installed", f"pip install 'tinytags[spark]', {without}")
    if not _MASTERS.fullmatch(master):
        raise EnvironmentFaultError(
            f"master {master!r} is unknown",
            "write local[*], spark://HOST:7077, yarn, k8s://HOST:PORT or processes",
        )
    _check_java(os.environ.get("JAVA_HOME"), os.environ.get("PATH"), without)
    python = os.environ.get("PYSPARK_PYTHON")
    if python and shutil.which(python) is None:
        raise EnvironmentFaultError(f"PYSPARK_PYTHON {python!r} is no program", "unset PYSPARK_PYTHON")
    folders = [folder for name in _YARN_FOLDERS if (folder := os.environ.get(name))]
    if master == "yarn" and not any(Path(folder, "yarn-site.xml").is_file() for folder in folders):
        raise EnvironmentFaultError(
            f"there is no yarn-site.xml in {' or '.join(_YARN_FOLDERS)} ({', '.join(folders) or 'not set'})",
            "set HADOOP_CONF_DIR to its folder",
        )
    if not local_folders():
        raise EnvironmentFaultError(
            f"{_local_dirs()!r}, for Spark's own files, names no folder that this user may make or write into",
            "set SPARK_LOCAL_DIRS to one",
        )
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        raise EnvironmentFaultError(
            f"user {os.getuid()} has no name in /etc/passwd, which Hadoop's libraries need",
            f"give it one (docker run -v /etc/passwd:/etc/passwd:ro), {without}",
        ) from None


@functools.lru_cache(maxsize=1)  # 0.1 s, and again when the session starts
def _check_java(home: str | None, path: str | None, without: str) -> None:
    try:
        java_command({"JAVA_HOME": home or "", "PATH": path or ""}, "it needs")
    except MissingToolError as error:
        raise EnvironmentFaultError(error.reason, f"{error.fix}, {without}") from None
    except TinyTagsError as error:
        raise EnvironmentFaultError(str(error), f"see `tinytags doctor`, {without}") from None


def check_start(master: str, verb: str) -> None:
    """Raise as `check_master` does, and say that Spark starts where this takes seconds: before ``verb`` reads and writes."""
    check_master(master)
    if runner_kind(master).spark and "pyspark" not in sys.modules and not _announced:
        _announced.append(verb)
        note(start_line(verb))


def start_line(verb: str) -> str:
    return f"{verb}: starting Spark, about 5 s"


def take_announced() -> bool:
    """Return whether `check_start` has said that Spark starts; false the next time."""
    announced = bool(_announced)
    _announced.clear()
    return announced


def local_folders() -> list[Path]:
    """Return the folders for the files that Spark writes while it runs, without those that it can't use and therefore ignores.

    Spark makes a folder that is missing; the nearest of its parents that exists stands for it here.
    """
    folders = [Path(name.strip()).absolute() for name in _local_dirs().split(",") if name.strip()]
    existing = [
        next(path for path in (folder, *folder.parents) if os.path.exists(path)) for folder in folders
    ]
    return [folder for folder in existing if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)]


def _local_dirs() -> str:
    return os.environ.get("SPARK_LOCAL_DIRS", _TEMPORARY)


def prepare() -> None:
    """Change what would make PySpark start another Spark, none, or one that can't read every path.

    That is SPARK_HOME of another version, PYSPARK_SUBMIT_ARGS, and LC_ALL=C: Python reads paths as UTF-8 then, Java as ASCII.
    """
    import pyspark

    if os.environ.get("LC_ALL") in ("C", "POSIX"):
        os.environ["LC_ALL"] = "C.UTF-8"
    home = os.environ.get("SPARK_HOME")
    own = str(Path(pyspark.__file__).parent)
    if home and home != own and not _is_version(home, metadata.version("pyspark")):
        note(
            f"SPARK_HOME {home!r} is not Spark {metadata.version('pyspark')}; using the installed one at {own}"
        )
        os.environ["SPARK_HOME"] = own
    given = os.environ.get("PYSPARK_SUBMIT_ARGS", "").strip()
    if given and not given.endswith(_SHELL):
        os.environ["PYSPARK_SUBMIT_ARGS"] = f"{given} {_SHELL}"


def _is_version(home: str, version: str) -> bool:
    """Return whether there is a Spark of this version, by the name of one of its jars."""
    return Path(home, "bin", "spark-submit").exists() and any(
        Path(home, "jars").glob(f"spark-core_*-{version}.jar")
    )
