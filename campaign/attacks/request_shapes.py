"""Gives URL parameters hostile values and watches what Solr is sent: a value stays a value, whatever is in it."""

import json
import re
import time
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from campaign import hostile, web
from campaign.attack import Outcome
from campaign.place import Place
from campaign.proxy import Proxy, Request
from indexing.query.published import CHECK_SECONDS

PLAIN = "plainword"
# Those whose value becomes a value in a request.
NAMES = ("tag", "runner_up", "label", "corpus", "model", "run")
PATHS = ("/api/search", "/export.jsonl")

Shape = tuple[str, str, str]


def attack(place: Place, tries: int) -> Outcome:
    """Lost: a request of another shape than those for plain values."""
    outcome = Outcome(progress=place.progress)
    with Proxy(urlsplit(place.solr.url).port or 0) as proxy, web.serving(place, proxy.address) as url:
        proxy.recording = True
        known: set[Shape] = set()
        for path in PATHS:
            for _ in range(2):  # what was counted once is not counted again
                web.get(url, path)
                for name in NAMES:
                    web.get(url, f"{path}?{name}={PLAIN}")
                    web.get(url, f"{path}?{name}={PLAIN}&{name}=other")
                time.sleep(CHECK_SECONDS)  # so that the page's own check of the index is among them, too
        known |= {_shape(request, PLAIN) for request in proxy.seen}
        refused = 0
        for _ in range(tries):
            value, name, path = hostile.value(place), place.random.choice(NAMES), place.random.choice(PATHS)
            proxy.seen.clear()
            answer = web.get(url, f"{path}?{name}={quote(value.encode(errors='replace'), safe='')}")
            outcome.count()
            refused += answer.status == 400
            for request in list(proxy.seen):
                if _shape(request, value) not in known:
                    outcome.lost(
                        f"{path}, {name}={value[:80]!r}: {request.method} {request.target[:100]} {request.body[:200]!r}"
                    )
    outcome.notes.append(f"{refused} refused")
    return outcome


def _shape(request: Request, value: str) -> Shape:
    """Return a request with § wherever a whole value is ``value`` or the plain one, and 0 for numbers."""
    parts = urlsplit(request.target)
    pairs = parse_qsl(parts.query, True) + parse_qsl(request.body.decode(), True)
    marked = []
    for name, text in pairs:
        try:
            marked.append(
                [name, _mark(json.loads(text), value)] if text[:1] in "{[" else [name, _mark(text, value)]
            )
        except ValueError:
            marked.append([name, _mark(text, value)])
    return request.method, parts.path, json.dumps(sorted(marked, key=str))


def _mark(part: Any, value: str) -> Any:
    if isinstance(part, dict):
        return {key: _mark(one, value) for key, one in part.items()}
    if isinstance(part, list):
        return [_mark(one, value) for one in part]
    if isinstance(part, str):
        # Several values of one filter are sent with this character between them.
        words = [
            "§" if one in (value, PLAIN, "other") else re.sub(r"\d+", "0", one) for one in part.split("\x1f")
        ]
        return "\x1f".join(sorted({*words}))
    return 0 if isinstance(part, int | float) else part
