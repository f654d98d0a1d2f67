"""Indexing with its commits, against pysolr and against a bare client that posts the same bodies."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from bench import made
from bench.harness import Comparison, Way, speed
from indexing.index import BODY_BYTES, THREADS, index_run
from storage import layout

STEP = "index, with commits"
BATCHES = (1_000, 5_000, 20_000)


def measured(place):
    count = place.sizes.index_documents
    client, store = place.solr_client, place.store
    kept = (place.votes.max(axis=1) >= 4).mean()
    run, documents = made.drawn_run(
        store, "index", place.votes, int(count / kept), min(place.sizes.partition, count)
    )
    lines = [store.read_bytes(layout.run_tags(run.name, p)) for p in range(run.partitions)]
    ours = Way(
        "tinytags index",
        lambda: index_run(store, run.name, client, "bench", publication="no")["documents"],
        documents,
        before=lambda: renew(client, run.name),
    )
    bodies = list(bodies_of(lines))
    yield Comparison(
        "index/bare",
        STEP,
        ours,
        Way(
            "the same bodies by a bare client",
            lambda: post(client, "bare", bodies, THREADS),
            documents,
            before=lambda: renew(client, "bare"),
        ),
        "documents",
        figures=(speed(0.9),),
        rounds=min(place.sizes.rounds, 3),
        warm_ups=2,
        note=f"{len(bodies)} bodies of {BODY_BYTES / 1e6:.0f} MB, ready in memory, {THREADS} in flight; "
        "ours are read from the store and checked, and counted in Solr",
    )
    parsed = [json.loads(line) for data in lines for line in data.splitlines()]
    best = best_batch(client, parsed[: max(BATCHES) * 2])
    yield Comparison(
        "index/pysolr",
        STEP,
        ours,
        Way(
            "pysolr.add",
            lambda: add(client, "pysolr", parsed, best),
            documents,
            before=lambda: renew(client, "pysolr"),
        ),
        "documents",
        figures=(speed(1.4),),
        rounds=min(place.sizes.rounds, 3),
        note=f"{best:,} documents a batch, the best of {', '.join(f'{size:,}' for size in BATCHES)}; "
        "its documents are parsed already",
    )
    for name in (run.name, "bare", "pysolr"):
        client.delete(name)


def renew(client, collection: str) -> None:
    """Drop a collection and make it anew."""
    if client.exists(collection):
        client.delete(collection)
    client.create(collection)


def count_documents(client, collection: str) -> int:
    return client.select(collection, {"q": "*:*", "rows": 0})["response"]["numFound"]


def bodies_of(lines: list[bytes]):
    """Yield the documents of tags files as bodies of the size that `tinytags index` posts."""
    body, size = [], 0
    for data in lines:
        for start, end in _pieces(data):
            body.append(data[start:end])
            size += end - start
            if size >= BODY_BYTES:
                yield b"[" + b"".join(body)[:-1].replace(b"\n", b",") + b"]"
                body, size = [], 0
    if body:
        yield b"[" + b"".join(body)[:-1].replace(b"\n", b",") + b"]"


def _pieces(data: bytes, size: int = BODY_BYTES // 8):
    start = 0
    while start < len(data):
        end = min(start + size, len(data))
        end = data.find(b"\n", end - 1) + 1
        yield start, end
        start = end


def post(client, collection: str, bodies: list[bytes], threads: int) -> int:
    """Post bodies as they are over kept connections, then commit; return the number of documents then seen."""
    url = urlsplit(client.url)

    def post_some(some: list[bytes]) -> None:
        connection = http.client.HTTPConnection(url.netloc)
        for body in some:
            connection.request(
                "POST", f"{url.path}/{collection}/update", body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        connection.close()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(post_some, [bodies[i::threads] for i in range(threads)]))
    client.commit(collection)
    return count_documents(client, collection)


def add(client, collection: str, documents: list[dict], batch: int) -> int:
    """Add documents by pysolr, a batch at a time, then commit; return the number of documents then seen."""
    import pysolr

    solr = pysolr.Solr(f"{client.url}/{collection}", timeout=600)
    for start in range(0, len(documents), batch):
        solr.add(documents[start : start + batch])
    solr.commit()
    return count_documents(client, collection)


def best_batch(client, documents: list[dict]) -> int:
    """Return the batch size at which pysolr is fastest, each tried twice."""
    seconds = dict.fromkeys(BATCHES, float("inf"))
    for batch in BATCHES * 2:
        renew(client, "pysolr")
        began = time.perf_counter()
        add(client, "pysolr", documents, batch)
        seconds[batch] = min(seconds[batch], time.perf_counter() - began)
    return min(seconds, key=seconds.get)
