"""Corrections: the labels that people give to images with wrong tags, in a database behind one small interface."""

import pkgutil
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from conf.errors import TinyTagsError
from conf.names import is_one_line
from ingest.corpus import Corpus
from ingest.formats.dump import LONGEST_CLASS

# The class behind a database, called with the URL, by the URL's scheme; SQLAlchemy has the schemes that aren't here.
# As a name, so that a backend and its libraries are only imported where they are used.
BACKENDS: dict[str, str] = {"cassandra": "records.cassandra_corrections:CassandraCorrections"}
SQL = "records.sql_corrections:SqlCorrections"

LONGEST_NAME = 80
# How many of an image `Corrections.of_image` returns, and how many names `Corrections.names`; all are kept.
OF_IMAGE, NAMES = 20, 200


class BadCorrectionError(TinyTagsError):
    """A correction without a label or a name, or with one that is too long or not printable."""


class DatabaseError(TinyTagsError):
    """The database doesn't answer, or can't be used."""


@dataclass(frozen=True)
class Correction:
    """The label that one person gives to one image."""

    number: int  # increases with time; never used again
    corpus: str
    corpus_hash: str
    partition: int
    row: int
    label: str
    by: str
    at: datetime  # UTC, whole seconds


class Label(NamedTuple):
    """A label that a person gives to an image."""

    corpus: Corpus
    partition: int
    row: int
    label: str


@dataclass(frozen=True)
class Contributor:
    """The corrections under one name."""

    name: str
    corrections: int  # in effect
    undone: int
    first: datetime  # UTC, whole seconds
    last: datetime


class Corrections(Protocol):
    """The corrections in one database; for many threads and processes. Every method raises `DatabaseError`.

    Reading creates nothing: a database that does not exist holds no corrections. One that is undone stays in the database
    and can be restored, but no other method returns it.
    """

    @property
    def address(self) -> str:
        """The database's URL without its password."""
        ...

    def add(self, corpus: Corpus, partition: int, row: int, label: str, by: str) -> None:
        """Store that ``by`` labels an image ``label``, unless that is the image's newest correction already.

        Raises `BadCorrectionError` for what `check_words` does not accept.
        """
        ...

    def add_many(self, labels: Iterable[Label], by: str) -> list[Correction]:
        """Store the labels that ``by`` gives to images, as `add` does, all or none; return the corrections that were added.

        Of several labels of one image the last one counts. `undo_many` undoes what is returned. In Cassandra all or none
        holds for each `records.cassandra_corrections.BATCH` images. Raises `BadCorrectionError` before anything is stored.
        """
        ...

    def undo(self, corpus: Corpus, partition: int, row: int, number: int, undone_by: str = "") -> bool:
        """Undo one correction of an image, for ``undone_by``; return whether it was in effect."""
        ...

    def undo_many(self, corrections: Iterable[Correction], undone_by: str = "") -> int:
        """Undo corrections, of which only place and number are used; return how many of them were in effect."""
        ...

    def undo_all(
        self,
        by: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        undone_by: str = "",
    ) -> int:
        """Undo the corrections of one name, or of all, made from ``since`` to before ``until`` (UTC); return their number."""
        ...

    def restore(self, by: str | None = None, since: datetime | None = None) -> int:
        """Restore corrections of one name, or of all, that were undone at or after ``since`` (UTC); return their number."""
        ...

    def names(self) -> list[Contributor]:
        """Return the last `NAMES` names with their corrections, the name of the newest correction first."""
        ...

    def of_image(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        """Return the last `OF_IMAGE` corrections of an image, newest first."""
        ...

    def latest_of_image(self, corpus: Corpus, partition: int, row: int) -> list[Correction]:
        """Return the newest correction of an image by each person, which are those that count, newest first."""
        ...

    def newest(self) -> list[Correction]:
        """Return the newest correction by each person of every corrected image, of which `records.majority` makes one label.

        They are sorted by corpus, its hash, partition and row; those of one image newest first.
        """
        ...

    def version(self) -> Hashable:
        """Return a value that changes when a correction is added, undone or restored; without reading all of them."""
        ...


def open_corrections(url: str) -> Corrections:
    """Return the corrections in the database at ``url``, without connecting to it."""
    corrections: Corrections = pkgutil.resolve_name(BACKENDS.get(url.partition("://")[0], SQL))(url)
    return corrections


def correction_of(row: Any) -> Correction:
    """Return a row of a table, whose times have no zone, as a correction."""
    place = row.corpus, row.corpus_hash, row.partition, row.row
    return Correction(row.number, *place, row.label, row.by, row.at.replace(tzinfo=UTC))


def sort_key(one: Any) -> tuple[Any, ...]:
    """Return the key that sorts corrections as `Corrections.newest` has them.

    Not left to a database, whose order of letters depends on its settings.
    """
    return one.corpus, one.corpus_hash, one.partition, one.row, -one.number


def parse_time(text: str) -> datetime:
    """Return a time in ISO 8601, in UTC where it names no zone; raises `BadCorrectionError`."""
    try:
        time = datetime.fromisoformat(text.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadCorrectionError(
            f"time {text[:80]!r} is not valid; write it as 2026-11-26 or 2026-11-26T14:30 (UTC)"
        ) from None


def check_words(label: str, by: str) -> tuple[str, str]:
    """Return a label and a person's name as they are stored; raises `BadCorrectionError` for those that can't be."""
    return _checked("the label", label, LONGEST_CLASS), check_name("your name", by)


def check_labels(labels: Iterable[Label], by: str) -> tuple[list[Label], str]:
    """Return labels, the last one of each image, and a person's name as they are stored; raises `BadCorrectionError`."""
    by = check_name("your name", by)
    last = {(one.corpus.name, one.corpus.hash, one.partition, one.row): one for one in labels}
    return [one._replace(label=_checked("the label", one.label, LONGEST_CLASS)) for one in last.values()], by


def check_name(what: str, name: str) -> str:
    """Return a person's name as it is stored; raises `BadCorrectionError`, which calls it ``what``."""
    return _checked(what, " ".join(name.split()), LONGEST_NAME)


def _checked(what: str, value: str, longest: int) -> str:
    if not value:
        raise BadCorrectionError(f"{what} is missing")
    if len(value) > longest or not is_one_line(value):
        raise BadCorrectionError(
            f"{what} {value[:longest]!r} is not valid: up to {longest} printable characters"
        )
    return value
