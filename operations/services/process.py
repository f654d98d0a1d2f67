"""Processes of this machine: when one started, a lock that the system frees with its holder, why a server ended."""

import contextlib
import fcntl
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path


def process_start(pid: int) -> str | None:
    """Return when a living process started, None when it has ended; with the pid, this identifies a process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self").exists():
            return None
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        output = subprocess.run(command, capture_output=True, text=True).stdout
        state, _, started = output.strip().partition(" ")
    else:
        # proc_pid_stat(5): after the name in brackets, field 3 is the state, 20 the number of threads, 22 the start
        # in clock ticks. While other threads still end, a dead first thread (Z) still holds the ports.
        fields = stat.rpartition(")")[2].split()
        state, started = fields[0] if fields[17] in "01" else "S", fields[19]
    return None if state[:1] in ("", "Z", "X") else started.strip()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for its present holder; the system frees it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def failure_line(output: str) -> str:
    """Return the line of a server's output that most likely explains why it ended; only for messages."""
    lines = [
        line.strip()
        for line in output.splitlines()
        if line.strip() and not re.match(r"\s+(at |\.\.\. \d)", line)
    ]
    errors = [line for line in lines if re.search(r"Exception|Error|ERROR|FATAL|Exiting with", line)]
    # This one comes last, after the line with the reason, which has none of these words.
    if not errors or errors[-1].startswith("Error occurred during initialization"):
        errors = lines
    return errors[-1] if errors else "no output"
