"""The whole search page, against its Solr request by a bare client."""

import http.client
import itertools
import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

from bench.harness import Comparison, UnequalError, Way, extra_milliseconds, latencies, single
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

        def way(name: str, of, states, request) -> Way:
            return Way(
                name, lambda: latencies(map(of, itertools.islice(states, place.sizes.pages)), request), 1
            )

        yield Comparison(
            "page/solr",
            f"the whole page of a search of {documents / 1e6:.1f} million documents",
            way("the page", SearchState.url, states, browser.get),
            way(
                "its Solr request by a bare client", requests.of, others, lambda request: bare.post(*request)
            ),
            "pages",
            same=lambda *_: check_same(browser, bare, requests, others),
            # With some hundred requests, one pause of the machine is the p99.
            figures=(extra_milliseconds(50, 5), extra_milliseconds(99, 15)),
            rounds=place.sizes.rounds,
            note=f"{place.sizes.pages} searches a round, each only once, kept connections",
        )
        megabytes = export_megabytes(url, pid, run.classes, documents)
        yield single(
            "page/export", f"the page's memory: an export of {documents:,} hits", "many small exports", megabytes, "MB", target=64, at_most=True,
            note="the growth of the server's peak memory, as CSV and then as JSON lines, both streamed",
        )  # fmt: skip


def export_megabytes(url: str, pid: int, tags: list[str], documents: int) -> float:
    """Return by how much exports of everything, in both forms, exceed the peak memory of small exports, in MB."""
    small = SearchState({"tag": (tags[0],)}, confidence=(40, 40))
    for ending in ("csv", "jsonl") * 4:  # loads everything that any export needs
        read_lines(url, small.url(f"/export.{ending}"))
    before = peak_bytes(pid)
    for ending, more in (("csv", 1), ("jsonl", 0)):  # CSV has a line of names
        lines, _ = read_lines(url, f"/export.{ending}")
        if lines != documents + more:
            raise UnequalError(f"an export of {documents:,} hits as {ending} has {lines:,} lines")
    return (peak_bytes(pid) - before) / 1e6


def read_lines(url: str, path: str) -> tuple[int, int]:
    """Read a streamed response; return its lines and bytes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", path)
    response = connection.getresponse()
    lines = size = 0
    while block := response.read(1 << 20):
        lines, size = lines + block.count(b"\n"), size + len(block)
    if response.status != 200:
        raise UnequalError(f"GET {path} has status {response.status}")
    return lines, size


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


class Client:
    """A bare HTTP client with one kept connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._base = parts.path
        self._connection = http.client.HTTPConnection(parts.netloc)

    def get(self, path: str) -> bytes:
        return self._send("GET", path)

    def post(self, path: str, body: bytes) -> bytes:
        return self._send("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def _send(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> bytes:
        self._connection.request(method, self._base + path, body, headers or {})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise UnequalError(f"{method} {path} has status {response.status}")
        return data


def check_same(browser: Client, bare: Client, requests: Requests, states) -> None:
    """Raise `UnequalError` unless the page has the images of the documents that the request finds, in their order."""
    for state in itertools.islice(states, CHECKED):
        html = browser.get(state.url()).decode()
        documents = json.loads(bare.post(*requests.of(state)))["response"]["docs"]
        expected = [f"/images/{d['corpus']}/{d['partition']}/{d['row']}.png" for d in documents]
        images = list(dict.fromkeys(re.findall(r"/images/[^\"'?]+\.png", html)))
        if images != expected:
            raise UnequalError(f"{state.url()}: the page has {images}, Solr finds {expected}")
