"""Reads the cards of models for pages and plots: calibration, precision and coverage by threshold, classes, mistakes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from conf.wording import counted, percent
from tagging.evaluations import best_known, evaluations, warning
from tagging.quality import wilson

T = TypeVar("T")

# A forest of hundreds of trees has as many thresholds, a model with probabilities has 100.
MOST_ROWS = 20
# A larger confusion matrix is not readable; its largest mistakes are.
MATRIX_CLASSES = 30
# With more classes a page has the most frequent ones, and the API has all.
TABLE_CLASSES = 100
MISTAKES = 10
CLASS_BINS = 10
_MISTAKE: dict[str, Any] = {
    "partition": int,
    "row": int,
    "label": str,
    "tag": str,
    "confidence": (int, float),
}
SHADES = 10


@dataclass(frozen=True)
class Threshold:
    """The tags with at least some confidence: their precision and coverage."""

    confidence: float  # 0.0-1.0
    percent: int  # the same, rounded as in the search
    votes: int | None  # None for probabilities
    images: int
    right: int
    kept: float  # the coverage: the share of all measured images that keep a tag
    kept_interval: tuple[float, float]  # 95 %, as all intervals here
    precision: float | None  # the share of these whose tag is right; None where there is none
    interval: tuple[float, float]  # of the precision


@dataclass(frozen=True)
class Bin:
    """The tags of one confidence, or of a few neighbouring ones: how many there are, and how many of them are right."""

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
    """Precision and recall of one class."""

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
        """Return the shade of the cell, 0 to `SHADES`; a cell with the share ``most`` has the darkest."""
        return math.ceil(SHADES * self.share / most) if most else 0


@dataclass(frozen=True)
class ClassCalibration:
    """The calibration of each class: a row for each, a cell for each range of confidence."""

    ranges: list[tuple[int, int]]  # percent, both ends included
    rows: list[
        tuple[str, list[Bin | None]]
    ]  # the most frequent tags first where there are many; None without tags


@dataclass(frozen=True)
class Quality:
    """The quality on a card, prepared for a page."""

    images: int
    measured_on: str | None  # as text
    accuracy: float | None
    interval: tuple[float, float]
    top_2: float | None  # the share of images whose label is the tag or the runner-up; None on cards of 0.1.0
    calibration_error: float | None  # likewise
    classes_calibration: ClassCalibration | None  # likewise
    levels: dict[str, list[Bin]]  # of each tag, a bin for each level of confidence; empty on cards of 0.1.0
    calibration: dict[str, Any] | None  # of `tagging.calibration`; None on cards of 0.1.0
    thresholds: list[Threshold]
    bins: list[Bin]
    classes: list[ClassQuality]
    confusion: list[list[Confusion]] | None  # None where there are too many classes
    mistakes: list[tuple[str, str, int, float]]  # label, tag, images, share of the label's


@dataclass(frozen=True)
class Evaluation:
    """An evaluation on a card, prepared for a page."""

    corpus: str
    corpus_hash: str
    measured_on: str
    measured: str | None  # when
    warning: str | None  # where the figures are too good
    left_out: int
    quality: Quality
    mistakes: list[dict[str, Any]]


def read_quality(card: dict[str, Any]) -> Quality | None:
    """Return the `best_known` quality on a card; None where the card has none, or not in the form of `tagging.quality.quality`."""
    known = best_known(card)
    return _quality(card, *known) if known else None


def read_evaluations(card: dict[str, Any]) -> list[Evaluation]:
    """Return the evaluations on a card, the newest first, without those of another form."""
    readable = []
    for entry in evaluations(card):
        quality = _quality(card, entry["quality"], entry)
        mistakes, left_out = entry.get("confident_mistakes"), entry.get("left_out")
        if quality:
            readable.append(
                Evaluation(
                    corpus=str(entry.get("corpus")),
                    corpus_hash=str(entry.get("corpus_hash")),
                    measured_on=quality.measured_on or "",
                    measured=str(entry["measured"])[:10] if entry.get("measured") else None,
                    warning=warning(entry),
                    left_out=left_out if isinstance(left_out, int) else 0,
                    quality=quality,
                    mistakes=[
                        one
                        for one in (mistakes if isinstance(mistakes, list) else [])
                        if isinstance(one, dict)
                        and all(isinstance(one.get(key), kind) for key, kind in _MISTAKE.items())
                    ],
                )
            )
    return readable


def _quality(card: dict[str, Any], quality: dict[str, Any], measured_on: dict[str, Any]) -> Quality | None:
    try:
        names = [str(name) for name in card["classes"]]
        rows = [_threshold(row, card.get("trees"), int(quality["images"])) for row in quality["thresholds"]]
        accuracy = _share(quality["accuracy"])
        # Cards of 0.1.0 have none.
        calibration = quality.get("calibration") or {"top": 1, "error": None, "classes": {}}
        images = int(quality["images"])
        levels = {
            name: _levels(table, int(calibration["top"]), card.get("trees"))
            for name, table in calibration["classes"].items()
        }
        confusion = None
        if quality["confusion"] is not None:
            confusion = [[int(count) for count in row] for row in quality["confusion"]]
            if [len(row) for row in confusion] != [len(names)] * len(names):
                return None
        classes = [_class_quality(name, quality["classes"][name]) for name in names]
        return Quality(
            images=images,
            measured_on=_place(measured_on),
            accuracy=accuracy,
            interval=wilson(round((accuracy or 0) * images), images),
            top_2=_share(quality.get("top_2")),
            calibration_error=_share(calibration["error"]),
            classes_calibration=_classes_calibration(levels, classes),
            levels=levels,
            calibration=quality.get("calibration"),
            thresholds=rows,
            bins=_bins(rows),
            classes=classes,
            confusion=_cells(confusion) if confusion and len(names) <= MATRIX_CLASSES else None,
            mistakes=_listed_mistakes(quality["mistakes"], classes)
            if confusion is None
            else _mistakes(confusion, names),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def few(rows: list[T], most: int = MOST_ROWS) -> list[T]:
    """Return at most ``most`` of the rows, evenly spread, the last among them."""
    if len(rows) <= most:
        return rows
    return [rows[-(-place * len(rows) // most) - 1] for place in range(1, most + 1)]


def _threshold(row: dict[str, Any], voters: Any, measured: int) -> Threshold:
    votes, confidence = row.get("votes"), float(row["confidence"])
    return Threshold(
        confidence=confidence,
        percent=percent(int(votes), int(voters)) if votes and voters else round(100 * confidence),
        votes=None if votes is None else int(votes),
        images=int(row["images"]),
        right=int(row["right"]),
        kept=_share(row["kept"]) or 0.0,
        kept_interval=wilson(int(row["images"]), measured),
        precision=_share(row["precision"]),
        interval=wilson(int(row["right"]), int(row["images"])),
    )


def _levels(table: dict[str, list[Any]], top: int, voters: Any) -> list[Bin]:
    """Return a bin for each level of a table of `tagging.calibration`."""
    bins = []
    for level, images, right in zip(table["level"], table["images"], table["right"], strict=True):
        low = percent(int(level), int(voters)) if voters else round(100 * level / top)
        bins.append(Bin(low, low, level / top, images, right, right / images, *wilson(right, images)))
    return bins


def _classes_calibration(
    levels: dict[str, list[Bin]], classes: list[ClassQuality]
) -> ClassCalibration | None:
    """Return the calibration of classes in up to `CLASS_BINS` ranges of confidence that have tags."""
    percents = sorted({bin.low for bins in levels.values() for bin in bins})
    if not percents:
        return None
    if len(percents) > CLASS_BINS:
        width = 100 // CLASS_BINS
        starts = [number * width for number in range(CLASS_BINS)]
        ranges = [(start, start + width - 1 if start < 100 - width else 100) for start in starts]
    else:
        ranges = [(percent, percent) for percent in percents]
    names = [row.name for row in classes if row.name in levels]
    if len(names) > TABLE_CLASSES:
        tagged = {row.name: row.tagged for row in classes}
        names = sorted(names, key=lambda name: -tagged[name])[:TABLE_CLASSES]
    rows: list[tuple[str, list[Bin | None]]] = []
    for name in names:
        cells: list[Bin | None] = []
        for low, high in ranges:
            inside = [bin for bin in levels[name] if low <= bin.low <= high]
            cells.append(merge(inside) if inside else None)
        rows.append((name, cells))
    used = [place for place in range(len(ranges)) if any(cells[place] for _, cells in rows)]
    return ClassCalibration(
        [ranges[place] for place in used], [(name, [cells[place] for place in used]) for name, cells in rows]
    )


def merge(bins: list[Bin]) -> Bin:
    """Return one bin with the tags of several, at least one."""
    images, right = sum(bin.images for bin in bins), sum(bin.right for bin in bins)
    mean = sum(bin.confidence * bin.images for bin in bins) / images
    return Bin(bins[0].low, bins[-1].high, mean, images, right, right / images, *wilson(right, images))


def _bins(rows: list[Threshold]) -> list[Bin]:
    """Return the tags of each confidence: those of its threshold without those of the next one."""
    exact = [
        (row, row.images - (after.images if after else 0), row.right - (after.right if after else 0))
        for row, after in zip(rows, [*rows[1:], None], strict=True)
    ]
    together = max(-(-len(exact) // MOST_ROWS), 1)
    groups = [exact[max(end - together, 0) : end] for end in range(len(exact), 0, -together)][::-1]
    return [_bin(group) for group in groups if any(images for _, images, _ in group)]


def _bin(group: list[tuple[Threshold, int, int]]) -> Bin:
    images, right = sum(count for _, count, _ in group), sum(right for _, _, right in group)
    mean = sum(row.confidence * count for row, count, _ in group) / images
    least, most = wilson(right, images)
    return Bin(group[0][0].percent, group[-1][0].percent, mean, images, right, right / images, least, most)


def _class_quality(name: str, row: dict[str, Any]) -> ClassQuality:
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
    mistakes = [
        (names[label], names[tag], count, count / sum(row))
        for label, row in enumerate(confusion)
        for tag, count in enumerate(row)
        if count and label != tag
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])[:MISTAKES]


def _listed_mistakes(
    rows: list[dict[str, Any]], classes: list[ClassQuality]
) -> list[tuple[str, str, int, float]]:
    images = {row.name: row.images for row in classes}
    return [
        (
            str(row["label"]),
            str(row["tag"]),
            int(row["images"]),
            int(row["images"]) / images[str(row["label"])],
        )
        for row in rows[:MISTAKES]
    ]


def _share(value: Any) -> float | None:
    """Check and return a share on a card: a number from 0 to 1, or None."""
    if value is None:
        return None
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


# How a model was made


def facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how a model was made, as (name, text); what is not on its card is left out."""
    rows = [
        ("kind", card.get("kind")),
        ("engine", card.get("engine")),
        ("trees", card.get("trees")),
        ("classes", _count(card.get("classes"))),
        *((name, value) for name, value in _items(card.get("parameters")) if name != "trees"),
        ("trained on", _images(card.get("trained_on"))),
        ("measured on", _images(card.get("measured_on"))),
        ("created", card.get("created")),
        *(
            (f"time to {name}" if name != "all" else "time in all", f"{value} s")
            for name, value in _items(card.get("seconds"))
        ),
        *((f"version of {name}", value) for name, value in _items(card.get("versions"))),
        ("hash", str(card.get("hash") or "")[:16]),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def together(sides: Iterable[list[tuple[str, str]]]) -> list[tuple[str, list[str]]]:
    """Return the facts of several models side by side: (name, the text of each, "" where it has none)."""
    tables = [dict(side) for side in sides]
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, [table.get(name, "") for table in tables]) for name in names]


def _items(value: object) -> list[tuple[str, object]]:
    return [(str(name), item) for name, item in value.items()] if isinstance(value, dict) else []


def _count(value: object) -> int | None:
    return len(value) if isinstance(value, list) else None


def _place(measured_on: dict[str, Any]) -> str | None:
    """Return corpus and part of a measurement."""
    corpus, part = measured_on.get("corpus"), measured_on.get("part")
    if not isinstance(corpus, str):
        return None
    return f"{corpus} ({part})" if isinstance(part, str) and part != "all" else corpus


def _images(value: object) -> str | None:
    if not isinstance(value, dict):
        return value if isinstance(value, str) else None
    images, corpus, part = value.get("images"), value.get("corpus"), value.get("part")
    text = counted(images, "image") if isinstance(images, int) else "images"
    corrections = value.get("corrections")
    return (
        text
        + (f" of {corpus}" if corpus else "")
        + (f" ({part})" if part else "")
        + (f" and {counted(corrections, 'correction')}" if isinstance(corrections, int) else "")
    )
