"""Indexing: the documents of a run go into the run's own Solr collection, whose counts are the only record of what is in it."""

import time
from typing import Any

from conf.command import note
from conf.errors import TinyTagsError
from conf.wording import counted
from indexing.annotation_fields import COLLECTION_FIELDS
from indexing.expected import ExpectedCounts, read_expected
from indexing.posting import THREADS, post_partitions
from indexing.publishing import check_names, point_alias
from indexing.solr import Solr
from indexing.solr_errors import HalfCreatedError, SolrError
from storage import layout
from storage.documents import DocumentSet
from storage.finished import record_finished
from storage.lease import lease
from storage.runs import open_run
from storage.store import Store

# Seconds for which requests are repeated when Solr stops answering.
PATIENCE = 180


def index_run(
    store: Store,
    run_name: str,
    solr: Solr,
    alias: str,
    publication: str = "publish",
    shards: int | None = None,
    partitions: list[int] | None = None,
    dry_run: bool = False,
    threads: int = THREADS,
) -> dict[str, Any]:
    """Make the run's collection hold exactly the run's documents, whatever it holds now; return a summary.

    ``publication`` is what happens to the alias: ``publish`` moves it to this run once the run is complete, ``beside`` adds
    the run to it then, ``live`` moves it before the first document, ``no`` leaves it. ``shards`` is for a new collection
    (None: 1). ``partitions`` are posted again even if they are done, and no others are touched. ``dry_run`` returns what
    would be done and writes nothing.

    Raises `LeaseHeldError` when another process indexes the run or moves the alias, `SolrError` when Solr doesn't answer, and
    `TinyTagsError` for a partition that doesn't exist or whose count stays wrong, for names that Solr would confuse, and
    for a collection with other fields. A tags file that has changed since it was tagged is left out and listed in the
    summary's ``failed``; ``complete`` is then false.
    """
    return index_documents(
        store, open_run(store, run_name), solr, alias, publication, shards, partitions, dry_run, threads
    )


def index_documents(
    store: Store,
    run: DocumentSet,
    solr: Solr,
    alias: str,
    publication: str = "publish",
    shards: int | None = None,
    partitions: list[int] | None = None,
    dry_run: bool = False,
    threads: int = THREADS,
) -> dict[str, Any]:
    """Do what `index_run` does for any set of documents."""
    if publication not in ("publish", "live", "beside", "no"):
        raise ValueError(publication)
    check_names(store, solr, run.name, alias)  # fails at once where Solr is not there; later it is waited for
    if dry_run:
        return _dry_run(store, run, solr, alias, publication, partitions)
    began = time.monotonic()
    solr = solr.patient(PATIENCE)
    try:
        with lease(store, layout.index_lease(run.folder), f"the index of {run.what}") as check_lease:
            expected = read_expected(store, run)
            _check_partitions(expected, partitions)
            _open_collection(store, solr, expected, shards)
            before = solr.alias(alias)
            solr.commit(run.name)  # what a killed attempt posted counts only from here
            post, foreign = _plan(expected, solr.counts(run.name), partitions)
            if post:
                _check_fields(solr, run)
            if publication == "live":
                point_alias(store, solr, alias, run.name, check_lease)
            post_partitions(store, solr, expected, post, foreign, threads, check_lease)
            counts = solr.counts(run.name)
            _check_accepted(expected, counts)
            summary = _summary(expected, counts, post)
            if summary["complete"] and publication in ("publish", "beside"):
                point_alias(store, solr, alias, run.name, check_lease, beside=publication == "beside")
            seconds = time.monotonic() - began
            posted = sum(expected.documents(p) for p in summary["posted"])
            record_finished(store, run.folder, "index", posted, "documents", seconds, posted / seconds)
            return summary | {
                "alias": alias,
                "previous": before,
                "published": run.name in solr.alias(alias),
                "seconds": round(seconds, 3),
            }
    finally:
        solr.stop_waiting()


def repost(store: Store, run: DocumentSet, solr: Solr, partitions: list[int | None]) -> dict[int, str]:
    """Post again the partitions that the run has and delete the documents of others; the alias stays as it is.

    Returns the partitions whose tags file can't be used, each with the reason; these keep their documents. Raises as
    `index_run` does.
    """
    check_names(store, solr, run.name)
    solr = solr.patient(PATIENCE)
    try:
        with lease(store, layout.index_lease(run.folder), f"the index of {run.what}") as check_lease:
            expected = read_expected(store, run)
            _open_collection(store, solr, expected, None)
            _check_fields(solr, run)
            post = sorted(p for p in partitions if p in expected.statistics)
            foreign = expected.foreign(dict.fromkeys(partitions, 0))
            post_partitions(store, solr, expected, post, foreign, THREADS, check_lease)
            return expected.failed
    finally:
        solr.stop_waiting()


def _check_partitions(expected: ExpectedCounts, partitions: list[int] | None) -> None:
    for p in partitions or []:
        if not 0 <= p < expected.run.partitions:
            raise TinyTagsError(
                f"{expected.run.what} has no partition {p}; it has 0 to {expected.run.partitions - 1}"
            )
        if p not in expected.statistics:
            raise TinyTagsError(
                f"partition {p} of {expected.run.what} is not written yet; write it with `{expected.run.make}`"
            )


def _plan(
    expected: ExpectedCounts, counts: dict[int | None, int], partitions: list[int] | None
) -> tuple[list[int], list[int | None]]:
    """Return the partitions to post, and those that the run doesn't have, whose documents are deleted."""
    if partitions is not None:
        return sorted(set(partitions)), []
    return expected.pending(counts), expected.foreign(counts)


def _dry_run(
    store: Store, run: DocumentSet, solr: Solr, alias: str, publication: str, partitions: list[int] | None
) -> dict[str, Any]:
    expected = read_expected(store, run)
    _check_partitions(expected, partitions)
    exists = solr.exists(run.name)
    if not exists:
        expected.rejected = {}
    counts = solr.counts(run.name) if exists else {}
    pending = expected.pending(counts)
    post, foreign = _plan(expected, counts, partitions)
    surplus = [p for p in post if counts.get(p, 0) > expected.count(p)]
    whole = not expected.untagged and set(pending) <= set(post)
    return {
        "run": run.name,
        "dry_run": True,
        "exists": exists,
        "partitions": run.partitions,
        "done": len(expected.statistics) - len(pending),
        "post": post,
        "delete": sorted([*surplus, *(p for p in foreign if p is not None)]),
        "documents": sum(expected.documents(p) for p in post),
        "untagged": expected.untagged,
        "alias": alias,
        "previous": solr.alias(alias),
        "publish": publication == "live" or (publication != "no" and whole),
    }


def _summary(expected: ExpectedCounts, counts: dict[int | None, int], post: list[int]) -> dict[str, Any]:
    left = expected.differences(counts)
    return {
        "run": expected.run.name,
        "partitions": expected.run.partitions,
        "posted": [p for p in post if p not in expected.failed],
        "done": len(expected.statistics) - len(expected.pending(counts)),
        "untagged": expected.untagged,
        "failed": [{"partition": p, "error": error} for p, error in expected.failed.items()],
        "documents": sum(counts.values()),
        "rejected": sum(expected.rejected.values()),
        "complete": not left and not expected.failed,
        "left": left,
    }


def _check_accepted(expected: ExpectedCounts, counts: dict[int | None, int]) -> None:
    """Raise `SolrError` where Solr rejected every document: then something else is wrong than single documents."""
    rejected = sum(expected.rejected.values())
    if rejected and not sum(counts.values()):
        name = expected.run.name
        raise SolrError(
            f"Solr rejects all {counted(rejected, 'document')} of {name!r} (the reasons are in the run's rejected/); if its "
            f"collection is of an older version, drop it with `tinytags retire {name}` and index the run again"
        )


def _open_collection(store: Store, solr: Solr, expected: ExpectedCounts, shards: int | None) -> None:
    """Create the run's collection unless it exists; again where Solr ended while it was created."""
    name = expected.run.name
    exists = solr.exists(name)
    if exists:
        try:
            solr.wait_for(name)
        except HalfCreatedError:
            note(f"collection {name!r} has no index, as Solr ended while it was created; creating it again")
            solr.delete(name)
            exists = False
    if not exists:
        for p in expected.rejected:  # a new collection has rejected nothing yet
            store.remove(layout.rejected(expected.run.folder, p))
        expected.rejected = {}
        solr.create(name, shards or 1, expected.run.configset)
        return
    there = len(solr.describe(name)["shards"])
    if shards and shards != there:
        raise TinyTagsError(
            f"{expected.run.what} is in Solr on {there} shards, not {shards}; drop it with `tinytags retire {name}` and index it "
            "again"
        )


def _check_fields(solr: Solr, run: DocumentSet) -> None:
    """Raise `TinyTagsError` unless a collection has the fields of documents, before one of them is posted."""
    there = solr.fields(run.name)
    for field in COLLECTION_FIELDS[run.configset]:
        defined = there.get(field.name)
        if defined is None or (defined["type"], defined["indexed"]) != (field.type, field.indexed):
            raise TinyTagsError(
                f"collection {run.name!r} of Solr at {solr.url} is of another version of TinyTags: its field {field.name!r} "
                f"{'is missing' if defined is None else 'is defined otherwise'}; drop it with `tinytags retire {run.name}` and "
                "index the run again"
            )
