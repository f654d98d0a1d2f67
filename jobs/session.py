"""One Spark session, and one job shape: a task a partition, which gets a path and returns only counts."""

import contextlib
import functools
import gc
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from conf.command import note, select_partitions
from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.wording import counted, duration, listed
from storage.store import StoreError, StoreUnavailableError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("conf", "storage", "ingest", "tagging", "records", "jobs", "indexing", "search_ui", "operations")


@contextlib.contextmanager
def open_session(master: str, name: str, light: bool = False, **options: str) -> Iterator:
    """Give a SparkSession on ``master`` and stop it at the end; under spark-submit, what that was told wins.

    ``light`` is for jobs whose work is done by Python workers: a JVM that only hands out tasks starts in half the time
    without its second compiler and collector. Raises `TinyTagsError` where there is no pyspark, no Java, or no such master.
    """
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise TinyTagsError(
            "this step runs on Spark, which is not installed: pip install 'tinytags[spark]'"
        ) from None
    builder = SparkSession.builder.appName(f"tinytags {name}").config("spark.ui.showConsoleProgress", "false")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit
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
                       # (Not where workers feed DataFrames: at the end they would say at length that a pipe is broken.)
                       "spark.python.unix.domain.socket.enabled": str(light).lower()} | options  # fmt: skip
        builder = builder.config("spark.driver.extraJavaOptions", " ".join(_java_options(light)))
        for key, value in options.items():
            builder = builder.config(key, value)
    logging.getLogger().addHandler(logging.NullHandler())  # or py4j prints a traceback when it is interrupted
    try:
        with _uninterrupted(), _overheard():
            spark = builder.getOrCreate()
    except Exception as error:  # py4j wraps whatever the JVM threw
        reason = spark_reason(error) or type(error).__name__
        if "stopped SparkContext" in reason:  # what Spark says after it has given a cluster's master up
            reason = "no master answers there"
        raise TinyTagsError(
            f"Spark does not start on {master!r}: {reason}; `tinytags doctor` looks into it"
        ) from error
    spark.sparkContext.setLogLevel("ERROR")
    try:
        with tempfile.TemporaryDirectory(prefix="tinytags-") as folder:
            if not spark.sparkContext.master.startswith("local") and not spark.conf.get(
                "spark.submit.pyFiles", ""
            ):
                with open(f"{folder}/tinytags.zip", "wb") as file:
                    write_zip(file)
                spark.sparkContext.addPyFile(f"{folder}/tinytags.zip")
            yield spark
    except (PySparkException, Py4JError, ConnectionError) as error:
        reason = spark_reason(error)
        if reason is None:  # a bug of ours on a worker: its traceback helps to mend it
            raise
        raise TinyTagsError(f"Spark gave up on {name}: {reason}") from error
    finally:
        _stopping.set()
        with contextlib.suppress(Exception):  # a JVM that is gone already is stopped
            spark.stop()


# Set when Spark is stopped, done or not; what workers complain of then is of no interest.
_stopping = threading.Event()
# What every JVM of Spark says first, since it brings that module along.
_CHATTER = b"WARNING: Using incubator modules: jdk.incubator.vector"
# What a worker says that Spark sends away, since nothing is left to do for it.
_LAMENT = re.compile(
    rb"(?:Traceback [^\n]*\n)*(?:  File [^\n]*pyspark/daemon\.py\"[^\n]*\n(?:    [^\n]*\n)*)+BrokenPipeError: [^\n]*\n"
)


@contextlib.contextmanager
def _overheard() -> Iterator[None]:
    """Let the JVM that starts in this block, and its workers, write to stderr through us: all but chatter and laments."""
    _stopping.clear()
    stderr = os.dup(2)
    reading, writing = os.pipe()
    listener = threading.Thread(target=_pass_on, args=(reading, stderr), daemon=True)
    listener.start()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    except BaseException:
        os.dup2(stderr, 2)
        listener.join(1)  # a JVM that did not start has told why
        raise
    os.dup2(stderr, 2)


def _pass_on(reading: int, stderr: int) -> None:
    trace = b""
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            trace += line
            if line.startswith((b"Traceback ", b"  ")):  # told when its last line tells what it is
                continue
            if not _stopping.is_set() and not line.startswith(_CHATTER) and not _LAMENT.fullmatch(trace):
                os.write(stderr, trace)
            trace = b""
        if not _stopping.is_set():
            os.write(stderr, trace)
    os.close(stderr)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put an interruption off to the end of the block: a JVM whose parent goes while it starts would stay for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived = []

    def put_off(number, _frame) -> None:
        arrived.append(number)
        signal.signal(number, before[number])  # a second one is not to wait: a cluster may be full for hours

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, put_off)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def spark_reason(error: Exception) -> str | None:
    """Return in one line why a job failed: what a worker said that lacks something or can't read the store, or what
    Spark itself says; None for any other exception on a worker."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "Traceback (most recent call last):" not in str(error):
        return next((line.removeprefix(": ") for line in lines if line.startswith(": ")), lines[0])
    said = [line for line in lines if _RAISED.match(line)]
    reason = _RAISED.match(said[-1])[1] if said else None
    if reason and reason.startswith("No module named"):
        reason += " on an executor; PYSPARK_PYTHON says which Python there has it"
    return reason


# What a worker raises for what isn't a bug of ours: it can't import something, is another Python, can't read a file.
_RAISED = re.compile(
    r"(?:ModuleNotFoundError: |ImportError: |pyspark\.errors\.[\w.]+: |(?:storage|ingest|conf)\.[\w.]+Error: )(.+)"
)


def run_partitions(
    spark,
    what: str,
    partitions: list[int],
    task: Callable[[int], dict],
    unit: str = "images",
    total: int = 0,
) -> tuple[list[dict], dict[int, str], float]:
    """Run ``task`` for each of ``partitions``, each as a Spark task of its own, with progress; return results, errors and
    the seconds it took.

    A task returns a small dict, whose ``unit`` entry counts as progress. One that raises `TinyTagsError` doesn't stop
    the others; one that can't reach the store does, because the others can't either, and raises it here.
    """
    if not partitions:
        return [], {}, 0.0
    began = time.monotonic()
    context = spark.sparkContext
    inbox = context.accumulator([], _Inbox())
    group = f"tinytags-{uuid.uuid4().hex[:8]}"
    failure: list[BaseException] = []

    def attempt(partition: int) -> None:
        try:
            inbox.add([(partition, task(partition), None, False)])
        except TinyTagsError as error:
            inbox.add([(partition, None, str(error), isinstance(error, StoreUnavailableError))])
        _freeze(group)

    def submit() -> None:
        context.setJobGroup(group, what, interruptOnCancel=True)
        try:
            context.parallelize(partitions, len(partitions)).foreach(attempt)
        except BaseException as error:
            failure.append(error)

    from pyspark import InheritableThread

    thread = InheritableThread(target=submit, name=what)
    results, errors, read = [], {}, 0
    with Progress(what, total or len(partitions), unit) as progress:
        thread.start()
        try:
            while True:
                alive = thread.is_alive()  # asked first, so that what came before the end is read below
                arrived = inbox.value[read:]
                read += len(arrived)
                for partition, result, error, unreachable in arrived:
                    if unreachable:
                        raise StoreError(error)
                    if error:
                        errors[partition] = error
                    else:
                        results.append(result)
                        progress.add(result.get(unit, 1))
                if not alive:
                    break
                thread.join(0.2)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                _stopping.set()
            context.cancelJobGroup(group)
            thread.join(30)
            raise
    if failure:
        raise failure[0]
    return results, errors, time.monotonic() - began


@functools.lru_cache(maxsize=1)  # once a worker and job
def _freeze(_job: str) -> None:
    """Keep what a worker has loaded out of the garbage collection that Spark asks for after each task: 20 ms, as long as
    tagging 10,000 images takes."""
    gc.collect()
    gc.freeze()


def check_written(store, results: list[dict], done: list[int]) -> None:
    """Raise `TinyTagsError` where tasks wrote partitions that we don't find ``done``: each to a disk of its own machine."""
    lost = {result["partition"] for result in results} - set(done)
    if lost:
        raise TinyTagsError(
            f"{counted(len(lost), 'partition')} written, but not to {store.url()} as it is seen here; executors on other "
            "machines need a store that all of them see: --store hdfs://HOST:8020/PATH"
        )


def choose_pending(
    store,
    what: str,
    partitions: int,
    done: list[int],
    redo: Sequence[tuple[int, int]],
    marker: Callable[[int], str],
) -> list[int]:
    """Return the partitions to do: those not ``done``, or those in ``redo``, whose markers are removed first."""
    chosen = select_partitions(redo, partitions, what)
    for partition in chosen:
        store.remove(marker(partition))
    if done and not chosen:
        note(f"{what}: {len(done):,} of {counted(partitions, 'partition')} done already")
    return chosen or sorted(set(range(partitions)) - set(done))


def record_failed(store, path: Callable[[int], str], errors: dict[int, str], succeeded: set[int]) -> None:
    """Write down why partitions failed, for `tinytags status`, and forget it of those that succeeded since."""
    for partition, error in errors.items():
        store.write_json(path(partition), {"partition": partition, "error": error})
    folder = path(0).rsplit("/", 1)[0]
    for name in set(store.list(folder)) & {path(partition).rsplit("/", 1)[1] for partition in succeeded}:
        store.remove(f"{folder}/{name}")


def failed_partitions(what: str, errors: dict[int, str], partitions: int) -> TinyTagsError:
    """Return the one line for partitions that failed: which, and why the first one did."""
    first = min(errors)
    return TinyTagsError(
        f"{len(errors):,} of {counted(partitions, 'partition')} not {what}: {listed(sorted(errors), 20)}; the first: {errors[first]}"
    )


def told_rate(done: str, partitions: int, result: dict) -> str:
    """Return how many partitions were ``done`` now and how fast, for a summary."""
    if not partitions:
        return "" if result.get("failed") else "; all done already"
    rate = f"{result['images_per_second']:,.0f} images/s"
    return f"; {counted(partitions, 'partition')} {done} now in {duration(result['seconds'])}, Spark's start included ({rate})"


class _Inbox:
    """An accumulator of results: unlike ``collect`` it brings each as soon as its task is done."""

    def zero(self, _value: list) -> list:
        return []

    def addInPlace(self, value: list, more: list) -> list:
        value.extend(more)
        return value


def _java_options(light: bool) -> list[str]:
    # The parallel collector trains a forest in nine tenths of the time that Java's own choice takes.
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if light else ["-XX:+UseParallelGC"]
    log4j = ROOT / "conf" / "spark" / "log4j2.properties"
    return options + ([f"-Dlog4j2.configurationFile={log4j.as_uri()}"] if log4j.exists() else [])


def write_zip(file) -> None:
    """Write our packages and their compiled kernels as a zip, for ``--py-files`` and executors that have none installed."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for path in sorted((ROOT / package).rglob("*")):
                if path.suffix in (
                    ".py",
                    ".nbi",
                    ".nbc",
                    ".xml",
                    ".cfg",
                    ".properties",
                    ".html",
                    ".css",
                    ".js",
                ):
                    archive.write(path, path.relative_to(ROOT))
        archive.write(ROOT / "tinytags.py", "tinytags.py")
