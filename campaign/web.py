"""A page of a run with its images, and requests to it as they are sent."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from campaign.place import Place
from storage import layout
from storage.runs import open_run

SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """The answer to one request."""

    status: int
    headers: dict[str, str]  # by their names in lower case
    body: bytes


@contextlib.contextmanager
def serving(place: Place, solr: str | None = None) -> Iterator[str]:
    """Serve a page that shows a run of which all images are there; give its address."""
    runs = [name for name in place.store.list(layout.RUNS) if name.startswith("web-")]
    run = runs[0] if runs else place.make_tagged("web")[1]
    place.must("index", run)
    with place.page(**({"solr": solr} if solr else {})) as url:
        yield url
    place.drop(open_run(place.store, run))


def paths() -> list[str]:
    """Return a path of every kind of page and answer."""
    return [
        "/", "/api/search", "/export.csv", "/export.jsonl", "/images/web/0/0", "/api/images/web/0/0", "/images/web/0/0.png",
        "/runs", "/api/runs", "/models", "/api/models", "/models/web-forest", "/api/models/web-forest",
        "/models/web-forest/pixels.png", "/about", "/healthz", "/readyz", "/metrics", "/static/page.js", "/api/openapi.json",
    ]  # fmt: skip


def get(
    url: str, target: str, method: str = "GET", host: str | None = None, body: bytes | None = None
) -> Answer:
    """Send one request on a connection of its own, ``target`` as it is. Raises `OSError` where no answer comes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    connection._validate_path = lambda path: None  # type: ignore[attr-defined]  # hostile paths are the purpose
    try:
        connection.putrequest(method, target, skip_host=host is not None)
        if host is not None:
            connection.putheader("Host", host)
        if body is not None:
            connection.putheader("Content-Type", "application/x-www-form-urlencoded")
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, headers, answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()


def send_raw(url: str, data: bytes) -> bytes:
    """Send bytes that may be no request; return the first of the answer, b"" where the connection is closed."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=SECONDS) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(4096)
    return b""
