"""Asks for pages under another site's name, as a browser does after DNS rebinding; the page refuses."""

from campaign import web
from campaign.attack import Outcome
from campaign.place import Place

HOSTS = (
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#127.0.0.1",
    "",
)
REQUESTS = (
    ("GET", "/"), ("GET", "/api/search"), ("GET", "/?min=1&max=2"), ("GET", "/runs"), ("GET", "/export.jsonl"),
    ("POST", "/images/web/0/0/corrections"),
)  # fmt: skip


def attack(place: Place, tries: int) -> Outcome:
    """Lost: an answer other than 400 and 403, or a redirect to that site."""
    outcome = Outcome(progress=place.progress)
    with web.serving(place) as url:
        for number in range(tries):
            host = HOSTS[number % len(HOSTS)]
            method, target = REQUESTS[(number + number // len(HOSTS)) % len(REQUESTS)]
            body = b"label=frog&by=mallory" if method == "POST" else None
            outcome.count()
            try:
                answer = web.get(url, target, method, host, body)
            except OSError:  # closed without an answer
                continue
            if "evil" in answer.headers.get("location", ""):
                outcome.lost(f"{method} {target}: a redirect to {answer.headers['location']}")
            elif answer.status not in (400, 403):
                outcome.lost(f"{method} {target} with Host {host!r}: {answer.status}")
        if web.get(url, "/api/search").status != 200:
            outcome.lost("a request with the right Host is refused too")
    return outcome
