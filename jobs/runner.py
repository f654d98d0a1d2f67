"""Runs a task for each partition and collects the results; what runs the tasks is chosen by the master."""

import contextlib
import functools
import importlib
import os
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from conf.errors import TinyTagsError
from conf.progress import Progress
from storage.store import StoreUnavailableError

# A task does one partition and returns a small dict of counts. It is pickled: a function of a module, or a partial of one.
Task = Callable[[int], dict[str, Any]]


@dataclass(frozen=True)
class RunnerKind:
    """What runs tasks: a module with ``open_runner(master, name)``, and what is known of it without importing it."""

    module: str
    spark: bool  # whether it is Spark, which needs Java
    local: str  # the form of the masters on which all work is done on this machine


# By the form of the master: the first one that fits.
RUNNERS = {
    r"processes(\[(\d+|\*)\])?": RunnerKind("jobs.processes", spark=False, local=".*"),
    r".*": RunnerKind("jobs.spark", spark=True, local="local.*"),
}


class Outcomes(NamedTuple):
    """The results of the tasks, the errors by partition, and the seconds that all took."""

    results: list[dict[str, Any]]
    errors: dict[int, TinyTagsError]
    seconds: float


class Runner(Protocol):
    """Runs tasks on workers, one partition each."""

    def run(
        self, what: str, partitions: list[int], task: Task, unit: str = "images", total: int = 0
    ) -> Outcomes:
        """Run ``task`` for each of ``partitions``, with progress under the name ``what``, in any order.

        A result's entry ``unit`` counts towards ``total``. A task that raises `TinyTagsError` fails its partition and no
        other. `StoreUnavailableError` and any other exception stop all tasks and are raised here, as is Ctrl-C.
        """
        ...


@contextlib.contextmanager
def open_runner(master: str, name: str) -> Iterator[Runner]:
    """Give the runner for ``master``; its workers are stopped at the end. ``name`` names the job, for people.

    Under spark-submit it is always Spark, on the master that spark-submit was given.
    """
    with importlib.import_module(runner_kind(master).module).open_runner(master, name) as runner:
        yield runner


def runner_kind(master: str) -> RunnerKind:
    """Return what runs tasks on ``master``."""
    if under_spark_submit():
        return next(kind for kind in RUNNERS.values() if kind.spark)
    return next(kind for form, kind in RUNNERS.items() if re.fullmatch(form, master))


def is_local(master: str) -> bool:
    """Return whether all work on ``master`` is done on this machine."""
    return not under_spark_submit() and re.fullmatch(runner_kind(master).local, master) is not None


def under_spark_submit() -> bool:
    """Return whether spark-submit started this process."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


class Outcome(NamedTuple):
    """What a worker sends for one partition: a result, or a pickled error."""

    partition: int
    result: dict[str, Any] | None
    error: bytes | None


def attempt(task: bytes, partition: int) -> Outcome:
    """Run a pickled task for one partition on a worker; an exception becomes part of the outcome."""
    try:
        return Outcome(partition, _load(task)(partition), None)
    except Exception as error:
        return Outcome(partition, None, pack_error(error, f"at partition {partition}"))


@functools.lru_cache(maxsize=1)  # once a worker
def _load(task: bytes) -> Task:
    return pickle.loads(task)


def pack_error(error: Exception, where: str) -> bytes:
    """Pickle an error on a worker, with its type and attributes; a bug takes its traceback along as a note."""
    if not isinstance(error, TinyTagsError):
        error.add_note(f"On a worker, {where}:\n{traceback.format_exc()}")
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # an exception of some library that can't be pickled
        data = pickle.dumps(RuntimeError("".join(traceback.format_exception(error))))
    return data


class Collector:
    """Collects outcomes as they arrive, and shows progress."""

    def __init__(self, progress: Progress, unit: str) -> None:
        self.results: list[dict[str, Any]] = []
        self.errors: dict[int, TinyTagsError] = {}
        self._progress, self._unit = progress, unit

    def add(self, outcome: Outcome) -> None:
        """Keep a result or the error of a partition; raise any error that isn't one partition's alone."""
        if outcome.error is not None:
            error = pickle.loads(outcome.error)
            if isinstance(error, StoreUnavailableError) or not isinstance(error, TinyTagsError):
                raise error
            self.errors[outcome.partition] = error
        elif outcome.result is not None:
            self.results.append(outcome.result)
            self._progress.add(outcome.result.get(self._unit, 1))
