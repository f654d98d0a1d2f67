"""Indexing: the documents of a run go into the run's own Solr collection, which is itself the record of what is in."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from conf.errors import TinyTagsError
from conf.progress import Progress
from conf.wording import counted, listed
from indexing.solr import RefusedError, Solr, SolrError
from storage import layout
from storage.lease import lease
from storage.runs import Run, done_partitions, open_run, read_statistics, rejected_partitions
from storage.store import StoreError

# 2 or 3 bodies of 4 to 8 MB in flight keep Solr busy; 64 MB ones halve the rate.
BODY_BYTES = 6_000_000
THREADS = 3
# What is committed and counted together: a commit costs a second or two, and this many documents some 15 s.
GROUP_DOCUMENTS = 1_000_000
# How long a Solr that has gone away may take to come back.
PATIENCE = 180
# With so many documents refused, and fewer taken, it isn't the documents.
REFUSED_ENOUGH = 1000


class TagsChangedError(StoreError):
    """A tags file that is missing or isn't what its statistics say."""


@dataclass
class ExpectedCounts:
    """What the index should hold of a run, as the store says: how many documents of each partition."""

    run: Run
    statistics: dict[int, dict]  # of the tagged partitions, in order
    rejected: dict[int, int]  # documents that Solr refused, where it did
    failed: dict[int, str] = field(default_factory=dict)  # partitions that can't be indexed, and why

    @property
    def untagged(self) -> list[int]:
        return [p for p in range(self.run.partitions) if p not in self.statistics]

    def count(self, partition: int) -> int:
        return self.statistics[partition]["tagged"] - self.rejected.get(partition, 0)

    def pending(self, counts: dict[int | None, int]) -> list[int]:
        return [p for p in self.statistics if counts.get(p, 0) != self.count(p)]

    def foreign(self, counts: dict[int | None, int]) -> list[int | None]:
        """Return the partitions in the index that the run does not have (None: documents without one).

        One that the run has but that is to be tagged again keeps its documents until then.
        """
        return [p for p in counts if p is None or not 0 <= p < self.run.partitions]

    def differences(self, counts: dict[int | None, int]) -> list[str]:
        """Return what keeps the index from being the whole run, in words; nothing when it is."""
        words = []
        if self.untagged:
            words.append(f"{_partitions(self.untagged)} not tagged yet")
        if pending := self.pending(counts):
            p = pending[0]
            words.append(
                f"{_partitions(pending)} not in the index as they should be "
                f"(partition {p}: {counted(counts.get(p, 0), 'document')} instead of {self.count(p):,})"
            )
        if foreign := self.foreign(counts):
            count = counted(sum(counts[p] for p in foreign), "document")
            words.append(f"{count} of partitions that the run does not have")
        return words


def read_expected(store, run: Run) -> ExpectedCounts:
    """Read the statistics of all tagged partitions, and count what was rejected."""
    with ThreadPoolExecutor(8) as pool:  # in HDFS each is a request
        done = [p for p in done_partitions(store, run) if p < run.partitions]
        statistics = dict(zip(done, pool.map(lambda p: read_statistics(store, run, p), done), strict=True))
        refused = [p for p in rejected_partitions(store, run) if p in statistics]
        lines = pool.map(lambda p: store.read_bytes(layout.run_rejected(run.name, p)).count(b"\n"), refused)
        return ExpectedCounts(run, statistics, dict(zip(refused, lines, strict=True)))


def read_tags(store, run: Run, statistics: dict) -> bytes:
    """Return a partition's documents as JSON lines. Raises `TagsChangedError` unless they are as they were tagged."""
    path = layout.run_tags(run.name, statistics["partition"])
    mend = f"`tinytags verify {run.name} --repair` has it tagged again"
    try:
        data = store.read_bytes(path)
    except StoreError:
        if store.exists(path):
            raise
        raise TagsChangedError(f"{store.url(path)}: is missing; {mend}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != statistics["sha256"]:
        raise TagsChangedError(
            f"{store.url(path)}: has changed since it was tagged ({len(data):,} bytes of sha256 {digest[:8]} instead of "
            f"{statistics['bytes']:,} of {statistics['sha256'][:8]}); {mend}"
        )
    lines = data.count(b"\n")
    if lines != statistics["tagged"] or (data and not data.endswith(b"\n")):
        raise TagsChangedError(
            f"{store.url(path)}: has {counted(lines, 'line')} where {counted(statistics['tagged'], 'document')} should be; {mend}"
        )
    return data


def index_run(
    store,
    run_name: str,
    solr: Solr,
    alias: str,
    publication: str = "publish",
    shards: int | None = None,
    partitions: list[int] | None = None,
    dry_run: bool = False,
    threads: int = THREADS,
) -> dict:
    """Bring the run's collection to hold exactly the run's documents, from wherever it stands; return a summary.

    ``publication`` says what happens to the alias: ``publish`` moves it to this run once all of it is in, ``beside`` adds
    the run to those it shows, ``live`` moves it before the first document, ``no`` leaves it. ``shards`` is for a new
    collection (1 when None). ``partitions`` are deleted and posted again though they be done, and no others touched.
    ``dry_run`` says what would be done and writes nothing.

    Raises `LeaseHeldError` when somebody else indexes the run, `SolrError` when Solr stays away, and `TinyTagsError`
    for a partition that isn't there or that can't be brought to the count it should have. A tags file that has changed
    since it was tagged is left out and named in the summary's ``failed``; ``complete`` is then false.
    """
    if publication not in ("publish", "live", "beside", "no"):
        raise ValueError(publication)
    run = open_run(store, run_name)
    if dry_run:
        return _dry_run(store, run, solr, alias, publication, partitions)
    began = time.monotonic()
    solr.collections()  # a Solr that isn't there is told at once; one that goes away later is waited for
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
            _check_taken(expected, counts)
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


def publish(store, run_name: str, solr: Solr, alias: str) -> dict:
    """Point the alias to a run, in one step. Raises `TinyTagsError` unless the index holds all of it."""
    run = open_run(store, run_name)
    if not solr.exists(run.name):
        raise TinyTagsError(
            f"run {run.name!r} is not in Solr at {solr.url}; `tinytags index {run.name}` puts it there"
        )
    solr.commit(run.name)
    left = read_expected(store, run).differences(solr.counts(run.name))
    if left:
        raise TinyTagsError(
            f"run {run.name!r} is not complete: {'; '.join(left)}; `tinytags index {run.name}` completes and publishes it"
        )
    previous = solr.alias(alias)
    _point_alias(solr, alias, run.name)
    return {"run": run.name, "alias": alias, "previous": previous, "published": True}


def retire(store, run_name: str, solr: Solr, alias: str, force: bool = False) -> dict:
    """Drop a run's collection; its files stay in the store. Works too when the store no longer has the run.

    Raises `TinyTagsError` for a collection that isn't there or isn't TinyTags', and, unless ``force``, for the one
    that the alias shows; with ``force`` the alias loses it.
    """
    if not solr.exists(run_name):
        there = [name for name in solr.collections() if _is_ours(solr, name)]
        known = f"there are {', '.join(there)}" if there else "there is none"
        raise TinyTagsError(f"no run {run_name!r} in Solr at {solr.url}; {known}")
    if not _is_ours(solr, run_name):
        raise TinyTagsError(
            f"collection {run_name!r} of Solr at {solr.url} was not made by TinyTags; it stays"
        )
    targets = solr.alias(alias)
    if run_name in targets and not force:
        raise TinyTagsError(
            f"run {run_name!r} is what alias {alias!r} shows; `tinytags publish` another one first, or use --force"
        )
    in_store = store.exists(layout.run_manifest(run_name))
    writing = lease(store, layout.run_index_lease(run_name), f"the index of run {run_name!r}")
    with writing if in_store else contextlib.nullcontext():
        others = [name for name in targets if name != run_name]
        if run_name in targets:
            solr.set_alias(alias, others) if others else solr.delete_alias(alias)
        solr.delete(run_name)
    return {"run": run_name, "alias": alias, "shown": others, "retired": True}


def repost(store, run_name: str, solr: Solr, partitions: list[int | None]) -> dict[int, str]:
    """Delete the documents of partitions and post those of them anew that the run has; the alias stays as it is.

    Returns the partitions whose tags file can't be used, each with why; these keep their documents. Raises as
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


# What to do


def _check_partitions(expected: ExpectedCounts, partitions: list[int] | None) -> None:
    for p in partitions or []:
        if not 0 <= p < expected.run.partitions:
            raise TinyTagsError(
                f"run {expected.run.name!r} has no partition {p}; it has 0 to {expected.run.partitions - 1}"
            )
        if p not in expected.statistics:
            raise TinyTagsError(
                f"partition {p} of run {expected.run.name!r} is not tagged yet; `tinytags tag` does it"
            )


def _plan(
    expected: ExpectedCounts, counts: dict[int | None, int], partitions: list[int] | None
) -> tuple[list[int], set[int | None]]:
    """Return the partitions to post, and those whose documents go first."""
    if partitions is not None:
        return sorted(set(partitions)), {p for p in partitions if counts.get(p)}
    post = expected.pending(counts)
    return post, {p for p in post if counts.get(p, 0) > expected.count(p)} | set(expected.foreign(counts))


def _dry_run(store, run: Run, solr: Solr, alias: str, publication: str, partitions: list[int] | None) -> dict:
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


def _summary(expected: ExpectedCounts, counts: dict[int | None, int], post: list[int]) -> dict:
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


def _check_taken(expected: ExpectedCounts, counts: dict[int | None, int]) -> None:
    """Raise `SolrError` where Solr refused each and every document: then it isn't the documents."""
    refused = sum(expected.rejected.values())
    if refused and not sum(counts.values()):
        name = expected.run.name
        raise SolrError(
            f"Solr refuses all {counted(refused, 'document')} of {name!r} (the reasons are in the run's rejected/); if its "
            f"collection is of an older version, `tinytags retire {name}` drops it, then it can be indexed anew"
        )


def _open_collection(store, solr: Solr, expected: ExpectedCounts, shards: int | None) -> None:
    """Make the run's collection unless it is there."""
    name = expected.run.name
    if not solr.exists(name):
        for p in expected.rejected:  # a new collection has refused nothing yet
            store.remove(layout.run_rejected(name, p))
        expected.rejected = {}
        solr.create(name, shards or 1)
        return
    there = len(solr.describe(name)["shards"])
    if shards and shards != there:
        raise TinyTagsError(
            f"run {name!r} is in Solr on {there} shards, not {shards}; `tinytags retire {name}` drops it, "
            "then it can be indexed anew"
        )
    solr.wait_for(name)


def _point_alias(solr: Solr, alias: str, name: str, beside: bool = False) -> None:
    targets = solr.alias(alias)
    wanted = [*targets, *([name] if name not in targets else [])] if beside else [name]
    if targets != wanted:
        solr.set_alias(alias, wanted)


def _is_ours(solr: Solr, collection: str) -> bool:
    return solr.describe(collection)["configName"].startswith("tags-")


def _partitions(numbers: list[int]) -> str:
    """Name partitions for people: ``partition 12``, ``4 partitions (12, 13, 14, ...)``."""
    if len(numbers) == 1:
        return f"partition {numbers[0]}"
    return f"{counted(len(numbers), 'partition')} ({listed(numbers, 3)})"


# Doing it


def _sync(
    store, solr: Solr, expected: ExpectedCounts, post: list[int], delete: set[int | None], threads: int
) -> None:
    """Post partitions until each holds what it should; what does not after a first time is deleted and posted again."""
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
                f"{_partitions(sorted(wrong))} of run {name!r} not as they should be after posting twice (partition {p}: "
                f"{counted(count, 'document')} instead of {expected.count(p):,}); is somebody else writing to the collection?"
            )


def _round(
    store,
    solr: Solr,
    expected: ExpectedCounts,
    partitions: list[int],
    delete: set[int | None],
    threads: int,
    told,
) -> dict[int, int]:
    """Post partitions group by group; return the counts of those that are wrong afterwards.

    While one group is committed and counted the next one is being posted.
    """
    name, wrong = expected.run.name, {}
    with ThreadPoolExecutor(1) as committer:
        committing: Future | None = None
        try:
            for group in _groups(expected, partitions):
                # Nothing is taken away of what can't be put back.
                group = _readable(
                    store, expected, group, [p for p in group if p in delete or p in expected.rejected]
                )
                leaving = delete.intersection(group)
                if leaving and committing:  # a commit now would show the gap between deleting and posting
                    wrong |= committing.result()
                    committing = None
                for p in group:
                    # Before posting: with it, part of the documents could pass for all of them.
                    if expected.rejected.pop(p, 0):
                        store.remove(layout.run_rejected(name, p))
                solr.delete_partitions(name, leaving)
                posted = _post(store, solr, expected, group, threads, told)
                if committing:
                    wrong |= committing.result()
                committing = committer.submit(_commit_and_count, solr, expected, posted)
            return wrong | (committing.result() if committing else {})
        except BaseException:
            solr.stop_waiting()
            raise


def _groups(expected: ExpectedCounts, partitions: list[int]) -> Iterator[list[int]]:
    group, documents = [], 0
    for p in partitions:
        group.append(p)
        documents += expected.statistics[p]["tagged"]
        if documents >= GROUP_DOCUMENTS:
            yield group
            group, documents = [], 0
    if group:
        yield group


def _readable(store, expected: ExpectedCounts, group: list[int], doubtful: list[int]) -> list[int]:
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
    store, solr: Solr, expected: ExpectedCounts, partitions: list[int], threads: int, told
) -> list[int]:
    """Post the documents of partitions, set those aside that Solr refuses, and return the partitions that could be read.

    Reading, checking and cutting go on here while ``threads`` bodies are on their way.
    """
    name, refused = expected.run.name, {}
    with ThreadPoolExecutor(threads) as pool:
        in_flight: set[Future] = set()

        def collect(done: Iterable[Future]) -> None:
            for future in done:
                count, lines = future.result()
                told(count)
                for p, line in lines:
                    refused.setdefault(p, []).append(line)

        try:
            for body in _bodies(store, expected, partitions):
                in_flight.add(pool.submit(_post_body, solr, name, body))
                if (
                    len(in_flight) > threads
                ):  # one more than are posted, so that none has to wait for the next
                    done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                    collect(done)
            collect(in_flight)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            solr.stop_waiting()
            raise
    for p, lines in refused.items():
        # Only now that all the others are in: expecting fewer documents must not make a part look like the whole.
        store.write_bytes(layout.run_rejected(name, p), b"".join(lines))
        expected.rejected[p] = len(lines)
    return [p for p in partitions if p not in expected.failed]


def _bodies(store, expected: ExpectedCounts, partitions: list[int]) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the documents of partitions as bodies of about 6 MB: pieces of tags files, each with its partition."""
    body, size = [], 0
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


def _post_body(
    solr: Solr, collection: str, body: list[tuple[int, bytes]]
) -> tuple[int, list[tuple[int, bytes]]]:
    """Post a body; return how many documents it has, and (partition, line for ``rejected/``) of those refused."""
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
    """Post documents of which Solr refuses some, halving until each of those is alone; return them."""
    refused, taken = [], 0
    waiting = [documents]
    while waiting:
        part = waiting.pop()
        try:
            solr.update(collection, b"[" + b",".join(line for _, line in part) + b"]")
            taken += len(part)
        except RefusedError as error:
            if len(part) > 1:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            p, line = part[0]
            refused.append((p, _rejected_line(error.reason, line)))
            if len(refused) > max(taken, REFUSED_ENOUGH):
                raise SolrError(
                    f"Solr refuses nearly every document of {collection!r}: {error.reason[:300]}; if its collection is of an "
                    f"older version, `tinytags retire {collection}` drops it, then it can be indexed anew"
                ) from None
    return refused


def _rejected_line(reason: str, line: bytes) -> bytes:
    try:
        document = json.loads(line)
    except ValueError:
        document = line.decode(errors="replace")
    return json.dumps({"reason": reason, "document": document}, ensure_ascii=False).encode() + b"\n"
