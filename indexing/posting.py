"""Posting partitions: their documents go to Solr in large bodies, committed and counted group by group.

Nothing is deleted before its replacement is in the index: documents are overwritten by their ids, and what is left over is
deleted afterwards. So a redo never empties what people search, wherever it is killed, and any request may arrive late or
twice: bodies are the same bytes in every attempt, and deletes are of documents that the run doesn't have.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.wording import counted
from indexing.expected import (
    ExpectedCounts,
    TagsChangedError,
    document_id,
    name_partitions,
    read_rejected_ids,
    read_tags,
)
from indexing.solr import Solr
from indexing.solr_errors import BodyTooLargeError, RefusedError, SolrError
from storage import layout
from storage.store import Store

# 2 or 3 bodies of 4 to 8 MB in flight keep Solr busy; 64 MB ones halve the rate.
BODY_BYTES = 6_000_000
THREADS = 3
# What is committed and counted together: a commit costs a second or two, and this many documents some 15 s.
GROUP_DOCUMENTS = 1_000_000
# With more documents rejected than this, and fewer accepted, something else is wrong than single documents.
MOST_REJECTED = 1000


@dataclass
class BodySize:
    """How many bytes a body has at most: fewer after one was too large for a proxy before Solr. Shared by all threads."""

    most: int

    def lower(self, refused: int) -> None:
        """Halve the limit, as a body of ``refused`` bytes was too large."""
        self.most = min(self.most, max(refused // 2, 1))


# The number of documents posted, and (partition, line for `rejected/`) of those that Solr rejected.
Posted = tuple[int, list[tuple[int, bytes]]]


def post_partitions(
    store: Store,
    solr: Solr,
    expected: ExpectedCounts,
    post: list[int],
    foreign: list[int | None],
    threads: int,
    check_lease: Callable[[], None],
) -> None:
    """Post partitions, and once more those whose count is wrong afterwards; then delete the documents of ``foreign`` ones.

    ``foreign`` are partitions that the run doesn't have; they stay where a partition can't be posted. ``check_lease`` raises
    where another process may write instead of this one.
    """
    total = sum(map(expected.count, expected.statistics))
    documents = sum(expected.documents(p) for p in post)
    name = expected.run.name
    size = BodySize(BODY_BYTES)
    with Progress("index", total, "documents", done=max(total - documents, 0)) as progress:
        wrong = _round(store, solr, expected, post, threads, size, check_lease, progress.add)
        if wrong:
            wrong = _round(
                store, solr, expected, sorted(wrong), threads, size, check_lease, lambda count: None
            )
        if wrong:
            p, count = min(wrong.items())
            raise TinyTagsError(
                f"{name_partitions(sorted(wrong))} of {expected.run.what} with a wrong number of documents after posting twice (partition {p}: "
                f"{counted(count, 'document')} instead of {expected.count(p):,}); is another program writing to the collection?"
            )
        if foreign and not expected.failed:
            check_lease()
            solr.delete_partitions(name, foreign)
            solr.commit(name)
    store.remove_temporary(layout.rejected_folder(expected.run.folder))


def _round(
    store: Store,
    solr: Solr,
    expected: ExpectedCounts,
    partitions: list[int],
    threads: int,
    size: BodySize,
    check_lease: Callable[[], None],
    report: Callable[[int], None],
) -> dict[int, int]:
    """Post partitions group by group; return the counts of those that are wrong afterwards.

    The next group is posted while one is committed and counted.
    """
    wrong: dict[int, int] = {}
    with ThreadPoolExecutor(1) as committer:
        committing: Future[dict[int, int]] | None = None
        try:
            for group in _groups(expected, partitions):
                # The list of rejected documents of a partition that can't be posted again stays.
                group = _readable(store, expected, group, [p for p in group if p in expected.rejected])
                check_lease()
                for p in group:
                    # Before posting: with it, part of the documents could be counted as all of them.
                    if expected.rejected.pop(p, None) is not None:
                        store.remove(layout.rejected(expected.run.folder, p))
                posted = _post(store, solr, expected, group, threads, size, check_lease, report)
                if committing:
                    wrong |= committing.result()
                committing = committer.submit(_commit_and_count, store, solr, expected, posted, check_lease)
            return wrong | (committing.result() if committing else {})
        except BaseException:
            solr.stop_waiting()
            raise


def _groups(expected: ExpectedCounts, partitions: list[int]) -> Iterator[list[int]]:
    group: list[int] = []
    documents = 0
    for p in partitions:
        group.append(p)
        documents += expected.documents(p)
        if documents >= GROUP_DOCUMENTS:
            yield group
            group, documents = [], 0
    if group:
        yield group


def _readable(store: Store, expected: ExpectedCounts, group: list[int], doubtful: list[int]) -> list[int]:
    """Return the group without those of the ``doubtful`` partitions whose tags file can't be used."""
    for p in doubtful:
        try:
            read_tags(store, expected.run, expected.statistics[p])
        except TagsChangedError as error:
            expected.failed[p] = str(error)
    return [p for p in group if p not in expected.failed]


def _commit_and_count(
    store: Store,
    solr: Solr,
    expected: ExpectedCounts,
    partitions: list[int],
    check_lease: Callable[[], None],
) -> dict[int, int]:
    """Commit, delete what partitions hold too much, and return the counts that are wrong then."""
    name = expected.run.name
    solr.commit(name)
    if not partitions:
        return {}
    counts = solr.counts(name, partitions[0], partitions[-1])
    # All documents of the run are in the index now, so what a partition holds too much is its surplus.
    surplus = [p for p in partitions if counts.get(p, 0) > expected.count(p)]
    if surplus:
        for p in surplus:
            _delete_surplus(store, solr, expected, p, check_lease)
        solr.commit(name)
        counts = solr.counts(name, partitions[0], partitions[-1])
    return {p: counts.get(p, 0) for p in partitions if counts.get(p, 0) != expected.count(p)}


def _delete_surplus(
    store: Store, solr: Solr, expected: ExpectedCounts, p: int, check_lease: Callable[[], None]
) -> None:
    """Delete the documents in a partition that the run doesn't have, or of which Solr has rejected the run's version."""
    name = expected.run.name
    wanted = set(map(document_id, read_tags(store, expected.run, expected.statistics[p]).splitlines()))
    wanted.difference_update(read_rejected_ids(store, expected.run, p))
    for hits in solr.pages(name, f"partition:{p}", "id,_version_"):
        surplus = {hit["id"]: hit["_version_"] for hit in hits if hit["id"].encode() not in wanted}
        if surplus:
            check_lease()
            solr.delete_versions(name, surplus)


def _post(
    store: Store,
    solr: Solr,
    expected: ExpectedCounts,
    partitions: list[int],
    threads: int,
    size: BodySize,
    check_lease: Callable[[], None],
    report: Callable[[int], None],
) -> list[int]:
    """Post the documents of partitions, write those that Solr rejects into ``rejected/``, return the partitions that were read.

    This thread reads, checks and splits while ``threads`` bodies are in flight.
    """
    name = expected.run.name
    rejected: dict[int, list[bytes]] = {}
    with ThreadPoolExecutor(threads) as pool:
        in_flight: set[Future[Posted]] = set()

        def collect(done: Iterable[Future[Posted]]) -> None:
            for future in done:
                count, lines = future.result()
                report(count)
                for p, line in lines:
                    rejected.setdefault(p, []).append(line)

        try:
            for body in _bodies(store, expected, partitions, size):
                in_flight.add(pool.submit(_post_body, solr, name, body, size, check_lease))
                if len(in_flight) > threads:  # one more than are posted, so that no thread waits for the next
                    done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                    collect(done)
            collect(in_flight)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            solr.stop_waiting()
            raise
    check_lease()
    for p, lines in rejected.items():
        # Only after all the others are in: with fewer expected, part of them could be counted as all.
        store.write_lines(layout.rejected(expected.run.folder, p), b"".join(lines))
        expected.rejected[p] = len(lines)
    return [p for p in partitions if p not in expected.failed]


def _bodies(
    store: Store, expected: ExpectedCounts, partitions: list[int], limit: BodySize
) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the documents of partitions as bodies of about ``limit``: pieces of tags files, each with its partition."""
    body: list[tuple[int, bytes]] = []
    size = 0
    for p in partitions:
        try:
            data = read_tags(store, expected.run, expected.statistics[p])
        except TagsChangedError as error:
            expected.failed[p] = str(error)
            continue
        start = 0
        while start < len(data):
            most = limit.most
            end = start + max(most - size, 1)
            end = data.index(b"\n", end) + 1 if end < len(data) else len(data)
            body.append((p, data[start:end]))
            size += end - start
            start = end
            if size >= most:
                yield body
                body, size = [], 0
    if body:
        yield body


def _post_body(
    solr: Solr,
    collection: str,
    body: list[tuple[int, bytes]],
    size: BodySize,
    check_lease: Callable[[], None],
) -> Posted:
    """Post a body; return how many documents it has, and (partition, line for ``rejected/``) of those rejected."""
    lines = b"".join(piece for _, piece in body)
    count = lines.count(b"\n")
    check_lease()
    try:
        # A line holds no other newline, as JSON writes those within strings as \n: no need to parse anything.
        solr.update(collection, b"[" + lines[:-1].replace(b"\n", b",") + b"]")
    except (RefusedError, BodyTooLargeError) as error:
        if isinstance(error, BodyTooLargeError):
            size.lower(len(lines))
        documents = [(p, line) for p, piece in body for line in piece[:-1].split(b"\n")]
        return count, _bisect_rejected(solr, collection, documents, size, check_lease)
    return count, []


def _bisect_rejected(
    solr: Solr,
    collection: str,
    documents: list[tuple[int, bytes]],
    size: BodySize,
    check_lease: Callable[[], None],
) -> list[tuple[int, bytes]]:
    """Post documents of which Solr rejects some, or which are too large a body, halving until each of those is alone; return them."""
    rejected: list[tuple[int, bytes]] = []
    accepted = 0
    waiting = [documents]
    while waiting:
        part = waiting.pop()
        check_lease()
        body = b"[" + b",".join(line for _, line in part) + b"]"
        try:
            solr.update(collection, body)
            accepted += len(part)
        except (RefusedError, BodyTooLargeError) as error:
            if isinstance(error, BodyTooLargeError):
                size.lower(len(body))
            if len(part) > 1:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            p, line = part[0]
            rejected.append((p, _rejected_line(error.reason, line)))
            if len(rejected) > max(accepted, MOST_REJECTED):
                raise SolrError(
                    f"Solr rejects nearly every document of {collection!r}: {error.reason[:300]}; if its collection is of an "
                    f"older version, drop it with `tinytags retire {collection}` and index the run again"
                ) from None
    return rejected


def _rejected_line(reason: str, line: bytes) -> bytes:
    try:
        document = json.loads(line)
    except ValueError:
        document = line.decode(errors="replace")
    return json.dumps({"reason": reason, "document": document}, ensure_ascii=False).encode() + b"\n"
