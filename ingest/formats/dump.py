"""What every dump can do, whichever format it is in."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from conf.errors import TinyTagsError
from conf.names import has_letter, is_one_line
from ingest import files

# A tag's class is a uint16, and so is "no runner-up", one more than the last class.
MOST_CLASSES = 65_535
LONGEST_CLASS = 200
# Read at a time, 25 MB: each read costs a request in HDFS, and in a stream without random access a read from its start.
BATCH_IMAGES = 8_192


@dataclass(frozen=True)
class Batch:
    """Consecutive images.

    ``images`` is (n, 3072) uint8 in the canonical layout, ``labels`` (n,) int32 with -1 for no label, and ``names`` the n
    file names, or None where the source has none. ``bad`` has the reason, by its place in the batch, of each record that
    can't be decoded; its image and label mean nothing.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    names: list[str] | None = None
    bad: Mapping[int, str] = field(default_factory=dict)


class Readable(Protocol):
    """What a partition is written from."""

    def read_batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the records ``start`` to ``stop`` in batches of whole row groups of 256 images, so that memory is bounded."""


class Dump(Readable, Protocol):
    """A source of images that is open: small, and cheap to pickle and send to a worker.

    ``images`` is the number of records, ``classes`` the names of the labels (None without labels), ``labels`` the value
    of --labels that opens it again, and ``splits`` the ranges of rows that the source itself separates, like
    {"train": (0, 50000), "test": (50000, 60000)}.
    """

    @property
    def format(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def images(self) -> int: ...
    @property
    def classes(self) -> list[str] | None: ...
    @property
    def labels(self) -> str | None: ...
    @property
    def splits(self) -> dict[str, tuple[int, int]]: ...

    @property
    def identity(self) -> dict[str, Any]:
        """What shows whether the source has changed: {"bytes", "sha256"}, or beyond 1 GiB {"bytes", "modified", "sample"}.

        Read from the source at the first access: up to a second and a half.
        """

    def status(self) -> list[files.Entry | None]:
        """Return size and time of change of each file of the source, as it is now; None for a missing one."""

    def read(self, start: int, stop: int) -> Batch:
        """Return the records ``start`` to ``stop``, reading only these.

        A record that can't be decoded is one of the batch's ``bad``; raises `TinyTagsError` for a damaged dump.
        """


class ReadInBatches:
    """Mixin for a dump whose batches need no method of their own."""

    def read(self, start: int, stop: int) -> Batch:
        raise NotImplementedError

    def read_batches(self, start: int, stop: int) -> Iterator[Batch]:
        for first in range(start, stop, BATCH_IMAGES):
            yield self.read(first, min(first + BATCH_IMAGES, stop))


@dataclass(frozen=True, kw_only=True)
class FileDump(ReadInBatches, ABC):
    """A `Dump` of one or several files; a format adds ``format`` and ``read``, and ``paths`` for more than one file."""

    path: str
    images: int
    classes: list[str] | None = None
    labels: str | None = None
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    webhdfs: str | None = None
    format: ClassVar[str]

    @abstractmethod
    def read(self, start: int, stop: int) -> Batch: ...

    def paths(self) -> list[str]:
        """Return the paths of all files that the dump consists of."""
        return [self.path]

    @cached_property
    def identity(self) -> dict[str, Any]:
        return files.identity(self.paths(), self.webhdfs)

    def status(self) -> list[files.Entry | None]:
        return [files.status(path, self.webhdfs) for path in self.paths()]


class _Part(Protocol):
    @property
    def images(self) -> int: ...


P = TypeVar("P", bound=_Part)


def overlaps(parts: Sequence[P], start: int, stop: int) -> Iterator[tuple[P, int, int]]:
    """Yield those of consecutive ``parts`` that hold rows from ``start`` to ``stop``, each with the range of its own records."""
    for part in parts:
        if start < part.images and stop > 0:
            yield part, max(start, 0), min(stop, part.images)
        start, stop = start - part.images, stop - part.images


def check_rows(dump: Dump, start: int, stop: int) -> None:
    """Raise `IndexError` for rows that a dump doesn't have."""
    if not 0 <= start <= stop <= dump.images:
        raise IndexError(f"rows {start} to {stop} of {dump.images}")


def check_classes(classes: list[str] | None) -> list[str] | None:
    """Return the names of classes as given; raises `TinyTagsError` for none at all, too many, empty or repeated ones."""
    if classes is None:
        return None
    if not 1 <= len(classes) <= MOST_CLASSES:
        raise TinyTagsError(f"{len(classes):,} classes given; there can be 1 to {MOST_CLASSES:,}")
    counts = Counter(classes)
    for name in classes:
        if not has_letter(name) or not is_one_line(name) or len(name) > LONGEST_CLASS:
            raise TinyTagsError(
                f"class name {name[: LONGEST_CLASS + 1]!r} is invalid: it needs a letter, no control character or line break, and up to "
                f"{LONGEST_CLASS} characters"
            )
        if counts[name] > 1:
            raise TinyTagsError(f"class name {name!r} is given {counts[name]} times; class names are unique")
    return list(classes)


def check_labels(labels: NDArray[Any], classes: int, path: str, first: int = 0) -> None:
    """Raise `TinyTagsError` with the number of the record where one of ``labels``, those of ``path`` from ``first`` on, is too large."""
    wrong = labels >= classes
    if wrong.any():
        at = int(wrong.argmax())
        raise TinyTagsError(
            f"{path}: record {first + at:,} has label {int(labels[at])}; {classes:,} classes have labels 0 to {classes - 1:,}"
        )
