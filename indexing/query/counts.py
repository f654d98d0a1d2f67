"""How many documents the collections have of each tag, runner-up and number of votes: all that totals, facets and histograms need.

A network doesn't vote; its documents are counted for each whole percent of confidence instead.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from indexing.query.search_state import SearchState
from indexing.solr import Solr, SolrError
from storage.runs import PROBABILITY_STEPS

# Counting 50 million documents takes Solr some seconds; it is asked once for every version of an index.
COUNT_SECONDS = 120


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


@dataclass(frozen=True)
class Source:
    """A collection that is searched: the run that it is of, with the corpus and the model of that."""

    run: str
    corpus: str
    model: str
    rows: int = 1  # of its largest partition

    def words(self, name: str) -> str:
        """Return its word for a filter of a search: "run", "corpus" or "model"."""
        return getattr(self, name)


@dataclass(frozen=True)
class Cell:
    """The documents of one tag, runner-up and number of votes: all, those with a label, and those whose label is the tag.

    Those of a network have no trees; ``votes`` is their confidence in whole percent then, halves up.
    """

    tag: str
    votes: int
    trees: int | None
    documents: int
    labelled: int
    right: int
    runner_up: str | None = None
    source: Source = Source("", "", "")

    @property
    def percent(self) -> int:
        return self.votes if self.trees is None else percent(self.votes, self.trees)


def percent(votes: int, trees: int) -> int:
    """Return a share of votes in whole percent, halves up, in whole numbers: 2 of 3 are 67."""
    return (200 * votes + trees) // (2 * trees)


def percent_ends(percent: int) -> tuple[float, float]:
    """Return the lowest confidence that is rounded to a percentage, and the lowest one above these."""
    return (percent - 0.5) / 100, (percent + 0.5) / 100


def percent_of(document: dict) -> int:
    """Return a document's confidence in whole percent, halves up: of its votes, or of a network's four digits."""
    if "trees" in document:
        return percent(document["votes"], document["trees"])
    return percent(round(document["confidence"] * PROBABILITY_STEPS), PROBABILITY_STEPS)


def query_cells(solr: Solr, collection: str) -> list[Cell]:
    """Ask Solr for the cells of a collection, which is one run: a pass over its documents, another where labels are known.

    A network's take one more, for that they have no votes is seen by the first.
    """
    about = {
        name: {"type": "terms", "field": name, "limit": 2, "missing": True}
        for name in ("trees", "corpus", "model")
    }
    by_tag = _by_tag(_VOTES)
    found = _facets(solr, collection, about | {"last_row": "max(row)"} | _all_and_labelled(by_tag))
    trees = [bucket["val"] for bucket in _buckets(found, "trees")]
    if trees and found["trees"]["missing"]["count"]:
        trees.append("no")
    if len(trees) > 1:
        raise SolrError(
            f"collection {collection!r} holds documents of models of {' and '.join(map(str, trees))} trees; "
            "it has to be one run"
        )
    if not trees:
        by_tag = _by_tag(_PERCENTS)
        found |= _facets(solr, collection, _all_and_labelled(by_tag))
    corpus, model = (next((b["val"] for b in _buckets(found, key)), "") for key in ("corpus", "model"))
    source = Source(collection, corpus, model, int(found.get("last_row", 0)) + 1)
    labelled = dict(_cells(found.get("labelled", {})))
    right = _ask_right(solr, collection, sorted({tag for tag, _, _ in labelled}), by_tag) if labelled else {}
    return [
        Cell(tag, votes, trees[0] if trees else None, n, labelled.get((tag, votes, runner_up), 0),
             right.get((tag, votes, runner_up), 0), runner_up, source)
        for (tag, votes, runner_up), n in _cells(found)
    ]  # fmt: skip


def _all_and_labelled(by_tag: dict) -> dict:
    return {"tags": by_tag, "labelled": {"type": "query", "q": "label:[* TO *]", "facet": {"tags": by_tag}}}


def _ask_right(solr: Solr, collection: str, tags: list[str], by_tag: dict) -> dict[tuple, int]:
    """Return the cells of documents whose label is their tag: one word at a time, as Solr can't compare two fields."""
    words = {f"word{number}": tag for number, tag in enumerate(tags)}
    facet = {
        f"tag{number}": {
            "type": "query",
            "q": f"{{!bool must='{{!term f=tag v=$word{number}}}' must='{{!term f=label v=$word{number}}}'}}",
            "facet": {"tags": by_tag},
        }
        for number in range(len(tags))
    }
    found = _facets(solr, collection, facet, words)
    return dict(cell for name in facet for cell in _cells(found.get(name, {})))


_VOTES = {"type": "terms", "field": "votes", "limit": -1}
# Solr reads the ends as 32-bit numbers, as it does the confidences.
_PERCENTS = {
    "type": "range",
    "field": "confidence",
    "ranges": [dict(zip(("from", "to"), percent_ends(p), strict=True)) for p in range(101)],
}


def _by_tag(votes: dict) -> dict:
    runners_up = {"type": "terms", "field": "runner_up", "limit": -1}
    votes = votes | {"facet": {"runners_up": runners_up}}
    return {"type": "terms", "field": "tag", "limit": -1, "facet": {"votes": votes}}


def _facets(solr: Solr, collection: str, facet: dict, words: dict[str, str] | None = None) -> dict:
    parameters = {"q": "*:*", "rows": 0, "json.facet": json.dumps(facet)} | (words or {})
    return solr.select(collection, parameters, timeout=COUNT_SECONDS)["facets"]


def _cells(facets: dict) -> Iterator[tuple[tuple[str, int, str | None], int]]:
    """Yield ((tag, votes, runner-up), documents); where all trees agree there is no runner-up."""
    for tag in _buckets(facets, "tags"):
        for votes in _buckets(tag, "votes"):
            rest, value = votes["count"], _whole(votes["val"])
            for runner_up in _buckets(votes, "runners_up"):
                rest -= runner_up["count"]
                yield (tag["val"], value, runner_up["val"]), runner_up["count"]
            if rest:
                yield (tag["val"], value, None), rest


def _whole(value: int | str) -> int:
    """Return a bucket's number of votes, or the percentage in the middle of a range like "[0.395,0.405)"."""
    return value if isinstance(value, int) else round(100 * float(value[1:].partition(",")[0]) + 0.5)


def _buckets(facets: dict, name: str) -> list[dict]:
    return facets.get(name, {}).get("buckets", [])  # Solr leaves out the facets of nothing


@dataclass(frozen=True, eq=False)
class Counts:
    """The cells of everything that is searched, and their sums for any search."""

    cells: tuple[Cell, ...]
    sources: tuple[Source, ...]
    tags: tuple[str, ...]  # sorted, as are the next two
    runners_up: tuple[str, ...]
    # Lowest first; where a network is among what is searched, one for each percentage.
    levels: tuple[Level, ...]
    # None where forests of several sizes, or a network, are searched, or nothing is.
    trees: int | None

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> "Counts":
        cells = tuple(cells)
        trees = {cell.trees for cell in cells}
        levels = {level.confidence: level for level in _levels(cells)}
        return cls(
            cells=cells,
            sources=tuple(sorted({cell.source for cell in cells}, key=lambda source: source.run)),
            tags=tuple(sorted({cell.tag for cell in cells})),
            runners_up=tuple(sorted({cell.runner_up for cell in cells} - {None})),
            levels=tuple(level for _, level in sorted(levels.items())),
            trees=trees.pop() if len(trees) == 1 else None,
        )

    @cached_property
    def documents(self) -> np.ndarray:
        """(cells,) int64, as are the next two."""
        return np.array([cell.documents for cell in self.cells], np.int64)

    @cached_property
    def labelled(self) -> np.ndarray:
        return np.array([cell.labelled for cell in self.cells], np.int64)

    @cached_property
    def right(self) -> np.ndarray:
        return np.array([cell.right for cell in self.cells], np.int64)

    @cached_property
    def percents(self) -> list[int]:
        """The bars of a histogram: every percentage that the model can give from the lowest there is up."""
        if self.trees and self.levels:
            possible = range(self.levels[0].votes, self.trees + 1)
            return sorted({percent(votes, self.trees) for votes in possible})
        if self.levels and self.levels[0].votes is None:
            return list(range(self.levels[0].percent, 101))
        return sorted({level.percent for level in self.levels})

    def total(self, state: SearchState) -> int:
        return int(self._table(state)[self._mask(state)].sum())

    def by_level(self, state: SearchState) -> np.ndarray:
        """Return the (levels,) numbers of hits, 0 where the search leaves a level out."""
        return self._sums(state, "level")

    def by_tag(self, state: SearchState) -> dict[str, int]:
        """Return for every tag what it alone would give: the tags of the search itself don't matter."""
        return dict(zip(self.tags, self._sums(state, "tag", without="tag").tolist(), strict=True))

    def by_runner_up(self, state: SearchState) -> dict[str, int]:
        """Return for every runner-up what it alone would give."""
        found = self._sums(state, "runner_up", without="runner_up")[1:]  # the first are those without one
        return dict(zip(self.runners_up, found.tolist(), strict=True))

    def by_word(self, state: SearchState, name: str) -> dict[str, int]:
        """Return for every run, corpus or model (``name``) what it alone would give."""
        found = dict.fromkeys(sorted({source.words(name) for source in self.sources}), 0)
        sums = self._sums(state, "source", without=name)
        for source, count in zip(self.sources, sums.tolist(), strict=True):
            found[source.words(name)] += count
        return found

    def by_percent(self, state: SearchState) -> dict[int, int]:
        """Return for every bar of the histogram its hits, whatever confidence the search asks for."""
        counts = dict.fromkeys(self.percents, 0)
        sums = self._sums(state, "level", without="confidence")
        for level, count in zip(self.levels, sums.tolist(), strict=True):
            counts[level.percent] = counts.get(level.percent, 0) + count
        return counts

    def by_answer(self, state: SearchState) -> dict[str, int]:
        """Return how many tags are right and wrong where labels are known, whichever the search asks for."""
        chosen = self._mask(state)
        right, labelled = int(self.right[chosen].sum()), int(self.labelled[chosen].sum())
        return {"right": right, "wrong": labelled - right}

    def levels_of(self, state: SearchState) -> list[Level]:
        """Return the levels at which the search has hits, lowest first."""
        return [level for level, count in zip(self.levels, self.by_level(state), strict=True) if count]

    def known_words(self, state: SearchState, name: str) -> list[str]:
        """Return the tags or runners-up (``name``) of the search that there are."""
        known = set(self.tags if name == "tag" else self.runners_up)
        return [word for word in state.words(name) if word in known]

    def of_sources(self, state: SearchState) -> "Counts":
        """Return the counts of the collections alone that the search takes in."""
        chosen = {source for source in self.sources if _takes_in(state, source)}
        return (
            self
            if len(chosen) == len(self.sources)
            else Counts.of(c for c in self.cells if c.source in chosen)
        )

    @cached_property
    def _places(self) -> dict[str, np.ndarray]:
        """For each dimension the (cells,) places of the cells' values in it."""
        found = {}
        confidences = [level.confidence for level in self.levels]
        for name, values, of_cells in (
            ("source", self.sources, [cell.source for cell in self.cells]),
            ("tag", self.tags, [cell.tag for cell in self.cells]),
            ("runner_up", (None, *self.runners_up), [cell.runner_up for cell in self.cells]),
            ("level", confidences, [level.confidence for level in _levels(self.cells)]),
        ):
            places = {value: place for place, value in enumerate(values)}
            found[name] = np.array([places[value] for value in of_cells], np.int64)
        return found

    def _sums(self, state: SearchState, by: str, without: str = "") -> np.ndarray:
        values = {"source": self.sources, "tag": self.tags, "level": self.levels}.get(
            by, (None, *self.runners_up)
        )
        chosen = self._mask(state, without)
        sums = np.zeros(len(values), np.int64)
        np.add.at(sums, self._places[by][chosen], self._table(state)[chosen])
        return sums

    def _table(self, state: SearchState) -> np.ndarray:
        return {None: self.documents, "right": self.right, "wrong": self.labelled - self.right}[state.answer]

    def _mask(self, state: SearchState, without: str = "") -> np.ndarray:
        """Return which (cells,) a search takes in, one of its filters left out."""
        low, high = state.confidence if state.confidence and without != "confidence" else (0, 100)
        taken = {
            "source": [_takes_in(state, source, without) for source in self.sources],
            "tag": _among(self.tags, () if without == "tag" else state.tags),
            "runner_up": _among((None, *self.runners_up), () if without == "runner_up" else state.runners_up),
            "level": [low <= level.percent <= high for level in self.levels],
        }
        mask = np.ones(len(self.cells), bool)
        for name, values in taken.items():
            mask &= np.array(values, bool)[self._places[name]] if len(self.cells) else False
        return mask


def _levels(cells: tuple[Cell, ...]) -> list[Level]:
    """Return each cell's level: its votes or, where a network is among them, its percentage."""
    if any(cell.trees is None for cell in cells):
        return [Level(cell.percent / 100, cell.percent, None) for cell in cells]
    return [Level(cell.votes / cell.trees, cell.percent, cell.votes) for cell in cells]


def _among(values: Iterable, wanted: tuple[str, ...]) -> list[bool]:
    return [not wanted or value in wanted for value in values]


def _takes_in(state: SearchState, source: Source, without: str = "") -> bool:
    return all(
        not state.words(name) or source.words(name) in state.words(name)
        for name in ("run", "corpus", "model")
        if name != without
    )
