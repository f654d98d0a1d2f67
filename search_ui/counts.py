"""How many documents a collection has of each tag with each number of votes: all that totals, facets and histograms need."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from indexing.solr import Solr, SolrError
from search_ui.search_state import SearchState

# Counting 50 million documents takes Solr some seconds; it is asked once for every version of an index.
COUNT_SECONDS = 120


@dataclass(frozen=True)
class Level:
    """One value that a confidence can have."""

    confidence: float
    percent: int
    votes: int


@dataclass(frozen=True)
class Cell:
    """The documents with one tag and one number of votes: all, those with a label, and those whose label is the tag."""

    tag: str
    votes: int
    trees: int
    documents: int
    labelled: int
    right: int


def percent(votes: int, trees: int) -> int:
    """Return a share of votes in whole percent, halves up, in whole numbers: 2 of 3 are 67."""
    return (200 * votes + trees) // (2 * trees)


def ask_cells(solr: Solr, collection: str) -> list[Cell]:
    """Ask Solr for the cells of a collection, which is one run: one request, one pass over its documents."""
    votes = {"type": "terms", "field": "votes", "limit": -1}
    label = {"type": "terms", "field": "label", "limit": -1}
    by_tag = {"type": "terms", "field": "tag", "limit": -1}
    facet = {
        "trees": {"type": "terms", "field": "trees", "limit": 2},
        "tags": by_tag | {"facet": {"votes": votes}},
        # Apart, so that a corpus without labels costs nothing more.
        "labelled": {
            "type": "query",
            "q": "label:[* TO *]",
            "facet": {"tags": by_tag | {"facet": {"votes": votes | {"facet": {"label": label}}}}},
        },
    }
    parameters = {"q": "*:*", "rows": 0, "json.facet": json.dumps(facet)}
    facets = solr.select(collection, parameters, timeout=COUNT_SECONDS)["facets"]
    trees = [bucket["val"] for bucket in _buckets(facets, "trees")]
    if len(trees) > 1:
        raise SolrError(
            f"collection {collection!r} holds documents of forests of {trees} trees; it has to be one run"
        )
    labels = {
        (tag["val"], votes["val"]): {label["val"]: label["count"] for label in _buckets(votes, "label")}
        for tag in _buckets(facets.get("labelled", {}), "tags")
        for votes in _buckets(tag, "votes")
    }
    cells = []
    for tag in _buckets(facets, "tags"):
        for votes in _buckets(tag, "votes"):
            known = labels.get((tag["val"], votes["val"]), {})
            right = known.get(tag["val"], 0)
            cells.append(Cell(tag["val"], votes["val"], trees[0], votes["count"], sum(known.values()), right))
    return cells


def _buckets(facets: dict, name: str) -> list[dict]:
    return facets.get(name, {}).get("buckets", [])  # Solr leaves out the facets of nothing


@dataclass(frozen=True, eq=False)
class Counts:
    """The cells of everything that is searched, as tables of tags (sorted) by levels (lowest first)."""

    tags: tuple[str, ...]
    levels: tuple[Level, ...]
    trees: int | None  # None where forests of several sizes are searched together, or nothing is
    documents: np.ndarray  # (tags, levels) int64, as are the next two
    labelled: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> "Counts":
        cells = list(cells)
        sums = {name: Counter() for name in ("documents", "labelled", "right")}
        levels = {}
        for cell in cells:
            confidence = cell.votes / cell.trees
            levels[confidence] = Level(confidence, percent(cell.votes, cell.trees), cell.votes)
            for name, counter in sums.items():
                counter[cell.tag, confidence] += getattr(cell, name)
        tags = sorted({cell.tag for cell in cells})
        trees = {cell.trees for cell in cells}
        tables = {
            name: np.array(
                [[counter[tag, level] for level in sorted(levels)] for tag in tags], np.int64
            ).reshape(len(tags), len(levels))
            for name, counter in sums.items()
        }
        return cls(
            tags=tuple(tags),
            levels=tuple(levels[confidence] for confidence in sorted(levels)),
            trees=trees.pop() if len(trees) == 1 else None,
            **tables,
        )

    @cached_property
    def percents(self) -> list[int]:
        """The bars of a histogram: every percentage that the forest can give from the lowest there is up."""
        if self.trees and self.levels:
            possible = range(self.levels[0].votes, self.trees + 1)
            return sorted({percent(votes, self.trees) for votes in possible})
        return sorted({level.percent for level in self.levels})

    @cached_property
    def _percent_of_level(self) -> np.ndarray:
        return np.array([level.percent for level in self.levels], np.int64)

    def total(self, state: SearchState) -> int:
        return int(self._table(state)[np.ix_(self._tag_mask(state), self._level_mask(state))].sum())

    def by_level(self, state: SearchState) -> np.ndarray:
        """Return the (levels,) numbers of hits, 0 where the search leaves a level out."""
        return self._table(state)[self._tag_mask(state)].sum(axis=0) * self._level_mask(state)

    def by_tag(self, state: SearchState) -> dict[str, int]:
        """Return for every tag what it alone would give: the tags of the search itself don't matter."""
        counts = self._table(state)[:, self._level_mask(state)].sum(axis=1)
        return dict(zip(self.tags, counts.tolist(), strict=True))

    def by_percent(self, state: SearchState) -> dict[int, int]:
        """Return for every bar of the histogram its hits, whatever confidence the search asks for."""
        counts = dict.fromkeys(self.percents, 0)
        sums = self._table(state)[self._tag_mask(state)].sum(axis=0)
        for level, count in zip(self.levels, sums.tolist(), strict=True):
            counts[level.percent] += count
        return counts

    def by_answer(self, state: SearchState) -> dict[str, int]:
        """Return how many tags are right and wrong where labels are known, whichever the search asks for."""
        chosen = np.ix_(self._tag_mask(state), self._level_mask(state))
        right, labelled = int(self.right[chosen].sum()), int(self.labelled[chosen].sum())
        return {"right": right, "wrong": labelled - right}

    def levels_of(self, state: SearchState) -> list[Level]:
        """Return the levels at which the search has hits, lowest first."""
        return [level for level, count in zip(self.levels, self.by_level(state), strict=True) if count]

    def known_tags(self, state: SearchState) -> list[str]:
        """Return the tags of the search that there are."""
        known = set(self.tags)
        return [tag for tag in state.tags if tag in known]

    def _table(self, state: SearchState) -> np.ndarray:
        return {None: self.documents, "right": self.right, "wrong": self.labelled - self.right}[state.answer]

    def _tag_mask(self, state: SearchState) -> np.ndarray:
        wanted = set(state.tags)
        return np.array([not wanted or tag in wanted for tag in self.tags], bool)

    def _level_mask(self, state: SearchState) -> np.ndarray:
        low, high = state.confidence or (0, 100)
        return (self._percent_of_level >= low) & (self._percent_of_level <= high)
