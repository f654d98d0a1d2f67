"""The values that a confidence can have: numbers of votes or, where a network is among the models, whole percents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conf.wording import percent
from storage.runs import PROBABILITY_STEPS


@dataclass(frozen=True)
class Level:
    """One value that a confidence can have; where ``votes`` is None, all values that are rounded to one percentage."""

    confidence: float
    percent: int
    votes: int | None

    def ends(self) -> tuple[float, float]:
        """Return the lowest confidence of the level, and the lowest one above it.

        A confidence is a 32-bit number in Solr, so the ends of a single value lie a little outside; levels are further apart.
        """
        if self.votes is None:
            return percent_ends(self.percent)
        return self.confidence - 1e-6, self.confidence + 1e-6


def percent_ends(percent: int) -> tuple[float, float]:
    """Return the lowest confidence that is rounded to a percentage, and the lowest one above these."""
    return (percent - 0.5) / 100, (percent + 0.5) / 100


def percent_of(document: Mapping[str, Any]) -> int:
    """Return a document's confidence in whole percent, halves up: of its votes, or of a network's four digits."""
    if "trees" in document:
        return percent(document["votes"], document["trees"])
    return percent(round(document["confidence"] * PROBABILITY_STEPS), PROBABILITY_STEPS)
