"""Counts labelled images by label and tag, and by tag and votes: all that the quality of a model is computed from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.runs import PROBABILITY_STEPS
from tagging.tags import Winners, winners
from tagging.types import Votes

Ints = npt.NDArray[np.int64]

# Probabilities are counted by whole percent, rounded down: a threshold of 40 % takes what `tinytags tag` keeps at 0.4.
PERCENTS = 100


@dataclass(frozen=True, eq=False)
class Tally:
    """How many labelled images there are by label and tag, and by tag and the votes for it.

    Its size grows with the pairs that occur, not with the square of the classes. A level is a number of votes, 0 to
    ``voters``; of probabilities it is a whole percent, 0 to 100.
    """

    classes: int
    voters: int | None  # None for probabilities
    pairs: Ints  # (k,) ascending label * classes + tag, of the pairs that occur
    counts: Ints  # (k,) images with this label and tag
    cells: Ints  # (c,) ascending tag * levels + level, of those that occur
    images: Ints  # (c,) images with this tag and level
    right: Ints  # (c,) images with this tag and level whose label is the tag
    votes: Ints  # (c,) the sum of their votes for the tag, or of the probabilities in ten-thousandths
    runners_up: int  # images whose label is the runner-up

    @property
    def top(self) -> int:
        """The highest level."""
        return PERCENTS if self.voters is None else self.voters

    @property
    def whole(self) -> int:
        """What ``votes`` of one image are at most."""
        return PROBABILITY_STEPS if self.voters is None else self.voters

    def by_level(self, counts: Ints) -> Ints:
        """Return (top + 1,), the sums of ``counts`` (c,) of all tags."""
        return sums(self.cells % (self.top + 1), counts, self.top + 1)


def tally(votes: Votes, labels: npt.NDArray[Any], voters: int | None) -> Tally:
    """Count the images whose label is known, by label, tag and votes.

    ``votes`` is (n, classes) with ``voters`` as in `tagging.model.Model`; ``labels`` (n,) are numbers of the same
    classes; images with a label below 0 are left out. Raises `BadVotesError` as `winners` does.
    """
    classes = votes.shape[1]
    known = labels >= 0
    return count_winners(winners(votes[known]), labels[known], classes, voters)


def count_winners(best: Winners, labels: npt.NDArray[Any], classes: int, voters: int | None) -> Tally:
    """Count images with the winners ``best`` and ``labels`` (n,), all of them known."""
    label, tag = labels.astype(np.int64), best.tag.astype(np.int64)
    top = PERCENTS if voters is None else voters
    level = (best.votes // (PROBABILITY_STEPS // PERCENTS) if voters is None else best.votes).astype(np.int64)
    pairs, counts = np.unique(label * classes + tag, return_counts=True)
    cells, place, images = np.unique(tag * (top + 1) + level, return_inverse=True, return_counts=True)
    return Tally(
        classes=classes,
        voters=voters,
        pairs=pairs,
        counts=counts.astype(np.int64),
        cells=cells,
        images=images.astype(np.int64),
        right=sums(place[label == tag], 1, len(cells)),
        votes=sums(place, best.votes, len(cells)),
        runners_up=int(((best.runner_up == label) & (best.runner_up_votes > 0)).sum()),
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies of one model, at least one: that of all their images."""
    parts = list(tallies)
    pairs, (counts,) = _united([part.pairs for part in parts], [[part.counts for part in parts]])
    columns = [[getattr(part, key) for part in parts] for key in ("images", "right", "votes")]
    cells, (images, right, votes) = _united([part.cells for part in parts], columns)
    runners_up = sum(part.runners_up for part in parts)
    return Tally(parts[0].classes, parts[0].voters, pairs, counts, cells, images, right, votes, runners_up)


def _united(keys: list[Ints], columns: list[list[Ints]]) -> tuple[Ints, list[Ints]]:
    """Return the distinct keys of several parts, ascending, and the sums of each column by key."""
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    return distinct, [sums(place, np.concatenate(column), len(distinct)) for column in columns]


def sums(places: Ints, counts: Any, size: int) -> Ints:
    """Return (size,), the sum of ``counts``, an array or one number, at each place."""
    result = np.zeros(size, np.int64)
    np.add.at(result, places, counts)
    return result
