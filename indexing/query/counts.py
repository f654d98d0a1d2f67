"""How many documents there are of each combination of facet values and number of votes: totals, facets and histograms are sums of these.

A network doesn't vote; its documents are counted for each whole percent of confidence instead.
"""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from indexing.fields import FACETS
from indexing.query.search_state import ANSWERS, SearchState
from indexing.solr import Solr, SolrError
from storage.runs import PROBABILITY_STEPS

# Counting 50 million documents takes Solr some seconds, once for every version of an index.
COUNT_SECONDS = 120
# The facets that are counted document by document, and those of which a run has one value.
COUNTED = tuple(name for name, facet in FACETS.items() if not facet.per_run)
PER_RUN = tuple(name for name, facet in FACETS.items() if facet.per_run)
_TAG, _LABEL = COUNTED.index("tag"), COUNTED.index("label")


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
    """A collection, which holds one run: its values of the facets `PER_RUN`."""

    values: tuple[str, ...]
    rows: int = 1  # of its largest partition

    def value(self, name: str) -> str:
        return self.values[PER_RUN.index(name)]

    @property
    def run(self) -> str:
        return self.value("run")

    @property
    def model(self) -> str:
        return self.value("model")


@dataclass(frozen=True)
class Cell:
    """The number of documents of a collection with these ``values`` of the facets `COUNTED` and this number of votes.

    A network has no trees; ``votes`` is its confidence in whole percent then, halves up.
    """

    values: tuple[str | None, ...]
    votes: int
    trees: int | None
    documents: int
    source: Source

    @property
    def percent(self) -> int:
        return self.votes if self.trees is None else percent(self.votes, self.trees)

    @property
    def answer(self) -> str | None:
        """Whether the tag is "right" or "wrong"; None where there is no label."""
        tag, label = self.values[_TAG], self.values[_LABEL]
        return None if label is None else "right" if tag == label else "wrong"


def percent(votes: int, trees: int) -> int:
    """Return a share of votes in whole percent, halves up, in whole numbers: 2 of 3 are 67."""
    return (200 * votes + trees) // (2 * trees)


def percent_ends(percent: int) -> tuple[float, float]:
    """Return the lowest confidence that is rounded to a percentage, and the lowest one above these."""
    return (percent - 0.5) / 100, (percent + 0.5) / 100


def percent_of(document: Mapping[str, Any]) -> int:
    """Return a document's confidence in whole percent, halves up: of its votes, or of a network's four digits."""
    if "trees" in document:
        return percent(document["votes"], document["trees"])
    return percent(round(document["confidence"] * PROBABILITY_STEPS), PROBABILITY_STEPS)


def query_cells(solr: Solr, collection: str) -> list[Cell]:
    """Return the cells of a collection, which is one run, in two passes over its documents."""
    first: dict[str, Any] = {
        name: {"type": "terms", "field": name, "limit": 2, "missing": True}
        for name in ("trees", *PER_RUN)
        if name != "run"
    }
    first["last_row"] = "max(row)"
    # A facet costs time in each of the buckets that it divides, so those without values are left out.
    for name in COUNTED:
        first[f"has_{name}"] = {"type": "query", "q": f"{name}:[* TO *]"}
    about = _facets(solr, collection, first)
    trees = [bucket["val"] for bucket in _buckets(about, "trees")]
    if trees and about["trees"]["missing"]["count"]:
        trees.append("no")
    if len(trees) > 1:
        raise SolrError(
            f"collection {collection!r} holds documents of models of {' and '.join(map(str, trees))} trees; "
            "it has to be one run"
        )
    values = {name: next((b["val"] for b in _buckets(about, name)), "") for name in PER_RUN}
    values["run"] = collection
    source = Source(tuple(values.values()), int(about.get("last_row", 0)) + 1)
    has = {name: about.get(f"has_{name}", {}).get("count", 0) for name in COUNTED}
    names = [name for name in COUNTED if has[name]]
    facets = [("votes", _VOTES if trees else _PERCENTS)]
    facets += [(name, _terms(name, missing=has[name] < about["count"])) for name in names]
    places = [names.index(name) + 1 if name in names else None for name in COUNTED]
    return [
        Cell(
            tuple(None if place is None else bucket[place] for place in places),
            _whole(bucket[0]),
            trees[0] if trees else None,
            count,
            source,
        )
        for bucket, count in _cells(_facets(solr, collection, _nested(facets)), ["votes", *names])
    ]


_VOTES = {"type": "terms", "field": "votes", "limit": -1}
# Solr reads the ends as 32-bit numbers, as it does the confidences.
_PERCENTS = {
    "type": "range",
    "field": "confidence",
    "ranges": [dict(zip(("from", "to"), percent_ends(p), strict=True)) for p in range(101)],
}


def _terms(name: str, missing: bool) -> dict[str, Any]:
    return {"type": "terms", "field": name, "limit": -1, "missing": missing}


def _nested(facets: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the facets one within another, the first one outermost."""
    nested: dict[str, Any] = {}
    for name, facet in reversed(facets):
        # The innermost one is by far the most often counted; what it misses is the rest of the bucket around it.
        nested = {name: facet | ({"facet": nested} if nested else {"missing": False})}
    return nested


def _facets(solr: Solr, collection: str, facet: dict[str, Any]) -> dict[str, Any]:
    parameters = {"q": "*:*", "rows": 0, "json.facet": json.dumps(facet)}
    facets: dict[str, Any] = solr.select(collection, parameters, timeout=COUNT_SECONDS)["facets"]
    return facets


def _cells(bucket: dict[str, Any], names: list[str]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Yield the values of nested facets, by the order of ``names`` (None where a document has none), with their counts."""
    name, *inner = names
    rest = bucket["count"]
    for inner_bucket in _buckets(bucket, name):
        rest -= inner_bucket["count"]
        for values, count in _cells(inner_bucket, inner) if inner else [((), inner_bucket["count"])]:
            yield (inner_bucket["val"], *values), count
    missing = bucket.get(name, {}).get("missing")
    if missing and missing["count"]:
        for values, count in _cells(missing, inner):
            yield (None, *values), count
    elif rest and not inner:
        yield (None,), rest


def _whole(value: int | str) -> int:
    """Return a bucket's number of votes, or the percentage in the middle of a range like "[0.395,0.405)"."""
    return value if isinstance(value, int) else round(100 * float(value[1:].partition(",")[0]) + 0.5)


def _buckets(facets: dict[str, Any], name: str) -> list[dict[str, Any]]:
    buckets: list[dict[str, Any]] = facets.get(name, {}).get("buckets", [])
    return buckets  # Solr leaves out the facets of nothing


@dataclass(frozen=True, eq=False)
class Counts:
    """The cells of all published collections, and their sums for any search."""

    cells: tuple[Cell, ...]
    sources: tuple[Source, ...]  # by run
    # Lowest first; where a network is among the models, one for each percentage.
    levels: tuple[Level, ...]
    # None for a network, for forests of several sizes, and without any cells.
    trees: int | None

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> "Counts":
        cells = tuple(cells)
        trees = {cell.trees for cell in cells}
        levels = {level.confidence: level for level in _levels(cells)}
        return cls(
            cells=cells,
            sources=tuple(sorted({cell.source for cell in cells}, key=lambda source: source.run)),
            levels=tuple(level for _, level in sorted(levels.items())),
            trees=trees.pop() if len(trees) == 1 else None,
        )

    def values(self, name: str) -> tuple[str, ...]:
        """Return the values that there are of a facet, sorted."""
        return self._values[name]

    @cached_property
    def percents(self) -> list[int]:
        """The bars of a histogram: every percentage that the model can give from the lowest there is up."""
        if self.trees and self.levels:
            possible = range(self.levels[0].votes or 0, self.trees + 1)
            return sorted({percent(votes, self.trees) for votes in possible})
        if self.levels and self.levels[0].votes is None:
            return list(range(self.levels[0].percent, 101))
        return sorted({level.percent for level in self.levels})

    def total(self, state: SearchState) -> int:
        return int(self._documents[self._mask(state)].sum())

    def by_level(self, state: SearchState) -> npt.NDArray[np.int64]:
        """Return the (levels,) numbers of hits, 0 for levels outside the search."""
        return self._sums(state, "level")

    def by_value(self, state: SearchState, name: str) -> dict[str, int]:
        """Return for every value of a facet the hits that it alone would give, whatever its values in the search."""
        if name in COUNTED:
            return dict(
                zip(self.values(name), self._sums(state, name, without=name)[1:].tolist(), strict=True)
            )
        sums = dict.fromkeys(self.values(name), 0)
        for source, count in zip(
            self.sources, self._sums(state, "source", without=name).tolist(), strict=True
        ):
            sums[source.value(name)] += count
        return sums

    def by_percent(self, state: SearchState) -> dict[int, int]:
        """Return for every bar of the histogram its hits, whatever the confidence of the search."""
        counts = dict.fromkeys(self.percents, 0)
        sums = self._sums(state, "level", without="confidence")
        for level, count in zip(self.levels, sums.tolist(), strict=True):
            counts[level.percent] = counts.get(level.percent, 0) + count
        return counts

    def by_answer(self, state: SearchState) -> dict[str, int]:
        """Return how many tags of images with a label are right and wrong, whatever the answer of the search."""
        return dict(zip(ANSWERS, self._sums(state, "answer", without="answer")[1:].tolist(), strict=True))

    def levels_of(self, state: SearchState) -> list[Level]:
        """Return the levels at which the search has hits, lowest first."""
        return [level for level, count in zip(self.levels, self.by_level(state), strict=True) if count]

    def known_values(self, state: SearchState, name: str) -> list[str]:
        """Return the values of the search's filter ``name`` that there are."""
        return [value for value in state.values(name) if value in self.values(name)]

    def of_sources(self, state: SearchState) -> "Counts":
        """Return the counts of only the collections that the search covers."""
        covered = frozenset(source for source in self.sources if _covers(state, source))
        return self if len(covered) == len(self.sources) else self._subset(covered)

    @cached_property
    def _subset(self) -> "functools._lru_cache_wrapper[Counts]":
        """The counts of some of the sources; a few of these are kept."""
        return functools.lru_cache(maxsize=16)(
            lambda sources: Counts.of(cell for cell in self.cells if cell.source in sources)
        )

    @cached_property
    def _documents(self) -> npt.NDArray[np.int64]:
        """(cells,) numbers of documents."""
        return np.array([cell.documents for cell in self.cells], np.int64)

    @cached_property
    def _values(self) -> Mapping[str, tuple[str, ...]]:
        values = {
            name: {value for cell in self.cells if (value := cell.values[place]) is not None}
            for place, name in enumerate(COUNTED)
        }
        values |= {name: {source.value(name) for source in self.sources} for name in PER_RUN}
        return {name: tuple(sorted(distinct)) for name, distinct in values.items()}

    @cached_property
    def _dimensions(self) -> dict[str, tuple[tuple[object, ...], npt.NDArray[np.int64]]]:
        """For each dimension its values, and the (cells,) places of the cells' values among these."""
        dimensions: dict[str, tuple[tuple[object, ...], list[Any]]] = {
            name: ((None, *self.values(name)), [cell.values[place] for cell in self.cells])
            for place, name in enumerate(COUNTED)
        }
        dimensions["source"] = self.sources, [cell.source for cell in self.cells]
        dimensions["answer"] = (None, *ANSWERS), [cell.answer for cell in self.cells]
        dimensions["level"] = (
            tuple(level.confidence for level in self.levels),
            [level.confidence for level in _levels(self.cells)],
        )
        places_by_name = {}
        for name, (values, of_cells) in dimensions.items():
            places = {value: place for place, value in enumerate(values)}
            places_by_name[name] = values, np.array([places[value] for value in of_cells], np.int64)
        return places_by_name

    def _sums(self, state: SearchState, by: str, without: str = "") -> npt.NDArray[np.int64]:
        """Return the (values,) hits for each value of a dimension, one filter of the search left out."""
        values, places = self._dimensions[by]
        mask = self._mask(state, without)
        # Floats hold whole numbers up to 2**53.
        return np.bincount(places[mask], self._documents[mask], len(values)).astype(np.int64)

    def _mask(self, state: SearchState, without: str = "") -> npt.NDArray[np.bool_]:
        """Return which (cells,) a search covers, one of its filters left out."""
        filters = tuple((name, values) for name, values in state.filters.items() if name != without)
        confidence = state.confidence if without != "confidence" else None
        return self._cached_mask(filters, confidence, state.answer if without != "answer" else None)

    @cached_property
    def _cached_mask(self) -> "functools._lru_cache_wrapper[npt.NDArray[np.bool_]]":
        """`_make_mask`, whose last results are kept: most facets of a page have the same."""
        return functools.lru_cache(maxsize=16)(self._make_mask)

    def _make_mask(
        self,
        filters: tuple[tuple[str, tuple[str, ...]], ...],
        confidence: tuple[int, int] | None,
        answer: str | None,
    ) -> npt.NDArray[np.bool_]:
        wanted: dict[str, list[bool]] = {}  # for each dimension that is filtered by, which of its values
        for name, values in filters:
            if name in COUNTED:
                wanted[name] = [value in values for value in self._dimensions[name][0]]
            else:
                covered = wanted.get("source", [True] * len(self.sources))
                wanted["source"] = [
                    before and source.value(name) in values
                    for before, source in zip(covered, self.sources, strict=True)
                ]
        if confidence:
            wanted["level"] = [confidence[0] <= level.percent <= confidence[1] for level in self.levels]
        if answer:
            wanted["answer"] = [value == answer for value in self._dimensions["answer"][0]]
        mask = np.ones(len(self.cells), bool)
        if self.cells:
            for name, taken in wanted.items():
                mask &= np.array(taken, bool)[self._dimensions[name][1]]
        return mask


def _levels(cells: tuple[Cell, ...]) -> list[Level]:
    """Return each cell's level: its votes or, where a network is among them, its percentage."""
    if any(cell.trees is None for cell in cells):
        return [Level(cell.percent / 100, cell.percent, None) for cell in cells]
    return [Level(cell.votes / cell.trees, cell.percent, cell.votes) for cell in cells if cell.trees]


def _covers(state: SearchState, source: Source) -> bool:
    """Whether a search covers a collection."""
    return all(not state.values(name) or source.value(name) in state.values(name) for name in PER_RUN)
