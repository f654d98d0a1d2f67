"""The partitions of a step that failed, as their records in the store have them."""

from collections.abc import Iterable
from dataclasses import dataclass

from indexing.folder_cache import FolderCache
from indexing.states import Problem
from storage import layout
from storage.store import StoreError, StoreUnavailableError

# So many failed partitions of a step are read and named.
NAMED = 3
NO_REASON = "no reason was recorded"


@dataclass(frozen=True)
class Failure:
    """The record of a partition that failed: why, and the verb that helps where that is known."""

    partition: int
    error: str
    remedy: str | None


def read_failures(folder: FolderCache, done: Iterable[int] = ()) -> tuple[dict[int, float], list[Failure]]:
    """Return the partitions of a folder that failed and aren't ``done``, each with its time, and the records of the first.

    A record is read once for each time at which it was written. Raises `StoreUnavailableError`.
    """
    known = set(done)
    failed = {p: written for p, written in folder.numbers(layout.FAILED).items() if p not in known}
    first = list(failed.items())[:NAMED]
    return failed, [
        Failure(p, *folder.read(layout.failed(folder.path, p), written, lambda path: _read(folder, path)))
        for p, written in first
    ]


def problems(step: str, failures: Iterable[Failure]) -> list[Problem]:
    """Return failures of a step as the API has them."""
    return [{"step": step, "partition": failure.partition, "error": failure.error} for failure in failures]


def _read(folder: FolderCache, path: str) -> tuple[str, str | None]:
    try:
        record = folder.store.read_json(path)
        return str(record["error"]), record.get("remedy")
    except StoreUnavailableError:
        raise
    except (StoreError, KeyError):
        return NO_REASON, None
