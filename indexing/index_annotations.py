"""Indexing and verifying annotations: images and relations are two sets of documents, each with a collection and an alias."""

from typing import Any

from conf.progress import Progress
from indexing.annotation_fields import ANNOTATION_NAMES
from indexing.expected import TagsChangedError, document_id, read_expected, read_rejected_ids, read_tags
from indexing.index import index_documents, repost
from indexing.solr import Solr
from indexing.verify import Findings, check_index
from ingest.annotations.manifest import Annotations, DocumentsOf, open_annotations
from storage import layout
from storage.store import Store, StoreError


def index_annotations(store: Store, name: str, solr: Solr) -> dict[str, Any]:
    """Bring the images and the relations into their collections, and move each alias when all of its set is in.

    Raises as `indexing.index.index_run` does.
    """
    parts = {
        part.kind: index_documents(store, part, solr, part.alias)
        for part in open_annotations(store, name).sets
    }
    return {
        "annotations": name,
        "documents": sum(part["documents"] for part in parts.values()),
        "rejected": sum(part["rejected"] for part in parts.values()),
        "complete": all(part["complete"] for part in parts.values()),
        "left": [line for part in parts.values() for line in part["left"]],
        "failed": [one for part in parts.values() for one in part["failed"]],
        "seconds": round(sum(part["seconds"] for part in parts.values()), 3),
        "images": parts["images"],
        "relations": parts["relations"],
    }


def verify_annotations(store: Store, name: str, solr: Solr | None, repair: bool = False) -> dict[str, Any]:
    """Check that every range and partition is done, every file as it was written, and the index document by document.

    Returns what `indexing.verify.verify_run` does; the kinds of problems are ``rows`` (a range isn't read, or its rows in
    Parquet aren't as many as its statistics say), ``documents`` (a partition isn't written, or has changed), ``collection``
    and ``index``. Repair posts again what differs in the index; the rest is marked for `tinytags annotations` to do again.
    """
    annotations = open_annotations(store, name)
    findings = Findings(dict.fromkeys(("rows", "bad", "documents", "rejected"), 0))
    with Progress("verify", annotations.ranges + 2 * annotations.partitions, "partitions") as progress:
        for number in range(annotations.ranges):
            _check_rows(store, annotations, number, findings)
            progress.add(1)
        for part in annotations.sets:
            there = solr is not None and solr.exists(part.name)
            if solr and not there:
                findings.add("collection", None, f"{part.what} are not in Solr at {solr.url}")
            if solr and there:
                for p in read_expected(store, part).foreign(solr.counts(part.name)):
                    findings.add("index", p, f"documents of partition {p}, which {part.what} don't have")
            own = Findings(findings.sums)
            for p in range(part.partitions):
                _check_documents(store, part, p, own, solr if there else None)
                progress.add(1)
            if repair:
                _repair(store, annotations, part, solr if there else None, own)
            findings.problems += own.problems
    if repair:
        for number in findings.partitions("rows"):
            store.remove(layout.statistics(layout.annotations_rows_folder(name), number))
    return {
        "annotations": name,
        "partitions": annotations.partitions,
        **findings.sums,
        "problems": findings.problems,
        "ok": all(problem["mended"] for problem in findings.problems),
    }


def _check_rows(store: Store, annotations: Annotations, number: int, findings: Findings) -> None:
    import pyarrow
    import pyarrow.parquet

    path = layout.statistics(layout.annotations_rows_folder(annotations.name), number)
    kind = annotations.range(number)[0].kind
    try:
        statistics = store.read_json(path)
        with store.open_ranged(layout.annotations_rows(annotations.name, kind, number)) as file:
            rows = pyarrow.parquet.read_table(file, page_checksum_verification=True).num_rows
    except (StoreError, pyarrow.ArrowException, OSError) as error:
        findings.add("rows", number, f"range {number}: {str(error).splitlines()[0]}")
        return
    bad = store.read_bytes(layout.annotations_bad(annotations.name, number)).count(b"\n")
    findings.sums["rows"] += rows
    findings.sums["bad"] += bad
    if (rows, bad) != (statistics["rows"], statistics["bad"]):
        findings.add(
            "rows",
            number,
            f"range {number}: {rows:,} rows and {bad:,} bad ones, not {statistics['rows']:,} and {statistics['bad']:,}",
        )


def _check_documents(store: Store, part: DocumentsOf, p: int, findings: Findings, solr: Solr | None) -> None:
    try:
        statistics = store.read_json(layout.statistics(part.folder, p))
        lines = read_tags(store, part, statistics).splitlines()
        rejected = read_rejected_ids(store, part, p)
    except (StoreError, TagsChangedError, KeyError) as error:
        findings.add("documents", p, f"partition {p} of {part.what}: {error}")
        return
    documents = {document_id(line): line for line in lines}
    for key in rejected:
        documents.pop(key, None)
    findings.sums["rejected"] += len(rejected)
    if solr:
        check_index(solr, part.name, p, documents, findings, ANNOTATION_NAMES)


def _repair(
    store: Store, annotations: Annotations, part: DocumentsOf, solr: Solr | None, findings: Findings
) -> None:
    """Post again the partitions that differ in the index; mark those whose files differ, images included."""
    for p in findings.partitions("documents"):
        for one in annotations.sets:
            store.remove(layout.statistics(one.folder, p))
    wrong = findings.partitions("index")
    if not solr or not wrong:
        return
    repost(store, part, solr, list(wrong))
    after = Findings(dict.fromkeys(findings.sums, 0))
    for p in wrong:
        _check_documents(store, part, p, after, solr)
    for problem in findings.problems:
        if problem["kind"] == "index":
            problem["mended"] = problem["partition"] not in after.partitions("index", "documents")
