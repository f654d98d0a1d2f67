"""A SQL database: its tables, the connection, migrations, time limits and errors. SQLite by default.

SQLAlchemy is imported when the database is first used, Alembic when a migration has to run: neither delays the start of
the search page, and most commands need neither.
"""

import contextlib
import functools
import importlib.util
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.addresses import without_passwords
from ingest.formats.dump import LONGEST_CLASS
from records.corrections import LONGEST_NAME, DatabaseError
from records.database import Database
from records.predictions import LONGEST_FILE_NAME

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table
    from sqlalchemy.engine import URL

# The revision of `tables`: the last module of records/migrations.
REVISION = "0003"
# A name of our own, because a database may hold another application's tables as well.
VERSION_TABLE = "tinytags_version"

# For a URL without a driver; SQLAlchemy's own choice is older, or has to be compiled.
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
# For a connection, and for each answer. Without limits drivers wait minutes for a host that doesn't answer, or for ever.
CONNECT_SECONDS, ANSWER_SECONDS = 2, 2.5
# A connection that is found closed within this time is replaced.
RECONNECT_SECONDS = 0.5
_FORM = "write a URL like sqlite:///data/tinytags.db or postgresql://USER@HOST/NAME"


class TakenError(DatabaseError):
    """A row with this key is there already."""


@functools.cache
def tables() -> "dict[str, Table]":
    """Return the tables as the last migration leaves them, by name."""
    import sqlalchemy as sa
    from sqlalchemy.dialects.mysql import MEDIUMTEXT

    metadata = sa.MetaData()
    sa.Table(
        "corrections", metadata,
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("corpus", sa.String(100), nullable=False),
        sa.Column("corpus_hash", sa.String(64), nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("label", sa.String(LONGEST_CLASS), nullable=False),
        sa.Column("by", sa.String(LONGEST_NAME), nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("undone_at", sa.DateTime),
        sa.Column("undone_by", sa.String(LONGEST_NAME)),
        sa.Index("corrections_newest", "corpus", "corpus_hash", "partition", "row", "undone_at", "number"),
        sa.Index("corrections_by", "by", "at"),
        sqlite_autoincrement=True,  # as version 0.1 made it, which deleted rows
    )  # fmt: skip
    sa.Table(
        "predictions", metadata,
        # What filters need comes first, and the longest last: SQLite reads a row up to the last column that is needed.
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("answer", sa.String(LONGEST_CLASS), nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("corrected", sa.SmallInteger, nullable=False),  # 1 where there is a correction, else 0
        sa.Column("correction", sa.String(LONGEST_CLASS)),
        sa.Column("corrected_by", sa.String(LONGEST_NAME)),
        sa.Column("corrected_at", sa.DateTime),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("milliseconds", sa.Double, nullable=False),
        sa.Column("model_hash", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(LONGEST_FILE_NAME), nullable=False),
        sa.Column("classes", sa.Text().with_variant(MEDIUMTEXT, "mysql", "mariadb"), nullable=False),  # JSON
        sa.Column("image", sa.LargeBinary, nullable=False),
        sa.Index("predictions_answer", "answer", "number"),
        sa.Index("predictions_model", "model", "number"),
        sa.Index("predictions_corrected", "corrected", "number"),
    )  # fmt: skip
    return dict(metadata.tables)


class SqlDatabase(Database):
    """The SQL database at ``url``; the base of the classes for what it holds."""

    @property
    def address(self) -> str:
        return without_passwords(self.engine.url.render_as_string())

    @cached_property
    def engine(self) -> "Engine":
        """SQLAlchemy's engine. Raises `DatabaseError` for a URL that it can't open."""
        try:
            import sqlalchemy
        except ImportError:
            raise DatabaseError("the database needs SQLAlchemy: pip install 'sqlalchemy>=2'") from None
        try:
            url = sqlalchemy.make_url(self.url)
        except (sqlalchemy.exc.ArgumentError, ValueError):
            # Nothing after the scheme is printed: a password could be anywhere in it.
            scheme, colon, _ = self.url.partition("://")
            address = f"{scheme}://..." if colon else scheme.rpartition("@")[2]
            raise DatabaseError(f"setting database is {address!r}; {_FORM}") from None
        driver = _DRIVERS.get(url.drivername, "")
        if driver and importlib.util.find_spec(driver):
            url = url.set(drivername=f"{url.drivername}+{driver}")
        address = url.render_as_string()
        if _is_sqlite(url) and url.database in (None, "", ":memory:"):
            raise DatabaseError(f"setting database is {address!r}, in memory, where nothing is kept; {_FORM}")
        try:
            limits = _limits(url.get_driver_name())
            limits = {name: limit for name, limit in limits.items() if name not in url.query}
            if _is_sqlite(url):  # without a pool, no connection is to a file that was removed since
                return sqlalchemy.create_engine(url, connect_args=limits, poolclass=sqlalchemy.NullPool)
            engine = sqlalchemy.create_engine(url, connect_args=limits)
            if url.get_driver_name() == "psycopg":
                sqlalchemy.event.listen(engine, "do_connect", _connect_psycopg)
            return engine
        except sqlalchemy.exc.ArgumentError:
            raise DatabaseError(f"setting database is {address!r}; {_FORM}") from None
        except ImportError as error:
            raise DatabaseError(f"setting database is {address!r}: {error}; install its driver") from None

    @contextlib.contextmanager
    def begin(self, write: bool = False) -> Iterator["Connection | None"]:
        """Give a connection in a transaction; None where there is no table yet and ``write`` is false.

        Raises `TakenError` for a key that is there already, `DatabaseError` for any other failure.
        """
        if not write:
            self.check_failure()
        engine = self.engine
        import sqlalchemy

        try:
            with contextlib.ExitStack() as stack:
                yield self._connect(engine, stack, write)
            self.succeeded()
        except sqlalchemy.exc.IntegrityError as error:
            raise TakenError(f"database {self.address!r}: {error.orig}") from None
        except (sqlalchemy.exc.SQLAlchemyError, OSError, OverflowError) as error:
            raise self.failed(getattr(error, "orig", None) or error) from None

    def _connect(self, engine: "Engine", stack: contextlib.ExitStack, write: bool) -> "Connection | None":
        """Return a connection to a database whose tables are there and up to date; None where there are none."""
        if not _may_exist(engine.url, write):
            return None
        import sqlalchemy

        began = time.monotonic()
        try:
            connection, revision = self._begin_at_revision(engine, stack)
        except sqlalchemy.exc.DBAPIError as error:
            # The connection was open before the server was started again. One that doesn't answer isn't tried again.
            if not error.connection_invalidated or time.monotonic() - began > RECONNECT_SECONDS:
                raise
            connection, revision = self._begin_at_revision(engine, stack)
        if revision is None and not write:  # no table yet, or the one of version 0.1, which wrote no revision
            if not sqlalchemy.inspect(connection).has_table("corrections"):
                return None
            revision = "0001"
        if revision == REVISION:
            return connection
        stack.close()  # a migration locks the database
        from records import migrations

        # A connection of its own, without the limits: a change of a large table takes its time.
        wait = {"timeout": migrations.LOCK_SECONDS} if _is_sqlite(engine.url) else {}
        migrating = sqlalchemy.create_engine(engine.url, connect_args=wait, poolclass=sqlalchemy.NullPool)
        migrations.upgrade(migrating, VERSION_TABLE)
        return stack.enter_context(engine.begin())

    def _begin_at_revision(
        self, engine: "Engine", stack: contextlib.ExitStack
    ) -> "tuple[Connection, str | None]":
        """Return a connection in a transaction and the revision of the tables, None where none is written."""
        import sqlalchemy

        with contextlib.ExitStack() as attempt:
            connection = attempt.enter_context(engine.begin())
            revision = None
            if sqlalchemy.inspect(connection).has_table(VERSION_TABLE):
                query = sqlalchemy.text(f"SELECT max(version_num) FROM {VERSION_TABLE}")
                revision = connection.execute(query).scalar()
            stack.enter_context(attempt.pop_all())
            return connection, revision


def _limits(driver: str) -> dict[str, Any]:
    """Return the time limits that a driver takes, as options of its connections."""
    if driver == "pysqlite":  # for another process that writes
        return {"timeout": ANSWER_SECONDS}
    limits: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    if driver in ("pymysql", "mysqldb"):
        return limits | {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    if driver == "psycopg2":
        return limits | {"tcp_user_timeout": int(1000 * ANSWER_SECONDS)}
    return limits if driver in ("psycopg", "mysqlconnector") else {}


def _connect_psycopg(dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
    """Return a connection of psycopg's that gives up a server that doesn't answer in `ANSWER_SECONDS`."""
    import psycopg

    class Limited(psycopg.Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            until = time.monotonic() + ANSWER_SECONDS
            try:
                return super().wait(gen, interval, ANSWER_SECONDS if timeout is None else timeout)
            except psycopg.OperationalError:
                if time.monotonic() >= until:
                    self.pgconn.finish()  # what the server does now isn't known
                raise

    return Limited.connect(*arguments, **options)


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


def stored_time(time: datetime) -> datetime:
    """Return a time as the table has it: UTC without a zone, whole seconds."""
    return time.astimezone(UTC).replace(tzinfo=None, microsecond=0)
