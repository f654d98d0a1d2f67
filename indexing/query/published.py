"""What the alias points to now: its collections and their counts, cached until one of them changes."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from conf.cached import Cached
from conf.errors import TinyTagsError
from indexing.query.agreement import NOT_COMPARED, ComparedRuns, comparable, compare
from indexing.query.cells import Cells, query_cells
from indexing.query.counts import Counts
from indexing.query.images import ImageCounts
from indexing.query.people import DocumentLabel, LabelledDocuments, People, PeoplesLabels
from indexing.query.search_state import SearchState
from indexing.solr import Solr
from indexing.solr_errors import NotNowError, RefusedError, SolrError

CHECK_SECONDS = 1.0
# A Solr that hangs is treated like one that is down.
ANSWER_SECONDS = 2.5
# A search doesn't wait longer for the comparison of models, which it has as soon as it is done; one that filters by it does.
COMPARISON_SECONDS, FILTER_SECONDS = 0.5, 10
# One that has failed is repeated after this time.
RETRY_SECONDS = 30

Version = tuple[Any, ...]
_NOTHING: PeoplesLabels = {}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One state of what is published. A page is made from one of these, so it never shows half of one and half of another."""

    collections: tuple[str, ...]
    counts: Counts
    given: Mapping[str, DocumentLabel] = field(default_factory=dict)  # what people give documents, by id
    comparison: ComparedRuns = NOT_COMPARED
    images: ImageCounts = field(default_factory=ImageCounts)

    def of(self, state: SearchState) -> "Snapshot":
        """Return what a search covers: all of it, or the runs that it names, or whose corpus or model it names."""
        counts = self.counts.of_sources(state)
        if counts is self.counts:
            return self
        return replace(self, collections=tuple(source.run for source in counts.sources), counts=counts)


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
        self._labelled: dict[str, LabelledDocuments] = {}
        self._comparing: Cached[ComparedRuns] | None = None
        self._comparing_versions: dict[str, Version] = {}

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

    def compared(self) -> Snapshot:
        """Return what is published, with where its models agree; waits for that. Raises `SolrError`; `NotNowError` where it takes too long."""
        self.now()
        if self._comparing:
            answer = self._comparing.get(FILTER_SECONDS, forever=True)
            if answer.value is None:
                raise NotNowError("the tags of several models are not compared yet; try again in a minute")
            if answer.value is not self._snapshot.comparison:
                self.expire()
        return self.now()

    def _check(self) -> None:
        versions = {name: self._version(name, shards) for name, shards in self._collections().items()}
        labels = self.people.labels() if self.people else _NOTHING
        if (
            versions == self._versions
            and labels is self._labels
            and self._comparison() is self._snapshot.comparison
        ):
            return
        # The version is read before the cells: an index that changes in between is counted again the next time.
        same = {name for name, version in versions.items() if self._versions.get(name) == version}
        cells = {
            name: self._cells[name] if name in same else query_cells(self.solr, name) for name in versions
        }
        labelled = {
            name: self._labelled[name] if name in same else LabelledDocuments(self.solr, name)
            for name in versions
        }
        if versions != self._comparing_versions:
            self._comparing = (
                Cached("the comparison", partial(self._compare, cells), RETRY_SECONDS)
                if comparable(cells)
                else None
            )
            self._comparing_versions = versions
        comparison = self._comparison()
        given, known = self._given(labelled, labels)
        counts = Counts.of(
            labelled[name].counted(
                comparison.cells.get(name, some),
                given[name],
                comparison.of_corpus(some.source.value("corpus")),
            )
            for name, some in cells.items()
        )
        self._versions, self._cells, self._labelled = versions, cells, labelled
        self._labels = labels if known else None
        every = {id: one for some in given.values() for id, one in some.items()}
        images = ImageCounts.of(one.with_given(given[name]) for name, one in comparison.documents.items())
        self._snapshot = Snapshot(tuple(sorted(cells)), counts, every, comparison, images)

    def _compare(self, cells: Mapping[str, Cells]) -> ComparedRuns:
        try:
            return compare(self.solr, cells)
        except SolrError as error:
            _log.warning("the tags of several models are not compared: %s", error)
            raise

    def _comparison(self) -> ComparedRuns:
        """Return the comparison of the models, which another thread makes, or `NOT_COMPARED` until it is done."""
        comparison = self._comparing.get(COMPARISON_SECONDS, forever=True).value if self._comparing else None
        return comparison or NOT_COMPARED

    def _given(
        self, labelled: Mapping[str, LabelledDocuments], labels: PeoplesLabels
    ) -> tuple[dict[str, dict[str, DocumentLabel]], bool]:
        """Return what people give the documents of each collection, and whether that is known of all of them."""
        given: dict[str, dict[str, DocumentLabel]] = {}
        known = True
        for name, some in labelled.items():
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
