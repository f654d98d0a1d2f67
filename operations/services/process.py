"""Processes of this machine: when one began, a lock that dies with its holder, why one ended."""

import contextlib
import fcntl
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path


def process_start(pid: int) -> str | None:
    """When a living process began, as the system tells it: with the pid, what names a process. None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self").exists():
            return None
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        state, _, began = (
            subprocess.run(command, capture_output=True, text=True).stdout.strip().partition(" ")
        )
    else:
        # proc_pid_stat(5): after the name in brackets, field 3 is the state, 20 the number of threads, 22 the start
        # in clock ticks. A first thread that is dead (Z) while others end still holds the ports.
        fields = stat.rpartition(")")[2].split()
        state, began = fields[0] if fields[17] in "01" else "S", fields[19]
    return None if state[:1] in ("", "Z", "X") else began.strip()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, waiting for whoever holds it; the system frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def telling_line(log: str) -> str:
    """The line of a server's output that says why it ended."""
    lines = [
        line.strip()
        for line in log.splitlines()
        if line.strip() and not re.match(r"\s+(at |\.\.\. \d)", line)
    ]
    complaints = [line for line in lines if re.search(r"Exception|Error|ERROR|FATAL|Exiting with", line)]
    if not complaints or complaints[-1].startswith("Error occurred during initialization"):
        complaints = lines
    return complaints[-1] if complaints else "it said nothing"
