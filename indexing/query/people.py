"""People's labels beside the index: what they change in the hits, the counts and the filters of a search.

Solr knows nothing of them, so that a correction is found at once, survives a Solr that is down and a run that is indexed
again, and costs no new searcher and no count of all documents; docs/performance.md has the figures.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from indexing.query.cells import COUNT_SECONDS, IN_SOLR, Cells
from indexing.query.levels import percent_of
from indexing.solr import Solr

# Partition and row of an image.
Place = tuple[int, int]
# The label that most people give to each image of a corpus, None where it is disputed; by the corpus' hash.
PeoplesLabels = Mapping[str, Mapping[Place, str | None]]
# Values of `IN_SOLR`, and the votes, of a document.
Key = tuple[tuple[Any, ...], int]
# A document's key, and its values of the facets beside the index: agreement and correction.
Moved = tuple[Key, str | None, str | None]
# So many documents are requested at a time, by their ids.
DOCUMENTS = 10_000


class People(Protocol):
    """The labels that people gave, for `indexing.query.published`."""

    def labels(self) -> PeoplesLabels:
        """Return all labels, as the same object where none has changed. Doesn't raise, and doesn't wait long."""
        ...

    def corpus_hash(self, run: str) -> str | None:
        """Return the hash of the corpus of a run; None where that isn't known. Raises `TinyTagsError` where it can't be known now."""
        ...


@dataclass(frozen=True)
class Given:
    """What people give the image of a document: a label, None where it is disputed, and what that makes of its tag."""

    label: str | None
    state: str

    @classmethod
    def of(cls, label: str | None, tag: str) -> "Given":
        return cls(label, "disputed" if label is None else "agreed" if label == tag else "corrected")

    @property
    def fields(self) -> dict[str, str]:
        """The fields that a hit has more."""
        label = {} if self.label is None else {"people_label": self.label}
        return label | {"correction": self.state}


class KnownDocuments:
    """Documents in one state of a collection, each read from Solr once: those whose images people have labelled, or all."""

    def __init__(self, solr: Solr, collection: str) -> None:
        self._solr, self._collection = solr, collection
        self._keys: dict[
            str, Key | None
        ] = {}  # None: below the minimum confidence, so that there is no document
        self._tags: dict[Place, str] | None = None

    def tags(self) -> Mapping[Place, str]:
        """Return the tags of all documents, by partition and row. Raises `SolrError`."""
        if self._tags is None:
            tags: dict[Place, str] = {}
            for document in self._all():
                _, partition, row = document["id"].split(":")
                tags[int(partition), int(row)] = document["tag"]
                self._keys[document["id"]] = _key(document)
            self._tags = tags
        return self._tags

    def compared(self, cells: Cells, agreements: Mapping[Place, str]) -> Cells:
        """Return the cells of the collection with each document of ``agreements`` moved to the cell of its value."""
        moved: Counter[Moved] = Counter()
        for place, value in agreements.items():
            if place in self.tags():
                key = self._keys[self._id(place)]
                assert key is not None
                moved[key, None, None] -= 1
                moved[key, value, None] += 1
        return _with_moved(cells, moved)

    def given(self, labels: Mapping[Place, str | None]) -> dict[str, Given]:
        """Return what people give the documents of the collection, by their ids. Raises `SolrError`."""
        ids = {self._id(place): label for place, label in labels.items()}
        self._read([id for id in ids if id not in self._keys])
        tag = IN_SOLR.index("tag")
        return {id: Given.of(label, key[0][tag]) for id, label in ids.items() if (key := self._keys[id])}

    def counted(self, cells: Cells, given: Mapping[str, Given], agreements: Mapping[Place, str]) -> Cells:
        """Return the cells of the collection, `compared`, with each of these documents moved to the cell of its state."""
        moved: Counter[Moved] = Counter()
        for id, one in given.items():
            key = self._keys[id]
            assert key is not None
            _, partition, row = id.split(":")
            agreement = agreements.get((int(partition), int(row)))
            moved[key, agreement, None] -= 1
            moved[key, agreement, one.state] += 1
        return _with_moved(cells, moved)

    def _id(self, place: Place) -> str:
        return f"{self._collection[-8:]}:{place[0]:d}:{place[1]:d}"

    def _all(self) -> Iterator[dict[str, Any]]:
        """Yield all documents, in the order of the index."""
        names = ",".join(("id", "votes", "trees", "confidence", *IN_SOLR))
        cursor, full = "*", True
        while full:
            parameters = {"q": "*:*", "sort": "confidence desc,id asc", "fl": names, "rows": DOCUMENTS}
            answer = self._solr.select(
                self._collection, parameters | {"cursorMark": cursor}, timeout=COUNT_SECONDS
            )
            documents = answer["response"]["docs"]
            yield from documents
            cursor, full = answer["nextCursorMark"], len(documents) == DOCUMENTS

    def _read(self, ids: list[str]) -> None:
        names = ",".join(("id", "votes", "trees", "confidence", *IN_SOLR))
        for n in range(0, len(ids), DOCUMENTS):
            some = ids[n : n + DOCUMENTS]
            parameters = {"q": terms("ids"), "ids": ",".join(some), "fl": names, "rows": len(some)}
            answer = self._solr.select(self._collection, parameters, timeout=COUNT_SECONDS)
            self._keys |= dict.fromkeys(some) | {
                document["id"]: _key(document) for document in answer["response"]["docs"]
            }


def _with_moved(cells: Cells, moved: Mapping[Moved, int]) -> Cells:
    """Return cells with these numbers of documents added, where they are negative: counted in another cell now."""
    if not moved:
        return cells
    values = {name: [key[0][n] for key, _, _ in moved] for n, name in enumerate(IN_SOLR)}
    values["agreement"] = [agreement for _, agreement, _ in moved]
    values["correction"] = [state for _, _, state in moved]
    return replace(
        cells,
        values={name: column.extended(values[name]) for name, column in cells.values.items()},
        votes=cells.votes.extended(key[1] for key, _, _ in moved),
        documents=np.concatenate([cells.documents, np.array(list(moved.values()), np.int64)]),
    )


def terms(name: str) -> str:
    """Return Solr's query for the documents whose ids are in the parameter ``name``, with commas."""
    return f"{{!terms f=id v=${name}}}"


def ids_with(
    given: Mapping[str, Given], collections: Iterable[str], states: Collection[str] = ()
) -> list[str]:
    """Return the ids of the documents in some collections with one of ``states``, of all where there is none."""
    prefixes = {name[-8:] for name in collections}
    return [id for id, one in given.items() if id[:8] in prefixes and (not states or one.state in states)]


def _key(document: Mapping[str, Any]) -> Key:
    votes = document["votes"] if "trees" in document else percent_of(document)
    return tuple(document.get(name) for name in IN_SOLR), votes
