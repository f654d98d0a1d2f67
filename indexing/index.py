"""Indexing: the documents of a run go into the run's own Solr collection, whose counts are the only record of what is in it."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.wording import counted, listed
from indexing.solr import RefusedError, Solr, SolrError
from storage import layout
from storage.lease import lease
from storage.runs import Run, done_partitions, open_run, read_statistics, rejected_partitions
from storage.store import Store, StoreError

# 2 or 3 bodies of 4 to 8 MB in flight keep Solr busy; 64 MB ones halve the rate.
BODY_BYTES = 6_000_000
THREADS = 3
# What is committed and counted together: a commit costs a second or two, and this many documents some 15 s.
GROUP_DOCUMENTS = 1_000_000
# Seconds for which requests are repeated when Solr stops answering.
PATIENCE = 180
# With more documents rejected than this, and fewer accepted, something else is wrong than single documents.
MOST_REJECTED = 1000


# The number of documents posted, and (partition, line for `rejected/`) of those that Solr rejected.
Posted = tuple[int, list[tuple[int, bytes]]]


class TagsChangedError(StoreError):
    """A tags file that is missing or isn't what its statistics say."""


@dataclass
class ExpectedCounts:
    """How many documents of each partition of a run the index should hold, by the files in the store."""

    run: Run
    statistics: dict[int, dict[str, Any]]  # of the tagged partitions, in order
    rejected: dict[int, int]  # numbers of documents that Solr rejected, where there are any
    failed: dict[int, str] = field(default_factory=dict)  # partitions that can't be indexed, and why

    @property
    def untagged(self) -> list[int]:
        return [p for p in range(self.run.partitions) if p not in self.statistics]

    def count(self, partition: int) -> int:
        tagged: int = self.statistics[partition]["tagged"]
        return tagged - self.rejected.get(partition, 0)

    def pending(self, counts: dict[int | None, int]) -> list[int]:
        return [p for p in self.statistics if counts.get(p, 0) != self.count(p)]

    def foreign(self, counts: dict[int | None, int]) -> list[int | None]:
        """Return the partitions in the index that the run does not have (None: documents without one).

        A partition of the run that has to be tagged again keeps its documents until then.
        """
        return [p for p in counts if p is None or not 0 <= p < self.run.partitions]

    def differences(self, counts: dict[int | None, int]) -> list[str]:
        """Return for people how the index differs from the run; empty where it is complete."""
        words = []
        if self.untagged:
            words.append(f"{_partitions(self.untagged)} not tagged yet")
        if pending := self.pending(counts):
            p = pending[0]
            words.append(
                f"{_partitions(pending)} with a wrong number of documents in the index "
                f"(partition {p}: {counted(counts.get(p, 0), 'document')} instead of {self.count(p):,})"
            )
        if foreign := self.foreign(counts):
            count = counted(sum(counts[p] for p in foreign), "document")
            words.append(f"{count} of partitions that the run does not have")
        return words


def read_expected(store: Store, run: Run) -> ExpectedCounts:
    """Read the statistics of all tagged partitions, and count the rejected documents."""
    with ThreadPoolExecutor(8) as pool:  # in HDFS each is a request
        done = [p for p in done_partitions(store, run) if p < run.partitions]
        statistics = dict(zip(done, pool.map(lambda p: read_statistics(store, run, p), done), strict=True))
        rejected = [p for p in rejected_partitions(store, run) if p in statistics]
        lines = pool.map(lambda p: store.read_bytes(layout.run_rejected(run.name, p)).count(b"\n"), rejected)
        return ExpectedCounts(run, statistics, dict(zip(rejected, lines, strict=True)))


def read_tags(store: Store, run: Run, statistics: dict[str, Any]) -> bytes:
    """Return a partition's documents as JSON lines. Raises `TagsChangedError` where the file isn't as tagging wrote it."""
    path = layout.run_tags(run.name, statistics["partition"])
    fix = f"repair it with `tinytags verify {run.name} --repair`"
    try:
        data = store.read_bytes(path)
    except StoreError:
        if store.exists(path):
            raise
        raise TagsChangedError(f"{store.url(path)}: is missing; {fix}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != statistics["sha256"]:
        raise TagsChangedError(
            f"{store.url(path)}: has changed since it was tagged ({len(data):,} bytes of sha256 {digest[:8]} instead of "
            f"{statistics['bytes']:,} of {statistics['sha256'][:8]}); {fix}"
        )
    lines = data.count(b"\n")
    if lines != statistics["tagged"] or (data and not data.endswith(b"\n")):
        raise TagsChangedError(
            f"{store.url(path)}: has {counted(lines, 'line')} where {counted(statistics['tagged'], 'document')} should be; {fix}"
        )
    return data


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
    (None: 1). ``partitions`` are deleted and posted again even if they are done, and no others are touched. ``dry_run``
    returns what would be done and writes nothing.

    Raises `LeaseHeldError` when somebody else indexes the run, `SolrError` when Solr doesn't answer, and `TinyTagsError`
    for a partition that doesn't exist or whose count stays wrong. A tags file that has changed since it was tagged is
    left out and listed in the summary's ``failed``; ``complete`` is then false.
    """
    if publication not in ("publish", "live", "beside", "no"):
        raise ValueError(publication)
    run = open_run(store, run_name)
    if dry_run:
        return _dry_run(store, run, solr, alias, publication, partitions)
    began = time.monotonic()
    solr.collections()  # fails at once where Solr is not there; when it stops answering later, it is waited for
    solr = solr.patient(PATIENCE)
    try:
        with lease(store, layout.run_index_lease(run.name), f"the index of run {run.name!r}"):
            expected = read_expected(store, run)
            _check_partitions(expected, partitions)
            _open_collection(store, solr, expected, shards)
            before = solr.alias(alias)
            if publication == "live" and before != [run.name]:
                solr.set_alias(alias, [run.name])
            solr.commit(run.name)  # what a killed attempt posted or deleted counts only from here
            counts = solr.counts(run.name)
            post, delete = _plan(expected, counts, partitions)
            _sync(store, solr, expected, post, delete, threads)
            counts = solr.counts(run.name)
            _check_accepted(expected, counts)
            summary = _summary(expected, counts, post)
            if summary["complete"] and publication in ("publish", "beside"):
                _point_alias(solr, alias, run.name, beside=publication == "beside")
            return summary | {
                "alias": alias,
                "previous": before,
                "published": run.name in solr.alias(alias),
                "seconds": round(time.monotonic() - began, 3),
            }
    finally:
        solr.stop_waiting()


def publish(store: Store, run_name: str, solr: Solr, alias: str) -> dict[str, Any]:
    """Point the alias to a run, in one step. Raises `TinyTagsError` unless the index holds all of it."""
    run = open_run(store, run_name)
    if not solr.exists(run.name):
        raise TinyTagsError(
            f"run {run.name!r} is not in Solr at {solr.url}; index it with `tinytags index {run.name}`"
        )
    solr.commit(run.name)
    left = read_expected(store, run).differences(solr.counts(run.name))
    if left:
        raise TinyTagsError(
            f"run {run.name!r} is not complete: {'; '.join(left)}; complete and publish it with `tinytags index {run.name}`"
        )
    previous = solr.alias(alias)
    _point_alias(solr, alias, run.name)
    return {"run": run.name, "alias": alias, "previous": previous, "published": True}


def retire(store: Store, run_name: str, solr: Solr, alias: str, force: bool = False) -> dict[str, Any]:
    """Drop a run's collection; its files stay in the store. Works too when the store no longer has the run.

    Raises `TinyTagsError` for a collection that doesn't exist or isn't TinyTags', and, unless ``force``, for one that is
    published; with ``force`` it is removed from the alias.
    """
    if not solr.exists(run_name):
        names = [name for name in solr.collections() if _is_ours(solr, name)]
        known = f"there are {', '.join(names)}" if names else "there is none"
        raise TinyTagsError(f"no run {run_name!r} in Solr at {solr.url}; {known}")
    if not _is_ours(solr, run_name):
        raise TinyTagsError(
            f"collection {run_name!r} of Solr at {solr.url} was not created by TinyTags, so it is not dropped"
        )
    targets = solr.alias(alias)
    if run_name in targets and not force:
        raise TinyTagsError(
            f"run {run_name!r} is published as alias {alias!r}; `tinytags publish` another one first, or use --force"
        )
    in_store = store.exists(layout.run_manifest(run_name))
    writing = lease(store, layout.run_index_lease(run_name), f"the index of run {run_name!r}")
    with writing if in_store else contextlib.nullcontext():
        others = [name for name in targets if name != run_name]
        if run_name in targets:
            solr.set_alias(alias, others) if others else solr.delete_alias(alias)
        solr.delete(run_name)
    return {"run": run_name, "alias": alias, "shown": others, "retired": True}


def repost(store: Store, run_name: str, solr: Solr, partitions: list[int | None]) -> dict[int, str]:
    """Delete the documents of partitions and post again those that the run has; the alias stays as it is.

    Returns the partitions whose tags file can't be used, each with the reason; these keep their documents. Raises as
    `index_run` does.
    """
    run = open_run(store, run_name)
    solr = solr.patient(PATIENCE)
    try:
        with lease(store, layout.run_index_lease(run.name), f"the index of run {run.name!r}"):
            expected = read_expected(store, run)
            _open_collection(store, solr, expected, None)
            post = sorted(p for p in partitions if p in expected.statistics)
            _sync(store, solr, expected, post, set(partitions), THREADS)
            return expected.failed
    finally:
        solr.stop_waiting()


# What has to be done


def _check_partitions(expected: ExpectedCounts, partitions: list[int] | None) -> None:
    for p in partitions or []:
        if not 0 <= p < expected.run.partitions:
            raise TinyTagsError(
                f"run {expected.run.name!r} has no partition {p}; it has 0 to {expected.run.partitions - 1}"
            )
        if p not in expected.statistics:
            raise TinyTagsError(
                f"partition {p} of run {expected.run.name!r} is not tagged yet; tag it with `tinytags tag`"
            )


def _plan(
    expected: ExpectedCounts, counts: dict[int | None, int], partitions: list[int] | None
) -> tuple[list[int], set[int | None]]:
    """Return the partitions to post, and those whose documents are deleted before."""
    if partitions is not None:
        return sorted(set(partitions)), {p for p in partitions if counts.get(p)}
    post = expected.pending(counts)
    return post, {p for p in post if counts.get(p, 0) > expected.count(p)} | set(expected.foreign(counts))


def _dry_run(
    store: Store, run: Run, solr: Solr, alias: str, publication: str, partitions: list[int] | None
) -> dict[str, Any]:
    expected = read_expected(store, run)
    _check_partitions(expected, partitions)
    exists = solr.exists(run.name)
    if not exists:
        expected.rejected = {}
    counts = solr.counts(run.name) if exists else {}
    pending = expected.pending(counts)
    post, delete = _plan(expected, counts, partitions)
    whole = not expected.untagged and set(pending) <= set(post)
    return {
        "run": run.name,
        "dry_run": True,
        "exists": exists,
        "partitions": run.partitions,
        "done": len(expected.statistics) - len(pending),
        "post": post,
        "delete": sorted(p for p in delete if p is not None),
        "documents": sum(expected.statistics[p]["tagged"] for p in post),
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
    """Create the run's collection unless it exists."""
    name = expected.run.name
    if not solr.exists(name):
        for p in expected.rejected:  # a new collection has rejected nothing yet
            store.remove(layout.run_rejected(name, p))
        expected.rejected = {}
        solr.create(name, shards or 1)
        return
    there = len(solr.describe(name)["shards"])
    if shards and shards != there:
        raise TinyTagsError(
            f"run {name!r} is in Solr on {there} shards, not {shards}; drop it with `tinytags retire {name}` and index it "
            "again"
        )
    solr.wait_for(name)


def _point_alias(solr: Solr, alias: str, name: str, beside: bool = False) -> None:
    targets = solr.alias(alias)
    wanted = [*targets, *([name] if name not in targets else [])] if beside else [name]
    if targets != wanted:
        solr.set_alias(alias, wanted)


def _is_ours(solr: Solr, collection: str) -> bool:
    return str(solr.describe(collection)["configName"]).startswith("tags-")


def _partitions(numbers: list[int]) -> str:
    """Name partitions for people: ``partition 12``, ``4 partitions (12, 13, 14, ...)``."""
    if len(numbers) == 1:
        return f"partition {numbers[0]}"
    return f"{counted(len(numbers), 'partition')} ({listed(numbers, 3)})"


# Doing it


def _sync(
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
                f"{_partitions(sorted(wrong))} of run {name!r} with a wrong number of documents after posting twice (partition {p}: "
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
