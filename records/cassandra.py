"""A Cassandra keyspace, ``cassandra://HOST/KEYSPACE``: its tables, the connection, time limits and errors.

Numbers are times in microseconds. Each is claimed by a conditional insert into a table of its own, where numbers don't wait
for each other as the rows of one partition would.
"""

import contextlib
import functools
import logging
import re
import threading
import weakref
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from conf.addresses import without_passwords
from records.corrections import DatabaseError
from records.database import Database

TABLES = (
    "numbers (number bigint PRIMARY KEY)",
    """predictions (
        day int, number bigint, name text, size bigint, sha256 text, image blob, model text, model_hash text,
        milliseconds double, answer text, confidence double, classes text,
        correction text, corrected_by text, corrected_at timestamp,
        PRIMARY KEY (day, number)) WITH CLUSTERING ORDER BY (number DESC)""",
    # The days that have predictions; all in one partition.
    """prediction_days ("all" int, day int, PRIMARY KEY ("all", day)) WITH CLUSTERING ORDER BY (day DESC)""",
    """corrections (
        corpus text, corpus_hash text, "partition" int, "row" int, number bigint, label text, "by" text, at timestamp,
        undone_at timestamp, undone_by text,
        PRIMARY KEY ((corpus, corpus_hash, "partition", "row"), number)) WITH CLUSTERING ORDER BY (number DESC)""",
    # One row, with a new version after each change of the corrections.
    "correction_changes (one int PRIMARY KEY, version timeuuid)",
)
# A number is claimed until its row is certainly there: for an hour, in seconds.
_CLAIM = "INSERT INTO numbers (number) VALUES (?) IF NOT EXISTS USING TTL 3600"
DEFAULT_PORT = 9042
_FORM = "write a URL like cassandra://HOST/KEYSPACE"
_CONNECT_SECONDS = 2
# For one request to the database.
ANSWER_SECONDS = 2.5
# Rows that are read at a time.
ROWS = 2000
_NOTHING: tuple[Any, ...] = ()


class CassandraDatabase(Database):
    """The keyspace at ``url``; the base of the classes for what it holds."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._lock = threading.Lock()
        self._session: Any = None
        self._tables = False  # whether they are known to be there
        self._prepared: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return without_passwords(self.url)

    @functools.cached_property
    def keyspace(self) -> str:
        """The name of the keyspace; raises `DatabaseError` for a URL without a valid one."""
        name = urlsplit(self.url).path.strip("/")
        if not re.fullmatch("[a-zA-Z][a-zA-Z0-9_]{0,47}", name):
            raise DatabaseError(f"setting database is {self.address!r}; {_FORM}")
        return name

    def execute(
        self, statement: str, values: Iterable[Any] = (), write: bool = False, rows: int = ROWS
    ) -> Any:
        """Return the rows of a statement; none where there are no tables yet and ``write`` is false.

        ``rows`` is how many are read at a time. Raises `DatabaseError`.
        """
        if not write:
            self.check_failure()
        with self._errors():
            session = self.connect(write)
            if session is None:
                return _NOTHING
            bound = self._prepare(session, statement).bind(tuple(values))
            bound.fetch_size = rows
            result = session.execute(bound)
            self.succeeded()
            return result

    def execute_all(self, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
        """Execute a statement for each of ``values``, several at once."""
        from cassandra.concurrent import execute_concurrent_with_args

        with self._errors():
            session = self.connect(write=True)
            execute_concurrent_with_args(session, self._prepare(session, statement), values, concurrency=32)

    def execute_batch(self, statement: str, values: Iterable[tuple[Any, ...]]) -> None:
        """Execute a statement for each of ``values``: all of them or none."""
        from cassandra.query import BatchStatement

        with self._errors():
            session = self.connect(write=True)
            batch = BatchStatement()
            for one in values:
                batch.add(self._prepare(session, statement), one)
            if len(batch):
                session.execute(batch)

    def claim(self, number: int, query: str, values: Iterable[Any]) -> bool:
        """Return whether a number is free, and this process's from now on; ``query`` finds the row that may have it."""
        if not self.execute(_CLAIM, [number], write=True).was_applied:
            return False
        return not list(self.execute(query, [*values, number], write=True))

    def _prepare(self, session: Any, statement: str) -> Any:
        prepared = self._prepared.get(statement)
        if prepared is None:
            # One statement names one table, after FROM, INTO or UPDATE.
            named = re.sub(r"\b(FROM|INTO|UPDATE) (\w+)", rf'\1 "{self.keyspace}".\2', statement, count=1)
            prepared = self._prepared[statement] = session.prepare(named)
        return prepared

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            from cassandra import DriverException, UnresolvableContactPoints
            from cassandra.cluster import NoHostAvailable
        except ImportError:
            raise DatabaseError("Cassandra needs its driver: pip install cassandra-driver") from None
        try:
            yield
        except NoHostAvailable as error:
            # Its own text has a dictionary of exceptions.
            reasons = {str(reason) for reason in error.errors.values()} or {"no host answers"}
            raise self.failed(OSError("; ".join(sorted(reasons)))) from None
        except UnresolvableContactPoints:
            raise self.failed(OSError("no host has an address")) from None
        except (DriverException, OSError) as error:
            raise self.failed(error) from None

    def connect(self, write: bool) -> Any:
        """Return the session; None where there are no tables yet and ``write`` is false."""
        failure = self._failure
        with self._lock, self._errors():
            # Those who wait for a connection that fails don't try one after another.
            if self._session is None and self._failure and self._failure is not failure:
                raise DatabaseError(self._failure[1])
            if self._session is None:
                self._session = self._new_session()
            if not self._tables:
                tables = self._session.execute(
                    "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (self.keyspace,)
                )
                if len(list(tables)) < len(TABLES):
                    if not write:
                        return None
                    self._create_tables()
                self._tables = True
            return self._session

    def _create_tables(self) -> None:
        # Where several nodes shall have each row, the keyspace has to be made before, with that replication.
        self._session.execute(
            f'CREATE KEYSPACE IF NOT EXISTS "{self.keyspace}" '
            "WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        for table in TABLES:
            self._session.execute(f'CREATE TABLE IF NOT EXISTS "{self.keyspace}".{table}')

    def _new_session(self) -> Any:
        from cassandra import ConsistencyLevel
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.policies import ConstantReconnectionPolicy, RoundRobinPolicy

        parts = urlsplit(self.url)
        login, _, places = parts.netloc.rpartition("@")
        user, colon, password = login.partition(":")
        try:
            hosts = [_host_and_port(place) for place in places.split(",")]
        except ValueError:
            raise DatabaseError(f"setting database is {self.address!r}; {_FORM}") from None
        profile = ExecutionProfile(
            load_balancing_policy=RoundRobinPolicy(),
            consistency_level=ConsistencyLevel.LOCAL_QUORUM,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
            request_timeout=ANSWER_SECONDS,
        )
        cluster = Cluster(
            hosts,
            auth_provider=PlainTextAuthProvider(unquote(user), unquote(password)) if colon else None,
            connect_timeout=_CONNECT_SECONDS,
            control_connection_timeout=_CONNECT_SECONDS,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            protocol_version=4,  # which all versions have that are in use; it would try the newest one first
            reconnection_policy=ConstantReconnectionPolicy(1, max_attempts=None),
            # What it would read and refresh isn't used.
            schema_metadata_enabled=False,
            token_metadata_enabled=False,
        )
        # It reports each try to connect again, and what can't be prepared, with a traceback.
        logging.getLogger("cassandra").setLevel(logging.CRITICAL)
        try:
            session = cluster.connect()
            # The database's clock decides which change is the last, not those of several clients.
            session.use_client_timestamp = False
            # For preparing a statement, which no profile has a limit for.
            session._default_timeout = ANSWER_SECONDS
            # It has threads, which end with this object.
            weakref.finalize(self, cluster.shutdown)
            return session
        except BaseException:
            cluster.shutdown()
            raise


def _host_and_port(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(place)
    return parts.hostname, parts.port or DEFAULT_PORT


def now() -> datetime:
    """Return the time now, UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
