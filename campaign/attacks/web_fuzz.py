"""Sends the page hostile requests; each has an answer that is no internal error."""

import time

from campaign import hostile, web
from campaign.attack import Outcome
from campaign.place import Place

# One request in so many is no HTTP.
RAW_EVERY = 20
RAW = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100,
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip
METHODS = ("GET",) * 8 + ("HEAD", "POST", "PUT", "OPTIONS", "TRACE")


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a status of 500 or more, no answer, an answer without the headers that keep other sites out, or a dead server."""
    outcome, slowest = Outcome(progress=place.progress), 0.0
    with web.serving(place) as url:
        for number in range(tries):
            outcome.count()
            began = time.monotonic()
            try:
                if number % RAW_EVERY == RAW_EVERY - 1:
                    first = web.send_raw(url, place.random.choice(RAW)).split(b"\r\n")[0]
                    if b" 500 " in first:
                        outcome.lost(f"what is no request: {first.decode('latin-1')}")
                else:
                    method, target = place.random.choice(METHODS), hostile.target(place, web.paths())
                    body = (
                        hostile.value(place).encode(errors="replace") if method in ("POST", "PUT") else None
                    )
                    answer = web.get(url, target, method, body=body)
                    if answer.status >= 500:
                        outcome.lost(f"{method} {target[:200]}: {answer.status}")
                    elif answer.headers.get("x-content-type-options") != "nosniff":
                        outcome.lost(f"{method} {target[:200]}: {answer.status} without its headers")
            except OSError as error:
                outcome.lost(f"no answer: {type(error).__name__} {error}")
            slowest = max(slowest, time.monotonic() - began)
        if web.get(url, "/healthz").status != 200:
            outcome.lost("the server does not answer any more")
    outcome.notes.append(f"the slowest took {slowest:.1f} s")
    return outcome
