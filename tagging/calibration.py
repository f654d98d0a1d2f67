"""Maps a raw confidence to the share of tags that are right, as measured on held-out images, overall and for each class."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tagging.tallies import Ints, Tally

Table = dict[str, list[Any]]

# The expected calibration error is that of up to 20 bins; a forest of up to 20 trees has a bin for each number of votes.
BINS = 20
# A precision measured on fewer images says too little: 0.9 of 50 images is 0.79 to 0.96.
ENOUGH_IMAGES = 50
# A table has a row for each number of votes or whole percent, up to so many.
MOST_ROWS = 100
# With more classes a card has tables of up to 10 rows, for the classes with enough images, and stays small.
MANY_CLASSES, FEW_ROWS = 256, 10


def calibration(tally: Tally, classes: Iterable[str]) -> dict[str, Any]:
    """Return the calibration that follows from a tally, fit for JSON.

    ``error`` is the expected calibration error (Guo et al. 2017): the mean difference of confidence and share of right
    tags in `BINS` bins, weighted by the tags in them; None without images. ``top`` is the highest level, as in `Tally`.
    ``all`` is the table of all tags, ``classes`` has one for each class with tags. The columns of a table: ``level``, the
    lowest of a row; ``images`` with such a tag; ``right`` ones of these; ``expected``, the share to expect: `isotonic`.
    """
    many = tally.classes > MANY_CLASSES
    levels = tally.top + 1
    tags = tally.cells // levels
    tables = {}
    ends = np.searchsorted(tags, np.arange(tally.classes + 1))
    for place, name in enumerate(classes):
        own = slice(ends[place], ends[place + 1])
        images = tally.images[own]
        if images.sum() >= (ENOUGH_IMAGES if many else 1):
            tables[name] = _table(
                tally.cells[own] % levels,
                images,
                tally.right[own],
                tally.top,
                FEW_ROWS if many else MOST_ROWS,
            )
    numbers = np.arange(levels)
    images, right = tally.by_level(tally.images), tally.by_level(tally.right)
    return {
        "error": _error(tally),
        "top": tally.top,
        "all": _table(numbers, images, right, tally.top, MOST_ROWS),
        "classes": tables,
    }


def isotonic(images: Ints, right: Ints) -> npt.NDArray[np.float64]:
    """Return (n,) shares ``right`` / ``images`` that never fall from level to level, nearest to the measured ones.

    ``images`` (n,), each 1 or more, weigh the squared differences. Levels whose shares fall are pooled (pool adjacent
    violators: Ayer et al. 1955; for classifiers: Zadrozny and Elkan 2002).
    """
    pools: list[list[int]] = []  # images, right, levels
    for count, correct in zip(images.tolist(), right.tolist(), strict=True):
        pools.append([count, correct, 1])
        while len(pools) > 1 and pools[-2][1] * pools[-1][0] >= pools[-1][1] * pools[-2][0]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    return np.repeat(
        [correct / count for count, correct, _ in pools], [length for _, _, length in pools]
    ).astype(np.float64)


def expected_precision(
    calibration: dict[str, Any], confidence: float, tag: str | None = None
) -> float | None:
    """Return the share of tags of this raw ``confidence`` (0.0-1.0) that are right: of ``tag``, or of all.

    A class that has fewer than `ENOUGH_IMAGES` measured tags gets the share of all tags. None where nothing is measured.
    """
    table = calibration["classes"].get(tag)
    if table is None or sum(table["images"]) < ENOUGH_IMAGES:
        table = calibration["all"]
    if not table["level"]:
        return None
    # A confidence that was divided, or is a 32-bit number as in Solr, may lie a little below its level.
    place = int(np.searchsorted(table["level"], confidence * calibration["top"] + 0.005, side="right"))
    return float(table["expected"][max(place - 1, 0)])


def _table(levels: Ints, images: Ints, right: Ints, top: int, most: int) -> Table:
    """Return the table of ``images`` and ``right`` ones by ``levels``, ascending, in rows of equally many levels."""
    bins = levels if top <= most else levels * most // top
    rows, place = np.unique(bins, return_inverse=True)
    counts, correct = (np.bincount(place, column, len(rows)).astype(np.int64) for column in (images, right))
    some = counts > 0
    rows, counts, correct = rows[some], counts[some], correct[some]
    lowest = rows if top <= most else -(-rows * top // most)
    return {
        "level": lowest.tolist(),
        "images": counts.tolist(),
        "right": correct.tolist(),
        "expected": np.round(isotonic(counts, correct), 6).tolist(),
    }


def _error(tally: Tally) -> float | None:
    levels = np.arange(tally.top + 1)
    bins = levels if tally.top <= BINS else np.minimum(levels * BINS // tally.top, BINS - 1)
    images, right, votes = (
        np.bincount(bins, tally.by_level(counts)) for counts in (tally.images, tally.right, tally.votes)
    )
    if not images.sum():
        return None
    return round(float(np.abs(votes / tally.whole - right).sum() / images.sum()), 6)
