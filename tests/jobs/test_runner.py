"""Tests of `jobs.runner`: tasks, results, errors and stops are the same on Spark and on processes of this machine."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from small_world import MASTER

from conf.errors import TinyTagsError
from ingest.partition import PartitionDamagedError
from jobs.runner import open_runner
from storage.store import StoreError, StoreUnavailableError

pytestmark = pytest.mark.slow


@pytest.fixture(params=["processes[2]", pytest.param(MASTER, marks=pytest.mark.spark)])
def runner(request):
    """A runner on two workers of either kind."""
    if request.param == MASTER:
        from pyspark.cloudpickle import register_pickle_by_value

        request.getfixturevalue("spark")
        register_pickle_by_value(sys.modules[__name__])  # workers of Spark can't import this file
    with open_runner(request.param, "tests") as runner:
        yield runner


def count(partition: int) -> dict:
    return {"partition": partition, "images": 10 * partition, "pid": os.getpid()}


def test_every_partition_is_done_by_a_worker_and_its_result_comes_back(runner):
    results, errors, seconds = runner.run("count", [3, 1, 2], count)
    counts = sorted((result["partition"], result["images"]) for result in results)
    assert counts == [(1, 10), (2, 20), (3, 30)]
    assert errors == {}
    assert seconds > 0
    assert os.getpid() not in {result["pid"] for result in results}


def test_without_partitions_nothing_is_run(runner):
    assert runner.run("count", [], count)[:2] == ([], {})


def fail_some(partition: int) -> dict:
    if partition % 5 == 0:
        raise PartitionDamagedError(f"partition {partition} is corrupt", "tiny", partition)
    return count(partition)


def test_an_error_fails_its_partition_alone_and_keeps_its_type_and_attributes(runner):
    results, errors, _ = runner.run("count", list(range(20)), fail_some)
    assert len(results) == 16
    assert {p: str(error) for p, error in errors.items()} == {
        p: f"partition {p} is corrupt" for p in (0, 5, 10, 15)
    }
    assert {type(error) for error in errors.values()} == {PartitionDamagedError}
    assert (errors[5].corpus, errors[5].partition, errors[5].remedy) == ("tiny", 5, "ingest")


class LoseTheStore:
    """A task that leaves a file for each partition, and at the third says that the store is gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, partition: int) -> dict:
        (self.folder / str(partition)).touch()
        if partition == 3:
            raise StoreUnavailableError("no NameNode", "x")
        time.sleep(0.3)
        return count(partition)


def test_an_unavailable_store_stops_all_at_once_and_the_runner_is_as_good_as_before(runner, tmp_path):
    with pytest.raises(StoreUnavailableError, match=r"^no NameNode$") as raised:
        runner.run("count", list(range(200)), LoseTheStore(tmp_path))
    assert raised.value.path == "x"
    assert len(list(tmp_path.iterdir())) < 100
    results, _, _ = runner.run("count", [1, 2], count)
    assert sorted(result["partition"] for result in results) == [1, 2]


def divide(partition: int) -> dict:
    raise ZeroDivisionError(f"of {partition}")


def test_a_bug_in_a_task_is_raised_by_its_type_with_the_workers_traceback(runner):
    with pytest.raises(ZeroDivisionError) as raised:
        runner.run("count", [1, 1], divide)
    assert str(raised.value) == "of 1"
    (note,) = raised.value.__notes__
    assert note.startswith("On a worker, at partition 1:\nTraceback ")
    assert "in divide" in note


class UnpicklableError(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def raise_unpicklable(partition: int) -> dict:
    raise UnpicklableError("this", "that")


def test_an_exception_that_cannot_be_pickled_comes_as_its_traceback(runner):
    with pytest.raises(RuntimeError, match=r"UnpicklableError: this and that"):
        runner.run("count", [1, 2], raise_unpicklable)


def be_killed(partition: int) -> dict:
    if partition == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    return count(partition)


def test_a_killed_worker_is_one_clear_line(runner):
    with pytest.raises(TinyTagsError) as raised:
        runner.run("count", [1, 2], be_killed)
    assert "\n" not in str(raised.value)
    assert not isinstance(raised.value, StoreError)


def test_a_killed_process_is_named_with_what_helps():
    with open_runner("processes[2]", "tests") as runner:
        with pytest.raises(TinyTagsError) as raised:
            runner.run("count", [1, 2], be_killed)
        assert str(raised.value) == (
            "a worker process was killed by SIGKILL at partition 1; the same command continues; if memory ran out, "
            "--master processes[1] needs less"
        )


def test_one_process_is_this_one():
    for master, partitions in (("processes[4]", [7]), ("processes[1]", [7, 8])):
        with open_runner(master, "tests") as runner:
            results, _, _ = runner.run("count", partitions, count)
        assert {result["pid"] for result in results} == {os.getpid()}


def test_processes_are_never_more_than_partitions_and_end_with_the_runner():
    with open_runner("processes[4]", "tests") as runner:
        results, _, _ = runner.run("count", [1, 2], count)
        again, _, _ = runner.run("count", [1, 2], count)
        pids = {result["pid"] for result in results + again}
        assert len(pids) <= 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_zero_processes_are_refused():
    with (
        pytest.raises(TinyTagsError, match=r"^master 'processes\[0\]' has no process"),
        open_runner("processes[0]", "x"),
    ):
        pass


@pytest.mark.spark
def test_a_module_that_an_executor_lacks_is_one_line_with_what_helps(spark):
    def task(partition):
        import no_such_package

        return no_such_package

    with pytest.raises(TinyTagsError) as raised, open_runner(MASTER, "tests") as runner:
        runner.run("count", [1], task)
    assert str(raised.value) == (
        "Spark failed at count: No module named 'no_such_package' on an executor; set PYSPARK_PYTHON to a Python "
        "on those machines that has it"
    )
