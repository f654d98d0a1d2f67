"""Tests of `jobs.session`: the job shape on real Spark, what becomes of errors, and the zip for executors."""

import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from small_world import MASTER, clean_environment

from conf.errors import TinyTagsError
from jobs import session
from jobs.session import (
    choose_pending,
    failed_partitions,
    open_session,
    record_failed,
    run_partitions,
    write_zip,
)
from storage.local import LocalStore
from storage.store import StoreError, StoreUnavailableError


@pytest.fixture
def spark():
    """A session; after the first one, whose JVM stays, each costs a second."""
    with open_session(MASTER, "tests", light=True) as spark:
        yield spark


def test_every_partition_is_a_task_whose_result_comes_back(spark):
    results, errors, seconds = run_partitions(
        spark, "count", [3, 1, 2], lambda p: {"partition": p, "images": 10 * p, "pid": os.getpid()}
    )
    assert sorted((result["partition"], result["images"]) for result in results) == [
        (1, 10),
        (2, 20),
        (3, 30),
    ]
    assert errors == {}
    assert seconds > 0
    assert os.getpid() not in {result["pid"] for result in results}, "tasks run in workers"


def test_without_partitions_spark_is_not_asked():
    assert run_partitions(None, "count", [], None) == ([], {}, 0.0)


def test_a_partition_that_fails_does_not_stop_the_others(spark):
    def task(p):
        if p % 5 == 0:
            raise StoreError(f"partition {p} is corrupt")
        return {"partition": p, "images": 1}

    results, errors, _ = run_partitions(spark, "count", list(range(20)), task)
    assert len(results) == 16
    assert errors == {p: f"partition {p} is corrupt" for p in (0, 5, 10, 15)}


def test_a_store_that_is_gone_ends_the_job_at_once(spark, tmp_path):
    def task(p):
        (tmp_path / str(p)).touch()
        if p == 3:
            raise StoreUnavailableError("no NameNode")
        import time

        time.sleep(0.3)
        return {"partition": p, "images": 1}

    with pytest.raises(StoreError, match=r"^no NameNode$"):
        run_partitions(spark, "count", list(range(200)), task)
    assert len(list(tmp_path.iterdir())) < 100
    results, _, _ = run_partitions(spark, "count", [1], lambda p: {"partition": p})
    assert results == [{"partition": 1}], "the session is as good as before"


def test_a_bug_in_a_task_keeps_its_traceback():
    def task(p):
        raise ZeroDivisionError(f"of {p}")

    with (
        pytest.raises(Exception, match=r"ZeroDivisionError: of 1") as told,
        open_session(MASTER, "tests", light=True) as spark,
    ):
        run_partitions(spark, "count", [1], task)
    assert not isinstance(told.value, TinyTagsError)


def test_what_a_worker_cannot_import_is_told_in_one_line():
    def task(p):
        import no_such_package

        return no_such_package

    assert fails_within_session(task) == (
        "Spark gave up on tests: No module named 'no_such_package' on an executor; PYSPARK_PYTHON says which Python there has it"
    )


def test_an_error_of_ours_on_a_worker_is_told_in_its_own_words():
    with (
        pytest.raises(TinyTagsError, match=r"^Spark gave up on tests: x\.parquet: is corrupt$"),
        open_session(MASTER, "tests", light=True) as spark,
    ):

        def spoil(_):
            raise StoreError("x.parquet: is corrupt")

        spark.sparkContext.parallelize([1]).foreach(spoil)


def test_a_worker_that_is_killed_is_told_in_one_line():
    told = fails_within_session(lambda p: os.kill(os.getpid(), signal.SIGKILL))
    assert told.startswith("Spark gave up on tests: ")
    assert "crashed" in told


def fails_within_session(task) -> str:
    """Return the line that a job on Spark raises because of ``task``; the module's session ends with this one's."""
    with pytest.raises(TinyTagsError) as told, open_session(MASTER, "tests", light=True) as spark:
        run_partitions(spark, "count", [1], task)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_a_jvm_that_is_killed_is_told_in_one_line():
    code = """
import os, signal
from conf.errors import TinyTagsError
from jobs.session import open_session, run_partitions
try:
    with open_session("local[1]", "ingest tiny") as spark:
        jvm = spark.sparkContext._gateway.proc.pid
        def task(p):
            os.kill(jvm, signal.SIGKILL)
        run_partitions(spark, "ingest", [1, 2], task)
except TinyTagsError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=True,
    )
    assert ended.stdout.startswith("Spark gave up on ingest tiny: ")
    assert ended.stdout.count("\n") == 1
    assert "Traceback" not in ended.stderr


def test_a_master_that_is_none_is_told_in_one_line():
    code = "from conf.command import *\nfrom jobs.session import open_session\n"
    code += "def f():\n with open_session('moon', 'ingest'): pass\nrun(click.command()(f))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("tinytags: Spark does not start on 'moon': ")
    assert "Traceback" not in ended.stderr


def test_pending_are_those_not_done_or_those_asked_for_whose_markers_go(tmp_path, capsys):
    store = LocalStore(str(tmp_path))
    for p in (0, 1, 3):
        store.write_json(f"markers/{p}", {})
    chosen = choose_pending(store, "corpus 'c'", 5, [0, 1, 3], [], lambda p: f"markers/{p}")
    assert chosen == [2, 4]
    assert capsys.readouterr().err == "corpus 'c': 3 of 5 partitions done already\n"
    chosen = choose_pending(store, "corpus 'c'", 5, [0, 1, 3], [(1, 2)], lambda p: f"markers/{p}")
    assert chosen == [1, 2]
    assert store.list("markers") == ["0", "3"]


def test_why_a_partition_failed_is_kept_until_it_succeeds(tmp_path):
    store = LocalStore(str(tmp_path))

    def path(p):
        return f"failed/{p:05d}.json"

    record_failed(store, path, {3: "is corrupt", 4: "is missing"}, set())
    assert store.read_json(path(3)) == {"partition": 3, "error": "is corrupt"}
    record_failed(store, path, {}, {3, 5})
    assert store.list("failed") == ["00004.json"]


def test_failed_partitions_are_named_and_the_first_one_is_explained():
    error = failed_partitions("tagged", {7: "is corrupt", 2: "is missing"}, 60)
    assert str(error) == "2 of 60 partitions not tagged: 2, 7; the first: is missing"
    many = failed_partitions("split", dict.fromkeys(range(30), "x"), 60)
    assert str(many).startswith("30 of 60 partitions not split: 0, 1, ") and ", 19, ...; " in str(many)


def test_the_zip_brings_all_that_executors_import():
    buffer = io.BytesIO()
    write_zip(buffer)
    names = set(zipfile.ZipFile(buffer).namelist())
    root = Path(sys.modules["jobs.session"].__file__).parents[1]
    for package in ("conf", "storage", "ingest", "tagging", "records", "jobs", "indexing", "operations"):
        sources = {str(path.relative_to(root)) for path in (root / package).rglob("*.py")}
        assert sources <= names
    assert "tinytags.py" in names


def test_partitions_that_went_to_disks_of_other_machines_are_told(tmp_path):
    store = LocalStore(str(tmp_path))
    session.check_written(store, [{"partition": 1}], [0, 1])
    with pytest.raises(
        TinyTagsError, match=r"1 partition written, but not to .*: --store hdfs://HOST:8020/PATH"
    ):
        session.check_written(store, [{"partition": 1}, {"partition": 2}], [0, 1])


def test_what_workers_say_is_passed_on_but_not_that_spark_sent_them_away():
    head = b"Traceback (most recent call last):\n"
    frame = (
        b'  File "/x/pyspark.zip/pyspark/daemon.py", line 264, in manager\n'
        b'  File "/x/pyspark.zip/pyspark/daemon.py", line 95, in worker\n'
        b"    outfile.flush()\n"
    )
    end = b"BrokenPipeError: [Errno 32] Broken pipe\n"
    lament = head + frame + end
    two_at_once = head + head + frame + frame + end + frame + end
    theirs = lament.replace(b"pyspark/daemon.py", b"jobs/tag_images.py")
    out_reading, out = os.pipe()
    reading, writing = os.pipe()
    listener = threading.Thread(target=session._pass_on, args=(reading, out))
    session._stopping.clear()
    listener.start()
    os.write(writing, b"one\n" + lament + b"two\n" + two_at_once + theirs + lament + b"Traceback (most")
    os.close(writing)
    listener.join(10)
    assert os.read(out_reading, 1 << 16) == b"one\ntwo\n" + theirs + b"Traceback (most"
