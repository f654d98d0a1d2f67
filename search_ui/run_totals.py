"""The sums of a run's statistics, one file a partition: images tagged and dropped, tags, votes, seconds."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from storage import layout
from storage.runs import Run, read_statistics
from storage.store import Store

# In HDFS each file is a request.
THREADS, BATCH = 8, 64
COUNTED = ("images", "tagged", "dropped", "bad", "labelled", "right", "trained")


@dataclass(frozen=True)
class RunTotals:
    """Sums over ``read`` partitions, of ``done`` ones: the others are read by the next scan."""

    done: int
    read: int
    counts: dict[str, int]  # `COUNTED`
    tags: dict[str, int]  # images of each tag, the most frequent first
    votes: dict[int, int]  # images by the votes of the winner, dropped ones too; empty for a network
    seconds: float  # of one process, summed over the partitions
    hosts: list[str]
    first: float | None  # when the first and the last partition was done, in seconds since 1970
    last: float | None


class TotalsReader:
    """Sums the statistics of one run, each read once; for one thread at a time."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store, self.run = store, run
        self._forget()

    def _forget(self) -> None:
        self._read: dict[int, float] = {}
        self._counts: Counter[str] = Counter()
        self._tags: Counter[str] = Counter()
        self._votes: Counter[int] = Counter()
        self._seconds = 0.0
        self._hosts: set[str] = set()

    def scan(self, seconds: float) -> RunTotals:
        """Return the sums; after ``seconds`` of reading the rest is left to the next scan. Raises `StoreError`."""
        written = {
            partition: at
            for name, at in self.store.times(layout.run_statistics_folder(self.run.name)).items()
            for partition in layout.partitions_in([name])
            if partition < self.run.partitions
        }
        if any(written.get(partition) != at for partition, at in self._read.items()):
            self._forget()  # a partition was tagged again
        left = sorted(written.keys() - self._read.keys())
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(left), BATCH):
                if start and time.monotonic() > until:
                    break
                some = left[start : start + BATCH]
                for statistics in pool.map(lambda p: read_statistics(self.store, self.run, p), some):
                    self._add(statistics)
                    self._read[statistics["partition"]] = written[statistics["partition"]]
        return RunTotals(
            done=len(written),
            read=len(self._read),
            counts={name: self._counts[name] for name in COUNTED},
            tags=dict(self._tags.most_common()),
            votes=dict(sorted(self._votes.items())),
            seconds=self._seconds,
            hosts=sorted(self._hosts),
            first=min(self._read.values(), default=None),
            last=max(self._read.values(), default=None),
        )

    def _add(self, statistics: dict[str, Any]) -> None:
        self._counts.update({name: statistics.get(name, 0) for name in COUNTED})  # 0.1.0 has fewer
        self._tags.update(statistics.get("tags", {}))
        self._votes.update({int(votes): images for votes, images in statistics.get("votes", {}).items()})
        self._seconds += statistics.get("seconds", 0.0)
        if "host" in statistics:
            self._hosts.add(statistics["host"])
