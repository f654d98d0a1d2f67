"""Tests of `jobs.session`: one session is enough, and each failure of Spark is one line."""

import errno
import os
import subprocess
import sys

import pytest
from small_world import MASTER, clean_environment

from jobs.session import open_session, reason

pytestmark = pytest.mark.spark


def test_a_session_that_is_running_is_used_and_stays(spark):
    for light in (True, False):
        with open_session(MASTER, "tests", light=light) as session:
            assert session.sparkContext is spark.sparkContext
    assert spark.sparkContext.parallelize([1, 2]).sum() == 3


def test_a_full_disk_is_named_wherever_java_reports_it():
    trace = (
        "An error occurred while calling o52.fit.\n: org.apache.spark.SparkException: Job aborted\n\tat x.y\n"
    )
    trace += f"Caused by: java.io.IOException: {os.strerror(errno.ENOSPC)}\n"
    assert reason(Exception(trace)).startswith("a disk is full (No space left on device): ")
    assert reason(Exception(trace.partition("Caused")[0])) == "org.apache.spark.SparkException: Job aborted"


def python(code: str, expected: int = 0) -> subprocess.CompletedProcess:
    """Run code in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment(), timeout=120,
        check=False,
    )  # fmt: skip
    assert ended.returncode == expected, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def test_a_jvm_that_is_killed_is_one_line():
    code = """
import os, signal
from conf.errors import TinyTagsError
from jobs.runner import open_runner
from jobs.session import open_session
try:
    with open_session("local[1]", "ingest tiny", light=True) as spark, open_runner("local[1]", "x") as runner:
        jvm = spark.sparkContext._gateway.proc.pid
        def task(p):
            os.kill(jvm, signal.SIGKILL)
        runner.run("ingest", [1, 2], task)
except TinyTagsError as error:
    print(error)
"""
    ended = python(code)
    assert ended.stdout.startswith("Spark failed at ")
    assert ended.stdout.count("\n") == 1


def test_a_master_that_does_not_start_is_one_line():
    code = "from conf.command import *\nfrom jobs.session import open_session\n"
    code += "def f():\n with open_session('local[0]', 'ingest'): pass\nrun(click.command()(f))"
    first, *_, line = python(code, 1).stderr.splitlines()
    assert first == "ingest: starting Spark, about 5 s"
    assert line.startswith("tinytags: Spark does not start on 'local[0]': ")
