"""The whole search page, against its Solr request by a bare client."""

import functools
import itertools
import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

from bench.client import Client
from bench.harness import Comparison, Side, UnequalError, Way, latencies, percentile, single
from bench.machine import peak_bytes
from bench.rows.search import ALIAS, CHECKED, searched_run, unseen_searches
from indexing.query.published import PublishedIndex
from indexing.query.search import search
from indexing.query.search_state import SearchState
from indexing.solr import Solr


def measured(place):
    run, documents = searched_run(place)
    requests = Requests(place.solr.url)
    states, others = (requests.with_hits(unseen_searches(run.classes, seed)) for seed in (3, 4))
    with place.page(ALIAS) as (url, pid):
        browser, bare = Client(url), Client(place.solr.url)

        def way(of, states, request) -> Way:
            return Way(lambda: latencies(map(of, itertools.islice(states, place.sizes.pages)), request))

        yield Comparison(
            "page/p50",
            way(SearchState.url, states, browser.send),
            way(requests.of, others, lambda request: bare.send(*request)),
            same=lambda *_: all(same_hits(browser, bare, requests, next(others)) for _ in range(CHECKED)),
            # With some hundred requests, one pause of the machine is the p99.
            figures={f"page/p{n}": functools.partial(extra_milliseconds, n) for n in (50, 99)},
            about={"documents": documents, "pages": place.sizes.pages},
        )
        megabytes = export_megabytes(url, pid, run.classes, documents)
        yield single("page/export", megabytes, documents=documents, pages=place.sizes.pages)


def extra_milliseconds(percent: int, ours: Side, theirs: Side) -> float:
    """Return how much later than theirs our request is answered, at a percentile of the requests of a round."""
    return 1000 * (percentile(ours.seconds, percent) - percentile(theirs.seconds, percent))


def export_megabytes(url: str, pid: int, tags: list[str], documents: int) -> float:
    """Return by how much exports of everything, in both forms, exceed the peak memory of small exports, in MB."""
    client, small = Client(url), SearchState({"tag": (tags[0],)}, confidence=(40, 40))
    for ending in ("csv", "jsonl") * 4:  # loads everything that any export needs
        client.send(small.url(f"/export.{ending}"))
    before = peak_bytes(pid)
    for ending, more in (("csv", 1), ("jsonl", 0)):  # CSV has a line of names
        lines = client.send(f"/export.{ending}").count(b"\n")
        if lines != documents + more:
            raise UnequalError(f"an export of {documents:,} hits as {ending} has {lines:,} lines")
    return (peak_bytes(pid) - before) / 1e6


class Requests(Solr):
    """A Solr client that sends no search, to see the page's request."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._published = PublishedIndex(Solr(url), ALIAS)
        self._request: tuple[str, bytes] | None = None

    def with_hits(self, states: Iterator[SearchState]) -> Iterator[SearchState]:
        """Yield the searches with hits: for the others the page sends no request."""
        return (state for state in states if self._published.now().counts.total(state))

    def of(self, state: SearchState) -> tuple[str, bytes]:
        """Return the path and the body of the request for a search's rows."""
        search(self, self._published, state)
        return self._request

    def select(self, collection: str, params: dict, timeout: float | None = None) -> dict:
        self._request = f"/{collection}/select", urlencode(params | {"wt": "json"}, doseq=True).encode()
        return {"response": {"docs": []}}


def same_hits(browser: Client, bare: Client, requests: Requests, state: SearchState) -> bool:
    """Return whether the page has the images of the documents that the request finds, in their order."""
    images = re.findall(r"/images/[^\"'?]+\.png", browser.send(state.url()).decode())
    documents = json.loads(bare.send(*requests.of(state)))["response"]["docs"]
    expected = [f"/images/{d['corpus']}/{d['partition']}/{d['row']}.png" for d in documents]
    return list(dict.fromkeys(images)) == expected
