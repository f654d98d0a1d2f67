"""All documents of 80 million images in Solr and on the page (of `bench.full`)."""

import itertools
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from bench import machine, made
from bench.client import Client
from bench.harness import UnequalError, number, percentile, single
from bench.rows.index import index_bytes
from bench.rows.search import ALIAS, unseen_searches
from indexing.query.search_state import SearchState
from operations.services import get_json
from storage import layout

SAMPLE_SECONDS = 2.0
USERS = (1, 20)


def measured(place):
    run, count = made.drawn_run(place, "tiny", place.sizes.documents)
    size = made.total(place.store, run, "bytes")
    points, heap = [(time.time(), 0)], 0
    with ThreadPoolExecutor(1) as pool:
        words = ("index", run.name, "--solr", place.solr.url, "--alias", ALIAS)
        indexing = pool.submit(place.run_tinytags, *words)
        while not wait([indexing], SAMPLE_SECONDS).done:
            added, used = sample(place.solr.url, run.name)
            points, heap = [*points, (time.time(), added)], max(heap, used)
    indexed = indexing.result()
    if indexed["documents"] != count:
        raise UnequalError(f"{count:,} documents were drawn, {indexed['documents']:,} are in Solr")
    seconds = indexed["seconds"]
    in_index = index_bytes(place, run.name)
    about = {"documents": count, "heap": place.sizes.heap}
    for name, value in (
        ("index", count / seconds), ("index-size", in_index / count), ("line", size / count), ("kept", count / run.images),
        ("heap", heap / 1e6), ("memory", machine.peak_bytes(place.solr.pid) / 1e6),
    ):  # fmt: skip
        yield single(f"full/{name}", value, **about)
    yield even("index", rates([*points, (points[0][0] + seconds, count)], count))
    place.store.remove_tree(layout.run_tags_folder(run.name))
    yield from page_rows(place, run)


def page_rows(place, run):
    """Yield the rows of pages that are requested by one user, or many at once."""
    count, pages, failures = place.sizes.users_pages, 0, []
    with place.page(ALIAS) as (url, _):
        began = time.perf_counter()
        Client(url).send("/")  # the first request counts all documents
        yield single("full/counting", time.perf_counter() - began)
        searches = unseen_searches(run.classes, seed=5)
        kinds = {
            "first page": itertools.repeat("/"),
            "filtered page": (state.url() for state in searches),
            "page 1,000, filtered": (state.with_page(1000).url() for state in searches),
        }
        request_pages(url, 1, itertools.islice(kinds["filtered page"], max(count // 4, 1)))  # warms Solr up
        for users, (kind, paths) in itertools.product(USERS, kinds.items()):
            if users > 1 and kind == "first page":  # before many users fill Solr's heap
                search = SearchState({"tag": tuple(run.classes[:2])}, confidence=(40, 40))
                began = time.perf_counter()
                lines = Client(url).send(search.url("/export.csv")).count(b"\n")
                yield single("full/export", lines / (time.perf_counter() - began), lines=lines)
            requested = request_pages(url, users, itertools.islice(paths, count))
            pages, failures = pages + requested["pages"], failures + requested["failures"]
            for percent in (50, 99):
                limited = f"-p{percent}" if users == 1 and "1,000" not in kind else ""
                about = {"kind": kind, "users": users, "percent": percent, "rate": requested["rate"]}
                yield single(f"full/page{limited}", requested[f"p{percent}"], **about)
    place.solr_client.delete_alias(ALIAS)
    place.solr_client.delete(run.name)
    yield single("full/failed", len(failures), pages=pages, failure=failures[0] if failures else "")


def request_pages(url: str, users: int, paths: Iterable[str], seconds: float = 60) -> dict:
    """Request pages by users together, each the next one after the last response, for at most ``seconds``.

    Returns the milliseconds of a page (``p50``, ``p99``), the number of ``pages``, their ``rate`` a second, and the
    ``failures``: why a page did not have status 200.
    """
    began, client = time.perf_counter(), Client(url)
    waited, failures = [], []

    def request(path: str) -> None:
        started = time.perf_counter()
        if started - began > seconds:
            return
        try:
            client.send(path)
        except (UnequalError, OSError) as error:
            failures.append(f"GET {path}: {error!r}")
        waited.append(1000 * (time.perf_counter() - started))

    with ThreadPoolExecutor(users) as pool:
        list(pool.map(request, paths))
    return {
        "p50": percentile(waited, 50),
        "p99": percentile(waited, 99),
        "pages": len(waited),
        "rate": len(waited) / (time.perf_counter() - began),
        "failures": failures,
    }


def sample(solr: str, collection: str) -> tuple[int, int]:
    """Return the number of documents that Solr has accepted, and the bytes of heap that it uses."""
    name = "UPDATE.updateHandler.cumulativeAdds"
    url = f"{solr}/admin/metrics?group=core,jvm&prefix={name},memory.heap.used&compact=true"
    metrics = (get_json(url) or {}).get("metrics", {})
    core = next((metrics[key] for key in metrics if key.startswith(f"solr.core.{collection}.")), {})
    added = core.get(name, 0)
    heap = metrics.get("solr.jvm", {}).get("memory.heap.used", 0)
    return added["count"] if isinstance(added, dict) else added, heap


def rates(points: list[tuple[float, float]], total: float, parts: int = 10) -> list[float]:
    """Return the rate in each of ``parts`` equal parts of ``total``.

    ``points`` are (time, amount done by then), both ascending; between two of them the rate is constant.
    """
    when, done = (np.array(values, float) for values in zip(*points, strict=True))
    done = np.maximum.accumulate(done)
    # Where nothing was done for a while, the next part starts at the end of that while.
    last = np.append(np.diff(done) > 0, True)
    ends = np.interp(np.linspace(0, total, parts + 1), done[last], when[last])
    ends[0] = when[0]
    return (total / parts / np.diff(ends)).tolist()


def even(step: str, parts: list[float]) -> dict:
    """Return the row of the rates in equal parts of the work: whether it slows down."""
    return single("full/even", parts[-1] / parts[0], step=step, rates=", ".join(map(number, parts)))
