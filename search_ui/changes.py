"""What changes from one run of a corpus to another: tags, their counts, and how many agree with the labels that people gave."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ingest.corpus import Corpus
from search_ui.suggestions import read_tags
from storage.runs import Run
from storage.store import Store

# Tags are compared in the first partitions, of up to so many images: a second.
MOST_IMAGES = 100_000
EXAMPLES = 60
MOVES = 20

Tags = dict[tuple[int, int], tuple[str, float]]  # by partition and row: tag and confidence


@dataclass(frozen=True)
class Example:
    """An image whose tag changes; None is no tag."""

    partition: int
    row: int
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Agreement:
    """Of the images with a label, how many have a tag that is the label."""

    right: int
    images: int


@dataclass(frozen=True)
class Changes:
    """``images`` were compared. ``counts`` are the images of each tag before and after, ``moves`` the most frequent changes."""

    images: int
    changed: int
    counts: list[tuple[str, int, int]]
    moves: list[tuple[str | None, str | None, int]]
    examples: list[Example]  # of the new tags, the most confident first
    before: Agreement | None  # None where nothing was shown before
    after: Agreement


def compare_runs(
    store: Store, corpus: Corpus, old: Run | None, new: Run, labels: Mapping[int, str]
) -> Changes:
    """Compare the tags of two runs of a corpus; ``labels`` by record. Without an ``old`` one, only the new tags are counted."""
    partitions = max(1, min(corpus.partitions, MOST_IMAGES // corpus.partition_images))
    images = corpus.rows(partitions - 1)[1]
    before = _tags(store, old, partitions) if old is not None else {}
    after = _tags(store, new, partitions)
    counted = [Counter(tag for tag, _ in tags.values()) for tags in (before, after)]
    names = sorted(counted[0].keys() | counted[1].keys(), key=lambda name: (-counted[1][name], name))
    changes: dict[tuple[int, int], tuple[str | None, str | None]] = {}
    if old is not None:
        for place in before.keys() | after.keys():
            pair = _tag(before, place), _tag(after, place)
            if pair[0] != pair[1]:
                changes[place] = pair
    surest = sorted(changes, key=lambda place: (-after[place][1] if place in after else 0.0, place))
    moves = sorted(Counter(changes.values()).items(), key=lambda item: (-item[1], str(item[0])))
    given = {
        divmod(record, corpus.partition_images): label for record, label in labels.items() if record < images
    }
    return Changes(
        images,
        len(changes),
        [(name, counted[0][name], counted[1][name]) for name in names],
        [(*pair, count) for pair, count in moves[:MOVES]],
        [Example(*place, *changes[place]) for place in surest[:EXAMPLES]],
        _agreement(before, given) if old is not None else None,
        _agreement(after, given),
    )


def _agreement(tags: Tags, labels: Mapping[tuple[int, int], str]) -> Agreement:
    return Agreement(sum(_tag(tags, place) == label for place, label in labels.items()), len(labels))


def _tag(tags: Tags, place: tuple[int, int]) -> str | None:
    return tags[place][0] if place in tags else None


def _tags(store: Store, run: Run, partitions: int) -> Tags:
    return {
        (document["partition"], document["row"]): (document["tag"], document["confidence"])
        for partition in range(partitions)
        for document in read_tags(store, run, partition)
    }
