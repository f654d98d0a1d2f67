"""Runs tasks on processes of this machine, without Spark and without a JVM: for ``--master processes``."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from conf.errors import TinyTagsError
from conf.progress import Progress
from jobs.runner import Collector, Outcomes, Task, attempt

WORKER = Path(__file__).with_name("worker.py")
# So long a worker may take to remove what it was writing when it is stopped.
STOP_SECONDS = 10


@contextlib.contextmanager
def open_runner(master: str, _name: str) -> Iterator["Processes"]:
    """Give a runner on the processes that ``master`` names: ``processes``, as many as cores, or ``processes[4]``."""
    count = master.removeprefix("processes").strip("[]")
    if count == "0":
        raise TinyTagsError(f"master {master!r} has no process; processes alone starts one a core")
    runner = Processes(int(count) if count.isdigit() else len(os.sched_getaffinity(0)))
    try:
        yield runner
    finally:
        runner.close()


class _Worker:
    """A process that runs tasks, and the connection to it: it ends when the connection does, so it can't outlive us."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.partition = -1
        with theirs:
            # In a process group of its own, as Ctrl-C on a terminal is for us to pass on. -P: not the current folder.
            self.process = subprocess.Popen(
                [sys.executable, "-P", WORKER, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=2, env={"OMP_NUM_THREADS": "1"} | os.environ, process_group=0,
            )  # fmt: skip
        self.connection.send(sys.path)

    def give(self, partition: int) -> None:
        self.partition = partition
        with contextlib.suppress(OSError):  # it has ended, as its connection shows
            self.connection.send(partition)

    def ended(self) -> TinyTagsError:
        """Return the error for a worker that ended by itself."""
        code = self.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        memory = "; if memory ran out, --master processes[1] needs less" if code == -signal.SIGKILL else ""
        return TinyTagsError(
            f"a worker process was {how} at partition {self.partition}; the same command continues{memory}"
        )


class Processes:
    """Runs tasks on up to ``count`` processes, kept for the next run; a single one needs no process but this."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[_Worker] = []

    def run(
        self, what: str, partitions: list[int], task: Task, unit: str = "images", total: int = 0
    ) -> Outcomes:
        """As in `jobs.runner.Runner`."""
        began = time.monotonic()
        data = pickle.dumps(task)
        count = min(self._count, len(partitions))
        with Progress(what, total or len(partitions), unit) as progress:
            collector = Collector(progress, unit)
            if count <= 1:
                for partition in partitions:
                    collector.add(attempt(data, partition))
            else:
                try:
                    self._run_on_workers(count, partitions, data, collector)
                except BaseException:
                    self._stop()
                    raise
        return Outcomes(collector.results, collector.errors, time.monotonic() - began)

    def _run_on_workers(self, count: int, partitions: list[int], task: bytes, collector: Collector) -> None:
        while len(self._workers) < count:
            self._workers.append(_Worker())
        pending = iter(partitions)
        busy: dict[Connection, _Worker] = {}
        for worker, partition in zip(self._workers[:count], pending, strict=False):
            worker.connection.send(task)
            worker.give(partition)
            busy[worker.connection] = worker
        while busy:
            ready = wait(list(busy))
            for worker in [worker for connection, worker in busy.items() if connection in ready]:
                connection = worker.connection
                try:
                    outcome = connection.recv()
                except (EOFError, OSError):
                    raise worker.ended() from None
                collector.add(outcome)
                if (following := next(pending, None)) is None:
                    del busy[connection]
                else:
                    worker.give(following)

    def _stop(self) -> None:
        """Stop the workers at once, each after it has removed the file that it was writing."""
        for worker in self._workers:
            worker.process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for worker in self._workers:
            try:
                worker.process.wait(max(until - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                worker.process.kill()
        self.close()

    def close(self) -> None:
        """End the workers, which have nothing left to do."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.wait()
        self._workers = []
