"""The whole search page as it arrives, against its Solr request by a bare client."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from urllib.parse import urlencode, urlsplit

from bench.harness import Comparison, Latencies, UnequalError, Way, extra_milliseconds, told
from bench.machine import peak_bytes
from bench.rows.search import ALIAS, CHECKED, never_asked, searched_run
from indexing.query.published import PublishedIndex
from indexing.query.search import search
from indexing.query.search_state import SearchState
from indexing.solr import Solr


def measured(place):
    run, documents = searched_run(place)
    requests = Requests(place.solr.url)
    pages, fresh = (requests.with_hits(never_asked(run.classes, seed)) for seed in (3, 4))
    with place.page(ALIAS) as (url, pid):
        browser, bare = Client(url), Client(place.solr.url)
        yield Comparison(
            "page/solr",
            f"the whole page of a search of {documents / 1e6:.1f} million documents",
            Way(
                "the page",
                lambda: timed(place.sizes.pages, lambda: (next(pages).url(),), browser.get),
                1,
            ),
            Way(
                "its Solr request by a bare client",
                lambda: timed(place.sizes.pages, lambda: requests.of(next(fresh)), bare.post),
                1,
            ),
            "pages",
            same=lambda *_: check_same(browser, bare, requests, fresh),
            # A hiccup of the machine is the p99 of some hundred requests.
            figures=(extra_milliseconds(50, 5), extra_milliseconds(99, 15, generous=0.1)),
            rounds=place.sizes.rounds,
            note=f"{place.sizes.pages} searches a round, none asked before, kept connections",
        )
        yield told(
            "page/export",
            f"the page's memory: an export of {documents:,} hits",
            "many small exports",
            export_megabytes(url, pid, run.classes, documents),
            "MB",
            target=64,
            at_most=True,
            note="what the server's peak memory grows by, as CSV and then as JSON lines, both streamed",
        )


def export_megabytes(url: str, pid: int, tags: list[str], documents: int) -> float:
    """Return by how much exporting everything, in both forms, exceeds the peak memory of small exports, in MB."""
    small = SearchState({"tag": (tags[0],)}, confidence=(40, 40))
    for ending in ("csv", "jsonl") * 4:  # so that all that is needed for any is loaded
        count_lines(url, small.url(f"/export.{ending}"))
    before = peak_bytes(pid)
    for ending, more in (("csv", 1), ("jsonl", 0)):  # a line of names
        lines = count_lines(url, f"/export.{ending}")
        if lines != documents + more:
            raise UnequalError(f"an export of {documents:,} hits as {ending} has {lines:,} lines")
    return (peak_bytes(pid) - before) / 1e6


def count_lines(url: str, path: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", path)
    answer = connection.getresponse()
    lines = 0
    while block := answer.read(1 << 20):
        lines += block.count(b"\n")
    return lines


class Requests(Solr):
    """A Solr that is asked nothing: it tells what the page would ask it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._published = PublishedIndex(Solr(url), ALIAS)
        self._asked: tuple[str, bytes] | None = None

    def with_hits(self, states: Iterator[SearchState]) -> Iterator[SearchState]:
        """Yield the searches that find something: for the others the page has no need to ask."""
        return (state for state in states if self._published.now().counts.total(state))

    def of(self, state: SearchState) -> tuple[str, bytes]:
        """Return the path and the body of the request for a search's rows."""
        search(self, self._published, state)
        return self._asked

    def select(self, collection: str, params: dict, timeout: float | None = None) -> dict:
        self._asked = f"/{collection}/select", urlencode(params | {"wt": "json"}, doseq=True).encode()
        return {"response": {"docs": []}}


class Client:
    """A bare HTTP client that keeps its one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._base = parts.path
        self._connection = http.client.HTTPConnection(parts.netloc)

    def get(self, path: str) -> bytes:
        return self._answer("GET", path)

    def post(self, path: str, body: bytes) -> bytes:
        return self._answer("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})

    def _answer(
        self, method: str, path: str, body: bytes | None = None, headers: dict | None = None
    ) -> bytes:
        self._connection.request(method, self._base + path, body, headers or {})
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise UnequalError(f"{method} {path} is answered with {answer.status}")
        return data


def timed(count: int, prepare, ask) -> Latencies:
    """Ask as many times, one after the other, and time each; ``prepare()`` gives what to ask, and is not timed."""
    seconds = []
    for _ in range(count):
        arguments = prepare()
        began = time.perf_counter()
        ask(*arguments)
        seconds.append(time.perf_counter() - began)
    return Latencies(seconds)


def check_same(browser: Client, bare: Client, requests: Requests, states) -> None:
    """Raise `UnequalError` unless the page shows the images of the documents that the request finds, in their order."""
    for _ in range(CHECKED):
        state = next(states)
        html = browser.get(state.url()).decode()
        documents = json.loads(bare.post(*requests.of(state)))["response"]["docs"]
        wanted = [f"/images/{d['corpus']}/{d['partition']}/{d['row']}.png" for d in documents]
        shown = list(dict.fromkeys(re.findall(r"/images/[^\"'?]+\.png", html)))
        if shown != wanted:
            raise UnequalError(f"{state.url()}: the page shows {shown}, Solr finds {wanted}")
