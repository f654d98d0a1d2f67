"""The records of a corpus that can't be decoded: a file of JSON lines for each partition that has some."""

import json
from collections.abc import Sequence
from typing import TypedDict

from conf.errors import TinyTagsError
from ingest.corpus import Corpus
from storage import layout
from storage.store import DamagedFileError, FileMissingError, Store

# How many bad records one error names.
_NAMED = 5


class BadRecord(TypedDict):
    """A record without an image: its row in the partition, its name where the source has names, and the reason."""

    row: int
    name: str | None
    reason: str


class BadRecordsError(TinyTagsError):
    """Records that can't be decoded, where these are to stop their partition (--strict); ``count`` of them were found."""

    def __init__(self, message: str, count: int) -> None:
        super().__init__(message)
        self.count = count

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return type(self), (str(self), self.count)


def describe(record: BadRecord) -> str:
    """Return a record in a few words: its name, else its row, and the reason."""
    return f"{record['name'] or 'row {:,}'.format(record['row'])}: {record['reason']}"


def strict_error(records: Sequence[BadRecord]) -> BadRecordsError:
    """Return the error that names the first of ``records``."""
    more = f"; and {len(records) - _NAMED:,} more" if len(records) > _NAMED else ""
    named = "; ".join(map(describe, records[:_NAMED]))
    return BadRecordsError(
        f"{named}{more} (repair or remove them, or leave --strict out to skip them)", len(records)
    )


def write_bad(store: Store, corpus: str, partition: int, records: Sequence[BadRecord]) -> None:
    """Write the bad records of a partition; none of an earlier attempt are left."""
    path = layout.corpus_bad(corpus, partition)
    if records:
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        store.write_lines(path, "".join(lines).encode("utf-8", "replace"))
    else:
        store.remove(path)


def read_bad(store: Store, corpus: str, partition: int) -> list[BadRecord]:
    """Return the bad records of a partition, by row; raises `DamagedFileError` for a file that isn't as it was written."""
    path = layout.corpus_bad(corpus, partition)
    try:
        return [
            BadRecord(row=int(record["row"]), name=record["name"], reason=str(record["reason"]))
            for record in map(json.loads, store.read_lines(path))
        ]
    except FileMissingError:
        return []
    except (DamagedFileError, ValueError, KeyError, TypeError):
        raise DamagedFileError(
            f"{store.url(path)}: is not as it was written; `tinytags ingest` with --partition writes it again",
            path,
        ) from None


def read_bad_records(store: Store, corpus: Corpus) -> frozenset[int]:
    """Return the numbers, within the dump, of all bad records of a corpus."""
    partitions = layout.partitions_in(store.list(layout.corpus_bad_folder(corpus.name)), ".jsonl")
    return frozenset(
        corpus.rows(partition)[0] + record["row"]
        for partition in partitions
        if partition < corpus.partitions
        for record in read_bad(store, corpus.name, partition)
    )
