"""Lets 50 users page through the search for up to a minute while a run is indexed, beside Solr's own answers at that load."""

import http.client
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from campaign import web
from campaign.attack import Outcome
from campaign.place import CLASSES, Command, Place
from campaign.proxy import Proxy, Request

USERS = 50
MOST_SECONDS = 60.0
# What a person does with a page before the next one, in seconds.
THINKING = 1.0
SLOWER_SECONDS = 0.1


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a page without an answer, and once a 95th percentile over 100 ms above that of Solr alone.

    A try is a page: as many as 50 users request, one every second, in ``tries`` / 50 seconds, up to a minute.
    """
    outcome = Outcome(progress=place.progress)
    seconds = min(MOST_SECONDS, max(tries / USERS * THINKING, 2.0))
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
        with web.shown(place, proxy.address) as url:
            for search in searches:
                web.get(url, search)
        requests = [request for request in proxy.seen if "/select" in request.target]
    with web.shown(place) as url:
        web.get(url, "/")
        indexing.start()
        try:
            host, solr = urlsplit(url).netloc, urlsplit(place.solr.url).netloc
            alone, _ = _measure(
                seconds, lambda connection, n: _replay(connection, requests[n % len(requests)]), solr
            )
            pages, failed = _measure(
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


def _measure(
    seconds: float, request: Callable[[http.client.HTTPConnection, int], None], host: str
) -> tuple[list[float], list[str]]:
    """Return the seconds of each request of all users, and the failures as lines."""
    waited: list[float] = []
    failed: list[str] = []
    until = time.monotonic() + seconds

    def use(user: int) -> None:
        source = f"127.0.2.{user + 1}", 0  # each user has an address of the loopback
        connection, number = http.client.HTTPConnection(host, timeout=30, source_address=source), user
        time.sleep(THINKING * user / USERS)
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                request(connection, number)
            except (OSError, http.client.HTTPException) as error:
                failed.append(f"{type(error).__name__}: {error}")
                connection.close()
            waited.append(time.monotonic() - began)
            number += USERS
            time.sleep(THINKING)
        connection.close()

    threads = [threading.Thread(target=use, args=[user]) for user in range(USERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waited, failed


def _get(connection: http.client.HTTPConnection, target: str) -> None:
    connection.request("GET", target)
    _read(connection)


def _replay(connection: http.client.HTTPConnection, request: Request) -> None:
    connection.request(
        request.method, request.target, request.body, {"Content-Type": "application/x-www-form-urlencoded"}
    )
    _read(connection)


def _read(connection: http.client.HTTPConnection) -> None:
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise OSError(f"status {answer.status}")


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * (len(seconds) - 1))] if seconds else 0.0
