"""Corrections in Cassandra, partitioned by image; what concerns a person reads all of them."""

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
    check_words,
    correction_of,
)
from records.predictions import number_of

_IMAGE = 'corpus = ? AND corpus_hash = ? AND "partition" = ? AND "row" = ?'


class CassandraCorrections(CassandraDatabase, Corrections):
    """The corrections in the keyspace at ``url``."""

    def add(self, corpus: Corpus, partition: int, row: int, label: str, by: str) -> None:
        label, by = check_words(label, by)
        place = corpus.name, corpus.hash, partition, row
        of_image = f"SELECT * FROM corrections WHERE {_IMAGE}"
        insert = f'INSERT INTO corrections (corpus, corpus_hash, "partition", "row", number, label, "by", at) VALUES ({", ".join("?" * 8)})'
        last, in_effect = 0, None
        with self._errors():
            for one in self.execute(of_image, place, write=True, rows=OF_IMAGE):
                last = max(last, one.number)
                if one.undone_at is None:
                    in_effect = one
                    break
        if in_effect and (in_effect.label, in_effect.by) == (label, by):
            return
        number = max(number_of(datetime.now(UTC)), last + 1)
        while not self.claim(number, f"{of_image} AND number = ?", place):
            number += 1
        self.execute(insert, [*place, number, label, by, now()], write=True)

    def undo(self, corpus: Corpus, partition: int, row: int, number: int, undone_by: str = "") -> bool:
        key = corpus.name, corpus.hash, partition, row, number
        found = list(self.execute(f"SELECT undone_at FROM corrections WHERE {_IMAGE} AND number = ?", key))
        return self._undo([key for one in found if one.undone_at is None], undone_by) > 0

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
        place, found = (corpus.name, corpus.hash, partition, row), []
        with self._errors():
            for one in self.execute(f"SELECT * FROM corrections WHERE {_IMAGE}", place, rows=OF_IMAGE + 1):
                if one.undone_at is None:
                    found.append(correction_of(one))
                if len(found) == OF_IMAGE:
                    break
        return found

    def newest(self) -> list[Correction]:
        newest: dict[tuple[Any, ...], Any] = {}
        for one in self._all():
            if one.undone_at is None:
                # Those of one image follow each other, newest first.
                newest.setdefault(_key(one)[:-1], one)
        return [correction_of(newest[place]) for place in sorted(newest)]

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
        return len(values)


def _utc(time: datetime) -> datetime:
    """Return a time of the driver's, which has no zone, in UTC."""
    return time.replace(tzinfo=UTC)


def _key(row: Any) -> tuple[Any, ...]:
    return row.corpus, row.corpus_hash, row.partition, row.row, row.number
