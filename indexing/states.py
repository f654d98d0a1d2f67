"""How far a step of a corpus or run is: its partitions by state, its failures, and who works at it how fast."""

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NotRequired, TypedDict

from storage.lease import Holder

# A job's rate is that of the last minute, if enough partitions were done in it.
RECENT_SECONDS, RECENT_PARTITIONS = 60.0, 10


class States(TypedDict):
    """The numbers of partitions of a step in each state; of the index also its documents."""

    pending: int
    done: int
    failed: int
    documents: NotRequired[int]
    rejected: NotRequired[int]


class Writer(TypedDict):
    """Who holds the lease of a corpus, a run or its index."""

    user: str
    host: str
    pid: int
    since: str


class Working(Writer):
    """Who works at a step, and how fast; None where that isn't known."""

    step: str
    unit: str
    per_second: NotRequired[float | None]
    seconds_left: NotRequired[float | None]
    waiting: NotRequired[int]  # documents posted but not committed


class Problem(TypedDict):
    """Why a step of a partition failed."""

    step: str
    partition: int
    error: str


def states(partitions: int, done: Iterable[int], failed: Iterable[int]) -> States:
    """Return how many partitions are pending, done and failed in a step; one that was done since it failed is done."""
    done = set(done)
    failed = set(failed) - done
    return {"pending": partitions - len(done) - len(failed), "done": len(done), "failed": len(failed)}


def writer_of(holder: Holder | None) -> Writer | None:
    """Return the holder of a lease as the API has it."""
    if holder is None:
        return None
    return {"user": holder.user, "host": holder.host, "pid": holder.pid, "since": holder.since}


def working(
    step: str, writer: Writer | None, images: int, partitions: int, pending: int, done: Mapping[int, float]
) -> list[Working]:
    """Return who works at a step on ``images`` in ``partitions``; empty without any.

    ``done`` are the partitions that are done, each with the time of that, in seconds since 1970.
    """
    if not writer:
        return []
    since = datetime.fromisoformat(writer["since"]).timestamp()
    seconds = seconds_a_partition(done.values(), since, time.time())
    entry = start_working(step, writer, "images")
    if seconds:
        set_rates(entry, images / max(partitions, 1) / seconds, pending * seconds)
    else:
        set_rates(entry, None, None)
    return [entry]


def start_working(step: str, writer: Writer, unit: str) -> Working:
    """Return who works at a step, without rates."""
    return {
        "step": step,
        "user": writer["user"],
        "host": writer["host"],
        "pid": writer["pid"],
        "since": writer["since"],
        "unit": unit,
    }


def set_rates(entry: Working, per_second: float | None, seconds_left: float | None) -> None:
    """Set the rate, units a second, and the seconds left of a job, to a tenth; None where they aren't known."""
    entry["per_second"] = per_second and round(per_second, 1)
    entry["seconds_left"] = None if seconds_left is None else round(seconds_left, 1)


def seconds_a_partition(done: Iterable[float], since: float, now: float) -> float | None:
    """Return the recent time per partition of a job that began at ``since``; None before it has done one.

    ``done`` are the times at which partitions were done, by this job and earlier ones. They come in bursts, one from each
    worker; and the rate of a job that hangs falls by the second.
    """
    times = sorted(at for at in done if at >= since)
    if not times:
        return None
    now = max(now, times[-1])
    recent = [at for at in times if at >= now - RECENT_SECONDS]
    if len(recent) >= RECENT_PARTITIONS:
        times = recent
    steps = len(times) - 1
    if steps and times[-1] - times[0] >= 1:
        return max((times[-1] - times[0]) / steps, (now - times[0]) / (steps + 1))
    return max(now - since, 0.1) / len(times)
