"""Measures how often a model's tags are right: accuracy, confusion, and precision and coverage by threshold."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tagging.calibration import calibration
from tagging.tallies import Tally, sums, tally
from tagging.types import Votes

# A card has the whole confusion matrix up to this many classes (some 200 kB of JSON), beyond that the largest mistakes.
MATRIX_CLASSES = 256
LARGEST_MISTAKES = 1_000
TEXT_CLASSES = 20
_Z = 1.96  # 95 %


def quality(tally: Tally, classes: Iterable[str]) -> dict[str, Any]:
    """Return what follows from a tally, fit for JSON; shares are 0.0-1.0, None where they are shares of nothing.

    ``accuracy`` is the share of all images whose tag is right, whatever its confidence, ``interval`` its 95 % interval, and
    ``top_2`` the share whose label is the winner or the runner-up. ``classes`` has precision and recall of each class. ``confusion`` has a row for each label and a column for each tag, up to `MATRIX_CLASSES` classes;
    with more classes it is None, and ``mistakes`` lists the `LARGEST_MISTAKES` largest cells off the diagonal, so that a
    card stays below 2 MB with 10,000 classes. ``thresholds`` has for each number of votes, or for each whole percent of a
    probability, how many images keep their tag if at least that is required, and how many of these tags are right.
    ``calibration`` is that of `tagging.calibration.calibration`.
    """
    labels, tags = tally.pairs // tally.classes, tally.pairs % tally.classes
    on_diagonal = labels == tags
    labelled, tagged, right = (
        sums(places[chosen], tally.counts[chosen], tally.classes)
        for places, chosen in ((labels, slice(None)), (tags, slice(None)), (tags, on_diagonal))
    )
    images = int(tally.counts.sum())
    names = list(classes)
    result: dict[str, Any] = {
        "images": images,
        "accuracy": _share(right.sum(), images),
        "interval": _interval(right.sum(), images),
        "top_2": _share(right.sum() + tally.runners_up, images),
        "classes": {
            name: {
                "images": int(labelled[i]),
                "tagged": int(tagged[i]),
                "precision": _share(right[i], tagged[i]),
                "recall": _share(right[i], labelled[i]),
            }
            for i, name in enumerate(names)
        },
        "confusion": None,
        "thresholds": _thresholds(tally, images),
        "calibration": calibration(tally, names),
    }
    if tally.classes <= MATRIX_CLASSES:
        matrix = np.zeros(tally.classes**2, np.int64)
        matrix[tally.pairs] = tally.counts
        result["confusion"] = matrix.reshape(tally.classes, tally.classes).tolist()
    else:
        off = np.flatnonzero(~on_diagonal)
        largest = off[np.argsort(-tally.counts[off], kind="stable")[:LARGEST_MISTAKES]]
        result["mistakes"] = [
            {"label": names[labels[at]], "tag": names[tags[at]], "images": int(tally.counts[at])}
            for at in largest.tolist()
        ]
    return result


def measure(
    votes: Votes, labels: npt.NDArray[Any], classes: Iterable[str], voters: int | None
) -> dict[str, Any]:
    """Return the `quality` of ``votes`` (n, classes) for images with ``labels`` (n,)."""
    return quality(tally(votes, labels, voters), classes)


def describe(quality: dict[str, Any]) -> str:
    """Return accuracy and the table of thresholds as text of up to a dozen lines, for people."""
    thresholds = quality["thresholds"]
    # Hundreds of trees, or percents, are as many thresholds: one at each tenth is enough.
    chosen = sorted({-(-tenth * len(thresholds) // 10) - 1 for tenth in range(1, 11)})
    lines = [
        f"{_percent(quality['accuracy'])}{_range(quality['interval'])} of {quality['images']:,} images get the right tag",
        "confidence     kept    right",
    ]
    for row in (thresholds[place] for place in chosen):
        lines.append(
            f"   >= {row['confidence']:4.0%} {_percent(row['kept']):>8} {_percent(row['precision']):>8}"
            f"{_range(row['precision_interval'])}"
        )
    return "\n".join(lines)


def describe_all(quality: dict[str, Any]) -> str:
    """Return a quality as text for people: `describe`, the other figures, and up to `TEXT_CLASSES` classes."""
    lines = [
        describe(quality),
        f"right tag or runner-up: {_percent(quality['top_2'])}; expected calibration error: "
        f"{_percent(quality['calibration']['error'])}",
    ]
    classes = sorted(quality["classes"].items(), key=lambda item: -item[1]["images"])[:TEXT_CLASSES]
    width = max([5, *(len(name) for name, _ in classes)])
    lines.append(f"{'class':{width}}   images precision   recall")
    lines += [
        f"{name:{width}} {row['images']:8,} {_percent(row['precision']):>9} {_percent(row['recall']):>8}"
        for name, row in classes
    ]
    if len(quality["classes"]) > len(classes):
        lines.append(f"... of {len(quality['classes']):,} classes; --json has all")
    mistakes = [f"{label} tagged {tag} ({count:,})" for label, tag, count in largest_mistakes(quality, 5)]
    if mistakes:
        lines.append(f"most frequent mistakes: {', '.join(mistakes)}")
    return "\n".join(lines)


def largest_mistakes(quality: dict[str, Any], most: int) -> list[tuple[str, str, int]]:
    """Return the most frequent mistakes of a quality: label, tag and number of images."""
    if quality["confusion"] is None:
        return [(row["label"], row["tag"], row["images"]) for row in quality["mistakes"][:most]]
    names = list(quality["classes"])
    pairs = [
        (names[label], names[tag], count)
        for label, row in enumerate(quality["confusion"])
        for tag, count in enumerate(row)
        if count and label != tag
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def _range(interval: list[float] | None) -> str:
    return "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"


def _thresholds(tally: Tally, images: int) -> list[dict[str, Any]]:
    """Return a row for each level from 1 up; rows of whole votes have ``votes``, too."""
    # Images with that level or more: summed from the highest level down.
    kept, kept_right = (
        tally.by_level(counts)[::-1].cumsum()[::-1].tolist() for counts in (tally.images, tally.right)
    )
    return [
        ({} if tally.voters is None else {"votes": level})
        | {
            "confidence": level / tally.top,
            "images": kept[level],
            "right": kept_right[level],
            "kept": _share(kept[level], images),
            "kept_interval": _interval(kept[level], images),
            "precision": _share(kept_right[level], kept[level]),
            "precision_interval": _interval(kept_right[level], kept[level]),
        }
        for level in range(1, tally.top + 1)
    ]


def wilson(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of the share ``right`` of ``images``: Wilson's score interval (1927)."""
    if not images:
        return 0.0, 1.0
    share, weight = right / images, _Z**2 / images
    middle = (share + weight / 2) / (1 + weight)
    reach = _Z * math.sqrt(share * (1 - share) / images + weight / (4 * images)) / (1 + weight)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _interval(part: int, whole: int) -> list[float] | None:
    return [round(end, 6) for end in wilson(int(part), int(whole))] if whole else None


def _share(part: int, whole: int) -> float | None:
    return round(int(part) / int(whole), 6) if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
