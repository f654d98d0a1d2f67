"""What a model's card says, worked out for pages and plots: calibration, the price of a threshold, classes, mistakes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from conf.wording import counted
from indexing.query.counts import percent

# A forest of hundreds of trees has as many thresholds.
MOST_ROWS = 20
# A larger matrix can't be read; its largest mistakes can.
MOST_CLASSES = 30
MISTAKES = 10
SHADES = 10
_Z = 1.96  # 95 %


@dataclass(frozen=True)
class Threshold:
    """What asking for a confidence costs and gives."""

    confidence: float  # 0.0-1.0
    percent: int  # the same, as the search rounds it
    votes: int | None
    images: int
    right: int
    kept: float  # share of all images measured on
    precision: float | None  # share of the kept whose tag is right; None where none is kept


@dataclass(frozen=True)
class Bin:
    """The tags of one confidence, or of some that lie together: how many, and how many of them are right."""

    low: int  # percent, both ends included
    high: int
    confidence: float  # the mean, 0.0-1.0
    images: int
    right: int
    share: float
    least: float  # the ends of the 95 % interval of the share
    most: float


@dataclass(frozen=True)
class ClassQuality:
    """How well one class is told."""

    name: str
    images: int
    tagged: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Confusion:
    """One cell of the confusion matrix; ``share`` is of the label's images."""

    count: int
    share: float
    right: bool

    def shade(self, most: float) -> int:
        """Return how dark the cell is, 0 to `SHADES`, where one of ``most`` is darkest."""
        return math.ceil(SHADES * self.share / most) if most else 0


@dataclass(frozen=True)
class Quality:
    """A card's quality, as a page shows it."""

    images: int
    accuracy: float | None
    thresholds: list[Threshold]
    bins: list[Bin]
    classes: list[ClassQuality]
    confusion: list[list[Confusion]] | None  # None where there are too many classes
    mistakes: list[tuple[str, str, int, float]]  # label, tag, images, share of the label's


def read_quality(card: dict) -> Quality | None:
    """Return what a card says of its model's quality; None where it says nothing, or not in the form we know."""
    try:
        quality, names = card["quality"], [str(name) for name in card["classes"]]
        rows = [_threshold(row, card.get("trees")) for row in quality["thresholds"]]
        confusion = [[int(count) for count in row] for row in quality["confusion"]]
        if [len(row) for row in confusion] != [len(names)] * len(names):
            return None
        return Quality(
            images=int(quality["images"]),
            accuracy=_share(quality["accuracy"]),
            thresholds=rows,
            bins=_bins(rows),
            classes=[_class_quality(name, quality["classes"][name]) for name in names],
            confusion=_cells(confusion) if len(names) <= MOST_CLASSES else None,
            mistakes=_mistakes(confusion, names),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def few(rows: list, most: int = MOST_ROWS) -> list:
    """Return at most ``most`` of the rows, evenly spread, the last among them."""
    if len(rows) <= most:
        return rows
    return [rows[-(-place * len(rows) // most) - 1] for place in range(1, most + 1)]


def _threshold(row: dict, trees: object) -> Threshold:
    votes, confidence = row.get("votes"), float(row["confidence"])
    return Threshold(
        confidence=confidence,
        percent=percent(int(votes), int(trees)) if votes and trees else round(100 * confidence),
        votes=None if votes is None else int(votes),
        images=int(row["images"]),
        right=int(row["right"]),
        kept=_share(row["kept"]) or 0.0,
        precision=_share(row["precision"]),
    )


def _bins(rows: list[Threshold]) -> list[Bin]:
    """Return the tags of each confidence: those from it up without those from the next one up."""
    exact = [
        (row, row.images - (after.images if after else 0), row.right - (after.right if after else 0))
        for row, after in zip(rows, [*rows[1:], None], strict=True)
    ]
    together = max(-(-len(exact) // MOST_ROWS), 1)
    groups = [exact[max(end - together, 0) : end] for end in range(len(exact), 0, -together)][::-1]
    return [_bin(group) for group in groups if any(images for _, images, _ in group)]


def _bin(group: list[tuple[Threshold, int, int]]) -> Bin:
    images, right = (sum(values[place] for values in group) for place in (1, 2))
    mean = sum(row.confidence * count for row, count, _ in group) / images
    least, most = wilson(right, images)
    return Bin(group[0][0].percent, group[-1][0].percent, mean, images, right, right / images, least, most)


def wilson(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was ``right`` of ``images``: Wilson's score interval (1927)."""
    if not images:
        return 0.0, 1.0
    share, weight = right / images, _Z**2 / images
    middle = (share + weight / 2) / (1 + weight)
    reach = _Z * math.sqrt(share * (1 - share) / images + weight / (4 * images)) / (1 + weight)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _class_quality(name: str, row: dict) -> ClassQuality:
    return ClassQuality(
        name, int(row["images"]), int(row["tagged"]), _share(row["precision"]), _share(row["recall"])
    )


def _cells(confusion: list[list[int]]) -> list[list[Confusion]]:
    cells = []
    for label, row in enumerate(confusion):
        images = sum(row) or 1
        cells.append([Confusion(count, count / images, label == tag) for tag, count in enumerate(row)])
    return cells


def _mistakes(confusion: list[list[int]], names: list[str]) -> list[tuple[str, str, int, float]]:
    found = [
        (names[label], names[tag], count, count / sum(row))
        for label, row in enumerate(confusion)
        for tag, count in enumerate(row)
        if count and label != tag
    ]
    return sorted(found, key=lambda mistake: -mistake[2])[:MISTAKES]


def _share(value: object) -> float | None:
    """Return a share as a card has it: a number from 0 to 1, or None."""
    if value is None:
        return None
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


# How a model was made


def facts(card: dict) -> list[tuple[str, str]]:
    """Return what a card says of how its model was made, as (name, words); what it doesn't say is left out."""
    found = [
        ("kind", card.get("kind")),
        ("engine", card.get("engine")),
        ("trees", card.get("trees")),
        ("classes", _count(card.get("classes"))),
        *((name, value) for name, value in _items(card.get("parameters")) if name != "trees"),
        ("trained on", _images(card.get("trained_on"))),
        ("measured on", _images(card.get("measured_on"))),
        ("created", card.get("created")),
        *((f"{name} took", f"{value} s") for name, value in _items(card.get("seconds"))),
        *((f"version of {name}", value) for name, value in _items(card.get("versions"))),
        ("hash", str(card.get("hash") or "")[:16]),
    ]
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def together(sides: Iterable[list[tuple[str, str]]]) -> list[tuple[str, list[str]]]:
    """Return the facts of several models side by side: (name, the words of each, "" where it says none)."""
    sides = [dict(side) for side in sides]
    names = dict.fromkeys(name for side in sides for name in side)
    return [(name, [side.get(name, "") for side in sides]) for name in names]


def _items(value: object) -> list[tuple[str, object]]:
    return [(str(name), item) for name, item in value.items()] if isinstance(value, dict) else []


def _count(value: object) -> int | None:
    return len(value) if isinstance(value, list) else None


def _images(value: object) -> str | None:
    if not isinstance(value, dict):
        return value if isinstance(value, str) else None
    images, corpus, part = value.get("images"), value.get("corpus"), value.get("part")
    words = counted(images, "image") if isinstance(images, int) else "images"
    corrections = value.get("corrections")
    return (
        words
        + (f" of {corpus}" if corpus else "")
        + (f" ({part})" if part else "")
        + (f" and {counted(corrections, 'correction')}" if isinstance(corrections, int) else "")
    )
