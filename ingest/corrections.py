"""What people said that images show where a model was wrong: a table in a database, newest word last, to be trained on.

SQLite by default; any database of which SQLAlchemy has a dialect (https://docs.sqlalchemy.org/en/20/dialects/).
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from conf.errors import TinyTagsError
from ingest.corpus import Corpus, list_corpora, open_corpus, read_image
from ingest.formats.dump import LONGEST_CLASS

LONGEST_NAME = 80
# In a URL that can't be parsed.
_PASSWORD = re.compile(r":[^:@/]*@")


class BadCorrectionError(TinyTagsError):
    """A correction that says nothing, or nobody: the message says what is wrong with it."""


class DatabaseError(TinyTagsError):
    """The database doesn't answer, or can't be used."""


@dataclass(frozen=True)
class Correction:
    """What somebody said of one image."""

    number: int
    corpus: str
    corpus_hash: str
    partition: int
    row: int
    label: str
    by: str
    at: datetime  # UTC


@dataclass(frozen=True)
class Corrected:
    """An image to train on for what people said of it; ``label`` is the number of a class."""

    corpus: Corpus
    partition: int
    row: int
    label: int


class Corrections:
    """The table of corrections in the database at ``url``; for many threads. Every method raises `DatabaseError`.

    Nothing is made before the first correction is: reading a database that isn't there finds none.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string()

    def add(self, corpus: Corpus, partition: int, row: int, label: str, by: str) -> None:
        """Store what ``by`` says that an image shows; the same said twice, one after the other, is stored once.

        Raises `BadCorrectionError` for a label or a name that is empty, too long or can't be printed.
        """
        label, by = (
            _words("the label", label, LONGEST_CLASS),
            _words("your name", " ".join(by.split()), LONGEST_NAME),
        )
        with self._begin(write=True) as connection:
            last = connection.execute(_newest_first(self._table, corpus, partition, row)).first()
            if last is None or (last.label, last.by) != (label, by):
                connection.execute(
                    self._table.insert().values(
                        corpus=corpus.name, corpus_hash=corpus.hash, partition=partition, row=row, label=label, by=by,
                        at=datetime.now(UTC).replace(tzinfo=None, microsecond=0),
                    )
                )  # fmt: skip

    def remove(self, corpus: Corpus, partition: int, row: int, number: int) -> bool:
        """Take one correction of an image back; return whether there was one."""
        columns = self._table.c
        one = self._table.delete().where(
            _of_image(self._table, corpus, partition, row), columns.number == number
        )
        with self._begin() as connection:
            return connection is not None and connection.execute(one).rowcount > 0

    def of(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        """Return the corrections of an image, newest first: the first is the one that counts."""
        with self._begin() as connection:
            rows = connection and connection.execute(_newest_first(self._table, corpus, partition, row))
            return [_correction(row) for row in rows or ()]

    def newest(self) -> list[Correction]:
        """Return for every image that was corrected what was said last, in the order of corpora, partitions and rows."""
        with self._begin() as connection:
            rows = connection and connection.execute(self._table.select().order_by(self._table.c.number))
            said = {
                (row.corpus, row.corpus_hash, row.partition, row.row): _correction(row) for row in rows or ()
            }
            return [said[place] for place in sorted(said)]

    @cached_property
    def _table(self):
        from sqlalchemy import Column, DateTime, Index, Integer, MetaData, String, Table

        return Table(
            "corrections", MetaData(),
            Column("number", Integer, primary_key=True),
            Column("corpus", String(100), nullable=False),
            Column("corpus_hash", String(64), nullable=False),
            Column("partition", Integer, nullable=False),
            Column("row", Integer, nullable=False),
            Column("label", String(LONGEST_CLASS), nullable=False),
            Column("by", String(LONGEST_NAME), nullable=False),
            Column("at", DateTime, nullable=False),
            Index("corrections_of_image", "corpus", "partition", "row"),
            sqlite_autoincrement=True,  # the number of one that was removed is never that of another
        )  # fmt: skip

    @cached_property
    def _engine(self):
        import sqlalchemy

        try:
            url = sqlalchemy.make_url(self.url)
            if _is_sqlite(url):  # opened anew each time, it is never a file that was removed since
                return sqlalchemy.create_engine(
                    url, poolclass=sqlalchemy.NullPool, connect_args={"timeout": 5}
                )
            return sqlalchemy.create_engine(url, pool_pre_ping=True)
        except sqlalchemy.exc.ArgumentError:
            raise DatabaseError(
                f"setting database is {_PASSWORD.sub(':***@', self.url)!r}; it has to look like sqlite:///data/tinytags.db or postgresql://USER@HOST/NAME"
            ) from None
        except ImportError as error:
            raise DatabaseError(
                f"setting database is {url.render_as_string()!r}: {error}; install its driver"
            ) from None

    @contextlib.contextmanager
    def _begin(self, write: bool = False) -> Iterator:
        """Give a connection within a transaction; None where nobody has written yet and ``write`` is false."""
        import sqlalchemy

        engine = self._engine
        try:
            if not self._make(write):
                yield None
                return
            with engine.begin() as connection:
                yield connection
        except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise DatabaseError(f"database {self.address!r} (setting database): {reason}") from None

    def _make(self, write: bool) -> bool:
        """Make the table where something is to be written; return whether it is there."""
        import sqlalchemy

        engine = self._engine
        file = engine.url.database if _is_sqlite(engine.url) else None
        if write:
            if file:
                Path(file).parent.mkdir(parents=True, exist_ok=True)
            try:
                self._table.metadata.create_all(engine)
            except sqlalchemy.exc.DBAPIError:  # somebody else may have made it at this moment
                if not sqlalchemy.inspect(engine).has_table(self._table.name):
                    raise
            return True
        return (file is None or Path(file).exists()) and sqlalchemy.inspect(engine).has_table(
            self._table.name
        )


def _is_sqlite(url) -> bool:
    return url.get_backend_name() == "sqlite"


def _of_image(table, corpus: Corpus, partition: int, row: int):
    from sqlalchemy import and_

    columns = table.c
    return and_(
        columns.corpus == corpus.name, columns.corpus_hash == corpus.hash, columns.partition == partition, columns.row == row
    )  # fmt: skip


def _newest_first(table, corpus: Corpus, partition: int, row: int):
    return table.select().where(_of_image(table, corpus, partition, row)).order_by(table.c.number.desc())


def _correction(row) -> Correction:
    return Correction(**{**row._mapping, "at": row.at.replace(tzinfo=UTC)})


def _words(what: str, value: str, longest: int) -> str:
    if not value:
        raise BadCorrectionError(f"{what} is missing")
    if len(value) > longest or not value.isprintable():
        raise BadCorrectionError(
            f"{what} {value[:longest]!r} won't do: up to {longest} characters that can be printed"
        )
    return value


def trainable(
    store, corrections: Iterable[Correction], classes: list[str]
) -> tuple[list[Corrected], list[str]]:
    """Return what can be trained on to tell ``classes``, and why the others can't be, a reason for all that share it."""
    there = set(list_corpora(store))
    corpora = {name: open_corpus(store, name) for name in {c.corpus for c in corrections} & there}
    found, reasons = [], Counter()
    for correction in corrections:
        corpus = corpora.get(correction.corpus)
        if corpus is None:
            reasons[f"of corpus {correction.corpus!r}, which is not in {store.url()}"] += 1
        elif corpus.hash != correction.corpus_hash:
            reasons[f"of a corpus {correction.corpus!r} that had other contents"] += 1
        elif correction.label not in classes:
            reasons[f"{correction.label!r}, which is none of the classes"] += 1
        else:
            label = classes.index(correction.label)
            found.append(Corrected(corpus, correction.partition, correction.row, label))
    return found, [f"{count:,} {reason}" for reason, count in reasons.items()]


def read_corrected(store, corrected: Iterable[Corrected]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images (1, 3072) and labels (1,), one by one. Raises `StoreError` where a partition can't be read."""
    for one in corrected:
        yield read_image(store, one.corpus, one.partition, one.row).images, np.array([one.label], np.int16)
