"""Corrections in a SQL database: SQLite by default, or any that SQLAlchemy has a driver for.

SQLAlchemy is imported when the database is first used, Alembic when a migration has to run: neither delays the start of
the search page, and most commands need neither.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.addresses import without_passwords
from ingest.corpus import Corpus
from ingest.formats.dump import LONGEST_CLASS
from records.corrections import (
    LONGEST_NAME,
    NAMES,
    OF_IMAGE,
    Contributor,
    Correction,
    Corrections,
    DatabaseError,
    check_words,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, Table
    from sqlalchemy.engine import URL

# The revision of `SqlCorrections.table`: the last module of records/migrations.
REVISION = "0002"
# A name of our own, because a database may hold another application's tables as well.
VERSION_TABLE = "tinytags_version"

# For so many seconds after a failure, reads fail at once instead of each waiting for the database again.
FAILURE_SECONDS = 5
# The drivers that take a time limit; otherwise they wait a minute or two for a host that doesn't answer.
_TIMED = ("psycopg", "psycopg2", "pymysql", "mysqldb", "mysqlconnector")
_CONNECT_SECONDS = 2
_FORM = "write a URL like sqlite:///data/tinytags.db or postgresql://USER@HOST/NAME"


class SqlCorrections(Corrections):
    """The corrections in the SQL database at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._failure: tuple[float, str] | None = None

    @property
    def address(self) -> str:
        return without_passwords(self.engine.url.render_as_string())

    def add(self, corpus: Corpus, partition: int, row: int, label: str, by: str) -> None:
        label, by = check_words(label, by)
        with self._begin(write=True) as connection:
            assert connection is not None
            last = connection.execute(self._newest_first(corpus, partition, row)).first()
            if last is None or (last.label, last.by) != (label, by):
                connection.execute(
                    self.table.insert().values(
                        corpus=corpus.name, corpus_hash=corpus.hash, partition=partition, row=row, label=label, by=by,
                        at=_stored(datetime.now(UTC)),
                    )
                )  # fmt: skip

    def undo(self, corpus: Corpus, partition: int, row: int, number: int, undone_by: str = "") -> bool:
        one = self._of_image(corpus, partition, row), self.table.c.number == number
        return self._undo(undone_by, *one) > 0

    def undo_all(
        self,
        by: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        undone_by: str = "",
    ) -> int:
        columns = self.table.c
        filters = self._of_name(by)
        filters += [columns.at >= _stored(since)] if since else []
        filters += [columns.at < _stored(until)] if until else []
        return self._undo(undone_by, *filters)

    def restore(self, by: str | None = None, since: datetime | None = None) -> int:
        undone_at = self.table.c.undone_at
        filters = [undone_at.is_not(None), *self._of_name(by)]
        filters += [undone_at >= _stored(since)] if since else []
        change = self.table.update().where(*filters).values(undone_at=None, undone_by=None)
        with self._begin() as connection:
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
        with self._begin() as connection:
            rows = connection.execute(query) if connection else ()
            return [
                Contributor(name, count, undone, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))
                for name, count, undone, first, last in rows
            ]

    def of_image(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        newest = self._newest_first(corpus, partition, row).limit(OF_IMAGE)
        with self._begin() as connection:
            return [_correction(row) for row in connection.execute(newest)] if connection else []

    def newest(self) -> list[Correction]:
        from sqlalchemy import func, select

        c = self.table.c
        # An index has all of it: only the rows of the result are read from the table.
        last = select(func.max(c.number)).where(c.undone_at.is_(None))
        last = last.group_by(c.corpus, c.corpus_hash, c.partition, c.row)
        with self._begin() as connection:
            rows = connection.execute(self.table.select().where(c.number.in_(last))) if connection else ()
            corrections = map(_correction, rows)
            # Not by the database, whose order of letters depends on its settings.
            return sorted(corrections, key=lambda one: (one.corpus, one.corpus_hash, one.partition, one.row))

    @cached_property
    def table(self) -> "Table":
        """The table as the last migration leaves it."""
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
            Column("undone_at", DateTime),
            Column("undone_by", String(LONGEST_NAME)),
            Index("corrections_newest", "corpus", "corpus_hash", "partition", "row", "undone_at", "number"),
            Index("corrections_by", "by", "at"),
            sqlite_autoincrement=True,  # as version 0.1 made it, which deleted rows
        )  # fmt: skip

    @cached_property
    def engine(self) -> "Engine":
        """SQLAlchemy's engine. Raises `DatabaseError` for a URL that it can't open."""
        try:
            import sqlalchemy
        except ImportError:
            raise DatabaseError("corrections need SQLAlchemy: pip install 'sqlalchemy>=2'") from None
        try:
            url = sqlalchemy.make_url(self.url)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            # Nothing after the scheme is printed: a password could be anywhere in it.
            scheme, colon, _ = self.url.partition("://")
            address = f"{scheme}://..." if colon else scheme.rpartition("@")[2]
            raise DatabaseError(f"setting database is {address!r}; {_FORM}") from None
        address = url.render_as_string()
        if _is_sqlite(url) and url.database in (None, "", ":memory:"):
            raise DatabaseError(f"setting database is {address!r}, in memory, where nothing is kept; {_FORM}")
        try:
            if _is_sqlite(url):  # without a pool, no connection is to a file that was removed since
                return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
            limits: dict[str, Any] = {}
            if url.get_driver_name() in _TIMED and "connect_timeout" not in url.query:
                limits["connect_timeout"] = _CONNECT_SECONDS
            return sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=limits)
        except sqlalchemy.exc.ArgumentError:
            raise DatabaseError(f"setting database is {address!r}; {_FORM}") from None
        except ImportError as error:
            raise DatabaseError(f"setting database is {address!r}: {error}; install its driver") from None

    @contextlib.contextmanager
    def _begin(self, write: bool = False) -> Iterator["Connection | None"]:
        """Give a connection in a transaction; None where there is no table yet and ``write`` is false."""
        if self._failure and not write and time.monotonic() < self._failure[0]:
            raise DatabaseError(self._failure[1])
        engine = self.engine
        import sqlalchemy

        try:
            with contextlib.ExitStack() as stack:
                yield self._connect(engine, stack, write)
            self._failure = None
        except (sqlalchemy.exc.SQLAlchemyError, OSError, OverflowError) as error:
            reason = (str(getattr(error, "orig", None) or error) or type(error).__name__).splitlines()[0]
            message = f"database {self.address!r} (setting database): {reason}"
            self._failure = time.monotonic() + FAILURE_SECONDS, message
            raise DatabaseError(message) from None

    def _connect(self, engine: "Engine", stack: contextlib.ExitStack, write: bool) -> "Connection | None":
        """Return a connection to a database whose tables are there and up to date; None where there are none."""
        if not _may_exist(engine.url, write):
            return None
        import sqlalchemy

        connection = stack.enter_context(engine.begin())
        inspector, revision = sqlalchemy.inspect(connection), None
        if inspector.has_table(VERSION_TABLE):
            revision = connection.execute(
                sqlalchemy.text(f"SELECT max(version_num) FROM {VERSION_TABLE}")
            ).scalar()
        if revision is None and not write:  # no table yet, or the one of version 0.1, which wrote no revision
            if not inspector.has_table(self.table.name):
                return None
            revision = "0001"
        if revision == REVISION:
            return connection
        stack.close()  # a migration locks the database
        from records import migrations

        migrations.upgrade(engine, VERSION_TABLE)
        return stack.enter_context(engine.begin())

    def _of_image(self, corpus: Corpus, partition: int, row: int) -> "ColumnElement[bool]":
        from sqlalchemy import and_

        columns = self.table.c
        return and_(
            columns.corpus == corpus.name, columns.corpus_hash == corpus.hash, columns.partition == partition, columns.row == row
        )  # fmt: skip

    def _of_name(self, by: str | None) -> "list[ColumnElement[bool]]":
        return [] if by is None else [self.table.c.by == " ".join(by.split())]

    def _undo(self, undone_by: str, *filters: "ColumnElement[bool]") -> int:
        values = {"undone_at": _stored(datetime.now(UTC)), "undone_by": undone_by[:LONGEST_NAME]}
        change = self.table.update().where(self.table.c.undone_at.is_(None), *filters).values(**values)
        with self._begin() as connection:
            return connection.execute(change).rowcount if connection else 0

    def _newest_first(self, corpus: Corpus, partition: int, row: int) -> "Select[Any]":
        return (
            self.table.select()
            .where(self._of_image(corpus, partition, row), self.table.c.undone_at.is_(None))
            .order_by(self.table.c.number.desc())
        )


def _is_sqlite(url: "URL") -> bool:
    return url.get_backend_name() == "sqlite"


def _may_exist(url: "URL", write: bool) -> bool:
    """Return whether there may be a database; its folder is made where something is to be written."""
    # Only SQLite can read what begins with "file:".
    if not _is_sqlite(url) or not url.database or url.database.startswith("file:"):
        return True
    if write:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return write or Path(url.database).exists()


def _stored(time: datetime) -> datetime:
    """Return a time as the table has it: UTC without a zone, whole seconds."""
    return time.astimezone(UTC).replace(tzinfo=None, microsecond=0)


def _correction(row: "Row[Any]") -> Correction:
    values = {field.name: getattr(row, field.name) for field in fields(Correction)}
    return Correction(**values | {"at": row.at.replace(tzinfo=UTC)})
