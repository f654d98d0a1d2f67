"""People's labels beside the index: what they change in the hits, the counts and the filters of a search.

Solr knows nothing of them, so that a correction is found at once, survives a Solr that is down and a run that is indexed
again, and costs no new searcher and no count of all documents; docs/performance.md has the figures.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
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
# The fields that a key is made of, and the id.
KEY_FIELDS = ",".join(("id", "votes", "trees", "confidence", *IN_SOLR))
# So many documents are requested at a time.
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
class DocumentLabel:
    """The label by people of the image of a document, None where it is disputed, and the state of its tag."""

    label: str | None
    state: str

    @classmethod
    def of(cls, label: str | None, tag: str) -> "DocumentLabel":
        return cls(label, "disputed" if label is None else "agreed" if label == tag else "corrected")

    @property
    def fields(self) -> dict[str, str]:
        """The fields that a hit has more."""
        label = {} if self.label is None else {"people_label": self.label}
        return label | {"correction": self.state}


class LabelledDocuments:
    """The documents in one state of a collection whose images people have labelled; each is read from Solr once."""

    def __init__(self, solr: Solr, collection: str) -> None:
        self._solr, self._collection = solr, collection
        self._keys: dict[
            str, Key | None
        ] = {}  # None: below the minimum confidence, so that there is no document

    def given(self, labels: Mapping[Place, str | None]) -> dict[str, DocumentLabel]:
        """Return what people give the documents of the collection, by their ids. Raises `SolrError`."""
        prefix = self._collection[-8:]
        ids = {f"{prefix}:{partition:d}:{row:d}": label for (partition, row), label in labels.items()}
        self._read([id for id in ids if id not in self._keys])
        tag = IN_SOLR.index("tag")
        return {
            id: DocumentLabel.of(label, key[0][tag]) for id, label in ids.items() if (key := self._keys[id])
        }

    def counted(
        self, cells: Cells, given: Mapping[str, DocumentLabel], agreements: Mapping[Place, str]
    ) -> Cells:
        """Return the cells of the collection with each of these documents moved to the cell of its state.

        ``agreements`` are those by which the documents are already in the cells.
        """
        moved: Counter[Moved] = Counter()
        for id, one in given.items():
            key = self._keys[id]
            assert key is not None
            _, partition, row = id.split(":")
            agreement = agreements.get((int(partition), int(row)))
            moved[key, agreement, None] -= 1
            moved[key, agreement, one.state] += 1
        return with_moved(cells, moved)

    def _read(self, ids: list[str]) -> None:
        for n in range(0, len(ids), DOCUMENTS):
            some = ids[n : n + DOCUMENTS]
            parameters = {"q": terms("ids"), "ids": ",".join(some), "fl": KEY_FIELDS, "rows": len(some)}
            answer = self._solr.select(self._collection, parameters, timeout=COUNT_SECONDS)
            self._keys |= dict.fromkeys(some) | {
                document["id"]: document_key(document) for document in answer["response"]["docs"]
            }


def with_moved(cells: Cells, moved: Mapping[Moved, int]) -> Cells:
    """Return cells with these numbers of documents added; a negative one is of documents that are counted in another cell now."""
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
    given: Mapping[str, DocumentLabel], collections: Iterable[str], states: Collection[str] = ()
) -> list[str]:
    """Return the ids of the documents in some collections with one of ``states``, of all where there is none."""
    prefixes = {name[-8:] for name in collections}
    return [id for id, one in given.items() if id[:8] in prefixes and (not states or one.state in states)]


def document_key(document: Mapping[str, Any]) -> Key:
    """Return the key of a document with the fields `KEY_FIELDS`."""
    votes = document["votes"] if "trees" in document else percent_of(document)
    return tuple(document.get(name) for name in IN_SOLR), votes
