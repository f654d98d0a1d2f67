"""How often a forest's tags are right: accuracy, confusion, and precision against share kept at every number of votes."""

import numpy as np

from tagging.tags import winners


def tally(votes: np.ndarray, labels: np.ndarray, trees: int) -> np.ndarray:
    """Return (classes, classes, trees + 1) int64: how many images by label, by tag, by votes for the tag.

    ``votes`` is (n, classes), ``labels`` (n,) are numbers of the same classes; images with a label below 0 are left out.
    Tallies of parts add up to that of the whole.
    """
    classes = votes.shape[1]
    known = labels >= 0
    best = winners(votes[known])
    cell = (labels[known].astype(np.int64) * classes + best.tag) * (trees + 1) + best.votes
    return np.bincount(cell, minlength=classes * classes * (trees + 1)).reshape(classes, classes, trees + 1)


def quality(tally: np.ndarray, classes: list[str]) -> dict:
    """Return what a `tally` says, fit for JSON; shares are 0.0-1.0, None where they are of nothing.

    ``accuracy`` is the share of all images whose tag is right, however few votes it has. ``confusion`` has a row for each
    label and a column for each tag. ``thresholds`` has for each number of votes, if that many are asked for, how many
    images keep their tag and how many of these tags are right.
    """
    confusion = tally.sum(axis=2)
    right = np.diagonal(confusion)
    trees = tally.shape[2] - 1
    images = int(tally.sum())
    # Images with that many votes or more: summed from the most votes down.
    kept = tally.sum(axis=(0, 1))[::-1].cumsum()[::-1]
    kept_right = np.diagonal(tally).sum(axis=1)[::-1].cumsum()[::-1]
    return {
        "images": images,
        "accuracy": _share(right.sum(), images),
        "classes": {
            name: {
                "images": int(confusion[i].sum()),
                "tagged": int(confusion[:, i].sum()),
                "precision": _share(right[i], confusion[:, i].sum()),
                "recall": _share(right[i], confusion[i].sum()),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
        "thresholds": [
            {
                "votes": votes,
                "confidence": votes / trees,
                "images": int(kept[votes]),
                "right": int(kept_right[votes]),
                "kept": _share(kept[votes], images),
                "precision": _share(kept_right[votes], kept[votes]),
            }
            for votes in range(1, trees + 1)
        ],
    }


def measure(votes: np.ndarray, labels: np.ndarray, classes: list[str], trees: int) -> dict:
    """Return the `quality` of ``votes`` (n, classes) where ``labels`` (n,) are what the images show."""
    return quality(tally(votes, labels, trees), classes)


def describe(quality: dict) -> str:
    """Return the table of thresholds as text of up to a dozen lines, for people."""
    thresholds = quality["thresholds"]
    # A forest of hundreds of trees has as many thresholds: show the one at each tenth.
    shown = sorted({-(-tenth * len(thresholds) // 10) - 1 for tenth in range(1, 11)})
    lines = [
        f"{_percent(quality['accuracy'])} of {quality['images']:,} images get the right tag",
        "confidence     kept    right",
    ]
    for row in (thresholds[place] for place in shown):
        lines.append(
            f"   >= {row['confidence']:4.0%} {_percent(row['kept']):>8} {_percent(row['precision']):>8}"
        )
    return "\n".join(lines)


def _share(part: int, whole: int) -> float | None:
    return round(int(part) / int(whole), 6) if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
