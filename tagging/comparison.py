"""Compares models by the same figures: accuracy with its interval, precision at an equal share kept, time and size."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.runs import PROBABILITY_STEPS
from tagging.model import Model
from tagging.quality import wilson
from tagging.tags import minimum_votes, winners
from tagging.types import Votes

Levels = npt.NDArray[np.int64]  # (n,) counts of images, by ascending confidence

# Shares of the images that are kept, those of the highest confidence first. At the same share two models are equal but
# for the precision, whatever their confidences mean.
SHARES = (0.9, 0.7, 0.5, 0.3, 0.1)
# Thresholds of confidence that a table shows.
THRESHOLDS = (0.3, 0.4, 0.6)
# The rate of a model is measured for at least this processor time, on the same images again where they are few.
LEAST_SECONDS = 0.2
RATE_IMAGES = 1_024


def precision_at(levels: Levels, right: Levels, share: float) -> float | None:
    """Return the precision of the tags where ``share`` (0.0-1.0) of the images is kept, the most confident first.

    ``levels`` and ``right`` (n,) are the images, and those with the right tag, by ascending confidence. Of images with the
    same confidence as the last one kept, a random part is: the result is the expected precision. None without images.
    """
    wanted = share * int(levels.sum())
    if not wanted:
        return None
    kept = np.concatenate([[0], levels[::-1].cumsum()])
    kept_right = np.concatenate([[0], right[::-1].cumsum()])
    return round(float(np.interp(wanted, kept, kept_right)) / wanted, 6)


def figures(votes: Votes, labels: npt.NDArray[Any], voters: int | None) -> dict[str, Any]:
    """Return the figures by which models are compared, fit for JSON.

    ``votes`` is (n, classes) with ``voters`` as in `tagging.model.Model`, ``labels`` (n,) are numbers of the same classes.
    ``accuracy`` with its 95 % ``interval``; ``at_share``: the precision at each of `SHARES`; ``at_confidence``: precision
    and share kept at each of `THRESHOLDS`. The keys of the two are the numbers as text. Shares of nothing are None.
    """
    best = winners(votes)
    correct = best.tag == labels
    top = PROBABILITY_STEPS if voters is None else voters
    levels, right = (np.bincount(chosen, minlength=top + 1) for chosen in (best.votes, best.votes[correct]))
    images, hits = len(labels), int(correct.sum())
    at_confidence = {}
    for threshold in THRESHOLDS:
        least = minimum_votes(threshold, voters)
        kept = int(levels[least:].sum())
        at_confidence[str(threshold)] = {
            "precision": round(int(right[least:].sum()) / kept, 6) if kept else None,
            "kept": round(kept / images, 6) if images else None,
        }
    return {
        "images": images,
        "accuracy": round(hits / images, 6) if images else None,
        "interval": [round(end, 6) for end in wilson(hits, images)] if images else None,
        "at_share": {str(share): precision_at(levels, right, share) for share in SHARES},
        "at_confidence": at_confidence,
    }


def measure_rate(model: Model, images: npt.NDArray[np.uint8]) -> float:
    """Return how many of ``images`` (n, 3072) ``model`` votes on in a second of processor time, warm."""
    images = images[:RATE_IMAGES]
    rate = 0.0
    for _ in ("warm up", "measure"):
        began, done = time.process_time(), 0
        while time.process_time() - began < LEAST_SECONDS:
            model.votes(images)
            done += len(images)
        rate = done / (time.process_time() - began)
    return rate


def model_row(
    model: Model,
    card: Mapping[str, Any],
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int32],
) -> dict[str, Any]:
    """Return the row of a model of the store, measured on ``images`` (n, 3072) with ``labels`` (n,) of its own classes.

    The time of the fit is the card's: ``fit_seconds`` by the clock, ``fit_processor_seconds`` where the card has them.
    """
    votes = model.votes(images)
    seconds = card.get("seconds") or {}
    return {
        "name": card["name"],
        "kind": model.kind,
        "engine": card.get("engine"),
        "features": (card.get("parameters") or {}).get("features") or "pixels",
        "trained_images": (card.get("trained_on") or {}).get("images"),
        "parameters": card.get("parameters") or {},
        **figures(votes, labels, model.voters),
        "fit_seconds": seconds.get("fit"),
        "fit_processor_seconds": seconds.get("processor"),
        "images_per_processor_second": round(measure_rate(model, images), 1),
        "bytes": sum(len(data) for data in model.files().values()),
        "hash": model.hash,
    }


def describe(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table of text for people, the most accurate first."""
    head = ("model", "features", "accuracy", "best 70 %", "best 30 %", ">= 0.4", "fit", "images/s", "size")
    table = [head, *map(_cells, sorted(rows, key=lambda row: -(row["accuracy"] or 0)))]
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in table
    ]  # fmt: skip
    return "\n".join(
        [
            *lines,
            "accuracy: with half the width of its 95 % interval. best 30 %: precision of the 30 % of the images with the "
            "highest confidence.",
            ">= 0.4: precision / kept. fit: processor seconds, or s by the clock as the card has it. images/s: a processor second.",
        ]
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    at = (row["at_confidence"] or {}).get("0.4")
    return (
        row["name"],
        row["features"],
        accuracy_text(row),
        *(percent(row["at_share"][share]) for share in ("0.7", "0.3")),
        f"{percent(at['precision'], 0)} / {percent(at['kept'], 0)}" if at else "-",
        fit_text(row),
        rate_text(row["images_per_processor_second"]),
        size_text(row["bytes"]),
    )


def accuracy_text(row: Mapping[str, Any]) -> str:
    """Return the accuracy and half the width of its interval, in percent: ``37.5 +- 1.1 %``."""
    if row["accuracy"] is None:
        return "-"
    low, high = row["interval"]
    return f"{100 * row['accuracy']:.1f} +- {50 * (high - low):.1f} %"


def fit_text(row: Mapping[str, Any]) -> str:
    """Return how long the fit took: ``12 cpu-s``, ``12 s`` by the clock, or ``-`` where it isn't known."""
    if row.get("fit_processor_seconds") is not None:
        return f"{row['fit_processor_seconds']:,.3g} cpu-s".replace("e+03", "k")
    return "-" if row.get("fit_seconds") is None else f"{row['fit_seconds']:,.1f} s"


def rate_text(rate: float) -> str:
    """Return a rate with three digits: ``784``, ``3.1 M``."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if rate >= size:
            return f"{rate / size:.3g}{unit}"
    return f"{rate:.3g}"


def size_text(size: int) -> str:
    """Return a size in bytes for people: ``97 kB``, ``3.4 MB``."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in percent: ``37.5 %``, or ``-`` for None."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"
