"""Indexing with its commits, against pysolr and against a bare client that posts the same bodies."""

import functools
import json
from concurrent.futures import ThreadPoolExecutor

from bench import made
from bench.client import JSON, Client
from bench.harness import Comparison, Way
from indexing.index import index_run
from indexing.posting import BODY_BYTES, THREADS
from storage import layout

BATCH = 5_000  # for pysolr the best of 1,000, 5,000 and 20,000


def measured(place):
    rounds = min(place.sizes.rounds, 3)
    client, store = place.solr_client, place.store
    run, documents = made.drawn_run(place, "index", place.sizes.index_documents)
    lines = [store.read_bytes(layout.run_tags(run.name, p)) for p in range(run.partitions)]

    ours = way(place, run, documents)

    def compared(name: str, action, **about) -> Comparison:
        theirs = Way(lambda: action(client, name), documents, lambda: renew(client, name))
        return Comparison(f"index/{name}", ours, theirs, rounds=rounds, warm_ups=2, about=about)

    bodies = list(bodies_of(lines))
    yield compared("bare", functools.partial(post, bodies=bodies), bodies=len(bodies))
    parsed = [json.loads(line) for data in lines for line in data.splitlines()]
    yield compared("pysolr", functools.partial(add, documents=parsed), batch=BATCH)
    for name in (run.name, "bare", "pysolr"):
        client.delete(name)


def way(place, run, documents: int) -> Way:
    """Return the indexing of a run as `tinytags index` does it."""

    def index() -> int:
        return index_run(place.store, run.name, place.solr_client, "bench", publication="no")["documents"]

    return Way(index, documents, lambda: renew(place.solr_client, run.name))


def renew(client, collection: str) -> None:
    """Create an empty collection, in place of one of the same name."""
    if client.exists(collection):
        client.delete(collection)
    client.create(collection)


def count_documents(client, collection: str) -> int:
    return client.select(collection, {"q": "*:*", "rows": 0})["response"]["numFound"]


def index_bytes(place, collection: str) -> int:
    """Return the bytes of a collection's index files."""
    folders = place.solr.directory.glob(f"home/{collection}_*/data/index*")
    return sum(file.stat().st_size for folder in folders for file in folder.iterdir())


def bodies_of(lines: list[bytes]):
    """Yield the documents of tags files as bodies of the size that `tinytags index` posts."""
    data, start = b"".join(lines), 0
    while start < len(data):
        end = data.find(b"\n", min(start + BODY_BYTES, len(data)) - 1)
        yield b"[" + data[start:end].replace(b"\n", b",") + b"]"
        start = end + 1


def post(client, collection: str, bodies: list[bytes]) -> int:
    """Post bodies over kept connections, then commit; return the number of visible documents."""
    bare, path = Client(client.url), f"/{collection}/update"
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda body: bare.send(path, body, JSON), bodies))
    client.commit(collection)
    return count_documents(client, collection)


def add(client, collection: str, documents: list[dict]) -> int:
    """Add documents by pysolr, in batches, then commit; return the number of visible documents."""
    import pysolr

    solr = pysolr.Solr(f"{client.url}/{collection}", timeout=600)
    for start in range(0, len(documents), BATCH):
        solr.add(documents[start : start + BATCH])
    solr.commit()
    return count_documents(client, collection)
