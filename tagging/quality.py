"""Measures how often a model's tags are right: accuracy, confusion, and precision and coverage by threshold."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.runs import PROBABILITY_STEPS
from tagging.model import Votes
from tagging.tags import winners

Ints = npt.NDArray[np.int64]

# Probabilities are counted by whole percent, rounded down: a threshold of 40 % takes what `tinytags tag` keeps at 0.4.
PERCENTS = 100
# A card has the whole confusion matrix up to this many classes (some 200 kB of JSON), beyond that the largest mistakes.
MATRIX_CLASSES = 256
LARGEST_MISTAKES = 1_000


@dataclass(frozen=True, eq=False)
class Tally:
    """How many labelled images there are by label and tag, and by the votes for the tag.

    Its size grows with the pairs of label and tag that occur, not with the square of the classes. A level is a number
    of votes, 0 to ``voters``; of probabilities it is a whole percent, 0 to 100.
    """

    classes: int
    voters: int | None  # None for probabilities
    pairs: Ints  # (k,) ascending label * classes + tag, of the pairs that occur
    counts: Ints  # (k,) images with this label and tag
    images: Ints  # (levels,) images whose tag has this level
    right: Ints  # (levels,) images whose tag has this level and is the label


def tally(votes: Votes, labels: npt.NDArray[Any], voters: int | None) -> Tally:
    """Count the images whose label is known, by label, tag and votes.

    ``votes`` is (n, classes) with ``voters`` as in `tagging.model.Model`; ``labels`` (n,) are numbers of the same
    classes; images with a label below 0 are left out.
    """
    classes = votes.shape[1]
    known = labels >= 0
    best = winners(votes[known])
    label, tag = labels[known].astype(np.int64), best.tag.astype(np.int64)
    level = best.votes // (PROBABILITY_STEPS // PERCENTS) if voters is None else best.votes
    pairs, counts = np.unique(label * classes + tag, return_counts=True)
    levels = (PERCENTS if voters is None else voters) + 1
    return Tally(
        classes=classes,
        voters=voters,
        pairs=pairs,
        counts=counts.astype(np.int64),
        images=np.bincount(level, minlength=levels),
        right=np.bincount(level[label == tag], minlength=levels),
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies of one model, at least one: that of all their images."""
    parts = list(tallies)
    pairs, place = np.unique(np.concatenate([part.pairs for part in parts]), return_inverse=True)
    counts = np.zeros(len(pairs), np.int64)
    np.add.at(counts, place, np.concatenate([part.counts for part in parts]))
    images, right = (np.sum([getattr(part, key) for part in parts], axis=0) for key in ("images", "right"))
    return Tally(parts[0].classes, parts[0].voters, pairs, counts, images, right)


def quality(tally: Tally, classes: Iterable[str]) -> dict[str, Any]:
    """Return what follows from a tally, fit for JSON; shares are 0.0-1.0, None where they are shares of nothing.

    ``accuracy`` is the share of all images whose tag is right, whatever its confidence. ``classes`` has precision and
    recall of each class. ``confusion`` has a row for each label and a column for each tag, up to `MATRIX_CLASSES` classes;
    with more classes it is None, and ``mistakes`` lists the `LARGEST_MISTAKES` largest cells off the diagonal, so that a
    card stays below 2 MB with 10,000 classes. ``thresholds`` has for each number of votes, or for each whole percent of a
    probability, how many images keep their tag if at least that is required, and how many of these tags are right.
    """
    labels, tags = tally.pairs // tally.classes, tally.pairs % tally.classes
    on_diagonal = labels == tags
    labelled, tagged, right = (
        _sums(places[chosen], tally.counts[chosen], tally.classes)
        for places, chosen in ((labels, slice(None)), (tags, slice(None)), (tags, on_diagonal))
    )
    images = int(tally.counts.sum())
    names = list(classes)
    result: dict[str, Any] = {
        "images": images,
        "accuracy": _share(right.sum(), images),
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
    """Return the table of thresholds as text of up to a dozen lines, for people."""
    thresholds = quality["thresholds"]
    # Hundreds of trees, or percents, are as many thresholds: one at each tenth is enough.
    chosen = sorted({-(-tenth * len(thresholds) // 10) - 1 for tenth in range(1, 11)})
    lines = [
        f"{_percent(quality['accuracy'])} of {quality['images']:,} images get the right tag",
        "confidence     kept    right",
    ]
    for row in (thresholds[place] for place in chosen):
        lines.append(
            f"   >= {row['confidence']:4.0%} {_percent(row['kept']):>8} {_percent(row['precision']):>8}"
        )
    return "\n".join(lines)


def _thresholds(tally: Tally, images: int) -> list[dict[str, Any]]:
    """Return a row for each level from 1 up; rows of whole votes have ``votes``, too."""
    # Images with that level or more: summed from the highest level down.
    kept, kept_right = (counts[::-1].cumsum()[::-1].tolist() for counts in (tally.images, tally.right))
    top = len(kept) - 1
    return [
        ({} if tally.voters is None else {"votes": level})
        | {
            "confidence": level / top,
            "images": kept[level],
            "right": kept_right[level],
            "kept": _share(kept[level], images),
            "precision": _share(kept_right[level], kept[level]),
        }
        for level in range(1, top + 1)
    ]


def _sums(places: Ints, counts: Ints, size: int) -> Ints:
    sums = np.zeros(size, np.int64)
    np.add.at(sums, places, counts)
    return sums


def _share(part: int, whole: int) -> float | None:
    return round(int(part) / int(whole), 6) if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
