"""What a verification finds."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypedDict

from storage.store import FileUnavailableError


class Difference(TypedDict):
    """One thing that is wrong with a run or with annotations; `verify_run` and `verify_annotations` list the kinds."""

    kind: str
    partition: int | None
    what: str
    mended: bool  # whether it was repaired


@dataclass
class Findings:
    """The problems of a run, and the sums over its partitions."""

    sums: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("images", "tagged", "dropped", "bad", "rejected", "documents"), 0
        )
    )
    problems: list[Difference] = field(default_factory=list)

    def add(self, kind: str, partition: int | None, what: str) -> None:
        self.problems.append({"kind": kind, "partition": partition, "what": what, "mended": False})

    def partitions(self, *kinds: str) -> list[int]:
        """Return the partitions with a problem of one of these kinds that isn't repaired."""
        problems = (p for p in self.problems if p["kind"] in kinds and not p["mended"])
        return sorted({p["partition"] for p in problems if p["partition"] is not None})


@contextlib.contextmanager
def recording_unreadable(p: int, findings: Findings) -> Iterator[None]:
    """Record a file that the store can't read now: there is nothing to repair, it may be readable later."""
    try:
        yield
    except FileUnavailableError as error:
        findings.add("unreadable", p, str(error))
