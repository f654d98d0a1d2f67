"""Tests of `conf.processor`: the time of this process, of those that it started, and of those that have ended."""

import subprocess
import sys

from conf.processor import processor_seconds

BUSY = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.2: pass\n"


def test_the_time_of_started_processes_counts_while_they_run_and_after_they_ended():
    before = processor_seconds()
    with subprocess.Popen(
        [sys.executable, "-c", BUSY + "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        running = processor_seconds()
        process.communicate(b"\n")
    assert running - before > 0.15
    assert processor_seconds() - before > 0.15


def test_processes_of_others_do_not_count():
    other = subprocess.Popen(
        [sys.executable, "-c", f"import os\nif os.fork() == 0:\n os.setsid()\n exec({BUSY!r})"]
    )
    other.wait()  # the busy one is now a child of another process
    before = processor_seconds()
    assert processor_seconds() - before < 0.15
