"""How many images the hits of a search are of, where several runs of one corpus are searched."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from indexing.query.cells import COUNTED, IN_SOLR, Cells, Column
from indexing.query.counts import Counts
from indexing.query.people import DocumentLabel, Key, Place
from indexing.query.search_state import SearchState

_Numbers = npt.NDArray[np.int64]
_ROWS = 2**32  # more than a partition has


@dataclass(frozen=True, eq=False)
class Documents:
    """The documents of a collection, sorted by partition and row; ``cells`` has a cell for each of them."""

    images: _Numbers  # (documents,) the number of each one's image, which documents of other collections have, too
    places: _Numbers  # (documents,) partition * `_ROWS` + row
    cells: Cells

    @classmethod
    def of(
        cls,
        cells: Cells,
        keys: Mapping[Place, Key],
        agreements: Mapping[Place, str],
        images: Mapping[Place, int],
    ) -> "Documents":
        """Return the documents with these keys of the collection that ``cells`` counts."""
        places = sorted(keys)
        values = {name: Column.of(keys[place][0][n] for place in places) for n, name in enumerate(IN_SOLR)}
        values["agreement"] = Column.of(agreements.get(place) for place in places)
        nothing = Column((None,), np.zeros(len(places), np.int64))
        return cls(
            np.array([images[place] for place in places], np.int64),
            np.array([partition * _ROWS + row for partition, row in places], np.int64),
            replace(
                cells,
                values={name: values.get(name, nothing) for name in COUNTED},
                votes=Column.of(keys[place][1] for place in places),
                documents=np.ones(len(places), np.int64),
            ),
        )

    def with_given(self, given: Mapping[str, DocumentLabel]) -> "Documents":
        """Return the documents with what people give some of them, by id."""
        if not given:
            return self
        names = (None, *sorted({one.state for one in given.values()}))
        ids = (id.split(":") for id in given)
        places = np.array([int(partition) * _ROWS + int(row) for _, partition, row in ids], np.int64)
        values = np.array([names.index(one.state) for one in given.values()], np.int64)
        _, here, there = np.intersect1d(self.places, places, assume_unique=True, return_indices=True)
        states = np.zeros(self.places.size, np.int64)
        states[here] = values[there]
        return replace(
            self, cells=replace(self.cells, values={**self.cells.values, "correction": Column(names, states)})
        )


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """The documents of all collections that are compared with others."""

    documents: tuple[Documents, ...] = ()  # by run, as those of `Counts`

    @classmethod
    def of(cls, documents: Iterable[Documents]) -> "ImageCounts":
        some = (one for one in documents if one.places.size)
        return cls(tuple(sorted(some, key=lambda one: one.cells.source.run)))

    def total(self, counts: Counts, state: SearchState) -> int | None:
        """Return of how many images the hits are that ``counts`` has of a search; None where that isn't known."""
        known = frozenset(self._counts.sources)
        others = frozenset(counts.sources) - known
        if len({source.value("corpus") for source in others}) < len(others):
            return None
        if not known:
            return counts.total(state)
        images = np.bincount(self._images[self._counts.matching(state)])
        return counts.only(others).total(state) + int(np.count_nonzero(images))

    @cached_property
    def _counts(self) -> Counts:
        return Counts.of(one.cells for one in self.documents)

    @cached_property
    def _images(self) -> _Numbers:
        return np.concatenate([np.zeros(0, np.int64), *(one.images for one in self.documents)])
