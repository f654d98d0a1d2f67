"""Runs tasks on Spark, each partition as a Spark task of its own: on this machine or on a cluster."""

import contextlib
import functools
import gc
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from conf.errors import TinyTagsError
from conf.progress import Progress
from jobs import stderr
from jobs.runner import Collector, Outcome, Outcomes, Task, attempt, pack_error
from jobs.session import one_line_errors, open_session

T = TypeVar("T")


@contextlib.contextmanager
def open_runner(master: str, name: str) -> Iterator["SparkRunner"]:
    """Give a runner on a Spark session of its own, or on the one that is running already."""
    with open_session(master, name, light=True) as spark:
        yield SparkRunner(spark)


class SparkRunner:
    """Runs tasks on a Spark session."""

    def __init__(self, spark: Any) -> None:
        self._spark = spark

    def run(
        self, what: str, partitions: list[int], task: Task, unit: str = "images", total: int = 0
    ) -> Outcomes:
        """As in `jobs.runner.Runner`; the task may be any function, it is pickled by PySpark."""
        if not partitions:
            return Outcomes([], {}, 0.0)
        from pyspark import InheritableThread, cloudpickle

        began = time.monotonic()
        context = self._spark.sparkContext
        inbox = context.accumulator([], _Inbox())
        group = f"tinytags-{uuid.uuid4().hex[:8]}"
        # By value, and unpickled by `attempt`: a module that a worker lacks is then an error like any other of the task.
        data = cloudpickle.dumps(task)
        failure: list[BaseException] = []

        def on_worker(partition: int) -> None:
            inbox.add([attempt(data, partition)])
            _freeze(group)

        def submit() -> None:
            context.setJobGroup(group, what, interruptOnCancel=True)
            try:
                context.parallelize(partitions, len(partitions)).foreach(on_worker)
            except BaseException as error:
                failure.append(error)

        thread = InheritableThread(target=submit, name=what)
        with Progress(what, total or len(partitions), unit) as progress:
            collector = Collector(progress, unit)
            thread.start()
            try:
                self._collect(thread, inbox, collector)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    stderr.stopping.set()
                context.cancelJobGroup(group)
                thread.join(30)
                if isinstance(error, ImportError):
                    raise _missing(error, what) from error
                raise
        if failure:
            with one_line_errors(what):
                raise failure[0]
        return Outcomes(collector.results, collector.errors, time.monotonic() - began)

    @staticmethod
    def _collect(thread: Any, inbox: Any, collector: Collector) -> None:
        read = 0
        alive = True
        while alive:
            alive = thread.is_alive()  # checked first, so that what came before the end is read below
            arrived: list[Outcome] = inbox.value[read:]
            read += len(arrived)
            for outcome in arrived:
                collector.add(outcome)
            if alive:
                thread.join(0.2)


class WorkerErrors:
    """Brings errors of a DataFrame's workers to the driver with their types, where PySpark itself brings their text."""

    def __init__(self, spark: Any) -> None:
        self._inbox = spark.sparkContext.accumulator([], _Inbox())

    def caught(self, function: Callable[[Iterator[T]], Iterator[T]]) -> Callable[[Iterator[T]], Iterator[T]]:
        """Return ``function`` for ``mapInArrow``; where it raises an exception its rows end, and `check` raises it."""
        inbox = self._inbox

        def on_worker(batches: Iterator[T]) -> Iterator[T]:
            try:
                yield from function(batches)
            except Exception as error:
                inbox.add([pack_error(error, "in a DataFrame")])

        return on_worker

    def check(self, what: str) -> None:
        """Raise the first error of a worker: the rows are then not all there. To be called after each action."""
        for packed in self._inbox.value:
            error = pickle.loads(packed)
            raise _missing(error, what) if isinstance(error, ImportError) else error


def _missing(error: ImportError, what: str) -> TinyTagsError:
    return TinyTagsError(
        f"Spark failed at {what}: {error} on an executor; set PYSPARK_PYTHON to a Python on those machines that has it"
    )


@functools.lru_cache(maxsize=1)  # once a worker and job
def _freeze(_job: str) -> None:
    """Keep what a worker has loaded out of the garbage collection that Spark asks for after each task: 20 ms, as long as
    tagging 10,000 images takes."""
    gc.collect()
    gc.freeze()


class _Inbox:
    """An accumulator of a list: unlike ``collect`` it brings what a task adds as soon as the task is done."""

    def zero(self, _value: list[Any]) -> list[Any]:
        return []

    def addInPlace(self, value: list[Any], more: list[Any]) -> list[Any]:
        value.extend(more)
        return value
