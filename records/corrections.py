"""What people said that images show where a model was wrong: a table in a database, newest word last, to be trained on.

SQLite by default; PostgreSQL and MariaDB have been tried.
"""

import contextlib
import time
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
from ingest.image import IMAGE_BYTES
from storage.store import FileUnavailableError, StoreUnavailableError

LONGEST_NAME = 80
# Of an image; all are kept.
MOST_SHOWN = 20
# So long nobody waits for a database that has just not answered.
AWAY_SECONDS = 5
# The drivers that can be told to wait less than a minute or two for a host that says nothing.
_TIMED = ("psycopg", "psycopg2", "pymysql", "mysqldb", "mysqlconnector")
_CONNECT_SECONDS = 2


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


class Corrections:
    """The table of corrections in the database at ``url``; for many threads. Every method raises `DatabaseError`.

    Nothing is made before the first correction is: reading a database that isn't there finds none.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._away: tuple[float, DatabaseError] | None = None

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
        """Return the last `MOST_SHOWN` corrections of an image, newest first: the first is the one that counts."""
        with self._begin() as connection:
            newest = _newest_first(self._table, corpus, partition, row).limit(MOST_SHOWN)
            rows = connection and connection.execute(newest)
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
        try:
            import sqlalchemy
        except ImportError:
            raise DatabaseError("corrections need SQLAlchemy: pip install 'sqlalchemy>=2'") from None
        try:
            url = sqlalchemy.make_url(self.url)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            # Where a password would stand in it can't be told.
            shown = f"{self.url.partition('://')[0]}://..." if "://" in self.url else self.url
            raise DatabaseError(f"setting database is {shown!r}; {_LOOKS}") from None
        shown = url.render_as_string()
        if _is_sqlite(url) and url.database in (None, "", ":memory:"):
            raise DatabaseError(f"setting database is {shown!r}, in memory, where nothing is kept; {_LOOKS}")
        try:
            if _is_sqlite(url):  # opened anew each time, it is never a file that was removed since
                return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
            limits = {}
            if url.get_driver_name() in _TIMED and "connect_timeout" not in url.query:
                limits["connect_timeout"] = _CONNECT_SECONDS
            return sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=limits)
        except sqlalchemy.exc.ArgumentError:
            raise DatabaseError(f"setting database is {shown!r}; {_LOOKS}") from None
        except ImportError as error:
            raise DatabaseError(f"setting database is {shown!r}: {error}; install its driver") from None

    @contextlib.contextmanager
    def _begin(self, write: bool = False) -> Iterator:
        """Give a connection within a transaction; None where nobody has written yet and ``write`` is false."""
        if self._away and not write and time.monotonic() < self._away[0]:
            raise self._away[1]
        engine = self._engine
        import sqlalchemy

        try:
            if not self._make(write):
                yield None
                return
            with engine.begin() as connection:
                yield connection
            self._away = None
        except (sqlalchemy.exc.SQLAlchemyError, OSError, OverflowError) as error:
            reason = (str(getattr(error, "orig", None) or error) or type(error).__name__).splitlines()[0]
            told = DatabaseError(f"database {self.address!r} (setting database): {reason}")
            self._away = time.monotonic() + AWAY_SECONDS, told
            raise told from None

    def _make(self, write: bool) -> bool:
        """Make the table where something is to be written; return whether it is there."""
        import sqlalchemy

        engine = self._engine
        file = engine.url.database if _is_sqlite(engine.url) else "file:"
        plain = not file.startswith("file:")  # else it is a URI, of which SQLite alone knows where it leads
        if write:
            if plain:
                Path(file).parent.mkdir(parents=True, exist_ok=True)
            try:
                self._table.metadata.create_all(engine)
            except sqlalchemy.exc.DBAPIError:  # somebody else may have made it at this moment
                if not sqlalchemy.inspect(engine).has_table(self._table.name):
                    raise
            return True
        if plain and not Path(file).exists():
            return False
        return sqlalchemy.inspect(engine).has_table(self._table.name)


_LOOKS = "it has to look like sqlite:///data/tinytags.db or postgresql://USER@HOST/NAME"


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


def read_corrected(
    store, corrections: Iterable[Correction], classes: list[str]
) -> tuple[list[Correction], np.ndarray, np.ndarray, list[str]]:
    """Return the corrections that can be learnt, their images (n, 3072) uint8 and labels (n,) int32, and why others can't be.

    A label is the number of one of ``classes``. Raises `FileUnavailableError` and `StoreUnavailableError` where that can't be told now.
    """
    corpora = dict.fromkeys(list_corpora(store))
    found, images, labels, reasons = [], [], [], Counter()
    for correction in corrections:
        name = correction.corpus
        if correction.label not in classes:
            reasons[f"{correction.label!r}, which is none of the classes"] += 1
            continue
        if name not in corpora:
            reasons[f"of corpus {name!r}, which is not in {store.url()}"] += 1
            continue
        try:
            corpus = corpora[name] = corpora[name] or open_corpus(store, name)
            if corpus.hash != correction.corpus_hash:
                reasons[f"of a corpus {name!r} that had other contents"] += 1
                continue
            images.append(read_image(store, corpus, correction.partition, correction.row).images[0])
        except (FileUnavailableError, StoreUnavailableError):
            raise
        except TinyTagsError:
            reasons[f"of images of corpus {name!r} that can't be read"] += 1
            continue
        labels.append(classes.index(correction.label))
        found.append(correction)
    told = [f"{count:,} {reason}" for reason, count in reasons.items()]
    return found, np.array(images, np.uint8).reshape(-1, IMAGE_BYTES), np.array(labels, np.int32), told
