"""The label of an image that several people labelled: that of the majority; with a tie it is disputed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from records.corrections import Correction


@dataclass(frozen=True)
class PeoplesLabel:
    """The label that most people give to an image; None where several labels have as many people: it is disputed."""

    corpus: str
    corpus_hash: str
    partition: int
    row: int
    label: str | None
    people: int = 1


def peoples_labels(newest: Iterable[Correction]) -> list[PeoplesLabel]:
    """Return the label of each image by what `Corrections.newest` returns, in its order."""
    images = groupby(newest, lambda one: (one.corpus, one.corpus_hash, one.partition, one.row))
    labels = ((place, [one.label for one in theirs]) for place, theirs in images)
    return [PeoplesLabel(*place, majority(given), len(given)) for place, given in labels]


def majority(labels: Iterable[str]) -> str | None:
    """Return the most frequent label, None where there is none or several are as frequent."""
    labels = list(labels)
    if len(set(labels)) == 1:
        return labels[0]
    first, second = (*Counter(labels).most_common(2), ("", 0), ("", 0))[:2]
    return first[0] if first[1] > second[1] else None
