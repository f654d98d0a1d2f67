"""A SQL database: its tables, the connection, migrations, time limits and errors. SQLite by default.

SQLAlchemy is imported when the database is first used, Alembic when a migration has to run: neither delays the start of
the search page, and most commands need neither.
"""

import contextlib
import functools
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.addresses import without_passwords
from ingest.formats.dump import LONGEST_CLASS
from records.corrections import LONGEST_NAME, DatabaseError
from records.predictions import LONGEST_FILE_NAME

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table
    from sqlalchemy.engine import URL

# The revision of `tables`: the last module of records/migrations.
REVISION = "0003"
# A name of our own, because a database may hold another application's tables as well.
VERSION_TABLE = "tinytags_version"

# For so many seconds after a failure, reads fail at once instead of each waiting for the database again.
FAILURE_SECONDS = 5
# The drivers that take a time limit; otherwise they wait a minute or two for a host that doesn't answer.
_TIMED = ("psycopg", "psycopg2", "pymysql", "mysqldb", "mysqlconnector")
_CONNECT_SECONDS = 2
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
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(LONGEST_FILE_NAME), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("image", sa.LargeBinary, nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("model_hash", sa.String(64), nullable=False),
        sa.Column("milliseconds", sa.Double, nullable=False),
        sa.Column("answer", sa.String(LONGEST_CLASS), nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("classes", sa.Text().with_variant(MEDIUMTEXT, "mysql", "mariadb"), nullable=False),  # JSON
        sa.Column("correction", sa.String(LONGEST_CLASS)),
        sa.Column("corrected_by", sa.String(LONGEST_NAME)),
        sa.Column("corrected_at", sa.DateTime),
        sa.Index("predictions_answer", "answer", "number"),
        sa.Index("predictions_model", "model", "number"),
        sa.Index("predictions_corrected", "corrected_at", "number"),
    )  # fmt: skip
    return dict(metadata.tables)


class SqlDatabase:
    """The SQL database at ``url``; the base of the classes for what it holds."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._failure: tuple[float, str] | None = None

    @property
    def address(self) -> str:
        """The database's URL without its password."""
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

    def check_failure(self) -> None:
        """Raise the error of the last access if that failed `FAILURE_SECONDS` ago at most."""
        if self._failure and time.monotonic() < self._failure[0]:
            raise DatabaseError(self._failure[1])

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
            self._failure = None
        except sqlalchemy.exc.IntegrityError as error:
            raise TakenError(f"database {self.address!r}: {error.orig}") from None
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
            if not inspector.has_table("corrections"):
                return None
            revision = "0001"
        if revision == REVISION:
            return connection
        stack.close()  # a migration locks the database
        from records import migrations

        migrations.upgrade(engine, VERSION_TABLE)
        return stack.enter_context(engine.begin())


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
