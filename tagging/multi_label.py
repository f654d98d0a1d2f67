"""Precision and recall of tags where an image may have several labels, and most classes are verified neither way."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tagging.quality import wilson

# Of each class: images that have it and don't, its tags on them, and its tags on images of which it isn't known.
COLUMNS = ("present", "absent", "right", "wrong", "unverified")
Counts = npt.NDArray[np.int64]


def multi_label_quality(counts: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Return what follows from ``counts`` (classes, 5), by `COLUMNS`; shares are 0.0-1.0, None where they are shares of nothing.

    Of a class, precision is right / (right + wrong) and recall right / present, each with its 95 % interval: a tag counts only
    where people verified its class, as in the Open Images Challenge. ``micro`` is the same of the sums over all classes,
    ``macro`` the mean of the classes that have a share.
    """
    classes = {name: _measured(row.tolist()) for name, row in zip(names, counts, strict=True)}
    return {
        "classes": classes,
        "micro": _measured(counts.sum(axis=0).tolist()),
        "macro": {
            key: _mean([one[key] for one in classes.values() if one[key] is not None])
            for key in ("precision", "recall")
        },
    }


def _measured(row: Sequence[int]) -> dict[str, Any]:
    one: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    for key, whole in (("precision", one["right"] + one["wrong"]), ("recall", one["present"])):
        one[key] = round(one["right"] / whole, 6) if whole else None
        one[f"{key}_interval"] = [round(end, 6) for end in wilson(one["right"], whole)] if whole else None
    return one


def _mean(shares: Sequence[float]) -> float | None:
    return round(sum(shares) / len(shares), 6) if shares else None


def describe(quality: Mapping[str, Any], most: int) -> str:
    """Return a table of the ``most`` classes with the most images, and of all together, for people."""
    ordered = sorted(quality["classes"].items(), key=lambda item: (-item[1]["present"], item[0]))
    rows = [*ordered[:most], ("all", quality["micro"])]
    width = max([5, *(len(name) for name, _ in rows)])
    lines = [f"{'class':{width}}  present   absent    right    wrong unverified precision   recall"]
    for name, one in rows:
        numbers = " ".join(f"{one[key]:8,}" for key in COLUMNS[:4])
        lines.append(
            f"{name:{width}} {numbers} {one['unverified']:10,} {_percent(one['precision']):>9} {_percent(one['recall']):>8}"
        )
    if len(ordered) > most:
        lines.insert(-1, f"... of {len(ordered):,} classes; --json has all")
    lines.append(
        f"mean of the classes: precision {_percent(quality['macro']['precision'])}, recall {_percent(quality['macro']['recall'])}"
    )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
