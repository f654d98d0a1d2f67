"""How many documents of a collection have each combination of facet values and number of votes, as Solr counts them.

A network doesn't vote; its documents are counted for each whole percent of confidence instead.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from indexing.fields import FACETS, SOLR_FIELDS
from indexing.query.levels import percent_ends
from indexing.solr import Solr
from indexing.solr_errors import SolrError

# Counting 50 million documents takes Solr some seconds, once for every version of an index.
COUNT_SECONDS = 120
# The facets that are counted document by document, those of them that Solr has, and those of which a run has one value.
COUNTED = tuple(name for name, facet in FACETS.items() if not facet.per_run)
IN_SOLR = tuple(name for name in COUNTED if name in {field.name for field in SOLR_FIELDS})
PER_RUN = tuple(name for name, facet in FACETS.items() if facet.per_run)


@dataclass(frozen=True)
class IndexedRun:
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


@dataclass(frozen=True, eq=False)
class Column:
    """One value of each cell: ``values`` are the distinct ones, ``places`` (cells,) the cells' places among these."""

    values: tuple[Any, ...]
    places: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Column":
        places: dict[Any, int] = {}
        of_cells = [places.setdefault(value, len(places)) for value in values]
        return cls(tuple(places), np.array(of_cells, np.int64))

    def extended(self, values: Iterable[Any]) -> "Column":
        """Return the column with the values of more cells."""
        places = {value: place for place, value in enumerate(self.values)}
        more = [places.setdefault(value, len(places)) for value in values]
        return Column(tuple(places), np.concatenate([self.places, np.array(more, np.int64)]))


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a collection in columns, as with labels and many classes there are hundreds of thousands.

    A cell is a combination of ``values`` of the facets `COUNTED` (None where a document has none) and a number of ``votes``.
    A network has no trees; ``votes`` is its confidence in whole percent then, halves up.
    """

    source: IndexedRun
    trees: int | None
    values: Mapping[str, Column]
    votes: Column
    documents: npt.NDArray[np.int64]  # (cells,)


def query_cells(solr: Solr, collection: str) -> Cells:
    """Return the cells of a collection, which is one run, in two passes over its documents."""
    first: dict[str, Any] = {
        name: {"type": "terms", "field": name, "limit": 2, "missing": True}
        for name in ("trees", *PER_RUN)
        if name != "run"
    }
    first["last_row"] = "max(row)"
    # A facet costs time in each of the buckets that it divides, so those without values are left out.
    for name in IN_SOLR:
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
    source = IndexedRun(tuple(values.values()), int(about.get("last_row", 0)) + 1)
    has = {name: about.get(f"has_{name}", {}).get("count", 0) for name in IN_SOLR}
    names = [name for name in IN_SOLR if has[name]]
    facets = [("votes", _VOTES if trees else _PERCENTS)]
    facets += [(name, _terms(name, missing=has[name] < about["count"])) for name in names]
    counted: dict[str, list[Any]] = {name: [] for name in ("votes", *names)}
    documents: list[int] = []
    _append_cells(_facets(solr, collection, _nested(facets)), counted, (), documents)
    votes = Column.of(counted["votes"])
    return Cells(
        source,
        trees[0] if trees else None,
        {name: Column.of(counted.get(name, [None] * len(documents))) for name in COUNTED},
        Column(tuple(map(_whole, votes.values)), votes.places),
        np.array(documents, np.int64),
    )


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


def _append_cells(
    bucket: dict[str, Any], columns: dict[str, list[Any]], outer: tuple[Any, ...], documents: list[int]
) -> None:
    """Append the cells of nested facets to ``columns``, outermost first, and their counts to ``documents``.

    ``outer`` are the values of the buckets around this one; None is that of documents without a value.
    """
    name = list(columns)[len(outer)]
    buckets = _buckets(bucket, name)
    values = [inner["val"] for inner in buckets]
    if len(outer) + 1 < len(columns):
        for value, inner in zip(values, buckets, strict=True):
            _append_cells(inner, columns, (*outer, value), documents)
        missing = bucket.get(name, {}).get("missing")
        if missing and missing["count"]:
            _append_cells(missing, columns, (*outer, None), documents)
        return
    counts = [inner["count"] for inner in buckets]
    if rest := bucket["count"] - sum(counts):
        values.append(None)
        counts.append(rest)
    documents += counts
    columns[name] += values
    for around, value in zip(columns.values(), outer, strict=False):
        around += [value] * len(values)


def _whole(value: int | str) -> int:
    """Return a bucket's number of votes, or the percentage in the middle of a range like "[0.395,0.405)"."""
    return value if isinstance(value, int) else round(100 * float(value[1:].partition(",")[0]) + 0.5)


def _buckets(facets: dict[str, Any], name: str) -> list[dict[str, Any]]:
    buckets: list[dict[str, Any]] = facets.get(name, {}).get("buckets", [])
    return buckets  # Solr leaves out the facets of nothing
