"""The one process that trains for the page: `tinytags retrain`, started as a command, since the page itself runs no job."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conf.errors import TinyTagsError
from conf.settings import Settings

COMMAND = Path(__file__).parent.parent / "tinytags.py"
# Of what it prints, the last lines are shown.
LINES = 12
# It finishes the file that it writes, then it is killed.
STOP_SECONDS = 60


class TrainingRunsError(TinyTagsError):
    """A training was to be started while another one runs."""


@dataclass
class Training:
    """A training: its progress and its result."""

    corpus: str
    by: str
    process: "subprocess.Popen[str]"
    started: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    began: float = field(default_factory=time.monotonic)
    lines: "deque[str]" = field(default_factory=lambda: deque(maxlen=LINES))
    seconds: float | None = None  # that it took
    result: dict[str, Any] | None = None  # what the command returned, where it succeeded
    stopped: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        return not self.ended.is_set()


class Trainings:
    """Starts one training at a time in a process of its own, which ends when this one does, however that ends. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._last: Training | None = None

    def last(self) -> Training | None:
        """Return the training that runs, else the last one; None where there was none."""
        return self._last

    def start(self, corpus: str, by: str, similar: bool = False) -> Training:
        """Start a training on the labels of a corpus. Raises `TrainingRunsError` where one runs."""
        with self._lock:
            if self._last is not None and self._last.running:
                raise TrainingRunsError(
                    f"a training of corpus {self._last.corpus!r} runs already; there is one at a time"
                )
            words = ["retrain", "--corpus", corpus, "--stop-with-stdin", "--json"]
            process = subprocess.Popen(
                [sys.executable, "-P", str(COMMAND), *words, *(["--similar"] if similar else [])],
                # A pipe: when this process ends, the other one sees its end.
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                env=_environment(self._settings), process_group=0,
            )  # fmt: skip
            training = self._last = Training(corpus, by, process)
        output: list[str] = []
        reading = threading.Thread(target=_read, args=(process.stdout, output), daemon=True)
        reading.start()
        threading.Thread(target=self._follow, args=(training, reading, output), daemon=True).start()
        return training

    def stop(self) -> None:
        """Let the training end, as by Ctrl-C, without waiting for its end; nothing happens where none runs."""
        training = self._last
        if training is None or not training.running:
            return
        training.stopped = True
        assert training.process.stdin is not None
        training.process.stdin.close()
        # A thread of its own: few threads handle requests.
        threading.Thread(target=_kill_late, args=[training], daemon=True).start()

    def _follow(self, training: Training, reading: threading.Thread, output: list[str]) -> None:
        _read(training.process.stderr, training.lines)
        reading.join()
        if training.process.wait() == 0:
            with contextlib.suppress(ValueError):
                training.result = json.loads("".join(output))
        training.seconds = time.monotonic() - training.began
        training.ended.set()


def _kill_late(training: Training) -> None:
    """Kill a training that doesn't end in `STOP_SECONDS`, with the processes that it started."""
    if not training.ended.wait(STOP_SECONDS):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(training.process.pid, signal.SIGKILL)


def _read(stream: Any, lines: "list[str] | deque[str]") -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))


def _environment(settings: Settings) -> dict[str, str]:
    """Return the settings as variables, which no list of processes shows. It runs on this machine."""
    values = {f"TINYTAGS_{name.upper()}": value for name, value in vars(settings).items() if value}
    return os.environ | values | {"TINYTAGS_MASTER": "processes"}
