"""The tables of the database, one module a revision, applied in order by Alembic.

To change a table: add a module here with the next ``revision``, the last one as ``down_revision`` and an ``upgrade``, and
change the table and `REVISION` in `records.sql`; a test compares the two. The modules are imported like any others,
instead of by Alembic's own search of a folder, so that they are found in a zip as well.
"""

import contextlib
import importlib
import pkgutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import Script
from alembic.script.revision import RevisionMap

from records.corrections import DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

# How long a process waits for another one's migrations; on PostgreSQL, as long as they take.
LOCK_SECONDS = 60
# What keeps a second process waiting until the first one's migrations are committed.
LOCKS = {
    "sqlite": "BEGIN IMMEDIATE",  # whose time to wait is an option of the connection
    "postgresql": "SELECT pg_advisory_xact_lock(7408136251)",
    # Held until the connection is closed: these commit each change of a table.
    "mysql": f"SELECT GET_LOCK(CONCAT('tinytags ', DATABASE()), {LOCK_SECONDS})",
    "mariadb": f"SELECT GET_LOCK(CONCAT('tinytags ', DATABASE()), {LOCK_SECONDS})",
}
# In other databases, processes that start at once fail because of each other, and try again.
ATTEMPTS, PAUSE_SECONDS = 5, 0.2
# The pause after which a locked file is tried again.
BUSY_SECONDS = 0.05
# `alembic.op` is one for the whole process.
_ONE_THREAD = threading.Lock()


def revisions() -> list[Script]:
    """Return the revisions in this folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [Script(module, module.revision, module.__file__ or "") for module in modules]


def upgrade(engine: "Engine", version_table: str) -> None:
    """Upgrade the tables of a database to the last revision; ``version_table`` holds the one that they have.

    ``engine`` has no pool, as its connection holds the lock until it is closed.
    Several processes may do so at once. Raises `DatabaseError` for a database that a later version has upgraded.
    """
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    attempts = 1 if engine.dialect.name in LOCKS else ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            with _ONE_THREAD, _locked(engine) as connection:
                _upgrade(connection, version_table)
            return
        except (DBAPIError, CommandError) as error:
            if attempt == attempts:
                if isinstance(error, CommandError):
                    raise DatabaseError(f"database {engine.url.render_as_string()!r}: {error}") from None
                raise
            time.sleep(PAUSE_SECONDS)


def _upgrade(connection: "Connection", version_table: str) -> None:
    scripts = revisions()
    by_name, known = {script.revision: script for script in scripts}, RevisionMap(lambda: scripts)

    def steps(current: tuple[str, ...], _: MigrationContext) -> list[MigrationStep]:
        if unknown := [revision for revision in current if revision not in by_name]:
            raise DatabaseError(
                f"database {connection.engine.url.render_as_string()!r} has revision {unknown[0]!r}, of a later version of "
                "TinyTags; update TinyTags"
            )
        # Without a lock, a process may write the revision that another one has replaced since.
        pending = known.iterate_revisions("heads", current and max(current), implicit_base=True)
        return [
            MigrationStep.upgrade_from_script(known, by_name[script.revision])
            for script in reversed(list(pending))
        ]

    context = MigrationContext.configure(connection, opts={"fn": steps, "version_table": version_table})
    with Operations.context(context):
        context.run_migrations()
        version = context._version
        connection.execute(version.delete().where(version.c.version_num != scripts[-1].revision))


@contextlib.contextmanager
def _locked(engine: "Engine") -> Iterator["Connection"]:
    """Give a connection in a transaction that other processes' migrations wait for."""
    lock = LOCKS.get(engine.dialect.name)
    with engine.connect() as connection:
        # Python's driver of SQLite would begin a transaction only with the first INSERT.
        if engine.dialect.name == "sqlite":
            connection.execution_options(isolation_level="AUTOCOMMIT")
            _log_ahead(connection)
            connection.commit()
        with connection.begin():
            if lock:
                connection.exec_driver_sql(lock)
            yield connection


def _log_ahead(connection: "Connection") -> None:
    """Give a file of SQLite's a write-ahead log, which it keeps: with one, readers and a writer don't wait for each other."""
    from sqlalchemy.exc import OperationalError

    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            # For this statement alone SQLite doesn't wait until another process's transaction has ended.
            busy = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > until:
                raise
            time.sleep(BUSY_SECONDS)
