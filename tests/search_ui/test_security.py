"""Tests of what keeps the page safe and standing: headers, limits, and a Solr that is down, silent and back."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from relay import Relay
from served import started

from conf.settings import Settings
from indexing.query import search as search_module
from search_ui import BODY_BYTES, create_app
from search_ui.errors import HEADERS

PAGES = [
    "/",
    "/?tag=frog&tag=ship&confidence=50-100",
    "/api/search",
    "/images/small/0/0",
    "/api/images/small/0/0",
]
EXPORTS = ["/export.jsonl", "/export.csv"]


@pytest.fixture
def relay(searchable):
    between = Relay(urlsplit(searchable.solr.url).port)
    yield between
    between.close()


def timed(app, path):
    began = time.monotonic()
    client = {"REMOTE_ADDR": f"192.0.2.{len(path)}"}  # one client has one export
    with app.test_client().get(path, environ_overrides=client) as answer:
        return answer.status_code, time.monotonic() - began


@pytest.mark.services
@pytest.mark.parametrize("mode", ["refuse", "silent"])
def test_a_solr_that_is_down_is_reported_within_three_seconds_and_its_return_is_noticed(
    relay, searchable, settings, limits, mode
):
    app = create_app(replace(settings, solr=f"http://127.0.0.1:{relay.port}/solr"))
    assert timed(app, "/")[0] == 200  # what is shown is known, and the connections are open
    paths = PAGES + EXPORTS

    def at_once():
        with ThreadPoolExecutor(len(paths)) as people:
            return dict(zip(paths, people.map(lambda path: timed(app, path), paths), strict=True))

    # What the same pages take of a busy machine while Solr answers.
    usual = max(seconds for _, seconds in at_once().values())
    relay.become(mode)
    for moment in ("at once", "later"):
        answers = at_once()
        assert {path: status for path, (status, _) in answers.items()} == dict.fromkeys(paths, 503), moment
        assert max(answers[path][1] for path in PAGES) < 3 + usual, (moment, usual, answers)
        assert max(answers[path][1] for path in EXPORTS) < search_module.EXPORT_SECONDS + 3 + usual, (
            moment,
            answers,
        )
    status, seconds = timed(app, "/readyz")
    assert status == 503 and seconds < 3 + usual
    for path in ("/healthz", "/about", "/metrics", "/images/small/0/0.png", "/static/style.css", "/runs", "/api/runs",
                 "/models", "/models/trained"):  # fmt: skip
        status, seconds = timed(app, path)
        assert status == 200 and seconds < 3 + usual, path
    assert min(timed(app, "/healthz")[1] for _ in range(5)) < 0.1, "it waits for nothing"
    relay.become("pass")
    time.sleep(app.config["CHECK_SECONDS"])
    for path in [*PAGES, *EXPORTS, "/readyz"]:
        assert timed(app, path)[0] == 200, f"{path} comes back by itself"


@pytest.mark.services
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PROPFIND"])
def test_every_answer_to_every_method_has_the_headers_that_keep_others_out(page, method):
    paths = [*PAGES, *EXPORTS, "/about", "/healthz", "/readyz", "/metrics", "/favicon.ico", "/static/style.css",
             "/static/nothing", "/static/../pages.py", "/images/small/0/0.png", "/images/small/0/0.png?scale=99",
             "/images/none/0/0", "/runs", "/models/trained", "/models/none", "/api/models", "/api/openapi.json", "/api/nothing", "/nowhere", "/?page=x", "/?min=1&max=2", "/api/search?fq=*:*"]  # fmt: skip
    for path in paths:
        with page.open(path, method=method) as answer:
            assert answer.status_code < 500, path
            assert (answer.status_code == 405) <= (method not in ("GET", "HEAD", "OPTIONS")), path
            for name, value in HEADERS.items():
                assert answer.headers.getlist(name) == [value], (path, name)
            assert answer.headers["Cache-Control"]
            assert method != "HEAD" or answer.data == b""


def test_errors_of_our_own_carry_them_as_well_and_reveal_nothing(library, monkeypatch):
    app = create_app(Settings(store=library.store.root))

    def broken():
        raise RuntimeError("the secret path /etc/tinytags")

    app.view_functions["about.about"] = app.view_functions["health.healthz"] = broken
    for path in ("/about", "/healthz"):
        answer = app.test_client().get(path)
        assert answer.status_code == 500
        assert "secret" not in answer.text and "Traceback" not in answer.text
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


@pytest.fixture(scope="module")
def server(settings):
    """The address of the page as people start it."""
    with started(settings) as (_, port):
        yield "127.0.0.1", port


def exchange(server, request: bytes) -> tuple[int, dict[str, str]]:
    """Send bytes as they are; return the status and the headers of the answer."""
    with socket.create_connection(server, timeout=60) as client:
        client.sendall(request)
        # A server that refuses what is too large may have closed the connection already.
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        answer = b""
        while b"\r\n\r\n" not in answer and (data := client.recv(65536)):
            answer += data
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return int(head[0].split()[1]), dict(line.split(": ", 1) for line in head[1:])


CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
REFUSED = {
    "a URL of 300 kB": (b"GET /?tag=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 300_000), 431),
    "headers of 300 kB": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000 + b"\r\n", 431),
    "a large body": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES + 1), 413),
    "a large body in chunks": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + 2 * CHUNK + b"0\r\n\r\n", 413,
    ),
    "a length that is none": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "an unknown coding": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "a length and chunks": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    ),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another host": (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
    "a header in two lines": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y\nZ: w\r\n\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00 hello\r\n\r\n", 400),
}  # fmt: skip


@pytest.mark.services
@pytest.mark.parametrize("what", REFUSED)
def test_the_server_refuses_what_is_too_large_or_no_request_with_the_same_headers(server, what):
    request, wanted = REFUSED[what]
    status, headers = exchange(server, request)
    assert status == wanted
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert exchange(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200


@pytest.mark.services
def test_a_body_that_is_small_enough_is_read_and_refused_by_its_route(server):
    body = b"x" * (BODY_BYTES - 1)
    status, headers = exchange(
        server, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    assert status == 405
    assert {name: headers.get(name) for name in HEADERS} == HEADERS
