"""Predictions: what models answered for pictures that people gave, in a database behind one small interface."""

import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

# The class behind a database, called with the URL, by the URL's scheme; SQLAlchemy has the schemes that aren't here.
BACKENDS: dict[str, str] = {"cassandra": "records.cassandra_predictions:CassandraPredictions"}
SQL = "records.sql_predictions:SqlPredictions"

LONGEST_FILE_NAME = 255
# Predictions that `Predictions.every` reads at a time.
BATCH = 500
# In the year 2255.
LAST_NUMBER = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class NewPrediction:
    """What a model answered for one picture, before it is stored."""

    name: str  # of the file, as the client gave it; stored with at most `LONGEST_FILE_NAME` printable characters
    size: int  # bytes of the file
    sha256: str  # of the file, in hexadecimal
    image: bytes  # the canonical image that the model classified: 3,072 bytes
    model: str
    model_hash: str
    milliseconds: float
    answer: str  # a class of the model, or what it gives where no class is confident enough
    confidence: float  # from 0 to 1
    classes: tuple[tuple[str, float], ...]  # each class and its confidence, the most confident first
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, kw_only=True)
class Prediction(NewPrediction):
    """A stored prediction.

    Its number is its time in microseconds since 1970 (UTC), or the next one that is free. So numbers increase with time,
    need no counter that processes share, and fit in a number of JavaScript until the year 2255.
    """

    number: int
    correction: str | None = None  # the label that a person gave instead
    corrected_by: str | None = None
    corrected_at: datetime | None = None  # UTC, whole seconds


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which predictions; the default is all of them."""

    answer: str | None = None
    model: str | None = None
    since: datetime | None = None  # at or after this time
    until: datetime | None = None  # before this time
    corrected: bool | None = None  # whether a person gave a label


EVERYTHING = Filters()


@dataclass(frozen=True)
class Page:
    """Some predictions, newest first, and where the pages beside it begin."""

    predictions: tuple[Prediction, ...]
    older: int | None  # ``before`` of the next page; None at the end
    newer: int | None  # ``after`` of the previous page; None at the start
    complete: bool = True  # False where the time was over before ``limit`` were found: the next page goes on


@dataclass(frozen=True)
class Count:
    """A number of predictions; at least this many where not all were counted, which would take too long."""

    number: int
    complete: bool = True


class Predictions(Protocol):
    """The predictions in one database; for many threads and processes. Every method raises `DatabaseError`.

    Reading creates nothing: a database that does not exist holds no predictions.
    """

    @property
    def address(self) -> str:
        """The database's URL without its password."""
        ...

    def add(self, prediction: NewPrediction) -> int:
        """Store a prediction and return its number once the database has confirmed it.

        For some seconds after a failure this fails at once: an answer must not wait for the database each time.
        """
        ...

    def get(self, number: int) -> Prediction | None:
        """Return the prediction with this number, if there is one."""
        ...

    def page(
        self,
        filters: Filters = EVERYTHING,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        """Return the newest ``limit`` predictions, or the next ones before or after a number (one of the two)."""
        ...

    def count(self, filters: Filters = EVERYTHING) -> Count:
        """Return how many predictions there are."""
        ...

    def correct(self, number: int, label: str | None, by: str) -> bool:
        """Store the label that ``by`` gives, in place of an earlier one; None removes it. False without such a prediction.

        Raises `BadCorrectionError` for what `records.corrections.check_words` does not accept.
        """
        ...

    def delete_one(self, number: int) -> bool:
        """Delete one prediction; return whether there was one."""
        ...

    def delete(self, filters: Filters) -> int:
        """Delete predictions; return their number."""
        ...

    def expire(self, before: datetime) -> int:
        """Delete the predictions that were made before a time; return their number."""
        return self.delete(Filters(until=before))

    def every(self, filters: Filters = EVERYTHING) -> Iterator[Prediction]:
        """Yield predictions, newest first, without holding all of them or the database."""
        page = self.page(filters, limit=BATCH)
        yield from page.predictions
        while page.older is not None:
            page = self.page(filters, before=page.older, limit=BATCH)
            yield from page.predictions


def open_predictions(url: str) -> Predictions:
    """Return the predictions in the database at ``url``, without connecting to it."""
    predictions: Predictions = pkgutil.resolve_name(BACKENDS.get(url.partition("://")[0], SQL))(url)
    return predictions


def number_of(time: datetime) -> int:
    """Return the first number of a time: microseconds since 1970. A time without a zone is UTC."""
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def time_of(number: int) -> datetime:
    """Return the time of a number, in UTC."""
    return _EPOCH + timedelta(microseconds=number)


def numbers_between(filters: Filters, before: int | None = None, after: int | None = None) -> tuple[int, int]:
    """Return the least number and the one after the last that the times of ``filters`` and a page allow."""
    least, end = [0], [LAST_NUMBER]
    least += [number_of(filters.since)] if filters.since else []
    least += [after + 1] if after is not None else []
    end += [number_of(filters.until)] if filters.until else []
    end += [before] if before is not None else []
    return min(max(least), LAST_NUMBER), max(min(end), 0)


def is_possible(number: int) -> bool:
    """Return whether a prediction can have this number."""
    return 0 <= number <= LAST_NUMBER


def stored_values(prediction: NewPrediction) -> dict[str, Any]:
    """Return a prediction as columns of a table, without its time, which its number has."""
    # No database keeps every character that a client may send.
    name = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in prediction.name
    )
    values = vars(prediction) | {
        "name": name[:LONGEST_FILE_NAME],
        "classes": json.dumps(prediction.classes, ensure_ascii=False),
    }
    del values["at"]
    return values


def prediction_of(row: Any) -> Prediction:
    """Return a row of a table, whose times have no zone, as a prediction."""
    values = {one.name: getattr(row, one.name) for one in fields(Prediction) if one.name != "at"}
    classes = tuple((name, confidence) for name, confidence in json.loads(row.classes))
    corrected_at = row.corrected_at.replace(tzinfo=UTC) if row.corrected_at else None
    return Prediction(
        **values | {"classes": classes, "at": time_of(row.number), "corrected_at": corrected_at}
    )


def make_page(predictions: list[Prediction], limit: int, before: int | None, after: int | None) -> Page:
    """Return a page from up to ``limit`` + 1 predictions, in the order in which the database was searched."""
    more = len(predictions) > limit
    predictions = predictions[:limit]
    if after is not None and before is None:  # searched from the oldest one on
        predictions.reverse()
        older: int | None = predictions[-1].number if predictions else after + 1
        return Page(tuple(predictions), older, predictions[0].number if more else None)
    newer = None
    if before is not None:
        newer = predictions[0].number if predictions else before - 1
    return Page(tuple(predictions), predictions[-1].number if more else None, newer)
