"""Filters what Spark's JVM and its Python workers write to stderr: lines that say nothing about a job are dropped."""

import contextlib
import os
import re
import threading
from collections.abc import Iterator

# Set when Spark is stopped, done or not: what workers write after that is about the stopping alone.
stopping = threading.Event()
# The first line of every JVM of Spark, which brings that module along.
_DROPPED_LINE = b"WARNING: Using incubator modules: jdk.incubator.vector"
# The traceback of an idle worker that Spark stops.
_DROPPED_TRACEBACK = re.compile(
    rb"(?:Traceback [^\n]*\n)*(?:  File [^\n]*pyspark/daemon\.py\"[^\n]*\n(?:    [^\n]*\n)*)+BrokenPipeError: [^\n]*\n"
)


@contextlib.contextmanager
def filtered() -> Iterator[None]:
    """Let the JVM that starts in this block, and its workers, write to stderr through the filter."""
    stopping.clear()
    stderr = os.dup(2)
    reading, writing = os.pipe()
    reader = threading.Thread(target=copy_filtered, args=(reading, stderr), daemon=True)
    reader.start()
    os.dup2(writing, 2)
    os.close(writing)
    try:
        yield
    except BaseException:
        os.dup2(stderr, 2)
        reader.join(1)  # a JVM that did not start has written why
        raise
    os.dup2(stderr, 2)


def copy_filtered(reading: int, stderr: int) -> None:
    """Copy lines from one file descriptor to another until the first ends, without those to drop; close both."""
    trace = b""
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            trace += line
            if line.startswith((b"Traceback ", b"  ")):  # kept until the last line of the traceback is there
                continue
            if not (
                stopping.is_set() or line.startswith(_DROPPED_LINE) or _DROPPED_TRACEBACK.fullmatch(trace)
            ):
                os.write(stderr, trace)
            trace = b""
        if not stopping.is_set():
            os.write(stderr, trace)
    os.close(stderr)
