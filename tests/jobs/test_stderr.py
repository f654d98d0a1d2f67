"""Tests of `jobs.stderr`: what Spark's workers write comes through, but not the tracebacks of those that Spark stops."""

import os
import threading

from jobs import stderr


def test_lines_of_workers_come_through_but_not_that_spark_stopped_them():
    head = b"Traceback (most recent call last):\n"
    frame = (
        b'  File "/x/pyspark.zip/pyspark/daemon.py", line 264, in manager\n'
        b'  File "/x/pyspark.zip/pyspark/daemon.py", line 95, in worker\n'
        b"    outfile.flush()\n"
    )
    end = b"BrokenPipeError: [Errno 32] Broken pipe\n"
    dropped = head + frame + end
    two_at_once = head + head + frame + frame + end + frame + end
    kept = dropped.replace(b"pyspark/daemon.py", b"jobs/tag_images.py")
    out_reading, out = os.pipe()
    reading, writing = os.pipe()
    reader = threading.Thread(target=stderr.copy_filtered, args=(reading, out))
    stderr.stopping.clear()
    reader.start()
    os.write(writing, b"one\n" + dropped + b"two\n" + two_at_once + kept + dropped + b"Traceback (most")
    os.close(writing)
    reader.join(10)
    assert os.read(out_reading, 1 << 16) == b"one\ntwo\n" + kept + b"Traceback (most"
