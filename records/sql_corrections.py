"""Corrections in a SQL database."""

from collections.abc import Hashable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ingest.corpus import Corpus
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
from records.sql import SqlDatabase, stored_time, tables

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select, Table

_PLACE = "corpus", "corpus_hash", "partition", "row"
_OF_IMAGE = tuple(f"of_{name}" for name in _PLACE)
# How many corrections one statement undoes by number: databases limit the values of a statement.
NUMBERS = 1000


class SqlCorrections(SqlDatabase, Corrections):
    """The corrections in the SQL database at ``url``."""

    def add(self, corpus: Corpus, partition: int, row: int, label: str, by: str) -> None:
        self.add_many([Label(corpus, partition, row, label)], by)

    def add_many(self, labels: Iterable[Label], by: str) -> list[Correction]:
        labels, by = check_labels(labels, by)
        added: list[Correction] = []
        if not labels:
            return added
        from sqlalchemy import and_, bindparam, select

        # Made once: making a statement takes longer than executing it.
        c = self.table.c
        of_image = and_(*(c[name] == bindparam(bound) for name, bound in zip(_PLACE, _OF_IMAGE, strict=True)))
        newest = (
            select(c.label, c.by).where(of_image, c.undone_at.is_(None)).order_by(c.number.desc()).limit(1)
        )
        insert = self.table.insert()
        with self.begin(write=True) as connection:
            assert connection is not None
            for corpus, partition, row, label in labels:
                place = corpus.name, corpus.hash, partition, row
                last = connection.execute(newest, dict(zip(_OF_IMAGE, place, strict=True))).first()
                if last is None or tuple(last) != (label, by):
                    at = datetime.now(UTC).replace(microsecond=0)
                    values = dict(zip(_PLACE, place, strict=True))
                    values |= {"label": label, "by": by, "at": stored_time(at)}
                    key = connection.execute(insert, values).inserted_primary_key
                    assert key is not None
                    added.append(Correction(key[0], *place, label, by, at))
        return added

    def undo(self, corpus: Corpus, partition: int, row: int, number: int, undone_by: str = "") -> bool:
        one = [self._of_image(corpus, partition, row), self.table.c.number == number]
        return self._undo(undone_by, one) > 0

    def undo_many(self, corrections: Iterable[Correction], undone_by: str = "") -> int:
        numbers = sorted({one.number for one in corrections})
        groups = (numbers[n : n + NUMBERS] for n in range(0, len(numbers), NUMBERS))
        selections: list[list[ColumnElement[bool]]] = [[self.table.c.number.in_(group)] for group in groups]
        return self._undo(undone_by, *selections)

    def undo_all(
        self,
        by: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        undone_by: str = "",
    ) -> int:
        columns = self.table.c
        filters = self._of_name(by)
        filters += [columns.at >= stored_time(since)] if since else []
        filters += [columns.at < stored_time(until)] if until else []
        return self._undo(undone_by, filters)

    def restore(self, by: str | None = None, since: datetime | None = None) -> int:
        undone_at = self.table.c.undone_at
        filters = [undone_at.is_not(None), *self._of_name(by)]
        filters += [undone_at >= stored_time(since)] if since else []
        change = self.table.update().where(*filters).values(undone_at=None, undone_by=None)
        with self.begin() as connection:
            return connection.execute(change).rowcount if connection else 0

    def names(self) -> list[Contributor]:
        from sqlalchemy import func, select

        c = self.table.c
        in_effect, last = func.count() - func.count(c.undone_at), func.max(c.at)
        query = (
            select(c.by, in_effect, func.count(c.undone_at), func.min(c.at), last)
            .group_by(c.by)
            .order_by(func.max(c.number).desc())
            .limit(NAMES)
        )
        with self.begin() as connection:
            rows = connection.execute(query) if connection else ()
            return [
                Contributor(name, count, undone, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))
                for name, count, undone, first, last in rows
            ]

    def of_image(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        newest = self._newest_first(corpus, partition, row).limit(OF_IMAGE)
        with self.begin() as connection:
            return [correction_of(row) for row in connection.execute(newest)] if connection else []

    def latest_of_image(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        from sqlalchemy import func, select

        c = self.table.c
        last = select(func.max(c.number)).where(self._of_image(corpus, partition, row), c.undone_at.is_(None))
        latest = self.table.select().where(c.number.in_(last.group_by(c.by))).order_by(c.number.desc())
        with self.begin() as connection:
            return [correction_of(one) for one in connection.execute(latest)] if connection else []

    def newest(self) -> list[Correction]:
        from sqlalchemy import func, select

        c = self.table.c
        last = select(func.max(c.number)).where(c.undone_at.is_(None))
        last = last.group_by(c.corpus, c.corpus_hash, c.partition, c.row, c.by)
        with self.begin() as connection:
            rows = connection.execute(self.table.select().where(c.number.in_(last))) if connection else ()
            return sorted(map(correction_of, rows), key=sort_key)

    def version(self) -> Hashable:
        from sqlalchemy import BigInteger, case, cast, func, select

        c = self.table.c
        undone = func.sum(case((c.undone_at.is_not(None), cast(c.number, BigInteger)), else_=0))
        # The number of rows too: where several transactions write, one with a lower number may be committed last.
        query = select(
            func.max(c.number), func.count(), func.count(c.undone_at), undone, func.max(c.undone_at)
        )
        with self.begin() as connection:
            return tuple(connection.execute(query).one()) if connection else None

    @property
    def table(self) -> "Table":
        """The table as the last migration leaves it."""
        return tables()["corrections"]

    def _of_image(self, corpus: Corpus, partition: int, row: int) -> "ColumnElement[bool]":
        from sqlalchemy import and_

        columns = self.table.c
        return and_(
            columns.corpus == corpus.name, columns.corpus_hash == corpus.hash, columns.partition == partition, columns.row == row
        )  # fmt: skip

    def _of_name(self, by: str | None) -> "list[ColumnElement[bool]]":
        return [] if by is None else [self.table.c.by == " ".join(by.split())]

    def _undo(self, undone_by: str, *selections: "list[ColumnElement[bool]]") -> int:
        """Undo, in one transaction, what meets all filters of a selection; return the number."""
        values = {"undone_at": stored_time(datetime.now(UTC)), "undone_by": undone_by[:LONGEST_NAME]}
        change = self.table.update().where(self.table.c.undone_at.is_(None)).values(**values)
        with self.begin() as connection:
            if connection is None:
                return 0
            return sum(connection.execute(change.where(*filters)).rowcount for filters in selections)

    def _newest_first(self, corpus: Corpus, partition: int, row: int) -> "Select[Any]":
        return (
            self.table.select()
            .where(self._of_image(corpus, partition, row), self.table.c.undone_at.is_(None))
            .order_by(self.table.c.number.desc())
        )
