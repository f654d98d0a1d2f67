"""Indexing and verifying annotations: images and relations are two sets of documents, each with a collection and an alias."""

import time
from typing import Any

from conf.progress import Progress
from indexing.annotation_counts import check_counts, write_counts
from indexing.annotation_fields import ANNOTATION_NAMES
from indexing.expected import document_id, read_rejected_ids, read_tags
from indexing.findings import Findings, recording_unreadable
from indexing.index import index_documents, repost
from indexing.solr import Solr
from indexing.verify import check_foreign, check_idle, check_index
from ingest.annotations.manifest import Annotations, DocumentsOf, open_annotations
from ingest.annotations.rows import read_range_rows
from storage import layout
from storage.documents import read_statistics
from storage.lease import lease
from storage.store import FileUnavailableError, Store, StoreError, StoreUnavailableError


def index_annotations(store: Store, name: str, solr: Solr) -> dict[str, Any]:
    """Index the images and the relations in their collections, and move each alias when its set is complete; then count.

    Raises as `indexing.index.index_run` does.
    """
    parts = {
        part.kind: index_documents(store, part, solr, part.alias)
        for part in open_annotations(store, name).sets
    }
    complete = all(part["complete"] for part in parts.values())
    began = time.monotonic()
    counted = complete and write_counts(store, name, solr)
    return {
        "annotations": name,
        "documents": sum(part["documents"] for part in parts.values()),
        "rejected": sum(part["rejected"] for part in parts.values()),
        "complete": complete,
        "left": [line for part in parts.values() for line in part["left"]],
        "failed": [one for part in parts.values() for one in part["failed"]],
        "seconds": round(sum(part["seconds"] for part in parts.values()), 3),
        "counted": counted,
        "count_seconds": round(time.monotonic() - began, 3),
        "images": parts["images"],
        "relations": parts["relations"],
    }


def verify_annotations(store: Store, name: str, solr: Solr | None, repair: bool = False) -> dict[str, Any]:
    """Check that every range and partition is done, every file as it was written, and the index document by document.

    Returns what `indexing.verify.verify_run` does; the kinds of problems are ``rows`` (a range isn't read, or its rows in
    Parquet aren't as many as its statistics say), ``documents`` (a partition isn't written, or has changed), ``unreadable``
    (a file that the store can't read now), ``collection``, ``index`` and ``counts``. Repair posts again what differs in the index, and
    deletes what is extra; the rest is marked for `tinytags annotations` to do again.

    Raises `LeaseHeldError` while the annotations are being indexed, or, with ``repair``, written.
    """
    annotations = open_annotations(store, name)
    if solr:
        for part in annotations.sets:
            check_idle(store, part)
    findings = Findings(dict.fromkeys(("rows", "bad", "documents", "rejected"), 0))
    by_part = {part: Findings(findings.sums) for part in annotations.sets}
    indexed = {part: solr if solr and solr.exists(part.name) else None for part in annotations.sets}
    with Progress("verify", annotations.ranges + 2 * annotations.partitions, "partitions") as progress:
        for number in range(annotations.ranges):
            with recording_unreadable(number, findings):
                _check_rows(store, annotations, number, findings)
            progress.add(1)
        for part, own in by_part.items():
            if solr and not indexed[part]:
                findings.add("collection", None, f"{part.what} are not in Solr at {solr.url}")
            for p in range(part.partitions):
                _check_documents(store, part, p, own, indexed[part])
                progress.add(1)
            _check_foreign(part, own, indexed[part])
    published = solr and all(solr.alias(part.alias) == [part.name] for part in by_part)
    if solr and published and (wrong := check_counts(store, name, solr)):
        findings.add("counts", None, wrong)
    if repair:
        _mark(
            store,
            annotations,
            findings.partitions("rows"),
            [own.partitions("documents") for own in by_part.values()],
        )
        for part, own in by_part.items():
            if part_solr := indexed[part]:
                _repair_index(store, part, part_solr, own)
        if solr and published:
            _repair_counts(store, name, solr, findings)
    findings.problems += [problem for own in by_part.values() for problem in own.problems]
    return {
        "annotations": name,
        "partitions": annotations.partitions,
        **findings.sums,
        "problems": findings.problems,
        "ok": all(problem["mended"] for problem in findings.problems),
    }


def _repair_counts(store: Store, name: str, solr: Solr, findings: Findings) -> None:
    """Count again what is wrong, or what isn't of the index any more as that was repaired."""
    wrong = [problem for problem in findings.problems if problem["kind"] == "counts"]
    if wrong:
        store.remove(layout.annotations_counts(name))
    written = write_counts(store, name, solr)
    for problem in wrong:
        problem["mended"] = written


def _check_rows(store: Store, annotations: Annotations, number: int, findings: Findings) -> None:
    try:
        statistics = store.read_json(
            layout.statistics(layout.annotations_rows_folder(annotations.name), number)
        )
        rows = read_range_rows(store, annotations, number).num_rows
        bad = store.read_bytes(layout.annotations_bad(annotations.name, number)).count(b"\n")
    except (FileUnavailableError, StoreUnavailableError):
        raise
    except StoreError as error:
        findings.add("rows", number, f"range {number}: {error}")
        return
    findings.sums["rows"] += rows
    findings.sums["bad"] += bad
    if (rows, bad) != (statistics["rows"], statistics["bad"]):
        findings.add(
            "rows",
            number,
            f"range {number}: {rows:,} rows and {bad:,} bad ones, not {statistics['rows']:,} and {statistics['bad']:,}",
        )


def _check_documents(store: Store, part: DocumentsOf, p: int, findings: Findings, solr: Solr | None) -> None:
    with recording_unreadable(p, findings):
        try:
            lines = read_tags(store, part, read_statistics(store, part, p)).splitlines()
            rejected = read_rejected_ids(store, part, p)
        except (FileUnavailableError, StoreUnavailableError):
            raise
        except StoreError as error:
            findings.add("documents", p, f"partition {p} of {part.what}: {error}")
            return
        documents = {document_id(line): line for line in lines}
        for key in rejected:
            documents.pop(key, None)
        findings.sums["rejected"] += len(rejected)
        if solr:
            check_index(solr, part.name, p, documents, findings, ANNOTATION_NAMES)


def _check_foreign(part: DocumentsOf, findings: Findings, solr: Solr | None) -> None:
    if solr:
        check_foreign(part, solr.counts(part.name), findings, f"{part.what} do")


def _mark(store: Store, annotations: Annotations, ranges: list[int], partitions: list[list[int]]) -> None:
    """Mark ranges to be read again, and partitions to be written again, both images and relations."""
    wrong = sorted({p for one in partitions for p in one})
    if not ranges and not wrong:
        return
    with lease(store, layout.annotations_lease(annotations.name), f"annotations {annotations.name!r}"):
        for number in ranges:
            store.remove(layout.statistics(layout.annotations_rows_folder(annotations.name), number))
        for p in wrong:
            for part in annotations.sets:
                store.remove(layout.statistics(part.folder, p))


def _repair_index(store: Store, part: DocumentsOf, solr: Solr, findings: Findings) -> None:
    """Post again the partitions that differ in the index, and delete the documents of others."""
    wrong = [problem for problem in findings.problems if problem["kind"] == "index"]
    if not wrong:
        return
    partitions = {problem["partition"] for problem in wrong}
    repost(store, part, solr, list(partitions))
    after = Findings(dict.fromkeys(findings.sums, 0))
    for p in partitions:
        if p is not None and 0 <= p < part.partitions:
            _check_documents(store, part, p, after, solr)
    _check_foreign(part, after, solr)
    left = {problem["partition"] for problem in after.problems}
    for problem in wrong:
        problem["mended"] = problem["partition"] not in left
