"""Holds hundreds of connections open, silent or slow; another search is answered within a second."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from campaign import web
from campaign.attack import Outcome
from campaign.place import Place

SILENT, DRIBBLING = 600, 200
LIMIT_SECONDS = 1.0
# The addresses that they come from, all of the loopback; the newcomer has another.
CLIENTS = 40


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a search or a probe that takes longer than a second, or gets no answer."""
    outcome, slowest = Outcome(progress=place.progress), 0.0
    with web.serving(place) as url:
        web.get(url, "/")  # counts the index
        for _ in range(tries):
            with _held(url) as connections:
                outcome.count()
                for target in ("/?tag=frog", "/healthz", "/metrics"):
                    began = time.monotonic()
                    try:
                        status = web.get(url, target).status
                    except OSError as error:
                        status = 0
                        outcome.notes.append(f"{target}: {type(error).__name__}")
                    seconds = time.monotonic() - began
                    slowest = max(slowest, seconds)
                    if status != 200 or seconds > LIMIT_SECONDS:
                        outcome.lost(
                            f"{target}: {status or 'no answer'} after {seconds:.1f} s beside {connections} connections"
                        )
    outcome.notes.append(f"the slowest took {slowest:.2f} s")
    return outcome


@contextlib.contextmanager
def _held(url: str) -> Iterator[int]:
    address = urlsplit(url).hostname or "", urlsplit(url).port or 80
    sockets: list[socket.socket] = []
    stop = threading.Event()

    def dribble() -> None:
        while not stop.wait(0.5):
            for one in sockets[SILENT:]:
                with contextlib.suppress(OSError):
                    one.send(b"X")

    with contextlib.ExitStack() as stack:
        for number in range(SILENT + DRIBBLING):
            with contextlib.suppress(OSError):
                one = socket.create_connection(address, 2, (f"127.0.1.{number % CLIENTS + 1}", 0))
                stack.callback(one.close)
                sockets.append(one)
                if number >= SILENT:
                    one.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX")
        thread = threading.Thread(target=dribble, daemon=True)
        thread.start()
        try:
            yield len(sockets)
        finally:
            stop.set()
            thread.join()
