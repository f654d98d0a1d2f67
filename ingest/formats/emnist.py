"""EMNIST: MNIST's form with letters, its pictures column by column, and in one of its sets labels that begin at 1.

Source: https://www.nist.gov/itl/products-and-services/emnist-dataset. The names of its files begin with ``emnist``.
"""

import string
from dataclasses import dataclass
from typing import ClassVar

from ingest import files
from ingest.formats.format import Format, Match, Source
from ingest.formats.mnist import CLASSES, Mnist, match_idx, open_idx

_BOTH_CASES = [*string.digits, *string.ascii_uppercase, *string.ascii_lowercase]
# Of the letters whose cases look alike it has one class.
_MERGED = [*string.digits, *string.ascii_uppercase, *"abdefghnqrt"]
_SETS = {
    "letters": [*string.ascii_uppercase],
    "balanced": _MERGED,
    "bymerge": _MERGED,
    "byclass": _BOTH_CASES,
}


@dataclass(frozen=True, kw_only=True)
class Emnist(Mnist):
    """One of EMNIST's sets."""

    format: ClassVar[str] = "emnist"
    transposed: ClassVar[bool] = True


def recognise(source: Source) -> Match:
    """Return how well a source fits this format; raises `TinyTagsError` where it can't be read."""
    return match_idx(source, transposed=True)


def classes_of(names: list[str]) -> list[str]:
    """Return the classes of the set that is in the name of one of its files; the ten digits for digits and mnist."""
    of_sets = (classes for name in names for part, classes in _SETS.items() if f"-{part}-" in name)
    return next(of_sets, CLASSES)


def open_emnist(
    path: str, labels: str | None = None, classes: list[str] | None = None, webhdfs: str | None = None
) -> Emnist:
    """Open the folder of one of the sets, or one images file; `open_idx` has the details and errors."""
    names = [files.base_name(path)]
    if files.is_dir(path, webhdfs):
        names = [entry.name for entry in files.list_dir(path, webhdfs)]
    return open_idx(Emnist, path, labels, classes, webhdfs, classes_of(names))


FORMAT = Format(
    name="emnist",
    example="emnist-letters/",
    content="EMNIST's IDX files, whose pictures are column by column: a folder of one of its sets, or one file of images",
    recognise=recognise,
    open=open_emnist,
    labels="the file of labels of one file of images",
    has_own=lambda classes, labels: classes in (CLASSES, *_SETS.values()),
)
