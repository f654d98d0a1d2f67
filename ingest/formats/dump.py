"""What every dump can do, whichever format it is in."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from conf.errors import TinyTagsError
from ingest.files import Entry

# A tag's class is a uint16, and so is "no runner-up", one more than the last class.
MOST_CLASSES = 65_535
LONGEST_CLASS = 200
# Read at a time, 25 MB: each time costs a request in HDFS, and in a stream that can't be entered its beginning.
BATCH_IMAGES = 8_192


@dataclass(frozen=True)
class Batch:
    """Consecutive images.

    ``images`` is (n, 3072) uint8 in the canonical layout, ``labels`` (n,) int32 with -1 where nobody said, and
    ``names`` the n file names, or None where the source has none.
    """

    images: np.ndarray
    labels: np.ndarray
    names: list[str] | None = None


class Dump(Protocol):
    """A source of images that has been opened: a small frozen dataclass, cheap to pickle and send to a worker.

    ``images`` is the number of records, ``classes`` the names of the labels (None where there are no labels), and
    ``splits`` the ranges of rows that the source itself keeps apart, like {"train": (0, 50000), "test": (50000, 60000)}.
    """

    format: str
    path: str
    images: int
    classes: list[str] | None
    splits: dict[str, tuple[int, int]]

    @property
    def identity(self) -> dict:
        """What says whether the source is still the same: {"bytes", "sha256"}, or beyond 1 GiB {"bytes", "modified"}.

        Read from the source when first asked for: up to a second and a half.
        """

    def status(self) -> list[Entry | None]:
        """Return size and time of change of each file that the source consists of, as it is now; None for one that is gone."""

    def read(self, start: int, stop: int) -> Batch:
        """Return the records ``start`` to ``stop``, reading only these; raises `TinyTagsError` for a damaged one."""

    def read_batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the same a batch at a time, of whole row groups of 256 images, so that memory doesn't grow with their number."""

    def describe_record(self, row: int) -> dict:
        """Return where record ``row`` is: {"file": name, "record": number in it, "offset": byte in it or None}."""


class ReadInBatches:
    """For a dump whose batches are read like anything else."""

    def read_batches(self, start: int, stop: int) -> Iterator[Batch]:
        for first in range(start, stop, BATCH_IMAGES):
            yield self.read(first, min(first + BATCH_IMAGES, stop))


def check_rows(dump: Dump, start: int, stop: int) -> None:
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
        if not name.strip() or not name.isprintable() or len(name) > LONGEST_CLASS:
            raise TinyTagsError(
                f"class name {name!r} won't do: it needs a letter, no line breaks, and up to {LONGEST_CLASS} characters"
            )
        if counts[name] > 1:
            raise TinyTagsError(f"class name {name!r} is given {counts[name]} times; class names are unique")
    return list(classes)


def check_labels(labels: np.ndarray, classes: int, path: str, first: int = 0) -> None:
    """Raise `TinyTagsError` naming the record where one of ``labels``, those of ``path`` from ``first`` on, is too large."""
    wrong = labels >= classes
    if wrong.any():
        at = int(wrong.argmax())
        raise TinyTagsError(
            f"{path}: record {first + at:,} has label {int(labels[at])}; {classes} classes have labels 0 to {classes - 1}"
        )
