"""Lets 50 users page through the search for up to a minute while a run is indexed, beside Solr's own answers at that load."""

import http.client
import threading
from urllib.parse import urlsplit

from campaign import web
from campaign.attack import Outcome
from campaign.place import CLASSES, Command, Place
from campaign.proxy import Proxy, Request
from campaign.users import PAUSE_SECONDS, USERS, read, use

MOST_SECONDS = 60.0
SLOWER_SECONDS = 0.1


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a page without an answer, and once a 95th percentile over 100 ms above that of Solr alone.

    A try is a page: as many as 50 users request, one every second, in ``tries`` / 50 seconds, up to a minute.
    """
    outcome = Outcome(progress=place.progress)
    seconds = min(MOST_SECONDS, max(tries / USERS * PAUSE_SECONDS, 2.0))
    beside = place.make_run("beside", 20)
    stop = threading.Event()
    indexing = threading.Thread(target=_index, args=[place, beside.name, stop])
    searches = [
        f"/?tag={tag}&confidence={low}-100&page={page}"
        for tag in CLASSES
        for low in (40, 50, 60)
        for page in (1, 2)
    ]
    with Proxy(urlsplit(place.solr.url).port or 0) as proxy:
        proxy.recording = True
        with web.serving(place, proxy.address) as url:
            for search in searches:
                web.get(url, search)
        requests = [request for request in proxy.seen if "/select" in request.target]
    with web.serving(place) as url:
        web.get(url, "/")
        indexing.start()
        try:
            host, solr = urlsplit(url).netloc, urlsplit(place.solr.url).netloc
            alone, _ = use(
                seconds, lambda connection, n: _replay(connection, requests[n % len(requests)]), solr
            )
            pages, failed = use(
                seconds, lambda connection, n: _get(connection, searches[n % len(searches)]), host
            )
        finally:
            stop.set()
            indexing.join()
    outcome.tried = len(pages)
    for line in failed:
        outcome.lost(line)
    ours, theirs = _p95(pages), _p95(alone)
    outcome.notes.append(
        f"p95 {1000 * ours:.0f} ms, Solr's own {1000 * theirs:.0f} ms, for {seconds:.0f} s each"
    )
    if ours > theirs + SLOWER_SECONDS:
        outcome.lost(f"p95 is {1000 * (ours - theirs):.0f} ms above Solr's own")
    place.drop(beside)
    return outcome


def _index(place: Place, run: str, stop: threading.Event) -> None:
    """Index a run again and again."""
    while not stop.is_set():
        command: Command = place.start("index", run, "--no-publish", "--partition", "0-19")
        while command.process.poll() is None and not stop.wait(0.1):
            pass
        command.kill()


def _get(connection: http.client.HTTPConnection, target: str) -> None:
    connection.request("GET", target)
    read(connection)


def _replay(connection: http.client.HTTPConnection, request: Request) -> None:
    connection.request(
        request.method, request.target, request.body, {"Content-Type": "application/x-www-form-urlencoded"}
    )
    read(connection)


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * (len(seconds) - 1))] if seconds else 0.0
