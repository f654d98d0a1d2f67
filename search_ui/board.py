"""The state of every corpus and run now, computed once for all clients."""

import hashlib
import json
import time
from datetime import UTC, datetime

from indexing.solr import Solr
from indexing.status import run_statuses
from indexing.watch_solr import SolrWatch
from indexing.watch_store import StoreStatus, StoreWatch
from search_ui.cached import Answer, Cached

# However many browsers look, store and Solr are looked at once in so many seconds.
LOOK_SECONDS = 1.5
# Nobody waits longer than that for a store or a Solr that is slow, hangs or is away.
WAIT_SECONDS = 2.5
# Of these some are left for Solr, which may be well where the store is not.
SOLR_SECONDS = 0.5
# So long a look reads statistics of partitions, or counts documents, before it tells what it has.
READ_SECONDS = 1.0
# A browser asks again after so many seconds: while something is being written, and otherwise.
ASK_BUSY, ASK_IDLE = 2, 15


class Board:
    """What there is to say of all corpora and runs now, told to many at the cost of one."""

    def __init__(self, store, solr: Solr, alias: str, seconds: float = LOOK_SECONDS) -> None:
        self.store, self.solr, self.alias = store, solr, alias
        self._known: StoreStatus | None = None
        in_store, in_solr = StoreWatch(store), SolrWatch(solr, alias)
        self._stored = Cached("the store", lambda: in_store.scan(READ_SECONDS), seconds)
        self._indexed = Cached("Solr", lambda: in_solr.scan(self._names(), READ_SECONDS), seconds)

    def now(self, until: float | None = None) -> dict:
        """Return the state of everything, fit for JSON, within `WAIT_SECONDS` or by ``until`` of `time.monotonic`.

        What doesn't answer is told in "store_error" and "solr_error"; the rest is then as it was at "store_seen" and
        "solr_seen", or empty.
        """
        until = until or time.monotonic() + WAIT_SECONDS
        stored = self._stored.get(until - SOLR_SECONDS - time.monotonic())
        self._known = stored.value
        indexed = self._indexed.get(until - time.monotonic())
        corpora = stored.value.corpora if stored.value else []
        runs = run_statuses(stored.value, indexed.value) if stored.value else []
        for told in runs:
            if "error" not in told and stored.value.expected[told["run"]] is None:
                told["statistics_read"] = stored.value.read[told["run"]]
        # What won't stay as it is though nobody works.
        passing = stored.error or indexed.error or any(told.get("index", {}) is None for told in runs)
        found = {
            "store": self.store.url(),
            "store_error": stored.error,
            "solr": self.solr.url,
            "solr_error": indexed.error,
            "alias": self.alias,
            "published": indexed.value.published if indexed.value else [],
            "working": any(told.get("working") for told in (*corpora, *runs)),
            "corpora": corpora,
            "runs": runs,
        }
        return {
            "version": hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16],
            "ask_again_seconds": ASK_BUSY if found["working"] or passing else ASK_IDLE,
            "store_seen": _time(stored),
            "solr_seen": _time(indexed),
        } | found

    def _names(self) -> list[str]:
        return list(self._known.expected) if self._known else []


def _time(answer: Answer) -> str | None:
    return answer.at and datetime.fromtimestamp(answer.at, UTC).isoformat(timespec="seconds")
