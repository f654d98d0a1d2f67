"""Verification: a run's files and its index compared with what they should hold, image by image and document by document."""

import contextlib
import json
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from conf.errors import LeaseHeldError, TinyTagsError
from conf.progress import Progress
from conf.wording import counted, listed
from indexing import nearness
from indexing.expected import (
    ExpectedCounts,
    TagsChangedError,
    document_id,
    read_expected,
    read_rejected_ids,
    read_tags,
)
from indexing.fields import HIT_NAMES
from indexing.findings import Findings, recording_unreadable
from indexing.index import PATIENCE, repost
from indexing.solr import Solr
from indexing.verify_features import check_features, forget_features
from ingest.bad import read_bad
from ingest.corpus import Corpus, done_partitions, open_corpus
from ingest.measure import check_statistics, measure_partition, restore_statistics
from storage import layout
from storage.checked_json import has_checksum
from storage.documents import DocumentSet
from storage.lease import holder, lease
from storage.runs import Run, open_run, read_statistics
from storage.store import (
    DamagedFileError,
    FileMissingError,
    FileUnavailableError,
    Store,
    StoreError,
    StoreUnavailableError,
)

THREADS = 2
NAMED = 3  # of the documents that differ
# A field without a value, which Solr doesn't keep. In a string of JSON no quotation mark stands without a backslash.
_NULL = re.compile(rb',"[^"\\]*":null')


def verify_run(store: Store, run_name: str, solr: Solr | None, repair: bool = False) -> dict[str, Any]:
    """Check everything that a run consists of, with ``repair`` repair what can be repaired; return the findings.

    For each partition: its images can be read, page checksums checked, and are as many as the corpus' manifest says;
    images = tagged + dropped + bad; the tags file has the hash and the lines that were tagged; the index holds exactly
    its documents, field by field, less those in ``rejected/``. The index holds nothing else. Counts alone are not
    enough, since a missing document and an extra one balance: all documents are fetched and compared, which is still
    faster than indexing them; of a descriptor, its nearness to a constant one. Without ``solr`` the index is not checked.

    ``problems`` lists {kind, partition, what, mended}, the kinds being:
    - ``corpus``: the corpus doesn't exist, or isn't the one that was tagged;
    - ``images``: a partition's Parquet file is missing or corrupt. Repair marks it for `ingest` (``needs_ingest``);
    - ``corpus-statistics``: the statistics of a partition of the corpus, or the list of its bad records, are damaged. Repair
      writes them again from its images;
    - ``features``: features of a partition that are kept are missing or have changed. Repair removes their marker: what
      needs them computes them from the images, and `tinytags features` keeps them again;
    - ``untagged``: a partition that isn't tagged yet, or failed (``needs_tagging``);
    - ``statistics``, ``tags``: a count that doesn't add up, a tags file that has changed or is missing. Repair marks
      the partition for `tag` (``needs_tagging``);
    - ``unreadable``: a file of the partition that the store can't read now; repair does nothing, as it may be readable later;
    - ``rejected``: a document in ``rejected/`` that was never tagged; repair posts the partition again;
    - ``index``: documents missing, changed or extra, as searches see the index now: what a killed indexer posted and didn't
      commit is missing. Repair posts the partition again and deletes what is extra then;
    - ``collection``: the run is not in Solr at all. Repair indexes it, without publishing it.

    Repair also adds checksums to files that an earlier version wrote without.

    ``ok`` is true when there is no problem left. Raises `LeaseHeldError` while the run is being indexed,
    or, with ``repair``, while its corpus or its tags are being written.
    """
    run = open_run(store, run_name)
    if solr:
        check_idle(store, run)
    findings = Findings()
    counts = None
    if solr:
        exists = solr.exists(run.name)
        solr = solr.patient(PATIENCE)
        if exists:
            solr.wait_for(run.name)
            counts = solr.counts(run.name)
    try:
        with Progress("verify", run.partitions, "partitions") as progress:
            _check_all(store, run, solr, counts, findings, progress)
        if repair:
            _repair(store, run, solr, findings)
    finally:
        if solr:
            solr.stop_waiting()
    return {
        "run": run.name,
        "partitions": run.partitions,
        **findings.sums,
        "problems": findings.problems,
        "ok": all(problem["mended"] for problem in findings.problems),
        "needs_ingest": findings.partitions("images"),
        "needs_tagging": findings.partitions("untagged", "statistics", "tags"),
    }


def check_idle(store: Store, documents: DocumentSet) -> None:
    """Raise `LeaseHeldError` while a set of documents is being indexed."""
    busy = holder(store, layout.index_lease(documents.folder))
    if busy:
        raise LeaseHeldError(
            f"the index of {documents.what} is being written by {busy.user} on {busy.host} (process {busy.pid}) "
            f"since {busy.since}; verify it afterwards"
        )


def _check_all(
    store: Store,
    run: Run,
    solr: Solr | None,
    counts: dict[int | None, int] | None,
    findings: Findings,
    progress: Progress,
) -> None:
    corpus = _check_corpus(store, run, findings)
    ingested = set(done_partitions(store, corpus)) if corpus else set()
    features = store.list(layout.corpus_features_folder(corpus.name)) if corpus else []
    if solr and counts is None:
        findings.add(
            "collection",
            None,
            f"run {run.name!r} is not in Solr at {solr.url}; index it with `tinytags index {run.name}`",
        )

    def check(p: int) -> Findings:
        own = Findings()
        if corpus and p < corpus.partitions:
            with recording_unreadable(p, own):
                _check_images(store, corpus, p, p in ingested, own)
                check_features(store, corpus, features, p, own)
        with recording_unreadable(p, own):
            _check_tags(store, run, corpus, p, own, solr if counts is not None else None)
        return own

    with ThreadPoolExecutor(THREADS) as pool:
        for own in pool.map(check, range(run.partitions)):
            findings.problems += own.problems
            findings.sums = {key: value + own.sums[key] for key, value in findings.sums.items()}
            progress.add(1)
    check_foreign(run, counts or {}, findings, "the run does")


def check_foreign(
    documents: DocumentSet, counts: dict[int | None, int], findings: Findings, owner_does: str
) -> None:
    """Find the documents in the index of partitions that a set of documents does not have."""
    for p in ExpectedCounts(documents, {}, {}).foreign(counts):
        findings.sums["documents"] += counts[p]
        which = "without a partition" if p is None else f"of partition {p}, which {owner_does} not have"
        findings.add("index", p, f"{counted(counts[p], 'document')} {which}")


def _check_corpus(store: Store, run: Run, findings: Findings) -> Corpus | None:
    try:
        corpus = open_corpus(store, run.corpus)
    except TinyTagsError as error:
        findings.add("corpus", None, str(error))
        return None
    if (corpus.hash, corpus.partitions, corpus.images) != (run.corpus_hash, run.partitions, run.images):
        findings.add(
            "corpus",
            None,
            f"corpus {corpus.name!r} is not the one that was tagged ({corpus.hash[:8]}, {corpus.images:,} images; "
            f"tagged was {run.corpus_hash[:8]}, {run.images:,} images); `tinytags tag` makes a run of the new one",
        )
        return None
    return corpus


def _check_images(store: Store, corpus: Corpus, p: int, ingested: bool, findings: Findings) -> None:
    if not ingested:
        findings.add(
            "images",
            p,
            f"partition {p} of corpus {corpus.name!r} is not ingested yet; ingest it with `tinytags ingest`",
        )
        return
    try:
        measured = measure_partition(store, corpus, p)
    except (FileUnavailableError, StoreUnavailableError):
        raise
    except StoreError as error:
        findings.add("images", p, str(error))
        return
    if wrong := check_statistics(store, corpus, measured):
        findings.add("corpus-statistics", p, wrong)


def _check_tags(
    store: Store, run: Run, corpus: Corpus | None, p: int, findings: Findings, solr: Solr | None
) -> None:
    """Check a partition's statistics and tags file, and compare its documents with those in the index."""
    if not store.exists(layout.run_statistics(run.name, p)):
        reason = "is not tagged yet"
        with contextlib.suppress(FileMissingError, DamagedFileError):
            reason = f"could not be tagged: {store.read_json(layout.run_failed(run.name, p)).get('error')}"
        findings.add("untagged", p, f"partition {p} {reason}; tag it with `tinytags tag`")
        return
    try:
        statistics = read_statistics(store, run, p)
        images, tagged, dropped, bad = (statistics[key] for key in ("images", "tagged", "dropped", "bad"))
    except (FileUnavailableError, StoreUnavailableError):
        raise
    except StoreError as error:
        findings.add("statistics", p, str(error))
        return
    for key in ("images", "tagged", "dropped", "bad"):
        findings.sums[key] += statistics[key]
    if images != tagged + dropped + bad:
        findings.add(
            "statistics",
            p,
            f"{images:,} images are not {tagged:,} tagged + {dropped:,} dropped + {bad:,} bad",
        )
    if corpus and images != (there := corpus.rows(p)[1] - corpus.rows(p)[0]):
        findings.add("statistics", p, f"{images:,} images were tagged of {there:,} in the corpus")
    with contextlib.suppress(DamagedFileError):  # a finding about the corpus
        if corpus and bad != (listed := len(read_bad(store, corpus.name, p))):
            findings.add("statistics", p, f"{bad:,} bad images were left out of {listed:,} in the corpus")
    try:
        data = read_tags(store, run, statistics)
    except TagsChangedError as error:
        findings.add("tags", p, str(error))
        return
    documents = {document_id(line): line for line in data.splitlines()}
    _leave_out_rejected(store, run, p, documents, findings)
    if solr:
        check_index(solr, run.name, p, documents, findings, HIT_NAMES, bool(run.descriptor))


def _leave_out_rejected(
    store: Store, run: Run, p: int, documents: dict[bytes, bytes], findings: Findings
) -> None:
    try:
        rejected = read_rejected_ids(store, run, p)
    except DamagedFileError as error:
        findings.add("rejected", p, str(error))
        return
    for key in rejected:
        findings.sums["rejected"] += 1
        if documents.pop(key, None) is None:
            findings.add(
                "rejected",
                p,
                f"{store.url(layout.run_rejected(run.name, p))}: document {key.decode()!r} is not of this run",
            )


def check_index(
    solr: Solr,
    collection: str,
    p: int,
    documents: dict[bytes, bytes],
    findings: Findings,
    names: str,
    described: bool = False,
) -> None:
    """Compare a partition's documents, lines by id, with those in the index; empties ``documents``."""
    extra, changed = [], []
    # Listing the fields takes a third of the time of fl=*.
    if described:
        names += f",{nearness.field()}"
    for hits in solr.pages(collection, f"partition:{p}", names):
        findings.sums["documents"] += len(hits)
        lines = []
        for hit in hits:
            line = documents.pop(hit["id"].encode(), None)
            lines.append(line or b"null")
            if line is None:
                extra.append(hit["id"])
        expected = json.loads(_NULL.sub(b"", b"[" + b",".join(lines) + b"]"))
        if described:
            nearness.replace_descriptors(expected)
        for hit, document in zip(hits, expected, strict=True):
            if document is not None and hit != document and _as_solr(hit) != _as_solr(document):
                changed.append(hit["id"])
    missing = [key.decode(errors="replace") for key in documents]
    for ids, what in (
        (missing, "missing from the index"),
        (extra, "extra in the index"),
        (changed, "changed in the index"),
    ):
        if ids:
            findings.add("index", p, f"{counted(len(ids), 'document')} {what}: {listed(sorted(ids), NAMED)}")


def _as_solr(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with its floats as Solr stores them, in 32 bits."""
    return {
        key: struct.unpack("f", struct.pack("f", value)) if isinstance(value, float) else value
        for key, value in document.items()
    }


# Repair


def _repair(store: Store, run: Run, solr: Solr | None, findings: Findings) -> None:
    """Repair the index, and mark partitions for ingest and tagging; set ``mended`` of the problems that are repaired."""
    corpus_files, run_files = layout.corpus_folder(run.corpus), layout.run_folder(run.name)
    if findings.partitions("features"):
        forget_features(store, open_corpus(store, run.corpus), findings)
    broken = findings.partitions("images")
    damaged = [problem for problem in findings.problems if problem["kind"] == "corpus-statistics"]
    if broken or damaged or _lacks_checksums(store, corpus_files):
        with lease(store, layout.corpus_lease(run.corpus), f"corpus {run.corpus!r}"):
            for p in broken:
                store.remove(layout.corpus_statistics(run.corpus, p))
            for problem in damaged:
                assert problem["partition"] is not None
                restore_statistics(store, open_corpus(store, run.corpus), problem["partition"])
                problem["mended"] = True
            _add_checksums(store, corpus_files)
    stale, unreadable = findings.partitions("statistics", "tags"), findings.partitions("unreadable")
    if stale or _lacks_checksums(store, run_files):
        with lease(store, layout.run_lease(run.name), f"run {run.name!r}"):
            for p in stale:
                store.remove(layout.run_statistics(run.name, p))
            _add_checksums(store, run_files)
    with contextlib.suppress(FileMissingError):
        store.add_checksum(layout.model_card(run.model))
    wrong = [
        problem for problem in findings.problems if problem["kind"] in ("collection", "index", "rejected")
    ]
    wrong = [problem for problem in wrong if problem["partition"] not in stale]
    if not solr or not wrong:
        return
    lost = any(problem["kind"] == "collection" for problem in wrong)
    partitions = range(run.partitions) if lost else {problem["partition"] for problem in wrong}
    unusable = repost(store, run, solr, [p for p in partitions if p not in stale and p not in unreadable])
    after = Findings()
    for number in partitions:
        if number is not None and 0 <= number < run.partitions and number not in unreadable:
            with recording_unreadable(number, after):
                _check_tags(store, run, None, number, after, solr)
    still = after.partitions("index", "rejected")
    for problem in wrong:
        problem["mended"] = problem["partition"] not in still and problem["partition"] not in unusable
    findings.sums["documents"] = sum(solr.counts(run.name).values())
    findings.sums["rejected"] = sum(read_expected(store, run).rejected.values())


def _lacks_checksums(store: Store, folder: str) -> bool:
    """Return whether a corpus or run is from version 0.1, which wrote no checksums. The manifest gets one last."""
    try:
        return not has_checksum(store.read_bytes(f"{folder}/{layout.MANIFEST}"))
    except FileMissingError:
        return False


def _add_checksums(store: Store, folder: str) -> None:
    """Add checksums to the JSON files of a corpus or run of version 0.1; for the holder of the lease."""
    if not _lacks_checksums(store, folder):
        return
    paths = [
        f"{folder}/{part}/{name}"
        for part in (layout.STATISTICS, layout.FAILED, layout.REJECTED, layout.BAD)
        for name in store.list(f"{folder}/{part}")
        if name.endswith((".json", ".jsonl"))
    ]
    with ThreadPoolExecutor(8) as pool:  # in HDFS each is a request or two
        list(pool.map(store.add_checksum, paths))
    store.add_checksum(f"{folder}/{layout.MANIFEST}")
