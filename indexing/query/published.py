"""What the alias points to now: its collections and their counts, cached until one of them changes."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from conf.errors import TinyTagsError
from indexing.query.agreement import MOST_DOCUMENTS, Agreements, compare_tags
from indexing.query.cells import Cells, query_cells
from indexing.query.counts import Counts
from indexing.query.people import Given, KnownDocuments, People, PeoplesLabels, Place
from indexing.query.search_state import SearchState
from indexing.solr import RefusedError, Solr, SolrError

CHECK_SECONDS = 1.0
# A Solr that hangs is treated like one that is down.
ANSWER_SECONDS = 2.5

Version = tuple[Any, ...]
_NOTHING: PeoplesLabels = {}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One state of what is published. A page is made from one of these, so it never shows half of one and half of another."""

    collections: tuple[str, ...]
    counts: Counts
    given: Mapping[str, Given] = field(default_factory=dict)  # what people give documents, by id
    agreements: Agreements = field(default_factory=dict)

    def of(self, state: SearchState) -> "Snapshot":
        """Return what a search covers: all of it, or the runs that it names, or whose corpus or model it names."""
        counts = self.counts.of_sources(state)
        if counts is self.counts:
            return self
        return Snapshot(tuple(source.run for source in counts.sources), counts, self.given, self.agreements)


class PublishedIndex:
    """Checks at most once a second whether the alias has moved, an index or people's labels have changed.

    Safe to use from many threads. Without ``people`` no document has their labels.
    """

    def __init__(
        self, solr: Solr, alias: str, check_seconds: float = CHECK_SECONDS, people: People | None = None
    ) -> None:
        self.solr, self.alias, self.check_seconds, self.people = solr, alias, check_seconds, people
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._expired = False
        self._failed: SolrError | None = None
        self._snapshot = Snapshot((), Counts.of([]))
        self._versions: dict[str, Version] = {}
        self._cells: dict[str, Cells] = {}
        self._labels: PeoplesLabels | None = None
        self._documents: dict[str, KnownDocuments] = {}
        self._agreements: Agreements = {}
        self._compared: dict[str, Cells] = {}

    def expire(self) -> None:
        """Let the next call of `now` check, also where another thread is checking now."""
        self._expired = True

    def now(self, fresh: bool = False) -> Snapshot:
        """Return what is published; ``fresh`` checks even if that was done a moment ago. Raises `SolrError`."""
        with self._lock:
            if fresh or self._expired or time.monotonic() - self._checked > self.check_seconds:
                # Before anything is read: what changes meanwhile is read by the next call.
                self._expired = False
                self._failed = None
                try:
                    self._check()
                except SolrError as error:
                    # Threads that waited for a Solr that hangs don't each wait for it again.
                    self._failed = error
                self._checked = time.monotonic()
            if self._failed:
                raise self._failed
            return self._snapshot

    def _check(self) -> None:
        versions = {name: self._version(name, shards) for name, shards in self._collections().items()}
        labels = self.people.labels() if self.people else _NOTHING
        if versions == self._versions and labels is self._labels:
            return
        # The version is read before the cells: an index that changes in between is counted again the next time.
        same = {name for name, version in versions.items() if self._versions.get(name) == version}
        cells = {
            name: self._cells[name] if name in same else query_cells(self.solr, name) for name in versions
        }
        documents = {
            name: self._documents[name] if name in same else KnownDocuments(self.solr, name)
            for name in versions
        }
        agreements, compared = self._agreements, self._compared
        if versions != self._versions:
            agreements, compared = _compare(cells, documents)
        given, known = self._given(documents, labels)
        counts = Counts.of(
            documents[name].counted(some, given[name], agreements.get(some.source.value("corpus"), {}))
            for name, some in compared.items()
        )
        self._versions, self._cells, self._documents = versions, cells, documents
        self._agreements, self._compared = agreements, compared
        self._labels = labels if known else None
        every = {id: one for some in given.values() for id, one in some.items()}
        self._snapshot = Snapshot(tuple(sorted(cells)), counts, every, agreements)

    def _given(
        self, documents: Mapping[str, KnownDocuments], labels: PeoplesLabels
    ) -> tuple[dict[str, dict[str, Given]], bool]:
        """Return what people give the documents of each collection, and whether that is known of all of them."""
        given: dict[str, dict[str, Given]] = {}
        known = True
        for name, some in documents.items():
            corpus = None
            if self.people and labels:
                try:
                    corpus = self.people.corpus_hash(name)
                except TinyTagsError:  # searches are useful without
                    known = False
            given[name] = some.given(labels.get(corpus, {})) if corpus else {}
        return given, known

    def _collections(self) -> dict[str, dict[str, Any]]:
        """Return the shards of each collection behind the alias; none where nothing is published."""
        parameters = {"action": "CLUSTERSTATUS", "collection": self.alias}
        try:
            cluster = self.solr.read("admin/collections", parameters, ANSWER_SECONDS, "cluster")["cluster"]
        except RefusedError:  # there is no such alias: nothing else in this request can be wrong
            return {}
        return {name: description["shards"] for name, description in cluster["collections"].items()}

    def _version(self, collection: str, shards: dict[str, Any]) -> Version:
        """Return a value that changes whenever searches could: the version of each shard's open index."""
        versions = []
        for name in sorted(shards):
            replicas = shards[name]["replicas"].values()
            leader = next((replica for replica in replicas if replica.get("leader") == "true"), None)
            try:
                core = quote(leader["core"] if leader else collection)
                index = self.solr.read(
                    f"{core}/admin/luke", {"show": "index", "numTerms": 0}, ANSWER_SECONDS, "index"
                )["index"]
                versions.append((core, index["version"], index["numDocs"], index.get("lastModified")))
            except SolrError as error:
                if error.status != 404:
                    raise
                # A core on another node. A run's documents are the same whenever they are posted, so their number is enough.
                answer = self.solr.select(collection, {"q": "*:*", "rows": 0}, timeout=ANSWER_SECONDS)
                return ("documents", answer["response"]["numFound"])
        return tuple(versions)


def _compare(
    cells: Mapping[str, Cells], documents: Mapping[str, KnownDocuments]
) -> tuple[Agreements, dict[str, Cells]]:
    """Return where the runs of each corpus agree, where there are several of up to `MOST_DOCUMENTS`, and the cells by that."""
    corpora: dict[str, list[str]] = {}
    for name, some in cells.items():
        if some.documents.size:
            corpora.setdefault(some.source.value("corpus"), []).append(name)
    agreements: dict[str, Mapping[Place, str]] = {}
    compared = dict(cells)
    for corpus, names in corpora.items():
        if len(names) > 1 and sum(int(cells[name].documents.sum()) for name in names) <= MOST_DOCUMENTS:
            agreements[corpus] = compare_tags(documents[name].tags() for name in names)
            for name in names:
                compared[name] = documents[name].compared(cells[name], agreements[corpus])
    return agreements, compared
