"""The most confident mistakes of a model: the images with the wrong tags that most votes agree on."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.runs import PROBABILITY_STEPS
from tagging.tags import Winners

MOST = 24


def find_mistakes(
    best: Winners,
    labels: npt.NDArray[Any],
    classes: tuple[str, ...],
    voters: int | None,
    partition: int,
    rows: npt.NDArray[Any],
) -> list[dict[str, Any]]:
    """Return the up to `MOST` most confident of the winners ``best`` that aren't the ``labels`` (n,), of ``rows`` (n,)."""
    wrong = np.flatnonzero(best.tag != labels)
    # Of one confidence those first that have the least votes for the runner-up.
    order = np.lexsort([rows[wrong], best.runner_up_votes[wrong], -best.votes[wrong].astype(np.int64)])
    return [
        {
            "partition": partition,
            "row": int(rows[place]),
            "label": classes[labels[place]],
            "tag": classes[best.tag[place]],
            "confidence": int(best.votes[place]) / (voters or PROBABILITY_STEPS),
            "runner_up_confidence": int(best.runner_up_votes[place]) / (voters or PROBABILITY_STEPS),
        }
        for place in wrong[order[:MOST]]
    ]


def most_confident(parts: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the up to `MOST` most confident mistakes of several parts."""
    every = [mistake for part in parts for mistake in part]
    return sorted(every, key=_rank)[:MOST]


def _rank(mistake: dict[str, Any]) -> tuple[float, float, int, int]:
    return (
        -mistake["confidence"],
        mistake["runner_up_confidence"],
        mistake["partition"],
        mistake["row"],
    )
