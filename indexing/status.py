"""How far each step of every corpus and run is, told by the store and Solr alone: there is no second record to go wrong."""

from indexing.index import ExpectedCounts
from indexing.solr import Solr, SolrError
from indexing.watch_solr import SolrStatus, SolrWatch
from indexing.watch_store import StoreStatus, StoreWatch, rates, states


def read_status(store, solr: Solr, alias: str) -> dict:
    """Return {"solr_error", "published", "corpora", "runs"}, each step's partitions counted. Writes nothing.

    Raises `StoreError` where the store can't be read; a Solr that doesn't answer is told in "solr_error".
    """
    stored = StoreWatch(store).scan()
    try:
        indexed, error = SolrWatch(solr, alias).scan(stored.expected), None
    except SolrError as failed:
        indexed, error = None, str(failed)
    return {
        "solr_error": error,
        "published": indexed.published if indexed else [],
        "corpora": stored.corpora,
        "runs": run_statuses(stored, indexed),
    }


def run_statuses(stored: StoreStatus, indexed: SolrStatus | None) -> list[dict]:
    """Return the runs with what Solr says of them; their ``index`` is None where that isn't known, or not yet."""
    return [
        told if "error" in told else _run_status(told, stored.expected[told["run"]], indexed)
        for told in stored.runs
    ]


def _run_status(told: dict, expected: ExpectedCounts | None, indexed: SolrStatus | None) -> dict:
    name = told["run"]
    collection = indexed.collections.get(name) if indexed else None
    counts = collection.counts if collection else {}
    index = left = None
    if indexed and name in indexed.asked and expected is not None and counts is not None:
        pending = set(expected.pending(counts)) if collection else set(expected.statistics)
        done = [p for p in expected.statistics if p not in pending]
        documents, rejected = sum(counts.values()), sum(expected.rejected.values())
        index = states(told["partitions"], done, []) | {"documents": documents, "rejected": rejected}
        left = max(sum(map(expected.count, expected.statistics)) - documents, 0)
    working = []
    for work in told["working"]:
        if work["step"] == "index":
            waiting, per_second = (collection.waiting, collection.per_second) if collection else (0, None)
            waiting = waiting if left is None else min(waiting, left)
            known = per_second and left is not None
            work = work | {"waiting": waiting}
            work |= rates(per_second, (left - waiting) / per_second if known else None)
        working.append(work)
    published = indexed is not None and name in indexed.published
    return told | {"published": published, "index": index, "working": working}
