"""How many hits any search has, in total and for each value of a facet: sums over the cells of what is published."""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from conf.wording import percent
from indexing.query.cells import COUNTED, PER_RUN, Cells, Column, IndexedRun
from indexing.query.levels import Level
from indexing.query.search_state import ANSWERS, SearchState

_Numbers = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
# The place among None and `ANSWERS` of a tag by what people give the image.
_ANSWERS = {"disputed": 0, "agreed": 1, "corrected": 2}


@dataclass(frozen=True, eq=False)
class Counts:
    """The cells of all published collections, and their sums for any search."""

    cells: tuple[Cells, ...]  # by run

    @classmethod
    def of(cls, cells: Iterable[Cells]) -> "Counts":
        return cls(
            tuple(sorted((some for some in cells if some.documents.size), key=lambda some: some.source.run))
        )

    @cached_property
    def trees(self) -> int | None:
        """The size of the forests; None for a network, for forests of several sizes, and without any cells."""
        trees = {some.trees for some in self.cells}
        return trees.pop() if len(trees) == 1 else None

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels that there are, lowest first; where a network is among the models, one for each percentage."""
        levels = {level.confidence: level for some in self.cells for level in self._levels(some)}
        return tuple(level for _, level in sorted(levels.items()))

    def _levels(self, cells: Cells) -> list[Level]:
        """Return the level of each of the distinct votes of some cells."""
        exact = all(some.trees for some in self.cells)
        levels = []
        for votes in cells.votes.values:
            share = votes if cells.trees is None else percent(votes, cells.trees)
            levels.append(
                Level(votes / cells.trees, share, votes)
                if exact and cells.trees
                else Level(share / 100, share, None)
            )
        return levels

    @property
    def sources(self) -> tuple[IndexedRun, ...]:
        return tuple(some.source for some in self.cells)

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
        """Return the number of hits."""
        return int(self.by_level(state).sum())

    def by_level(self, state: SearchState) -> _Numbers:
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
        covered = frozenset(source for source in self.sources if _covers(state.filters, source))
        return self.only(covered)

    def only(self, sources: frozenset[IndexedRun]) -> "Counts":
        """Return the counts of some of the collections."""
        return self if len(sources) == len(self.sources) else self._subset(sources)

    def matching(self, state: SearchState) -> _Numbers:
        """Return the numbers of the cells that a search covers, in the order of ``cells``."""
        wanted = self._wanted(state)
        return _covered({name: self._columns[name].places for name in wanted}, wanted, self._documents.size)

    @cached_property
    def _subset(self) -> "functools._lru_cache_wrapper[Counts]":
        """The counts of some of the sources; a few of these are kept."""
        return functools.lru_cache(maxsize=16)(
            lambda sources: Counts.of(some for some in self.cells if some.source in sources)
        )

    @cached_property
    def _values(self) -> Mapping[str, tuple[str, ...]]:
        values = {
            name: {value for some in self.cells for value in some.values[name].values} - {None}
            for name in COUNTED
        }
        values |= {name: {source.value(name) for source in self.sources} for name in PER_RUN}
        return {name: tuple(sorted(distinct)) for name, distinct in values.items()}

    @cached_property
    def _documents(self) -> _Floats:
        """(cells,) numbers of documents, as `numpy.bincount` takes weights: floats hold whole numbers up to 2**53."""
        return np.concatenate([np.zeros(0), *(some.documents for some in self.cells)])

    @cached_property
    def _columns(self) -> dict[str, Column]:
        """What the cells are filtered and summed by; the first value of a facet and of the answers is None."""
        columns = {
            name: _join((None, *self.values(name)), [some.values[name] for some in self.cells])
            for name in COUNTED
        }
        columns["source"] = _join(
            tuple(range(len(self.cells))),
            [Column((number,), np.zeros_like(some.documents)) for number, some in enumerate(self.cells)],
        )
        columns["level"] = _join(
            tuple(level.confidence for level in self.levels),
            [
                Column(tuple(level.confidence for level in self._levels(some)), some.votes.places)
                for some in self.cells
            ],
        )
        tags, labels = columns["tag"], columns["label"]
        tag_places = {tag: place for place, tag in enumerate(tags.values)}
        right = np.array([tag_places.get(label, -1) for label in labels.values])[labels.places] == tags.places
        answers = np.where(labels.places == 0, 0, np.where(right, 1, 2))
        # What people give an image counts instead of the label that came with it.
        given = columns["correction"]
        by_people = np.array([_ANSWERS.get(value, -1) for value in given.values])[given.places]
        columns["answer"] = Column((None, *ANSWERS), np.where(by_people < 0, answers, by_people))
        return columns

    def _sums(self, state: SearchState, by: str, without: str = "") -> _Numbers:
        """Return the (values,) hits for each value of a column, one filter of the search left out."""
        wanted = self._wanted(state, without)
        places, documents = self._reduced(frozenset({by, *wanted}))
        rows = _covered(places, wanted, documents.size)
        return np.bincount(places[by][rows], documents[rows], len(self._columns[by].values)).astype(np.int64)

    @cached_property
    def _reduced(self) -> "functools._lru_cache_wrapper[tuple[dict[str, _Numbers], _Floats]]":
        """`_reduce`, whose results are kept: there are at most 64."""
        return functools.cache(self._reduce)

    def _reduce(self, names: frozenset[str]) -> tuple[dict[str, _Numbers], _Floats]:
        """Return the cells divided by only these columns: their places in each, and their numbers of documents.

        A sum needs one or two columns, and by these there are some hundred cells where all columns make hundreds of thousands.
        """
        places = {name: self._columns[name].places for name in names}
        shape = [len(self._columns[name].values) for name in names]
        if math.prod(shape) >= self._documents.size:
            return places, self._documents
        keys = np.ravel_multi_index(tuple(places.values()), shape)
        documents = np.bincount(keys, self._documents).astype(np.float64)
        there = np.flatnonzero(documents)
        return dict(zip(names, np.unravel_index(there, shape), strict=True)), documents[there]

    def _wanted(self, state: SearchState, without: str = "") -> dict[str, npt.NDArray[np.bool_]]:
        """Return for each column that a search filters by which (values,) it covers, one of its filters left out."""
        wanted: dict[str, npt.NDArray[np.bool_]] = {}
        filters = {name: values for name, values in state.filters.items() if name != without}
        for name in COUNTED:
            if name in filters:
                values = set(filters[name])
                wanted[name] = np.array([value in values for value in self._columns[name].values])
        if any(name in filters for name in PER_RUN):
            wanted["source"] = np.array([_covers(filters, source) for source in self.sources], bool)
        if state.confidence and without != "confidence":
            low, high = state.confidence
            wanted["level"] = np.array([low <= level.percent <= high for level in self.levels], bool)
        if state.answer and without != "answer":
            wanted["answer"] = np.array([value == state.answer for value in self._columns["answer"].values])
        return wanted


def _covered(
    places: Mapping[str, _Numbers], wanted: Mapping[str, npt.NDArray[np.bool_]], cells: int
) -> _Numbers:
    """Return the numbers of the cells whose values ``wanted`` covers in every column."""
    rows = np.arange(cells)
    for name, covered in wanted.items():
        rows = rows[covered[places[name][rows]]]
    return rows


def _join(values: tuple[Any, ...], columns: list[Column]) -> Column:
    """Return columns one after another as one, by the places of their values among ``values``."""
    places = {value: place for place, value in enumerate(values)}
    joined = [
        np.array([places[value] for value in column.values], np.int64)[column.places] for column in columns
    ]
    return Column(values, np.concatenate(joined) if joined else np.zeros(0, np.int64))


def _covers(filters: Mapping[str, tuple[str, ...]], source: IndexedRun) -> bool:
    """Whether filters by facets of `PER_RUN` cover a collection."""
    return all(source.value(name) in values for name, values in filters.items() if name in PER_RUN)
