"""The state of every corpus and run now, computed once for all clients."""

import hashlib
import json
import time
from datetime import UTC, datetime
from typing import Any

from conf.cached import Answer, Cached
from indexing.solr import Solr
from indexing.status import annotation_statuses, run_statuses
from indexing.watch_solr import SolrStatus, SolrWatch
from indexing.watch_store import StoreStatus, StoreWatch
from storage.store import Store

# Store and Solr are scanned once in this time, however many clients there are.
REFRESH_SECONDS = 1.5
# A client waits no longer than this for a store or a Solr that is slow or unavailable.
WAIT_SECONDS = 2.5
# The part of it that is left for Solr where the store does not answer.
SOLR_SECONDS = 0.5
# A scan reads statistics of partitions, or counts documents, for this time; the next one continues.
READ_SECONDS = 1.0
# A browser requests the state again after this time: while a job writes, and otherwise.
POLL_BUSY, POLL_IDLE = 2, 3


class Board:
    """The state of all corpora and runs, cached for all clients."""

    def __init__(self, store: Store, solr: Solr, alias: str, seconds: float = REFRESH_SECONDS) -> None:
        self.store, self.solr, self.alias = store, solr, alias
        self._names: list[str] = []  # of the runs in the store
        store_watch, solr_watch = StoreWatch(store), SolrWatch(solr, alias)
        self._stored: Cached[StoreStatus] = Cached(
            "the store", lambda: store_watch.scan(READ_SECONDS), seconds
        )
        self._indexed: Cached[SolrStatus] = Cached(
            "Solr", lambda: solr_watch.scan(self._names, READ_SECONDS), seconds
        )

    def now(self, until: float | None = None) -> dict[str, Any]:
        """Return the state of everything, as JSON values, within `WAIT_SECONDS` or by ``until`` of `time.monotonic`.

        Errors of the store and of Solr are in "store_error" and "solr_error"; the rest is then as it was at "store_seen"
        and "solr_seen", or empty.
        """
        until = until or time.monotonic() + WAIT_SECONDS
        stored = self._stored.get(until - SOLR_SECONDS - time.monotonic())
        self._names = list(stored.value.expected) if stored.value else []
        indexed = self._indexed.get(until - time.monotonic())
        corpora = stored.value.corpora if stored.value else []
        runs = run_statuses(stored.value, indexed.value) if stored.value else []
        for run in runs:
            if stored.value and "error" not in run and stored.value.expected[run["run"]] is None:
                run["statistics_read"] = stored.value.read[run["run"]]
        annotations = annotation_statuses(stored.value, indexed.value) if stored.value else []
        models = stored.value.models if stored.value else []
        working = any(entry.get("working") for entry in (*corpora, *runs, *annotations, *models))
        # This changes even if no job writes.
        incomplete = stored.error or indexed.error or any(run.get("index", {}) is None for run in runs)
        state = {
            "store": self.store.url(),
            "store_error": stored.error,
            "solr": self.solr.url,
            "solr_error": indexed.error,
            "alias": self.alias,
            "published": indexed.value.published if indexed.value else [],
            "working": working,
            "corpora": corpora,
            "runs": runs,
            "annotations": annotations,
            "models": models,
        }
        return {
            "version": hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16],
            "ask_again_seconds": POLL_BUSY if working or incomplete else POLL_IDLE,
            "store_seen": _time(stored),
            "solr_seen": _time(indexed),
        } | state

    def expire(self) -> None:
        """Let the next `now` ask Solr again: this server has changed what is published."""
        self._indexed.expire()


def _time(answer: Answer[Any]) -> str | None:
    """Return when an answer was computed, in ISO 8601."""
    return datetime.fromtimestamp(answer.at, UTC).isoformat(timespec="seconds") if answer.at else None
