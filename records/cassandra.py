"""Corrections and predictions in Cassandra: ``cassandra://HOST/KEYSPACE``.

Numbers are times in microseconds. Each is claimed by a conditional insert into a table of its own, where numbers don't wait
for each other as the rows of one partition would. Predictions are partitioned by day, newest first. So pages and times are reads by key; the other filters are applied here to
what a day has, in a bounded time. Corrections are partitioned by image; what concerns a person reads all of them.
"""

import contextlib
import functools
import json
import logging
import re
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from conf.addresses import without_passwords
from ingest.corpus import Corpus
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
from records.database import Database
from records.predictions import (
    EVERYTHING,
    Count,
    Filters,
    NewPrediction,
    Page,
    Prediction,
    Predictions,
    is_possible,
    make_page,
    number_of,
    numbers_between,
    stored_name,
    time_of,
)

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
)
# A number is claimed until its row is certainly there: for an hour, in seconds.
_CLAIM = "INSERT INTO numbers (number) VALUES (?) IF NOT EXISTS USING TTL 3600"
DAY = 86_400_000_000  # microseconds
DEFAULT_PORT = 9042
_FORM = "write a URL like cassandra://HOST/KEYSPACE"
_CONNECT_SECONDS = 2
# For one request to the database.
ANSWER_SECONDS = 2.5
# For the filters of one page or count.
SCAN_SECONDS = 2.0
# Rows that are read at a time.
_ROWS = 2000
_NOTHING: tuple[Any, ...] = ()
_ONE = "SELECT answer FROM predictions WHERE day = ? AND number = ?"
_DELETE = "DELETE FROM predictions WHERE day = ? AND number = ?"
_IMAGE = 'corpus = ? AND corpus_hash = ? AND "partition" = ? AND "row" = ?'


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
        self, statement: str, values: Iterable[Any] = (), write: bool = False, rows: int = _ROWS
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
                found = self._session.execute(
                    "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s", (self.keyspace,)
                )
                if len(list(found)) < len(TABLES):
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
        # It reports each try to connect again, with a traceback.
        logging.getLogger("cassandra").setLevel(logging.ERROR)
        try:
            session = cluster.connect()
            # The database's clock decides which change is the last, not those of several clients.
            session.use_client_timestamp = False
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


class CassandraPredictions(CassandraDatabase, Predictions):
    """The predictions in the keyspace at ``url``."""

    def add(self, prediction: NewPrediction) -> int:
        self.check_failure()
        values: dict[str, Any] = vars(prediction) | {
            "name": stored_name(prediction.name),
            "classes": json.dumps(prediction.classes, ensure_ascii=False),
        }
        number = number_of(values.pop("at"))
        marks = ", ".join("?" * (len(values) + 2))
        insert = f"INSERT INTO predictions (day, number, {', '.join(values)}) VALUES ({marks})"
        while not self.claim(number, _ONE, [number // DAY]):
            number += 1
        # The day first: a day without predictions does no harm.
        self.execute('INSERT INTO prediction_days ("all", day) VALUES (0, ?)', [number // DAY], write=True)
        self.execute(insert, [number // DAY, number, *values.values()], write=True)
        return number

    def get(self, number: int) -> Prediction | None:
        return next(iter(self._read([number])), None) if is_possible(number) else None

    def page(
        self,
        filters: Filters = EVERYTHING,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        ascending = after is not None and before is None
        found: list[int] = []
        last: int | None = None  # where the next page begins
        complete, until = True, time.monotonic() + SCAN_SECONDS
        by_key = (filters.answer, filters.model, filters.corrected) == (None, None, None)
        for numbers, last in self._scan(filters, before, after, ascending, limit + 1 if by_key else _ROWS):
            found += numbers
            if len(found) > limit:
                last = found[limit - 1]
                break
            if time.monotonic() > until:
                complete = False
                break
        else:
            last = None
        # What has been deleted meanwhile is left out.
        page = make_page(self._read(found[: limit + 1], ascending), limit, before, after)
        if ascending:
            return replace(page, newer=last, complete=complete)
        return replace(page, older=last, complete=complete)

    def count(self, filters: Filters = EVERYTHING) -> Count:
        number, until = 0, time.monotonic() + SCAN_SECONDS
        for numbers, _ in self._scan(filters):
            number += len(numbers)
            if time.monotonic() > until:
                return Count(number, complete=False)
        return Count(number)

    def correct(self, number: int, label: str | None, by: str) -> bool:
        values: list[Any] = [None, None, None]
        if label is not None:
            values = [*check_words(label, by), _now()]
        if not self._is_there(number):
            return False
        update = "UPDATE predictions SET correction = ?, corrected_by = ?, corrected_at = ? WHERE day = ? AND number = ?"
        self.execute(update, [*values, number // DAY, number])
        return True

    def delete_one(self, number: int) -> bool:
        if not self._is_there(number):
            return False
        self.execute(_DELETE, [number // DAY, number])
        return True

    def delete(self, filters: Filters) -> int:
        deleted = 0
        for numbers, _ in self._scan(filters):
            self.execute_all(_DELETE, [(number // DAY, number) for number in numbers])
            deleted += len(numbers)
        return deleted

    def expire(self, before: datetime) -> int:
        end = number_of(before)
        expired = 0
        for day in self._days(0, end // DAY - 1, ascending=True):
            # Whole days: one marker each in place of one for each row.
            bounds = Filters(since=time_of(day * DAY), until=time_of((day + 1) * DAY))
            expired += sum(len(numbers) for numbers, _ in self._scan(bounds))
            self.execute("DELETE FROM predictions WHERE day = ?", [day])
            self.execute('DELETE FROM prediction_days WHERE "all" = 0 AND day = ?', [day])
        return expired + self.delete(Filters(until=before))

    def _is_there(self, number: int) -> bool:
        return is_possible(number) and any(map(_is_whole, self.execute(_ONE, [number // DAY, number])))

    def _days(self, least: int, last: int, ascending: bool) -> list[int]:
        order = " ORDER BY day ASC" if ascending else ""
        query = f'SELECT day FROM prediction_days WHERE "all" = 0 AND day >= ? AND day <= ?{order}'
        with self._errors():
            return [row.day for row in self.execute(query, [least, last])]

    def _scan(
        self,
        filters: Filters,
        before: int | None = None,
        after: int | None = None,
        ascending: bool = False,
        rows: int = _ROWS,
    ) -> Iterator[tuple[list[int], int]]:
        """Yield the numbers that fit, and the last one that was read, for each so many rows of each day."""
        least, end = numbers_between(filters, before, after)
        order = " ORDER BY number ASC" if ascending else ""
        query = (
            "SELECT number, answer, model, corrected_at FROM predictions WHERE day = ? AND number >= ? AND number < ?"
            + order
        )
        for day in self._days(least // DAY, (end - 1) // DAY, ascending):
            result = self.execute(query, [day, least, end], rows=rows)
            while True:
                read = result.current_rows
                if read:
                    yield [row.number for row in read if _fits(row, filters)], read[-1].number
                if not result.has_more_pages:
                    break
                with self._errors():
                    result.fetch_next_page()

    def _read(self, numbers: list[int], ascending: bool = False) -> list[Prediction]:
        days: dict[int, list[int]] = {}
        for number in numbers:
            days.setdefault(number // DAY, []).append(number)
        query = "SELECT * FROM predictions WHERE day = ? AND number IN ?"
        with self._errors():
            rows = [row for day, those in days.items() for row in self.execute(query, [day, those])]
        return sorted(
            map(_prediction, filter(_is_whole, rows)), key=lambda one: one.number, reverse=not ascending
        )


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
        self.execute(insert, [*place, number, label, by, _now()], write=True)

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
                    found.append(_correction(one))
                if len(found) == OF_IMAGE:
                    break
        return found

    def newest(self) -> list[Correction]:
        newest: dict[tuple[Any, ...], Any] = {}
        for one in self._all():
            if one.undone_at is None:
                # Those of one image follow each other, newest first.
                newest.setdefault(_key(one)[:-1], one)
        return [_correction(newest[place]) for place in sorted(newest)]

    def _all(self, by: str | None = None) -> list[Any]:
        by = None if by is None else " ".join(by.split())
        with self._errors():
            return [one for one in self.execute("SELECT * FROM corrections") if by in (None, one.by)]

    def _undo(self, keys: list[tuple[Any, ...]], undone_by: str) -> int:
        return self._change([(_now(), undone_by[:LONGEST_NAME], *key) for key in keys])

    def _change(self, values: list[tuple[Any, ...]]) -> int:
        if values:
            change = f"UPDATE corrections SET undone_at = ?, undone_by = ? WHERE {_IMAGE} AND number = ?"
            self.execute_all(change, values)
        return len(values)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _utc(time: datetime) -> datetime:
    """Return a time of the driver's, which has no zone, in UTC."""
    return time.replace(tzinfo=UTC)


def _is_whole(row: Any) -> bool:
    """Return whether a row isn't only what a correction left that met a delete."""
    return row.answer is not None


def _fits(row: Any, filters: Filters) -> bool:
    return (
        _is_whole(row)
        and filters.answer in (None, row.answer)
        and filters.model in (None, row.model)
        and filters.corrected in (None, row.corrected_at is not None)
    )


def _key(row: Any) -> tuple[Any, ...]:
    return row.corpus, row.corpus_hash, row.partition, row.row, row.number


def _prediction(row: Any) -> Prediction:
    values = {field.name: getattr(row, field.name) for field in fields(Prediction) if field.name != "at"}
    classes = tuple((name, confidence) for name, confidence in json.loads(row.classes))
    corrected_at = _utc(row.corrected_at) if row.corrected_at else None
    return Prediction(
        **values | {"classes": classes, "at": time_of(row.number), "corrected_at": corrected_at}
    )


def _correction(row: Any) -> Correction:
    values = {field.name: getattr(row, field.name) for field in fields(Correction)}
    return Correction(**values | {"at": _utc(row.at)})
