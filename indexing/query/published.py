"""What is searched now: the collections behind the alias, and their counts, kept for as long as they are true."""

import threading
import time
from dataclasses import dataclass
from urllib.parse import quote

from indexing.query.counts import Cell, Counts, query_cells
from indexing.query.search_state import SearchState
from indexing.solr import Solr, SolrError

CHECK_SECONDS = 1.0
# A Solr that hangs is as good as one that is down.
ANSWER_SECONDS = 2.5


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One state of what is searched. A page is made from one of these, so it never shows half of one and half of another."""

    collections: tuple[str, ...]
    counts: Counts

    def of(self, state: SearchState) -> "Snapshot":
        """Return what a search looks into: all of it, or the runs that it names by themselves, their corpus or model."""
        counts = self.counts.of_sources(state)
        if counts is self.counts:
            return self
        return Snapshot(tuple(source.run for source in counts.sources), counts)


class PublishedIndex:
    """Looks at most once a second whether the alias has moved or an index has changed; safe to use from many threads."""

    def __init__(self, solr: Solr, alias: str, check_seconds: float = CHECK_SECONDS) -> None:
        self.solr, self.alias, self.check_seconds = solr, alias, check_seconds
        self._lock = threading.Lock()
        self._checked = float("-inf")
        self._failed: SolrError | None = None
        self._snapshot = Snapshot((), Counts.of([]))
        self._versions: dict[str, tuple] = {}
        self._cells: dict[str, list[Cell]] = {}

    def now(self, fresh: bool = False) -> Snapshot:
        """Return what is searched; ``fresh`` looks even if that was done a moment ago. Raises `SolrError`."""
        with self._lock:
            if fresh or time.monotonic() - self._checked > self.check_seconds:
                self._failed = None
                try:
                    self._check()
                except SolrError as error:
                    self._failed = (
                        error  # all who waited for a Solr that hangs need not wait for it once more each
                    )
                self._checked = time.monotonic()
            if self._failed:
                raise self._failed
            return self._snapshot

    def _check(self) -> None:
        versions = {name: self._version(name, shards) for name, shards in self._collections().items()}
        if versions == self._versions:
            return
        # The version is read before the cells: an index that changes in between is counted again the next time.
        cells = {
            name: self._cells[name] if self._versions.get(name) == version else query_cells(self.solr, name)
            for name, version in versions.items()
        }
        counts = Counts.of(cell for name in cells for cell in cells[name])
        self._versions, self._cells, self._snapshot = versions, cells, Snapshot(tuple(sorted(cells)), counts)

    def _collections(self) -> dict[str, dict]:
        """Return the shards of each collection behind the alias; none where nothing is published."""
        parameters = {"action": "CLUSTERSTATUS", "collection": self.alias}
        try:
            cluster = self.solr.read("admin/collections", parameters, ANSWER_SECONDS)["cluster"]
        except SolrError as error:
            if error.status == 400 and "not found" in str(error):
                return {}
            raise
        return {name: description["shards"] for name, description in cluster["collections"].items()}

    def _version(self, collection: str, shards: dict) -> tuple:
        """Return what changes when what can be searched changes: the version of each shard's open index."""
        versions = []
        for name in sorted(shards):
            replicas = shards[name]["replicas"].values()
            leader = next((replica for replica in replicas if replica.get("leader") == "true"), None)
            try:
                core = quote(leader["core"] if leader else collection)
                index = self.solr.read(
                    f"{core}/admin/luke", {"show": "index", "numTerms": 0}, ANSWER_SECONDS
                )["index"]
                versions.append((core, index["version"], index["numDocs"], index.get("lastModified")))
            except SolrError as error:
                if error.status != 404:
                    raise
                # A core on another node: documents of a run are the same whenever they are posted, so their number tells.
                found = self.solr.select(collection, {"q": "*:*", "rows": 0}, timeout=ANSWER_SECONDS)
                return ("documents", found["response"]["numFound"])
        return tuple(versions)
