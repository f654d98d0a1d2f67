"""The state of each step of every corpus and run, from the store and Solr alone: no second record can disagree with them."""

from typing import TypedDict

from indexing.expected import ExpectedCounts
from indexing.solr import Solr
from indexing.solr_errors import SolrError
from indexing.states import States, Working, set_rates, states
from indexing.watch_annotations import AnnotationsStatus, BrokenAnnotations
from indexing.watch_models import BrokenModel, ModelStatus
from indexing.watch_solr import SolrStatus, SolrWatch
from indexing.watch_store import BrokenCorpus, BrokenRun, CorpusStatus, RunStatus, StoreStatus, StoreWatch
from storage.store import Store


class Status(TypedDict):
    """The state of everything."""

    solr_error: str | None
    published: list[str]
    corpora: list[CorpusStatus | BrokenCorpus]
    runs: list[RunStatus | BrokenRun]
    annotations: list[AnnotationsStatus | BrokenAnnotations]
    models: list[ModelStatus | BrokenModel]


def read_status(store: Store, solr: Solr, alias: str) -> Status:
    """Return the state of every corpus and run. Writes nothing.

    Raises `StoreError` where the store can't be read; that Solr doesn't answer is in ``solr_error``.
    """
    stored = StoreWatch(store).scan()
    indexed, solr_error = None, None
    try:
        indexed = SolrWatch(solr, alias).scan(stored.expected)
    except SolrError as error:
        solr_error = str(error)
    return {
        "solr_error": solr_error,
        "published": indexed.published if indexed else [],
        "corpora": stored.corpora,
        "runs": run_statuses(stored, indexed),
        "annotations": annotation_statuses(stored, indexed),
        "models": stored.models,
    }


def annotation_statuses(
    stored: StoreStatus, indexed: SolrStatus | None
) -> list[AnnotationsStatus | BrokenAnnotations]:
    """Return the annotations with their state in Solr; their ``index`` is None where that isn't known."""
    return [
        one if "error" in one else _annotations_status(one, stored, indexed) for one in stored.annotations
    ]


def _annotations_status(
    status: AnnotationsStatus, stored: StoreStatus, indexed: SolrStatus | None
) -> AnnotationsStatus:
    index: dict[str, States | None] = {}
    published = indexed is not None
    for kind, collection in status["collections"].items():
        index[kind] = _index_states(
            stored.expected.get(collection), status["partitions"], collection, indexed
        )
        alias = f"{status['annotations']}-{kind}"
        published = published and indexed is not None and indexed.aliases.get(alias) == [collection]
    return {**status, "published": published, "index": index}


def _index_states(
    expected: ExpectedCounts | None, partitions: int, name: str, indexed: SolrStatus | None
) -> States | None:
    """Return how far a set of documents is in Solr; None where that isn't known."""
    if indexed is None or expected is None or name not in indexed.requested:
        return None
    collection = indexed.collections.get(name)
    counts = collection.counts if collection else {}
    if counts is None:
        return None
    pending = set(expected.pending(counts)) if collection else set(expected.statistics)
    index = states(partitions, [p for p in expected.statistics if p not in pending], [])
    index["documents"], index["rejected"] = sum(counts.values()), sum(expected.rejected.values())
    return index


def run_statuses(stored: StoreStatus, indexed: SolrStatus | None) -> list[RunStatus | BrokenRun]:
    """Return the runs with their state in Solr; their ``index`` is None where that isn't known."""
    return [
        run if "error" in run else _run_status(run, stored.expected[run["run"]], indexed)
        for run in stored.runs
    ]


def _run_status(run: RunStatus, expected: ExpectedCounts | None, indexed: SolrStatus | None) -> RunStatus:
    name = run["run"]
    collection = indexed.collections.get(name) if indexed else None
    index = _index_states(expected, run["partitions"], name, indexed)
    left = None
    if index and expected is not None:
        left = max(sum(map(expected.count, expected.statistics)) - index["documents"], 0)
    working: list[Working] = []
    for work in run["working"]:
        work = work.copy()
        if work["step"] == "index":
            waiting, per_second = (collection.waiting, collection.per_second) if collection else (0, None)
            work["waiting"] = waiting = waiting if left is None else min(waiting, left)
            set_rates(
                work, per_second, (left - waiting) / per_second if per_second and left is not None else None
            )
        working.append(work)
    published = indexed is not None and name in indexed.published
    return {**run, "published": published, "index": index, "working": working}
