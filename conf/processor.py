"""Measures the processor time of this process and of all processes that it started."""

import os
from pathlib import Path


def processor_seconds() -> float | None:
    """Return the seconds of processor time that this process and its descendants have taken; None without Linux's /proc.

    Processes that have ended count where their parent has waited for them. So the difference of two calls is the time of the
    work between them, of Java as well, as long as what was started before still runs or was waited for.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(stat.parent.name)
        parents[number] = int(fields[1])
        # User and system time, its own and that of children that it has waited for.
        ticks[number] = sum(map(int, fields[11:15]))
    if not ticks:
        return None
    children: dict[int, list[int]] = {}
    for number, parent in parents.items():
        children.setdefault(parent, []).append(number)
    total, pending = 0, [os.getpid()]
    while pending:
        number = pending.pop()
        total += ticks.get(number, 0)
        pending += children.get(number, [])
    return total / os.sysconf("SC_CLK_TCK")
