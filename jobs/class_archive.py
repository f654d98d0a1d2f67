"""An archive of the Java classes that Spark loads when it starts: with it, a session starts in half the processor time.

Java maps the archive into memory instead of reading, checking and linking some 10,000 classes from jars. It checks by itself
that the archive belongs to it and to these jars, and starts without it where not. `scripts/setup` makes one in the virtual
environment (`python -m jobs.class_archive`): https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from conf.command import note

# What a session of ours loads: tasks, DataFrames, Parquet. Run in a process of its own, whose JVM writes the archive at its end.
_SESSION = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
spark.sparkContext.parallelize(range(2), 2).map(str).collect()
spark.range(10).repartition(2).write.parquet(sys.argv[1])
spark.read.parquet(sys.argv[1]).groupBy("id").count().collect()
spark.stop()
"""
# The serial collector and first compiler, as in sessions that only hand out tasks; other ones can use the archive, too.
_LIGHT = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
MAKE_SECONDS = 600
_QUIET = "-Xlog:cds*=off"  # or Java warns of an archive that it does not use


def class_archive() -> Path | None:
    """Return where the archive of this Java and this PySpark is, or will be; None where there is no Java or PySpark."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else shutil.which("java")
    if not java:
        return None
    try:
        release = Path(java).resolve().parent.parent.joinpath("release").read_bytes()
        package = metadata.distribution("pyspark")
        # Java compares the times of the jars: those of another installation of the same version are others.
        jars = Path(str(package.locate_file("pyspark/jars"))).stat().st_mtime_ns
    except (OSError, metadata.PackageNotFoundError):
        return None
    key = hashlib.sha256(release + str(jars).encode()).hexdigest()[:12]
    return Path(sys.prefix, "share", "tinytags", f"spark-{package.version}-{key}.jsa")


def archive_options() -> list[str]:
    """Return the options of a JVM that uses the archive; none where there is no archive."""
    path = class_archive()
    # Spark splits its options at spaces.
    if path is None or not path.exists() or " " in str(path):
        return []
    return [f"-XX:SharedArchiveFile={path}", "-Xshare:auto", _QUIET]


def make_archive() -> None:
    """Make the archive where there is none, or print a line that says why it could not be made: Spark starts without it."""
    path = class_archive()
    if path is None or path.exists() or " " in str(path):
        return
    note("archiving Spark's Java classes: each start takes half the time then (once, up to a minute, 180 MB)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="making-", dir=path.parent) as folder:
            made = Path(folder, path.name)
            options = " ".join([*_LIGHT, f"-XX:ArchiveClassesAtExit={made}", _QUIET])
            environment = os.environ | {
                "SPARK_SUBMIT_OPTS": options,
                "PYSPARK_PYTHON": sys.executable,
                "SPARK_LOCAL_IP": "127.0.0.1",
            }
            command = [sys.executable, "-P", "-c", _SESSION, f"{folder}/parquet"]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=MAKE_SECONDS
            )
            # Java writes it at its end, and keeps the pipes of the output open until then.
            if done.returncode or not made.exists():
                reason = (done.stderr.splitlines() or ["Java wrote none"])[-1]
                note(f"could not archive Spark's Java classes: {reason}")
                return
            os.replace(made, path)
        for other in set(path.parent.glob("spark-*.jsa")) - {path}:
            other.unlink()
        for leftover in path.parent.glob("making-*"):  # of one that was killed
            shutil.rmtree(leftover, ignore_errors=True)
    except OSError as error:
        note(f"could not archive Spark's Java classes in {path.parent}: {error.strerror}")
    except subprocess.TimeoutExpired:
        note(f"could not archive Spark's Java classes: Spark took more than {MAKE_SECONDS} s")


if __name__ == "__main__":
    make_archive()
