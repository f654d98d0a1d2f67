"""What the index should hold of a run, by the files in the store."""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from conf.wording import counted, listed
from storage import layout
from storage.documents import (
    DocumentSet,
    documents_file,
    done_partitions,
    number_of_documents,
    read_statistics,
    rejected_partitions,
)
from storage.store import DamagedFileError, Store, StoreError

_ID = re.compile(rb'"id":\s*("((?:[^"\\]|\\.)*)")')


class TagsChangedError(StoreError):
    """A tags file that is missing or isn't what its statistics say."""


@dataclass
class ExpectedCounts:
    """How many documents of each partition of a run, or of another set, the index should hold, by the files in the store."""

    run: DocumentSet
    statistics: dict[int, dict[str, Any]]  # of the tagged partitions, in order
    rejected: dict[int, int]  # numbers of documents that Solr rejected, where there are any
    failed: dict[int, str] = field(default_factory=dict)  # partitions that can't be indexed, and why

    @property
    def untagged(self) -> list[int]:
        """The partitions that aren't tagged."""
        return [p for p in range(self.run.partitions) if p not in self.statistics]

    def count(self, partition: int) -> int:
        """Return the number of documents that a partition should have in the index: without the rejected ones."""
        return self.documents(partition) - self.rejected.get(partition, 0)

    def documents(self, partition: int) -> int:
        """Return the number of documents in the tags file of a partition."""
        return number_of_documents(self.statistics[partition])

    def pending(self, counts: dict[int | None, int]) -> list[int]:
        """Return the tagged partitions of which the index has another number of documents, by its ``counts``."""
        return [p for p in self.statistics if counts.get(p, 0) != self.count(p)]

    def foreign(self, counts: dict[int | None, int]) -> list[int | None]:
        """Return the partitions in the index that the run does not have (None: documents without one).

        A partition of the run that has to be tagged again keeps its documents until then.
        """
        return [p for p in counts if p is None or not 0 <= p < self.run.partitions]

    def differences(self, counts: dict[int | None, int]) -> list[str]:
        """Return for people how the index differs from the run; empty where it is complete."""
        words = []
        if self.untagged:
            words.append(f"{name_partitions(self.untagged)} not tagged yet")
        if pending := self.pending(counts):
            p = pending[0]
            words.append(
                f"{name_partitions(pending)} with a wrong number of documents in the index "
                f"(partition {p}: {counted(counts.get(p, 0), 'document')} instead of {self.count(p):,})"
            )
        if foreign := self.foreign(counts):
            count = counted(sum(counts[p] for p in foreign), "document")
            words.append(f"{count} of partitions that the run does not have")
        return words


def read_expected(store: Store, run: DocumentSet) -> ExpectedCounts:
    """Read the statistics of all tagged partitions, and count the rejected documents."""
    with ThreadPoolExecutor(8) as pool:  # in HDFS each is a request
        done = [p for p in done_partitions(store, run) if p < run.partitions]
        statistics = dict(zip(done, pool.map(lambda p: read_statistics(store, run, p), done), strict=True))
        rejected = [p for p in rejected_partitions(store, run) if p in statistics]
        lines = pool.map(lambda p: count_rejected(store, layout.rejected(run.folder, p)), rejected)
        return ExpectedCounts(run, statistics, dict(zip(rejected, lines, strict=True)))


def count_rejected(store: Store, path: str) -> int:
    """Return how many documents of a partition Solr rejected; 0 for a damaged list, so that the partition is posted again."""
    try:
        return len(store.read_lines(path))
    except DamagedFileError:
        return 0


def read_tags(store: Store, run: DocumentSet, statistics: dict[str, Any]) -> bytes:
    """Return a partition's documents as JSON lines. Raises `TagsChangedError` where the file isn't as tagging wrote it."""
    path = documents_file(run, statistics["partition"])
    fix = f"repair it with `{run.repair}`"
    try:
        data = store.read_bytes(path)
    except StoreError:
        if store.exists(path):
            raise
        raise TagsChangedError(f"{store.url(path)}: is missing; {fix}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != statistics["sha256"]:
        raise TagsChangedError(
            f"{store.url(path)}: has changed since it was tagged ({len(data):,} bytes of sha256 {digest[:8]} instead of "
            f"{statistics['bytes']:,} of {statistics['sha256'][:8]}); {fix}"
        )
    lines = data.count(b"\n")
    if lines != (number := number_of_documents(statistics)) or (data and not data.endswith(b"\n")):
        raise TagsChangedError(
            f"{store.url(path)}: has {counted(lines, 'line')} where {counted(number, 'document')} should be; {fix}"
        )
    return data


def document_id(line: bytes) -> bytes:
    """Return a document's id without parsing the document; the line itself where it has none."""
    match = _ID.search(line)
    if not match:
        return line
    if b"\\" not in match[2]:
        return match[2]
    try:
        return str(json.loads(match[1])).encode()
    except ValueError:
        return line


def read_rejected_ids(store: Store, run: DocumentSet, partition: int) -> list[bytes]:
    """Return the ids in a partition's ``rejected/``, ``?`` for a line without one; none where there is no such file.

    Raises `DamagedFileError` for a file that isn't as it was written.
    """
    if not store.exists(layout.rejected(run.folder, partition)):
        return []
    ids = []
    for line in store.read_lines(layout.rejected(run.folder, partition)):
        try:
            document = json.loads(line)["document"]
            ids.append(
                document["id"].encode() if isinstance(document, dict) else document_id(document.encode())
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            ids.append(b"?")
    return ids


def name_partitions(numbers: list[int]) -> str:
    """Name partitions for people: ``partition 12``, ``4 partitions (12, 13, 14, ...)``."""
    if len(numbers) == 1:
        return f"partition {numbers[0]}"
    return f"{counted(len(numbers), 'partition')} ({listed(numbers, 3)})"
