"""Indexing with its commits, against pysolr and against a bare client that posts the same bodies."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from bench import made
from bench.harness import Comparison, Way
from indexing.index import index_run
from indexing.posting import BODY_BYTES, THREADS
from storage import layout

STEP = "index, with commits"
BATCHES = (1_000, 5_000, 20_000)


def measured(place):
    count, rounds = place.sizes.index_documents, min(place.sizes.rounds, 3)
    client, store = place.solr_client, place.store
    images = made.images_for(count, place.votes)
    run, documents = made.drawn_run(store, "index", place.votes, images, min(place.sizes.partition, count))
    lines = [store.read_bytes(layout.run_tags(run.name, p)) for p in range(run.partitions)]

    def way(name: str, collection: str, index) -> Way:
        return Way(name, index, documents, before=lambda: renew(client, collection))

    ours = way(
        "tinytags index",
        run.name,
        lambda: index_run(store, run.name, client, "bench", publication="no")["documents"],
    )
    bodies = list(bodies_of(lines))
    yield Comparison(
        "index/bare",
        STEP,
        ours,
        way("the same bodies by a bare client", "bare", lambda: post(client, "bare", bodies, THREADS)),
        "documents",
        target=0.9,
        rounds=rounds,
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
        way("pysolr.add", "pysolr", lambda: add(client, "pysolr", parsed, best)),
        "documents",
        target=1.4,
        rounds=rounds,
        note=f"{best:,} documents a batch, the best of {', '.join(f'{size:,}' for size in BATCHES)}; "
        "its documents are parsed already",
    )
    for name in (run.name, "bare", "pysolr"):
        client.delete(name)


def renew(client, collection: str) -> None:
    """Create an empty collection, in place of one of the same name."""
    if client.exists(collection):
        client.delete(collection)
    client.create(collection)


def count_documents(client, collection: str) -> int:
    return client.select(collection, {"q": "*:*", "rows": 0})["response"]["numFound"]


def bodies_of(lines: list[bytes]):
    """Yield the documents of tags files as bodies of the size that `tinytags index` posts."""
    data, start = b"".join(lines), 0
    while start < len(data):
        end = data.find(b"\n", min(start + BODY_BYTES, len(data)) - 1)
        yield b"[" + data[start:end].replace(b"\n", b",") + b"]"
        start = end + 1


def post(client, collection: str, bodies: list[bytes], threads: int) -> int:
    """Post bodies over kept connections, then commit; return the number of visible documents."""
    url = urlsplit(client.url)

    def post_some(some: list[bytes]) -> None:
        connection = http.client.HTTPConnection(url.netloc)
        for body in some:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", f"{url.path}/{collection}/update", body, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 200, response.status
        connection.close()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(post_some, [bodies[i::threads] for i in range(threads)]))
    client.commit(collection)
    return count_documents(client, collection)


def add(client, collection: str, documents: list[dict], batch: int) -> int:
    """Add documents by pysolr, a batch at a time, then commit; return the number of visible documents."""
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
