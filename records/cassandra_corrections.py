"""Corrections in Cassandra, partitioned by image; what concerns a person reads all of them."""

import time
from collections.abc import Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from ingest.corpus import Corpus
from records.cassandra import CassandraDatabase, now
from records.corrections import (
    LONGEST_NAME,
    NAMES,
    OF_IMAGE,
    Contributor,
    Correction,
    Corrections,
    Label,
    check_labels,
    correction_of,
    sort_key,
)
from records.predictions import number_of

_IMAGE = 'corpus = ? AND corpus_hash = ? AND "partition" = ? AND "row" = ?'
_COLUMNS = "corpus", "corpus_hash", "partition", "row", "number", "label", "by", "at"
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_INSERT = f"INSERT INTO corrections ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"
# What is stored as a whole. Cassandra refuses batches of more than 50 KiB; a label may have 800 bytes.
BATCH, THREADS = 32, 16
# After so long all corrections are read again.
STALE_SECONDS = 60


class CassandraCorrections(CassandraDatabase, Corrections):
    """The corrections in the keyspace at ``url``."""

    def add(self, corpus: Corpus, partition: int, row: int, label: str, by: str) -> None:
        self.add_many([Label(corpus, partition, row, label)], by)

    def add_many(self, labels: Iterable[Label], by: str) -> list[Correction]:
        labels, by = check_labels(labels, by)
        if not labels:
            return []
        added: list[Correction] = []
        with ThreadPoolExecutor(min(THREADS, len(labels))) as pool:
            for n in range(0, len(labels), BATCH):
                claimed = pool.map(lambda one: self._claimed(one, by), labels[n : n + BATCH])
                rows = [one for one in claimed if one is not None]
                # What a batch has is stored as a whole, also where its rows are on several nodes.
                self.execute_batch(_INSERT, [tuple(getattr(one, name) for name in _COLUMNS) for one in rows])
                added += rows
        self._changed()
        return added

    def _claimed(self, label: Label, by: str) -> Correction | None:
        """Return a label as a correction with a number of its own; None where it is the image's newest already."""
        corpus, partition, row, text = label
        place = corpus.name, corpus.hash, partition, row
        of_image = f"SELECT * FROM corrections WHERE {_IMAGE}"
        last, in_effect = 0, None
        with self._errors():
            for one in self.execute(of_image, place, write=True, rows=OF_IMAGE):
                last = max(last, one.number)
                if one.undone_at is None:
                    in_effect = one
                    break
        if in_effect and (in_effect.label, in_effect.by) == (text, by):
            return None
        number = max(number_of(datetime.now(UTC)), last + 1)
        while not self.claim(number, f"{of_image} AND number = ?", place):
            number += 1
        return Correction(number, *place, text, by, now())

    def undo(self, corpus: Corpus, partition: int, row: int, number: int, undone_by: str = "") -> bool:
        key = corpus.name, corpus.hash, partition, row, number
        rows = list(self.execute(f"SELECT undone_at FROM corrections WHERE {_IMAGE} AND number = ?", key))
        return self._undo([key for one in rows if one.undone_at is None], undone_by) > 0

    def undo_many(self, corrections: Iterable[Correction], undone_by: str = "") -> int:
        keys = {_key(one) for one in corrections}
        query = f"SELECT undone_at FROM corrections WHERE {_IMAGE} AND number = ?"
        in_force = [key for key in keys if any(one.undone_at is None for one in self.execute(query, key))]
        return self._undo(in_force, undone_by)

    def undo_all(
        self,
        by: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        undone_by: str = "",
    ) -> int:
        return self._undo(
            [
                _key(one)
                for one in self._all(by)
                if one.undone_at is None
                and (not since or _utc(one.at) >= since.replace(microsecond=0))
                and (not until or _utc(one.at) < until.replace(microsecond=0))
            ],
            undone_by,
        )

    def restore(self, by: str | None = None, since: datetime | None = None) -> int:
        keys = [
            _key(one)
            for one in self._all(by)
            if one.undone_at is not None
            and (not since or _utc(one.undone_at) >= since.replace(microsecond=0))
        ]
        return self._change([(None, None, *key) for key in keys])

    def names(self) -> list[Contributor]:
        people: dict[str, list[Any]] = {}
        for one in self._all():
            people.setdefault(one.by, []).append(one)
        newest_first = sorted(people.items(), key=lambda item: -max(one.number for one in item[1]))
        return [
            Contributor(
                name,
                sum(one.undone_at is None for one in theirs),
                sum(one.undone_at is not None for one in theirs),
                min(_utc(one.at) for one in theirs),
                max(_utc(one.at) for one in theirs),
            )
            for name, theirs in newest_first[:NAMES]
        ]

    def of_image(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        place, corrections = (corpus.name, corpus.hash, partition, row), []
        with self._errors():
            for one in self.execute(f"SELECT * FROM corrections WHERE {_IMAGE}", place, rows=OF_IMAGE + 1):
                if one.undone_at is None:
                    corrections.append(correction_of(one))
                if len(corrections) == OF_IMAGE:
                    break
        return corrections

    def latest_of_image(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        place, latest = (corpus.name, corpus.hash, partition, row), dict[str, Any]()
        with self._errors():
            for one in self.execute(f"SELECT * FROM corrections WHERE {_IMAGE}", place):  # newest first
                if one.undone_at is None:
                    latest.setdefault(one.by, one)
        return [correction_of(one) for one in latest.values()]

    def newest(self) -> list[Correction]:
        newest: dict[tuple[Any, ...], Any] = {}
        for one in self._all():
            if one.undone_at is None:
                # Those of one image follow each other, newest first.
                newest.setdefault((*_key(one)[:-1], one.by), one)
        return sorted(map(correction_of, newest.values()), key=sort_key)

    def version(self) -> Hashable:
        row = self.execute("SELECT version FROM correction_changes WHERE one = 0")
        # A process that was killed may have stored something without its new version.
        return tuple(row), int(time.time() // STALE_SECONDS)

    def _changed(self) -> None:
        self.execute("INSERT INTO correction_changes (one, version) VALUES (0, now())", write=True)

    def _all(self, by: str | None = None) -> list[Any]:
        by = None if by is None else " ".join(by.split())
        with self._errors():
            return [one for one in self.execute("SELECT * FROM corrections") if by in (None, one.by)]

    def _undo(self, keys: list[tuple[Any, ...]], undone_by: str) -> int:
        return self._change([(now(), undone_by[:LONGEST_NAME], *key) for key in keys])

    def _change(self, values: list[tuple[Any, ...]]) -> int:
        if values:
            change = f"UPDATE corrections SET undone_at = ?, undone_by = ? WHERE {_IMAGE} AND number = ?"
            self.execute_all(change, values)
            self._changed()
        return len(values)


def _utc(time: datetime) -> datetime:
    """Return a time of the driver's, which has no zone, in UTC."""
    return time.replace(tzinfo=UTC)


def _key(row: Any) -> tuple[Any, ...]:
    return row.corpus, row.corpus_hash, row.partition, row.row, row.number
