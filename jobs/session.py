"""Starts a Spark session for one job, and stops it: each failure of Spark is one line."""

import contextlib
import errno
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from conf.command import note
from conf.errors import TinyTagsError
from jobs import stderr
from jobs.archive import ROOT, write_zip
from jobs.class_archive import archive_options
from jobs.environment import check_master, prepare, start_line, take_announced
from jobs.runner import under_spark_submit

_STOPPED = "java.lang.IllegalStateException"


@contextlib.contextmanager
def open_session(master: str, name: str, light: bool = False, **options: str) -> Iterator[Any]:
    """Give a SparkSession on ``master`` and stop it at the end; under spark-submit, its options win over these.

    A session that is running already, of a notebook for example, is used as it is and stays. ``light`` is for jobs whose
    work is done by Python workers: a JVM that only hands out tasks starts in half the time without its second compiler
    and collector. Raises `TinyTagsError` where there is no pyspark, no Java, or no such master, and for what fails in Spark.
    """
    line = start_line(name.partition(" ")[0])
    unknown = "pyspark" not in sys.modules  # then no session is running; the import alone takes half a second
    if not take_announced() and unknown:
        note(line)
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError:
        raise TinyTagsError(
            "this step runs on Spark, which is not installed: pip install 'tinytags[spark]'"
        ) from None
    with contextlib.ExitStack() as stack:
        try:
            spark = SparkSession.active()
        except PySparkRuntimeError:  # there is none yet
            if not unknown:
                note(line)
            spark = _start(master, name, light, options)
            stack.callback(_stop, spark)
        if not (spark.sparkContext.master or "").startswith("local") and not spark.conf.get(
            "spark.submit.pyFiles", ""
        ):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tinytags-"))
            with open(f"{folder}/tinytags.zip", "wb") as file:
                write_zip(file)
            spark.sparkContext.addPyFile(f"{folder}/tinytags.zip")
        with one_line_errors(name):
            yield spark


@contextlib.contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """Turn what PySpark raises in this block, and the end of its JVM, into a `TinyTagsError` of one line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError, ConnectionError) as error:
        raise TinyTagsError(f"Spark failed at {name}: {reason(error)}") from error


def _start(master: str, name: str, light: bool, options: dict[str, str]) -> Any:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(f"tinytags {name}").config("spark.ui.showConsoleProgress", "false")
    # Python workers don't import what lies in the current folder: a user's conf.py is not ours.
    builder = builder.config("spark.executorEnv.PYTHONSAFEPATH", "1")
    if not under_spark_submit():
        check_master(master)
        prepare()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or workers start the system's Python
        builder = builder.master(master)
        if master.startswith("local"):
            os.environ["PYSPARK_PYTHON"] = sys.executable
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            os.environ["PYTHONPATH"] = os.pathsep.join(
                filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
            )
            options = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1",
                       "spark.driver.host": "127.0.0.1",
                       # By TCP each task waits 40 ms for an acknowledgement: as long as tagging its 20,000 images takes.
                       # (Not where workers feed DataFrames: at the end they would write tracebacks about a broken pipe.)
                       "spark.python.unix.domain.socket.enabled": str(light).lower()} | options  # fmt: skip
        builder = builder.config("spark.driver.extraJavaOptions", " ".join(java_options(light)))
        for key, value in options.items():
            builder = builder.config(key, value)
    logging.getLogger().addHandler(logging.NullHandler())  # or py4j prints a traceback when it is interrupted
    try:
        with _uninterrupted(), stderr.filtered():
            spark = builder.getOrCreate()
    except Exception as error:  # py4j wraps whatever the JVM threw
        # The JVM stops its context when a cluster's master doesn't answer, and then fails with this exception.
        stopped = not master.startswith("local") and _java_class(error) == _STOPPED
        why = "no master answers there" if stopped else reason(error)
        raise TinyTagsError(
            f"Spark does not start on {master!r}: {why}; `tinytags doctor` checks what it needs"
        ) from error
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _stop(spark: Any) -> None:
    stderr.stopping.set()
    with contextlib.suppress(Exception):  # a JVM that is gone already is stopped
        spark.stop()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Postpone an interruption to the end of the block: a JVM whose parent goes while it starts would stay for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def postpone(number: int, _frame: object) -> None:
        arrived.append(number)
        signal.signal(
            number, before[signal.Signals(number)]
        )  # a second one is not to wait: a cluster may be full for hours

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, postpone)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def reason(error: Exception) -> str:
    """Return in one line, for people, what Spark reports; of a Python worker's traceback that is the last line."""
    from pyspark.errors import PythonException

    full = os.strerror(errno.ENOSPC)
    if full in str(error):  # the JVM has no other way to tell, and it may be the cause of a cause
        return (
            f"a disk is full ({full}): the store's, or that of Spark's own files, in SPARK_LOCAL_DIRS or /tmp"
        )
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, PythonException):
        return lines[-1]
    return next((line.removeprefix(": ") for line in lines if line.startswith(": ")), lines[0])


def _java_class(error: Exception) -> str | None:
    """Return the name of the Java class of the exception that ``error`` wraps."""
    java_exception = getattr(error, "java_exception", None)
    return java_exception and str(java_exception.getClass().getName())


def java_options(light: bool) -> list[str]:
    """Return the options of a JVM that runs a session."""
    # The parallel collector trains a forest in nine tenths of the time that Java's own choice takes.
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if light else ["-XX:+UseParallelGC"]
    options += archive_options()
    log4j = ROOT / "conf" / "spark" / "log4j2.properties"
    return options + ([f"-Dlog4j2.configurationFile={log4j.as_uri()}"] if log4j.exists() else [])
