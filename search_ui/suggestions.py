"""Which images to label next: the least certain, those that models disagree on, different ones, or any.

All but the least certain come from the store alone, so they need no index. None is an image that is labelled already, or one
that a corpus keeps for measuring.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from indexing.query.levels import percent_of
from indexing.query.published import PublishedIndex
from indexing.query.search import search
from indexing.solr import Solr
from ingest.corpus import Corpus
from ingest.partition import ROW_GROUP_IMAGES, read_rows
from search_ui.label_state import LabelState
from storage import layout
from storage.runs import Run
from storage.store import FileMissingError, Store
from tagging.descriptor import describe
from tagging.features.kept import read_any_codes

Records = npt.NDArray[np.int64]

# Of a corpus with more images than this, those drawn by chance may come twice.
SHUFFLED_IMAGES = 200_000
# In the order of a corpus, so many records at a time are compared with those that are labelled.
SCANNED = 10_000
# Different images are chosen among those of so many row groups of one partition.
GROUPS = 8
# A page of the least certain images reads so many pages of the search at most.
SEARCH_PAGES = 10
# So many of the images that are labelled already count for what is different.
LABELLED = 100


@dataclass(frozen=True)
class Item:
    """An image to label, with what models say of it."""

    corpus: str
    partition: int
    row: int
    tag: str | None = None
    percent: int | None = None


@dataclass(frozen=True)
class Suggested:
    """The images of a page, and the state of the next one; None where there is none."""

    items: list[Item]
    following: LabelState | None


@dataclass(frozen=True)
class Unlabelled:
    """The images of a corpus that may be suggested: not those of ``labelled`` records, nor those kept for measuring, nor bad ones."""

    corpus: Corpus
    labelled: frozenset[int]
    bad: frozenset[int] = frozenset()

    @property
    def measured(self) -> tuple[int, int]:
        """The records kept for measuring: the first, and the one behind the last."""
        return self.corpus.splits.get("test", (0, 0))

    def among(self, records: Records) -> npt.NDArray[np.bool_]:
        """Return which ``records`` (n,) may be suggested: (n,) bool."""
        left_out = self.labelled | self.bad
        known = np.fromiter(left_out, np.int64, len(left_out))
        first, last = self.measured
        return np.asarray(~(np.isin(records, known) | ((records >= first) & (records < last))))

    def has(self, partition: int, row: int) -> bool:
        """Return whether an image may be suggested."""
        record = partition * self.corpus.partition_images + row
        first, last = self.measured
        return record not in self.labelled and not first <= record < last

    def item(self, record: int) -> Item:
        """Return the image of a record, without a tag."""
        return Item(self.corpus.name, *divmod(record, self.corpus.partition_images))


def random_images(images: Unlabelled, state: LabelState) -> Suggested:
    """Return images drawn by chance."""
    chance, count = np.random.default_rng(state.draw), images.corpus.images
    if count <= SHUFFLED_IMAGES:
        records = chance.permutation(count)
    else:
        records = chance.permutation(np.unique(chance.integers(0, count, SHUFFLED_IMAGES // 10)))
    chosen = records[images.among(records)][: state.search.per_page]
    return Suggested([images.item(int(record)) for record in chosen], _next_draw(state, len(chosen)))


def images_in_order(images: Unlabelled, state: LabelState) -> Suggested:
    """Return images in the order of the corpus, from the record ``start``."""
    start, per_page = state.start, state.search.per_page
    chosen: list[int] = []
    while start < images.corpus.images and len(chosen) < per_page:
        records = np.arange(start, min(start + SCANNED, images.corpus.images))
        chosen += records[images.among(records)].tolist()
        start = int(records[-1]) + 1
    chosen = chosen[:per_page]
    more = len(chosen) == per_page and chosen[-1] + 1 < images.corpus.images
    following = state.with_changes(start=chosen[-1] + 1) if more else None
    return Suggested([images.item(record) for record in chosen], following)


def diverse_images(store: Store, images: Unlabelled, state: LabelState) -> Suggested:
    """Return images that differ: each is the one farthest from those before it, and from labelled ones (Gonzalez, 1985).

    Among some 2,000 of a partition drawn by chance; by features that are kept of it, else by descriptors.
    """
    corpus, chance = images.corpus, np.random.default_rng(state.draw)
    partition = int(chance.integers(corpus.partitions))
    first, last = corpus.rows(partition)
    groups = np.sort(chance.permutation(-(-(last - first) // ROW_GROUP_IMAGES))[:GROUPS])
    rows = np.concatenate(
        [np.arange(g * ROW_GROUP_IMAGES, min((g + 1) * ROW_GROUP_IMAGES, last - first)) for g in groups]
    )
    codes = read_any_codes(store, corpus, partition)
    numbers = codes[rows] if codes is not None else describe(read_rows(store, corpus, partition, rows))
    free = images.among(rows + first)
    known = np.flatnonzero(np.isin(rows + first, list(images.labelled)))[:LABELLED]
    chosen = farthest_first(numbers.astype(np.float32), free, known, state.search.per_page)
    items = [Item(corpus.name, partition, int(rows[place])) for place in chosen]
    return Suggested(items, _next_draw(state, len(items)) if items or corpus.partitions > 1 else None)


def farthest_first(
    vectors: npt.NDArray[np.float32], free: npt.NDArray[np.bool_], known: npt.NDArray[np.int64], count: int
) -> list[int]:
    """Return up to ``count`` places of ``vectors`` (n, k) that are ``free``: each the farthest from ``known`` and those before.

    Without ``known`` ones, the first is the nearest to the mean.
    """
    taken = ~free
    if taken.all():
        return []
    distance = np.full(len(vectors), np.inf, np.float32)
    for place in known:
        distance = np.minimum(distance, ((vectors - vectors[place]) ** 2).sum(axis=1))
    if not len(known):
        middle = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1)
        distance = -middle.astype(np.float32)
    chosen: list[int] = []
    while len(chosen) < count and not taken.all():
        place = int(np.where(taken, -np.inf, distance).argmax())
        chosen.append(place)
        taken[place] = True
        new = ((vectors - vectors[place]) ** 2).sum(axis=1)
        distance = new if len(chosen) == 1 and not len(known) else np.minimum(distance, new)
    return chosen


def uncertain_images(
    solr: Solr, published: PublishedIndex, unlabelled: Callable[[str], Unlabelled | None], state: LabelState
) -> Suggested:
    """Return hits of the search whose tags have the lowest confidence. Raises `SolrError`."""
    at = state.search.with_sort("confidence-low").with_page(state.search.page)
    items: list[Item] = []
    last = False
    for _ in range(SEARCH_PAGES):
        result = search(solr, published, at)
        new = [
            item_of(hit)
            for hit in result.hits
            if (images := unlabelled(hit["corpus"])) is not None and images.has(hit["partition"], hit["row"])
        ]
        if items and len(items) + len(new) > at.per_page:
            break  # the next page begins with these
        items += new
        last = result.total <= at.page * at.per_page or at.page >= at.last_numbered_page
        if last:
            break
        at = at.with_page(at.page + 1)
    following = None if last else state.with_changes(search=state.search.with_page(at.page))
    return Suggested(items, following)


def disagreeing_images(store: Store, runs: list[Run], images: Unlabelled, state: LabelState) -> Suggested:
    """Return images of a partition that is drawn by chance whose tags differ between ``runs``, the most confident ones first."""
    corpus = images.corpus
    partition = int(np.random.default_rng(state.draw).permutation(corpus.partitions)[0])
    tags: dict[int, list[dict[str, Any]]] = {}
    for run in runs:
        for document in read_tags(store, run, partition):
            tags.setdefault(document["row"], []).append(document)
    first = corpus.rows(partition)[0]
    rows = np.array(
        [row for row, given in tags.items() if len({document["tag"] for document in given}) > 1], np.int64
    )
    rows = rows[images.among(rows + first)]
    differing = sorted(rows.tolist(), key=lambda row: (-min(one["confidence"] for one in tags[row]), row))
    chosen = differing[state.start : state.start + state.search.per_page]
    items = [
        Item(corpus.name, partition, row, " or ".join(dict.fromkeys(one["tag"] for one in tags[row])))
        for row in chosen
    ]
    end = state.start + len(chosen)
    if end < len(differing):
        return Suggested(items, state.with_changes(start=end))
    return Suggested(items, _next_draw(state, corpus.partitions > 1))


def read_tags(store: Store, run: Run, partition: int) -> Iterator[dict[str, Any]]:
    """Yield the documents of a partition of a run; none where it isn't tagged yet."""
    try:
        lines = store.read_bytes(layout.run_tags(run.name, partition)).splitlines()
    except FileMissingError:
        return
    yield from map(json.loads, lines)


def item_of(hit: dict[str, Any]) -> Item:
    """Return a hit of a search as an item."""
    return Item(hit["corpus"], hit["partition"], hit["row"], hit["tag"], percent_of(hit))


def _next_draw(state: LabelState, more: object) -> LabelState | None:
    return state.with_changes(start=0, draw=state.draw + 1) if more else None
