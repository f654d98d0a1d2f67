"""Posting partitions: their documents go to Solr in large bodies, committed and counted group by group."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.wording import counted
from indexing.expected import ExpectedCounts, TagsChangedError, name_partitions, read_tags
from indexing.solr import RefusedError, Solr, SolrError
from storage import layout
from storage.store import Store

# 2 or 3 bodies of 4 to 8 MB in flight keep Solr busy; 64 MB ones halve the rate.
BODY_BYTES = 6_000_000
THREADS = 3
# What is committed and counted together: a commit costs a second or two, and this many documents some 15 s.
GROUP_DOCUMENTS = 1_000_000
# With more documents rejected than this, and fewer accepted, something else is wrong than single documents.
MOST_REJECTED = 1000

# The number of documents posted, and (partition, line for `rejected/`) of those that Solr rejected.
Posted = tuple[int, list[tuple[int, bytes]]]


def post_partitions(
    store: Store, solr: Solr, expected: ExpectedCounts, post: list[int], delete: set[int | None], threads: int
) -> None:
    """Post partitions; delete and post once more those whose count is wrong afterwards."""
    total = sum(map(expected.count, expected.statistics))
    documents = sum(expected.statistics[p]["tagged"] for p in post)
    name = expected.run.name
    with Progress("index", total, "documents", done=max(total - documents, 0)) as progress:
        foreign = delete - set(post)
        if foreign:
            solr.delete_partitions(name, foreign)
            solr.commit(name)
        wrong = _round(store, solr, expected, post, delete, threads, progress.add)
        if wrong:
            wrong = _round(store, solr, expected, sorted(wrong), set(wrong), threads, lambda count: None)
        if wrong:
            p, count = min(wrong.items())
            raise TinyTagsError(
                f"{name_partitions(sorted(wrong))} of run {name!r} with a wrong number of documents after posting twice (partition {p}: "
                f"{counted(count, 'document')} instead of {expected.count(p):,}); is somebody else writing to the collection?"
            )


def _round(
    store: Store,
    solr: Solr,
    expected: ExpectedCounts,
    partitions: list[int],
    delete: set[int | None],
    threads: int,
    report: Callable[[int], None],
) -> dict[int, int]:
    """Post partitions group by group; return the counts of those that are wrong afterwards.

    The next group is posted while one is committed and counted.
    """
    name = expected.run.name
    wrong: dict[int, int] = {}
    with ThreadPoolExecutor(1) as committer:
        committing: Future[dict[int, int]] | None = None
        try:
            for group in _groups(expected, partitions):
                # Nothing is deleted that can't be posted again.
                group = _readable(
                    store, expected, group, [p for p in group if p in delete or p in expected.rejected]
                )
                leaving = delete.intersection(group)
                if leaving and committing:  # a commit now would show the gap between deleting and posting
                    wrong |= committing.result()
                    committing = None
                for p in group:
                    # Before posting: with it, part of the documents could be counted as all of them.
                    if expected.rejected.pop(p, 0):
                        store.remove(layout.run_rejected(name, p))
                solr.delete_partitions(name, leaving)
                posted = _post(store, solr, expected, group, threads, report)
                if committing:
                    wrong |= committing.result()
                committing = committer.submit(_commit_and_count, solr, expected, posted)
            return wrong | (committing.result() if committing else {})
        except BaseException:
            solr.stop_waiting()
            raise


def _groups(expected: ExpectedCounts, partitions: list[int]) -> Iterator[list[int]]:
    group: list[int] = []
    documents = 0
    for p in partitions:
        group.append(p)
        documents += expected.statistics[p]["tagged"]
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


def _commit_and_count(solr: Solr, expected: ExpectedCounts, partitions: list[int]) -> dict[int, int]:
    """Commit, count, and return the counts that are wrong."""
    solr.commit(expected.run.name)
    if not partitions:
        return {}
    counts = solr.counts(expected.run.name, partitions[0], partitions[-1])
    return {p: counts.get(p, 0) for p in partitions if counts.get(p, 0) != expected.count(p)}


def _post(
    store: Store,
    solr: Solr,
    expected: ExpectedCounts,
    partitions: list[int],
    threads: int,
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
            for body in _bodies(store, expected, partitions):
                in_flight.add(pool.submit(_post_body, solr, name, body))
                if len(in_flight) > threads:  # one more than are posted, so that no thread waits for the next
                    done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                    collect(done)
            collect(in_flight)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            solr.stop_waiting()
            raise
    for p, lines in rejected.items():
        # Only after all the others are in: with fewer expected, part of them could be counted as all.
        store.write_bytes(layout.run_rejected(name, p), b"".join(lines))
        expected.rejected[p] = len(lines)
    return [p for p in partitions if p not in expected.failed]


def _bodies(
    store: Store, expected: ExpectedCounts, partitions: list[int]
) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the documents of partitions as bodies of about 6 MB: pieces of tags files, each with its partition."""
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
            end = start + BODY_BYTES - size
            end = data.index(b"\n", end) + 1 if end < len(data) else len(data)
            body.append((p, data[start:end]))
            size += end - start
            start = end
            if size >= BODY_BYTES:
                yield body
                body, size = [], 0
    if body:
        yield body


def _post_body(solr: Solr, collection: str, body: list[tuple[int, bytes]]) -> Posted:
    """Post a body; return how many documents it has, and (partition, line for ``rejected/``) of those rejected."""
    lines = b"".join(piece for _, piece in body)
    count = lines.count(b"\n")
    try:
        # A line holds no other newline, as JSON writes those within strings as \n: no need to parse anything.
        solr.update(collection, b"[" + lines[:-1].replace(b"\n", b",") + b"]")
    except RefusedError:
        documents = [(p, line) for p, piece in body for line in piece[:-1].split(b"\n")]
        return count, _bisect_rejected(solr, collection, documents)
    return count, []


def _bisect_rejected(
    solr: Solr, collection: str, documents: list[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    """Post documents of which Solr rejects some, halving until each of those is alone; return them."""
    rejected: list[tuple[int, bytes]] = []
    accepted = 0
    waiting = [documents]
    while waiting:
        part = waiting.pop()
        try:
            solr.update(collection, b"[" + b",".join(line for _, line in part) + b"]")
            accepted += len(part)
        except RefusedError as error:
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
